//! No file grows without end: a limit, and a ratchet for the files that are over it.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Source;

/// Where the files over the limit stand, with the length each may have.
pub const LIST: &str = "xtask/long-files.txt";

/// Lines that a Rust file may have without being listed.
const LIMIT: usize = 600;

/// The list as the files are now.
pub fn list(files: &[Source]) -> String {
    let mut list = format!(
        "# Files over {LIMIT} lines, and how long each may be. Shorten them; `cargo xtask tidy --bless` writes this.\n"
    );
    for (path, lines) in long(files) {
        // Writing to a string cannot fail.
        let _ = writeln!(list, "{lines} {path}");
    }
    list
}

/// Files that are too long, and entries of the list that became too generous.
pub fn complaints(files: &[Source], list: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let long = long(files);
    let mut listed = BTreeMap::new();
    for line in list.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        match line.split_once(' ').and_then(|(lines, path)| Some((path, lines.parse::<usize>().ok()?))) {
            Some((path, lines)) => drop(listed.insert(path, lines)),
            None => complaints.push(format!("{LIST}: not a length and a path: {line}")),
        }
    }
    for (path, lines) in &long {
        match listed.get(path) {
            None => complaints.push(format!("{path}: {lines} lines, more than {LIMIT}: split it by what it does")),
            Some(most) if lines > most => {
                complaints.push(format!("{path}: {lines} lines, more than the {most} it had"))
            }
            Some(_) => {}
        }
    }
    for path in listed.keys().filter(|path| !long.contains_key(**path)) {
        complaints.push(format!("{LIST}: {path} is short enough now; take it off the list"));
    }
    complaints
}

fn long(files: &[Source]) -> BTreeMap<&str, usize> {
    let rust = files.iter().filter(|file| file.path.ends_with(".rs"));
    let counted = rust.map(|file| (file.path.as_str(), file.text.lines().count()));
    counted.filter(|(_, lines)| *lines > LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, lines: usize) -> Source {
        Source { path: path.into(), text: "x\n".repeat(lines) }
    }

    #[test]
    fn the_ratchet_only_tightens() {
        let files = [file("a.rs", LIMIT), file("b.rs", LIMIT + 1), file("c.md", LIMIT * 9)];
        assert_eq!(complaints(&files, "").len(), 1);
        let blessed = list(&files);
        assert_eq!(complaints(&files, &blessed), Vec::<String>::new());
        assert_eq!(complaints(&[file("b.rs", LIMIT + 2)], &blessed).len(), 1, "it grew");
        assert_eq!(complaints(&[file("b.rs", LIMIT)], &blessed).len(), 1, "its entry is stale");
        assert_eq!(complaints(&[], "nonsense\n").len(), 1);
    }
}
