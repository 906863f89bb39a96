//! Which crate may depend on which: cli -> daemon -> stages -> event, and nothing back; doors stand on net, what is kept on storage.

use crate::packages::{Dependency, Package};

const EVENT: &str = "tally-event";
const NET: &str = "tally-net";
const STORAGE: &str = "tally-storage";
const BENCH: &str = "tally-bench";
const KIT: &str = "tally-kit";
const STAGES: [&str; 7] =
    ["tally-ingest", "tally-wal", "tally-aggregate", "tally-plugin", "tally-state", "tally-sink", "tally-query"];

/// Crates of others that belong to few of ours: the name, who may use it, and why only they.
const KEPT_TO: [(&str, &[&str], &str); 6] = [
    ("wasmtime", &["tally-plugin"], "one crate knows the sandbox"),
    ("redb", &["tally-state"], "one crate knows the state store's engine"),
    ("axum", &["tally-net", "tally-ingest", "tally-query"], "only doors speak HTTP"),
    ("notify", &["tally-daemon"], "only the daemon watches folders"),
    ("clap", &["tally-cli", "tally-sim", "xtask"], "only programs have a command line"),
    (
        "tokio",
        &["tally-net", "tally-ingest", "tally-query", "tally-daemon", "tally-sim", "tally-cli", "tally-tests"],
        "the rest is synchronous",
    ),
];

/// Every dependency that points the wrong way.
pub fn complaints(members: &[Package]) -> Vec<String> {
    let ours: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let mut complaints = Vec::new();
    for member in members {
        let plugin = member.folder().parent().is_some_and(|folder| folder.ends_with("plugins"));
        for dependency in &member.dependencies {
            if ours.contains(&dependency.name.as_str()) && !allowed(&member.name, plugin, dependency) {
                complaints.push(format!("{} must not depend on {}", member.name, dependency.name));
            }
            complaints.extend(kept_to(&member.name, dependency));
        }
    }
    complaints
}

fn allowed(from: &str, plugin: bool, to: &Dependency) -> bool {
    // Tests may compare with the decoder and use the twins.
    if to.kind == "dev" && (to.name == EVENT || to.name == "tally-testkit") {
        return true;
    }
    // It measures single stages, which is not what its library does.
    if to.kind == "dev" && from == BENCH {
        return to.name != "tally-cli" && to.name != "tally-daemon";
    }
    let to = to.name.as_str();
    match from {
        "tally-cli" => to == "tally-daemon" || to == BENCH || to == KIT,
        KIT => to == EVENT || to == "tally-plugin",
        "tally-daemon" => to == EVENT || to == NET || to == STORAGE || STAGES.contains(&to),
        "tally-testkit" => to == STORAGE,
        // It runs the daemon's parts, and nobody depends on it.
        "tally-sim" => to != "tally-cli",
        "tally-sdk" => to == "tally-sdk-macros",
        "tally-ingest" | "tally-query" if to == NET => true,
        "tally-wal" | "tally-state" | "tally-sink" if to == STORAGE => true,
        stage if STAGES.contains(&stage) => to == EVENT,
        _ => plugin && to == "tally-sdk",
    }
}

fn kept_to(from: &str, to: &Dependency) -> Option<String> {
    let (name, users, why) = KEPT_TO.iter().find(|(name, ..)| *name == to.name)?;
    let fine = to.kind == "dev" || users.contains(&from);
    (!fine).then(|| format!("{from} must not depend on {name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(folder: &str, name: &str, dependencies: &[(&str, &str)]) -> Package {
        Package {
            name: name.into(),
            manifest: format!("{folder}/{name}/Cargo.toml").into(),
            cdylib: false,
            license: None,
            source: None,
            dependencies: dependencies
                .iter()
                .map(|(name, kind)| Dependency { name: (*name).into(), kind: (*kind).into() })
                .collect(),
        }
    }

    fn check<const N: usize>(members: [Package; N]) -> Vec<String> {
        let others =
            ["tally-event", "tally-storage", "tally-wal", "tally-state", "tally-daemon", "tally-testkit", "tally-sdk"];
        let others = others.iter().map(|name| package("host", name, &[]));
        complaints(&members.into_iter().chain(others).collect::<Vec<_>>())
    }

    #[test]
    fn the_drawn_direction_is_fine() {
        let members = [
            package("host", "tally-cli", &[("tally-daemon", "normal"), ("clap", "normal")]),
            package("host", "tally-daemon", &[("tally-wal", "normal"), ("tally-event", "normal"), ("tokio", "normal")]),
            package("host", "tally-wal", &[("tally-storage", "normal"), ("tally-testkit", "dev")]),
            package("plugins", "video-actions", &[("tally-sdk", "normal")]),
        ];
        assert_eq!(check(members), Vec::<String>::new());
    }

    #[test]
    fn a_stage_that_names_another_is_found() {
        for (name, to, kind) in [
            ("tally-wal", "tally-state", "normal"),
            ("tally-wal", "tally-state", "dev"),
            ("tally-wal", "tally-daemon", "normal"),
            ("tally-wal", "tally-testkit", "normal"),
            ("tally-wal", "tokio", "normal"),
            ("tally-ingest", "tally-storage", "normal"),
            ("tally-storage", "tally-wal", "normal"),
            ("tally-event", "tally-wal", "normal"),
            ("tally-cli", "tally-event", "normal"),
            ("xtask", "tally-event", "normal"),
            ("tally-daemon", "wasmtime", "normal"),
        ] {
            assert_eq!(check([package("host", name, &[(to, kind)])]).len(), 1, "{name} -> {to} ({kind})");
        }
    }

    #[test]
    fn a_plugin_depends_on_the_sdk_alone() {
        assert_eq!(check([package("plugins", "video-actions", &[("tally-event", "normal")])]).len(), 1);
    }
}
