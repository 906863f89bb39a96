//! `cargo xtask tidy`: the rules of the repository that a compiler does not check.
//!
//! Each rule is a pure function from what was read to a list of complaints; this file reads and reports.

mod fixtures;
mod layers;
mod lengths;
mod sources;

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::packages;
use crate::project::{Project, output, say};

/// How to check.
#[derive(clap::Args)]
pub struct Args {
    /// Write the present lengths of long files to xtask/long-files.txt instead of comparing with it.
    #[arg(long)]
    pub bless: bool,
}

/// A text file of the repository.
pub struct Source {
    /// Path from the root, with `/`.
    pub path: String,
    /// Its content.
    pub text: String,
}

/// Checks every rule and reports all complaints at once.
pub fn run(project: &Project, args: &Args) -> Result<()> {
    let files = files(project)?;
    let long_files = project.root.join(lengths::LIST);
    if args.bless {
        fs::write(&long_files, lengths::list(&files))
            .with_context(|| format!("cannot write {}", long_files.display()))?;
    }
    let list = fs::read_to_string(&long_files).with_context(|| format!("cannot read {}", long_files.display()))?;
    let members = packages::members(project, &project.root.join("Cargo.toml"))?;
    let mut complaints = layers::complaints(&members);
    complaints.extend(lengths::complaints(&files, &list));
    complaints.extend(files.iter().flat_map(sources::complaints));
    complaints.extend(fixtures::complaints(&files));
    ensure!(complaints.is_empty(), "tidy:\n  {}\n{} complaints", complaints.join("\n  "), complaints.len());
    say(format!("tidy: {} files, {} packages are fine", files.len(), members.len()));
    Ok(())
}

/// Every text file that git would commit. Binary files are left out; so are lock files and inputs of fuzzers, which nobody writes.
fn files(project: &Project) -> Result<Vec<Source>> {
    let mut git = std::process::Command::new("git");
    git.current_dir(&project.root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let mut files = Vec::new();
    let written = |path: &&str| !path.is_empty() && !path.ends_with("Cargo.lock") && !path.starts_with("fuzz/corpus/");
    for path in output(&mut git)?.split('\0').filter(written) {
        // A file that git knows and that is gone, or is not text, has nothing to check.
        if let Ok(text) = fs::read_to_string(project.root.join(path)) {
            files.push(Source { path: path.to_owned(), text });
        }
    }
    Ok(files)
}
