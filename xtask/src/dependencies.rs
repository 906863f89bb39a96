//! `cargo xtask dependencies`: licences and origins of everything that Tally and its example plugins are built from.
//!
//! Ours rather than cargo-deny, because it needs nothing installed and nothing fetched: it reads `cargo metadata`.
//! Advisories need a database from the network; `.ci/run` asks cargo-deny for them where it is installed.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::components::standalone_packages;
use crate::packages::{self, Package};
use crate::project::{Project, say};

/// Licences that allow an Apache-2.0 work to be built from it and distributed.
const ALLOWED: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    // libFuzzer's, BSD in other words.
    "NCSA",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Where crates may come from, as cargo writes it.
const ORIGIN: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Crates that must not come in, and why.
const BANNED: [(&str, &str); 4] = [
    ("bincode", "unmaintained, and no format of ours rests on a derive"),
    ("rkyv", "no format of ours rests on a memory layout"),
    ("openssl-sys", "the binary links no system library but libc"),
    ("native-tls", "the binary links no system library but libc"),
];

/// Checks the workspace and every package that is a workspace of its own.
pub fn run(project: &Project) -> Result<()> {
    let mut manifests: Vec<PathBuf> = vec![project.root.join("Cargo.toml"), project.root.join("fuzz/Cargo.toml")];
    for folder in ["examples/plugins", "tests/fixtures"] {
        let packages = standalone_packages(project, &project.root.join(folder))?;
        manifests.extend(packages.into_iter().map(|package| package.manifest));
    }
    let mut complaints = Vec::new();
    let mut count = 0;
    for manifest in &manifests {
        let packages = packages::all(project, manifest)?;
        count += packages.len();
        complaints.extend(packages.iter().flat_map(complaints_about));
    }
    complaints.sort();
    complaints.dedup();
    ensure!(complaints.is_empty(), "dependencies:\n  {}", complaints.join("\n  "));
    say(format!("dependencies: {count} packages in {} workspaces, licences and origins are fine", manifests.len()));
    Ok(())
}

fn complaints_about(package: &Package) -> Vec<String> {
    let mut complaints = Vec::new();
    let name = &package.name;
    match package.license.as_deref() {
        None => complaints.push(format!("{name} names no licence")),
        Some(license) if !acceptable(license) => {
            complaints.push(format!("{name}: licence `{license}` is not allowed here"))
        }
        Some(_) => {}
    }
    if let Some(source) = package.source.as_deref().filter(|source| *source != ORIGIN) {
        complaints.push(format!("{name} comes from {source}"));
    }
    if let Some((_, why)) = BANNED.iter().find(|(banned, _)| banned == name) {
        complaints.push(format!("{name} is banned: {why}"));
    }
    complaints
}

/// Whether an SPDX expression can be satisfied with the allowed licences. `/` is an old way to write OR.
fn acceptable(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut position = 0;
    any_of(&words, &mut position) == Some(true) && position == words.len()
}

/// One level of the grammar each; none where the expression is malformed.
fn any_of(words: &[&str], position: &mut usize) -> Option<bool> {
    let mut answer = all_of(words, position)?;
    while words.get(*position) == Some(&"OR") {
        *position += 1;
        answer |= all_of(words, position)?;
    }
    Some(answer)
}

fn all_of(words: &[&str], position: &mut usize) -> Option<bool> {
    let mut answer = single(words, position)?;
    while words.get(*position) == Some(&"AND") {
        *position += 1;
        answer &= single(words, position)?;
    }
    Some(answer)
}

fn single(words: &[&str], position: &mut usize) -> Option<bool> {
    let word = words.get(*position)?;
    *position += 1;
    if *word == "(" {
        let answer = any_of(words, position)?;
        *position += 1;
        return (words.get(*position - 1) == Some(&")")).then_some(answer);
    }
    let mut license = (*word).to_owned();
    if words.get(*position) == Some(&"WITH") {
        license = format!("{license} WITH {}", words.get(*position + 1)?);
        *position += 2;
    }
    Some(ALLOWED.contains(&license.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_expressions() {
        for fine in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/GPL-3.0-only",
            "GPL-3.0-only OR MIT",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
            "(MIT OR GPL-2.0-only) AND Unicode-3.0",
        ] {
            assert!(acceptable(fine), "{fine}");
        }
        for bad in ["GPL-3.0-only", "MIT AND GPL-3.0-only", "MIT OR", "", "(MIT", "Apache-2.0 WITH Other", "MIT MIT"] {
            assert!(!acceptable(bad), "{bad}");
        }
    }

    #[test]
    fn origin_licence_and_ban_are_each_named() {
        let package = Package {
            name: "bincode".into(),
            manifest: "Cargo.toml".into(),
            cdylib: false,
            license: None,
            source: Some("git+https://example.org/x".into()),
            dependencies: Vec::new(),
        };
        let complaints = complaints_about(&package);
        assert_eq!(complaints.len(), 3, "{complaints:?}");
    }
}
