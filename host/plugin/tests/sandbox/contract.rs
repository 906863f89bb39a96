//! The contract stays what it was: its text is kept, every built component has it in itself, and components that were built against a released
//! version are taken and give what they gave then.

use crate::fixture::load;
use crate::signups::Signups;
use expect_test::{expect, expect_file};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tally_event::table::Question;
use tally_plugin::{Digest, Instance, Limits};
use wit_component::{DecodedWasm, WitPrinter};
use wit_parser::{InterfaceId, Resolve, WorldKey};

const PACKAGE: &str = "tally:aggregator/";

/// What a component may ask for, and what it may offer beside `aggregator`; types aside.
const IMPORTS: [&str; 1] = ["tally:aggregator/log@0.1.0"];
const EXPORTS: [&str; 2] = ["tally:aggregator/selfcheck@0.1.0", "tally:aggregator/shards@0.1.0"];
const TYPES: [&str; 2] = ["tally:aggregator/columns@0.1.0", "tally:aggregator/types@0.1.0"];

/// The text of the interfaces of the contract, without comments.
fn released() -> BTreeMap<String, String> {
    let mut wit = Resolve::default();
    let (package, _) = wit.push_dir(root().join("wit/0.1.0")).expect("the contract");
    let interfaces: Vec<_> = wit.packages[package].interfaces.values().copied().collect();
    interfaces.into_iter().map(|id| (wit.id_of(id).expect("a name"), printed(&wit, id))).collect()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn printed(wit: &Resolve, interface: InterfaceId) -> String {
    let mut printer = WitPrinter::default();
    printer.emit_docs(false).print_interface(wit, interface).expect("an interface has a text");
    printer.output.to_string()
}

/// Its types and functions. In a component they stand in the order in which they are used.
fn items(text: &str) -> BTreeSet<&str> {
    text.trim_end().split("\n\n").map(str::trim).collect()
}

/// The components that were built: of the product, of the tests, and those in other languages where they were.
fn built() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for (variable, default, needed) in [
        ("TALLY_FIXTURES_DIR", "fixtures", true),
        ("TALLY_BUILT_PLUGINS_DIR", "plugins", true),
        ("TALLY_EXAMPLE_PLUGINS_DIR", "example-plugins", false),
        ("TALLY_LANGUAGES_DIR", "languages", false),
    ] {
        let folder = std::env::var_os(variable).map_or_else(|| root().join("target").join(default), PathBuf::from);
        let files = std::fs::read_dir(&folder).into_iter().flatten().map(|entry| entry.expect("a file").path());
        let components: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "wasm")).collect();
        assert!(
            !needed || !components.is_empty(),
            "no components in {}; run `cargo xtask build --fixtures`",
            folder.display()
        );
        found.extend(components);
    }
    found
}

#[test]
fn the_text_of_the_contract_is_the_one_that_was_released() {
    let text: Vec<_> = released().into_iter().map(|(name, text)| format!("interface {name} {{\n{text}}}\n")).collect();
    expect_file!["golden/contract-0.1.0.wit"].assert_eq(&text.join("\n"));
}

#[test]
fn every_component_has_the_released_contract_in_itself() {
    let released = released();
    let mut components = built();
    components.push(root().join("host/plugin/tests/sandbox/released/signups-0.1.0.wasm"));
    for path in components {
        let file = path.display();
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        let DecodedWasm::Component(wit, world) = wit_component::decode(&bytes).expect("a component") else {
            panic!("{file} is no component");
        };
        let world = &wit.worlds[world];
        let imports: Vec<_> = world.imports.keys().map(|key| wit.name_world_key(key)).collect();
        // A language's runtime may export more, which the host never looks at.
        let ours = |key: &&WorldKey| wit.name_world_key(key).starts_with(PACKAGE);
        let exports: Vec<_> = world.exports.keys().filter(ours).map(|key| wit.name_world_key(key)).collect();
        assert!(
            imports.iter().all(|name| IMPORTS.contains(&&**name) || TYPES.contains(&&**name)),
            "{file}: {imports:?}"
        );
        let (aggregator, optional): (Vec<_>, Vec<_>) = exports.iter().partition(|name| name.contains("/aggregator@"));
        assert_eq!(aggregator, ["tally:aggregator/aggregator@0.1.0"], "{file}");
        assert!(optional.iter().all(|name| EXPORTS.contains(&name.as_str())), "{file}: {exports:?}");
        for key in world.imports.keys().chain(world.exports.keys()).filter(ours) {
            let name = wit.name_world_key(key);
            let WorldKey::Interface(id) = key else { panic!("{file}: {name} is no interface") };
            assert_eq!(items(&printed(&wit, *id)), items(&released[&name]), "{file}: {name}");
        }
    }
}

/// What every version that was released must go on giving for the same events.
fn check_released(bytes: &[u8], saved: &expect_test::Expect, reported: &expect_test::Expect) {
    let configured = load(Limits::default(), bytes).configure("{}").expect("configure");
    let mut instance = configured.instantiate().expect("instantiate");
    let events = Signups::new(5000, 3000, 900);
    let applied = |instance: &mut Instance, range| {
        let accumulator = instance.create().expect("create");
        let refused = instance.apply(&accumulator, &events.batch(range).rows()).expect("apply");
        (accumulator, refused.len())
    };
    let (whole, refused) = applied(&mut instance, 0..5000);
    let bytes = instance.save(&whole).expect("save");
    saved.assert_eq(&format!("{refused} refused, {} bytes, {}", bytes.len(), Digest::of(&bytes)));

    let (first, _) = applied(&mut instance, 0..2000);
    let (later, _) = applied(&mut instance, 2000..5000);
    let first = instance.save(&first).expect("save");
    let loaded = instance.load(&configured.manifest.state_version, &first).expect("load");
    instance.merge(&loaded, &later).expect("merge");
    assert_eq!(instance.save(&loaded).expect("save"), bytes);

    let tables = instance.report(&loaded, &Question { row_limit: 3, ..Question::default() }).expect("report");
    let rows = tables.iter().flat_map(|table| table.to_json_rows().into_iter().map(move |row| (table, row)));
    let lines: Vec<_> = rows.map(|(table, row)| format!("{}: {}", table.name, serde_json::json!(row))).collect();
    reported.assert_eq(&lines.join("\n"));
}

#[test]
fn a_component_of_0_1_0_gives_what_it_gave() {
    check_released(
        include_bytes!("released/signups-0.1.0.wasm"),
        &expect!["273 refused, 21045 bytes, 38030293bd4de6e8237b4ed6c3b83e4cf1e8d289be759b31ab49eec44da3e2e8"],
        &expect![[r#"
        summary: {"direct":942,"other_referrers":2687,"paid":"12315162387.22","signups":4727,"users":2356,"users_exact":false}
        referrers: {"paid":"33143975.03","referrer":"https://😀455.example/","signups":10}
        referrers: {"paid":"16384404.28","referrer":"https://😀531.example/","signups":10}
        referrers: {"paid":"14655764.97","referrer":"https://é585.example/","signups":10}"#]],
    );
}
