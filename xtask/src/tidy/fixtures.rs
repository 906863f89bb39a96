//! A fixture that no test uses proves nothing: each must be named by one.

use std::collections::BTreeSet;

use super::Source;

const FOLDER: &str = "tests/fixtures/";

/// Fixtures whose name no Rust file outside the fixtures mentions as a word.
pub fn complaints(files: &[Source]) -> Vec<String> {
    let names: BTreeSet<&str> = files
        .iter()
        .filter_map(|file| file.path.strip_prefix(FOLDER)?.split_once('/'))
        .filter(|(_, rest)| *rest == "Cargo.toml")
        .map(|(name, _)| name)
        .collect();
    let tests: Vec<&str> = files
        .iter()
        .filter(|file| file.path.ends_with(".rs") && !file.path.starts_with(FOLDER) && !file.path.starts_with("xtask/"))
        .map(|file| file.text.as_str())
        .collect();
    let used = |name: &&str| tests.iter().any(|text| mentions(text, name));
    names.into_iter().filter(|name| !used(name)).map(|name| format!("{FOLDER}{name}: no test names it")).collect()
}

fn mentions(text: &str, name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        !before.is_some_and(word) && !after.is_some_and(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> Source {
        Source { path: path.into(), text: text.into() }
    }

    #[test]
    fn an_unused_fixture_is_found() {
        let mut files = vec![
            file("tests/fixtures/probe/Cargo.toml", ""),
            file("tests/fixtures/probe/src/lib.rs", "//! The probe."),
            file("tests/src/other.rs", "//! Uses probes and the-probe."),
        ];
        assert_eq!(complaints(&files).len(), 1);
        files.push(file("tests/src/uses.rs", "//! x\nfixture(\"probe\")"));
        assert_eq!(complaints(&files), Vec::<String>::new());
    }
}
