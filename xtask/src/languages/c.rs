//! C: bindings by wit-bindgen, objects by Debian's clang with wasi-libc, a component by rustup's linker.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::CONTRACT;
use crate::project::{Project, output, run, say};
use crate::wasm::Toolchain;

/// The version of wit-bindgen-cli; that of the workspace's wit-bindgen.
pub const WIT_BINDGEN: &str = "0.61.0";

/// The compiler's package.
pub const CLANG: &str = "clang-19";

/// The compiler, its headers and libraries, and what it compiles for. Unpacked, never installed.
const PACKAGES: [&str; 6] =
    [CLANG, "libclang-common-19-dev", "libclang-cpp19", "libllvm19", "libclang-rt-19-dev-wasm32", "wasi-libc"];

const TARGET: &str = "wasm32-wasi";

pub fn build(project: &Project, toolchain: &Toolchain, tools: &Path, sources: &Path, into: &Path) -> Result<()> {
    let clang = Clang::find_or_unpack(project, &tools.join("clang"))?;
    let wit_bindgen = wit_bindgen(project, &tools.join("wit-bindgen"))?;
    let bindings = into.with_extension("bindings");
    fs::create_dir_all(&bindings)?;
    let contract = project.root.join(CONTRACT);
    output(Command::new(wit_bindgen).args(["c", "--world", "plugin", "--out-dir"]).arg(&bindings).arg(contract))?;

    let mut objects = vec![bindings.join("plugin_component_type.o")];
    let mut texts = vec![bindings.join("plugin.c")];
    for entry in fs::read_dir(sources)? {
        texts.extend(Some(entry?.path()).filter(|path| path.extension().is_some_and(|end| end == "c")));
    }
    texts.sort();
    for text in texts {
        let object = bindings.join(text.file_name().context("a source without a name")?).with_extension("o");
        let mut compile = clang.command();
        compile.args(["-O3", "-mbulk-memory", "-std=c17", "-Wall", "-Wextra", "-Werror", "-c", "-I"]);
        run(compile.arg(&bindings).arg("-I").arg(sources).arg("-o").arg(&object).arg(&text))?;
        objects.push(object);
    }
    let linker = toolchain.linker();
    let mut link = Command::new(linker);
    link.arg("--wasm-ld-path").arg(linker.with_file_name("gcc-ld").join("wasm-ld"));
    link.args(["--no-entry", "--gc-sections", "--strip-all", "-o"]).arg(into).args(&objects);
    run(link.arg("-L").arg(clang.usr.join("lib").join(TARGET)).arg("-lc").arg(clang.builtins()))
}

struct Clang {
    usr: PathBuf,
}

impl Clang {
    fn find_or_unpack(project: &Project, folder: &Path) -> Result<Self> {
        let found = Self { usr: folder.join("usr") };
        let ready = folder.join("ready");
        if ready.is_file() {
            return Ok(found);
        }
        say(format!("unpacking {CLANG} from Debian's packages into {}", project.show(folder)));
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let debs = folder.join("debs");
        fs::create_dir_all(&debs)?;
        let mut download = Command::new("apt-get");
        // apt drops root's rights for downloads and then cannot write here.
        download.args(["-o", "APT::Sandbox::User=root", "--quiet", "--quiet", "download"]).args(PACKAGES);
        output(download.current_dir(&debs)).with_context(|| {
            format!("cannot download Debian's {CLANG} (after `apt-get update`, a Debian 12 has it)")
        })?;
        for entry in fs::read_dir(&debs)? {
            output(Command::new("dpkg-deb").arg("--extract").arg(entry?.path()).arg(folder))?;
        }
        fs::remove_dir_all(&debs)?;
        output(found.command().arg("--version"))?;
        fs::write(&ready, "")?;
        Ok(found)
    }

    /// The compiler, for its target.
    fn command(&self) -> Command {
        let mut clang = Command::new(self.llvm().join("bin/clang"));
        let libraries =
            [self.llvm().join("lib"), self.usr.join("lib/x86_64-linux-gnu"), self.usr.join("lib/aarch64-linux-gnu")];
        let libraries: Vec<_> = libraries.iter().map(|folder| folder.to_string_lossy()).collect();
        clang.env("LD_LIBRARY_PATH", libraries.join(":")).arg(format!("--target={TARGET}"));
        clang.arg("-isystem").arg(self.usr.join("include").join(TARGET));
        clang
    }

    fn llvm(&self) -> PathBuf {
        self.usr.join("lib/llvm-19")
    }

    fn builtins(&self) -> PathBuf {
        self.llvm().join("lib/clang/19/lib/wasi/libclang_rt.builtins-wasm32.a")
    }
}

fn wit_bindgen(project: &Project, folder: &Path) -> Result<PathBuf> {
    let program = folder.join("bin/wit-bindgen");
    let says = |program: &Path| output(Command::new(program).arg("--version")).unwrap_or_default();
    if says(&program).contains(WIT_BINDGEN) {
        return Ok(program);
    }
    say(format!("compiling wit-bindgen {WIT_BINDGEN}"));
    let scratch = folder.join("build");
    let mut cargo = project.cargo();
    cargo.env("CARGO_TARGET_DIR", &scratch).args(["install", "--quiet", "--locked", "wit-bindgen-cli", "--version"]);
    cargo.args([WIT_BINDGEN, "--no-default-features", "--features", "c", "--root"]).arg(folder);
    output(&mut cargo).context("cannot install wit-bindgen-cli")?;
    fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))?;
    Ok(program)
}
