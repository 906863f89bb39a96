//! Lists the files that a new project is made of, so that none can be forgotten: the SDK with its macros and the contract, and the
//! example plugin that is the template.

use std::fs;
use std::path::{Path, PathBuf};

/// Of the repository: what the SDK is built from.
const SDK: [&str; 6] = [
    "Cargo.toml",
    "plugins/sdk/Cargo.toml",
    "plugins/sdk/src",
    "plugins/sdk-macros/Cargo.toml",
    "plugins/sdk-macros/src",
    "wit/0.1.0",
];
const TEMPLATE: &str = "examples/plugins/watch-time";

fn main() {
    let kit = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where this is"));
    let root = kit.join("../..");
    let template = root.join(TEMPLATE);
    let text = list("SDK", &root, &SDK) + &list("TEMPLATE", &template, &[""]);
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says where to"));
    fs::write(out.join("files.rs"), text).expect("the list can be written");
}

/// A constant with the path and the text of each file.
fn list(name: &str, root: &Path, from: &[&str]) -> String {
    let mut files = Vec::new();
    from.iter().for_each(|path| collect(&root.join(path), &mut files));
    files.sort();
    let entry = |path: &PathBuf| {
        let relative = path.strip_prefix(root).expect("it is below");
        format!("    ({:?}, include_str!({:?})),\n", relative.display().to_string(), path.display().to_string())
    };
    let entries: String = files.iter().map(entry).collect();
    format!("const {name}: &[(&str, &str)] = &[\n{entries}];\n")
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    println!("cargo::rerun-if-changed={}", path.display());
    if path.is_file() {
        return files.push(path.to_owned());
    }
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for entry in entries {
        let entry = entry.expect("a folder can be read");
        if entry.file_name() != "target" {
            collect(&entry.path(), files);
        }
    }
}
