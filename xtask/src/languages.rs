//! `cargo xtask languages`: builds the example plugin that is written in several languages, and shows that all of them give the same.
//!
//! Tools are put into `target/languages`, nothing else on the machine is touched. A language whose tools cannot be had is left out,
//! and said to be. Knows languages and where their components go; what is checked of them stands in the sandbox's tests.

mod c;
mod javascript;
mod python;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::components;
use crate::project::{Project, run as run_command, say};
use crate::wasm;

/// What to build.
#[derive(clap::Args)]
pub struct Args {
    /// Only these.
    #[arg(long, value_enum)]
    pub only: Vec<Language>,
    /// Fail where a language has to be left out.
    #[arg(long)]
    pub need_all: bool,
    /// Build, and compare nothing.
    #[arg(long)]
    pub build_only: bool,
    #[command(flatten)]
    pub wasm: wasm::Args,
}

/// A language beside Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// By clang.
    C,
    /// By componentize-qjs.
    #[value(name = "javascript")]
    JavaScript,
    /// By componentize-py.
    Python,
}

const ALL: [Language; 3] = [Language::C, Language::JavaScript, Language::Python];

/// The aggregator in Rust, which the others are compared with.
const REFERENCE: &str = "signups-rust";

/// The contract that they are built against, from the root.
const CONTRACT: &str = "wit/0.1.0";

impl Language {
    /// The folder under `examples/plugins`, and what its component is called.
    fn name(self) -> &'static str {
        match self {
            Self::C => "signups-c",
            Self::JavaScript => "signups-js",
            Self::Python => "signups-py",
        }
    }

    fn sources(self, project: &Project) -> PathBuf {
        project.root.join("examples/plugins").join(self.name())
    }

    fn build(self, project: &Project, toolchain: &wasm::Toolchain, into: &Path) -> Result<()> {
        let (tools, sources) = (project.languages().join("tools"), self.sources(project));
        match self {
            Self::C => c::build(project, toolchain, &tools, &sources, into),
            Self::JavaScript => javascript::build(project, &tools, &sources, into),
            Self::Python => python::build(project, &tools, &sources, into),
        }
    }
}

/// Builds them, then runs the tests that compare them.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let toolchain = wasm::Toolchain::find_or_make(project, args.wasm.wasm_toolchain)?;
    components::example(project, &toolchain, REFERENCE)?;
    let mut left_out = 0;
    for language in ALL.into_iter().filter(|language| args.only.is_empty() || args.only.contains(language)) {
        if let Err(error) = build(project, &toolchain, language) {
            left_out += 1;
            say(format!("{} is left out: {error:#}", language.name()));
        }
    }
    if !args.build_only {
        compare(project, args.need_all)?;
    }
    println!("languages left out: {left_out}");
    if args.need_all && left_out > 0 {
        bail!("{left_out} languages were left out");
    }
    Ok(())
}

fn build(project: &Project, toolchain: &wasm::Toolchain, language: Language) -> Result<()> {
    let built = project.languages().join("built").join(format!("{}.wasm", language.name()));
    if let Some(folder) = built.parent() {
        std::fs::create_dir_all(folder)?;
    }
    language.build(project, toolchain, &built)?;
    components::install_foreign(project, &built, &project.languages(), language.name())
}

fn compare(project: &Project, need_all: bool) -> Result<()> {
    let mut cargo = project.cargo();
    cargo.env("TALLY_TESTS_NEED_LANGUAGES", if need_all { "1" } else { "0" });
    cargo.env("TALLY_EXAMPLE_PLUGINS_DIR", project.example_plugins()).env("TALLY_LANGUAGES_DIR", project.languages());
    cargo.args(["test", "--quiet", "--package", "tally-plugin", "--test", "sandbox", "--"]);
    run_command(cargo.args(["languages::", "--nocapture", "--test-threads=1"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(path: &str) -> String {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    #[test]
    fn each_language_implements_the_whole_contract() {
        let functions = ["describe", "configure", "apply", "merge", "save", "load", "report"];
        for (paths, before) in [
            (&["signups-c/signups.c", "signups-c/state.c"][..], "AGGREGATOR("),
            (&["signups-js/signups.js"], ""),
            (&["signups-py/signups.py", "signups-py/aggregator.py"], "def "),
        ] {
            let text: String = paths.iter().map(|path| read(&format!("examples/plugins/{path}"))).collect();
            for function in functions {
                let kinds = ["", "method_accumulator_", "static_accumulator_"];
                let written = kinds.iter().any(|kind| {
                    text.contains(&format!("{before}{kind}{function}("))
                        || text.contains(&format!("{before}{kind}{function})("))
                });
                assert!(written, "{paths:?} has no {function}");
            }
        }
    }

    #[test]
    fn the_page_names_the_versions_that_are_used() {
        let page = read("docs/languages.md");
        let package = read("examples/plugins/signups-js/package.json");
        let javascript = package.split_once("\"componentize-qjs\": \"").and_then(|(_, rest)| rest.split_once('"'));
        let javascript = format!("componentize-qjs@{}", javascript.expect("a pinned version").0);
        let python = read("examples/plugins/signups-py/requirements.txt");
        for version in [javascript.as_str(), python.trim(), &format!("wit-bindgen-cli@{}", c::WIT_BINDGEN), c::CLANG] {
            assert!(page.contains(version), "docs/languages.md does not name {version}");
        }
    }
}
