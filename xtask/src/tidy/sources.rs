//! What no file may contain: leftovers, this machine's paths, names that say nothing.

use super::Source;

/// Substrings and what is wrong with them. Written in two halves, or this file would be the first complaint.
const FORBIDDEN: [(&str, &str, &str); 9] = [
    ("to", "do!(", "unfinished code"),
    ("unimple", "mented!(", "unfinished code"),
    ("db", "g!(", "a debugging leftover"),
    ("TO", "DO", "do it, or write why it is not done"),
    ("FIX", "ME", "do it, or write why it is not done"),
    ("/wo", "rk/", "a path of one machine"),
    ("/ro", "ot/", "a path of one machine"),
    ("/ho", "me/", "a path of one machine"),
    ("sub", "agent", "says how it was written, not what it does"),
];

/// File names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "helper", "helpers", "common", "misc", "manager", "stuff"];

/// Complaints about one file.
pub fn complaints(file: &Source) -> Vec<String> {
    let mut complaints = Vec::new();
    if file.path.ends_with(".rs") && !file.text.starts_with("//!") {
        complaints.push(format!("{}: starts without a `//!` header that says what it is for", file.path));
    }
    let stem = file.path.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) {
        complaints.push(format!("{}: a name that says nothing", file.path));
    }
    for (number, line) in file.text.lines().enumerate() {
        let place = format!("{}:{}", file.path, number + 1);
        for (first, second, why) in FORBIDDEN {
            let what = format!("{first}{second}");
            if line.contains(&what) {
                complaints.push(format!("{place}: `{what}`: {why}"));
            }
        }
        if names_an_issue(line) {
            complaints.push(format!("{place}: names an issue or a requirement by number; say what it is about"));
        }
    }
    complaints
}

/// Finds the words of a tracker followed by a number, and numbered requirement rows.
fn names_an_issue(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["issue ", "issue #", "issues #", "s0-"].iter().any(|word| {
        line.match_indices(word).any(|(at, _)| {
            let begins = line[..at].chars().next_back().is_none_or(|before| !before.is_ascii_alphanumeric());
            begins && line[at + word.len()..].starts_with(|after: char| after.is_ascii_digit())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str) -> usize {
        complaints(&Source { path: path.into(), text: text.into() }).len()
    }

    #[test]
    fn leftovers_and_machine_paths_are_found() {
        assert_eq!(check("a.rs", "//! A file.\nfn main() {}\n"), 0);
        assert_eq!(check("a.rs", "fn main() {}\n"), 1, "no header");
        assert_eq!(check("notes.md", "# Notes\n"), 0);
        for (first, second, _) in FORBIDDEN {
            assert_eq!(check("a.rs", &format!("//! A file.\n// {first}{second}\n")), 1, "{first}{second}");
        }
        assert_eq!(check("host/x/src/utils.rs", "//! A file.\n"), 1);
    }

    #[test]
    fn numbered_issues_are_found() {
        assert!(names_an_issue(&format!("see Issue{}12", " #")));
        assert!(names_an_issue(&format!("row S0{}12 says", "-")));
        assert!(!names_an_issue("a known issue of 3 systems"));
        assert!(!names_an_issue("tissue 5"));
    }
}
