//! A project to begin with: the example plugin under another name, with the SDK's sources beside it, since these are on no registry.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use toml::{Table, Value};

include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// What the template is called, in the spellings that occur in it.
const TEMPLATE_NAMES: [&str; 3] = ["watch-time", "watch_time", "WatchTime"];

/// The template's dependency on the SDK.
const TEMPLATE_SDK: &str = "../../../plugins/sdk";

/// Where a project has the SDK.
const OWN_SDK: &str = "sdk";

/// Words that cargo or Rust keep for themselves.
const RESERVED: [&str; 46] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "test", "trait",
    "true", "type", "unsafe", "use", "where", "while",
];

/// A name for a plugin, and so for its package: lower-case letters, digits and hyphens.
pub fn check_name(name: &str) -> anyhow::Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let shape = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(fits)
        && !name.ends_with('-')
        && !name.contains("--");
    ensure!(
        shape && name.len() <= 64,
        "{name:?} is no name for a plugin: lower-case letters, digits and single hyphens, a letter first, at most 64 in all, such as `page-views`"
    );
    let reserved = ["core", "std", "alloc", "proc-macro"];
    ensure!(
        !RESERVED.contains(&name) && !reserved.contains(&name),
        "{name:?} is a word of Rust's; call the plugin something else, such as `my-{name}`"
    );
    let lock = template("Cargo.lock");
    ensure!(
        TEMPLATE_NAMES.contains(&name) || !lock.contains(&format!("name = \"{name}\"")),
        "{name:?} is the name of a crate that the project needs; call the plugin something else, such as `my-{name}`"
    );
    Ok(())
}

/// Writes a project into a new folder. With `sdk`, a folder that has the SDK in `plugins/sdk` as Tally's repository does; without,
/// the SDK is written into the project. Gives the files written, without the SDK's.
pub fn create(name: &str, folder: &Path, sdk: Option<&Path>) -> anyhow::Result<Vec<PathBuf>> {
    check_name(name)?;
    if folder.exists() {
        bail!("{} exists already; name another folder with --dir, or remove it", folder.display());
    }
    let sdk_path = match sdk {
        None => format!("{OWN_SDK}/plugins/sdk"),
        Some(sdk) => path_of(sdk)?,
    };
    let mut files = Vec::new();
    for (path, text) in TEMPLATE {
        // What the project depends on is written down with the SDK of this version; another may want other crates.
        if *path == "Cargo.lock" && sdk.is_some() {
            continue;
        }
        write(folder, path, &renamed(path, text, name, &sdk_path))?;
        files.push(PathBuf::from(path));
    }
    if sdk.is_none() {
        for (path, text) in sdk_files()? {
            write(&folder.join(OWN_SDK), path, &text)?;
        }
    }
    Ok(files)
}

/// The SDK's path for a manifest.
fn path_of(sdk: &Path) -> anyhow::Result<String> {
    let folder = sdk.canonicalize().with_context(|| format!("no SDK at {}", sdk.display()))?.join("plugins/sdk");
    let manifest = folder.join("Cargo.toml");
    ensure!(manifest.is_file(), "{} is missing: --sdk names a folder like Tally's repository", manifest.display());
    folder.to_str().map(str::to_owned).context("the SDK's path must be UTF-8")
}

/// A file of the template under the project's name.
fn renamed(path: &str, text: &str, name: &str, sdk: &str) -> String {
    let mut upper = true;
    let mut camel = String::new();
    for c in name.chars() {
        if c != '-' {
            camel.push(if upper { c.to_ascii_uppercase() } else { c });
        }
        upper = c == '-';
    }
    let [kebab, snake, pascal] = TEMPLATE_NAMES;
    let text = text.replace(kebab, name).replace(snake, &name.replace('-', "_")).replace(pascal, &camel);
    match path {
        // The licence is the example's; what the author writes is the author's.
        "Cargo.toml" => text.replace(TEMPLATE_SDK, sdk).replace("license = \"Apache-2.0\"\n", ""),
        _ => text,
    }
}

fn template(path: &str) -> &'static str {
    TEMPLATE.iter().find(|(known, _)| *known == path).map_or("", |(_, text)| text)
}

/// The SDK as a workspace of its own: its crates as they are, the workspace's manifest cut down to what they take from it.
fn sdk_files() -> anyhow::Result<Vec<(&'static str, String)>> {
    let files = SDK.iter().map(|(path, text)| match *path {
        "Cargo.toml" => Ok((*path, workspace(text)?)),
        _ => Ok((*path, (*text).to_owned())),
    });
    files.collect()
}

fn workspace(root: &str) -> anyhow::Result<String> {
    let root: Table = root.parse().context("the workspace's manifest")?;
    let all = &root["workspace"];
    let members = ["plugins/sdk", "plugins/sdk-macros"];
    let mut dependencies = Table::new();
    for member in members {
        let manifest = SDK.iter().find(|(path, _)| *path == format!("{member}/Cargo.toml"));
        let manifest: Table = manifest.context("a member has a manifest")?.1.parse()?;
        for kind in ["dependencies", "dev-dependencies"] {
            for name in manifest.get(kind).and_then(Value::as_table).into_iter().flat_map(Table::keys) {
                let dependency =
                    all["dependencies"].get(name).with_context(|| format!("{name} is not in the workspace"))?;
                dependencies.insert(name.clone(), dependency.clone());
            }
        }
    }
    let mut own = Table::new();
    for key in ["resolver", "package", "lints"] {
        own.insert(key.into(), all[key].clone());
    }
    own.insert("members".into(), members.map(Value::from).to_vec().into());
    own.insert("dependencies".into(), dependencies.into());
    let manifest = Table::from_iter([("workspace".to_owned(), Value::Table(own))]);
    Ok(format!("# Tally's SDK, as it was when `tally plugin new` wrote it here.\n{manifest}"))
}

fn write(folder: &Path, path: &str, text: &str) -> anyhow::Result<()> {
    let path = folder.join(path);
    let parent = path.parent().unwrap_or(folder);
    fs::create_dir_all(parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_packages() {
        for name in ["page-views", "a", "x2", "watch-time"] {
            check_name(name).unwrap();
        }
        for (name, says) in [
            ("", "no name"),
            ("Page", "no name"),
            ("2x", "no name"),
            ("a_b", "no name"),
            ("a--b", "no name"),
            ("a-", "no name"),
            ("../up", "no name"),
            ("match", "a word of Rust's"),
            ("core", "a word of Rust's"),
            ("serde", "a crate that the project needs"),
            ("tally-sdk", "a crate that the project needs"),
        ] {
            let error = check_name(name).unwrap_err().to_string();
            assert!(error.contains(says), "{name:?}: {error}");
        }
    }

    #[test]
    fn a_project_bears_its_name_everywhere_and_brings_the_sdk() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("page-views");
        let files = create("page-views", &project, None).unwrap();
        for file in
            ["Cargo.toml", "Cargo.lock", ".gitignore", "README.md", "events.ndjson", "golden/events.txt", "src/lib.rs"]
        {
            assert!(files.contains(&PathBuf::from(file)), "{file} is missing: {files:?}");
        }
        for file in &files {
            let text = fs::read_to_string(project.join(file)).unwrap();
            for name in TEMPLATE_NAMES {
                assert!(!text.contains(name), "{}: {name}", file.display());
            }
        }
        let read = |path: &str| fs::read_to_string(project.join(path)).unwrap();
        assert!(read("src/lib.rs").contains("impl Aggregator for PageViews"));
        assert!(read("Cargo.toml").contains("path = \"sdk/plugins/sdk\""));
        assert!(!read("Cargo.toml").contains("license"));
        let sdk: Table = read("sdk/Cargo.toml").parse().unwrap();
        let dependencies = sdk["workspace"]["dependencies"].as_table().unwrap();
        assert!(dependencies.contains_key("wit-bindgen") && !dependencies.contains_key("wasmtime"));
        for path in ["plugins/sdk/src/testing/laws.rs", "plugins/sdk-macros/src/lib.rs", "wit/0.1.0/aggregator.wit"] {
            let original = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap();
            assert_eq!(read(&format!("sdk/{path}")), original, "{path}");
        }
    }

    #[test]
    fn existing_folders_and_missing_sdks_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let error = create("a", folder.path(), None).unwrap_err().to_string();
        assert!(error.contains("exists already"), "{error}");
        let project = folder.path().join("a");
        let error = create("a", &project, Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains("is missing") && !project.exists(), "{error}");
    }

    #[test]
    fn another_sdk_is_a_path() {
        let folder = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let project = folder.path().join("a");
        create("a", &project, Some(&root)).unwrap();
        let manifest: Table = fs::read_to_string(project.join("Cargo.toml")).unwrap().parse().unwrap();
        let path = manifest["dependencies"]["tally-sdk"]["path"].as_str().unwrap();
        assert!(Path::new(path).join("src/lib.rs").is_file());
        assert!(!project.join("sdk").exists() && !project.join("Cargo.lock").exists());
    }
}
