//! What is taken as a plugin, and how the rest is refused: in words that say what to do.

use crate::fixture::{bytes, configured, load, probe};
use expect_test::{Expect, expect};
use tally_event::schema::{EventType, Field, Kind, Ordering};
use tally_plugin::{CallError, Digest, Engine, Limits, PluginError};

fn refusal(bytes: &[u8]) -> String {
    let engine = Engine::new(Limits::default(), None).unwrap();
    match engine.load(bytes) {
        Ok(_) => panic!("the component was taken"),
        Err(error) => error.to_string(),
    }
}

fn refused(bytes: &[u8], message: Expect) {
    message.assert_eq(&refusal(bytes));
}

/// The probe with each occurrence of a name replaced by one of the same length, so that it stays a valid component.
fn renamed(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes("probe");
    let places: Vec<_> = (0..bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from.as_bytes())).collect();
    assert!(!places.is_empty(), "{from} is not in the probe");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

#[test]
fn a_component_says_what_it_is_and_what_it_wants() {
    let bytes = bytes("probe");
    let component = probe();
    assert_eq!(component.digest, Digest::of(&bytes));
    let description = &component.description;
    assert_eq!((&*description.name, &*description.version), ("probe", "1.0.0"));
    assert_eq!(description.settings_schema, r#"{"type":"object"}"#);

    let manifest = configured("{}").manifest;
    let field = |path: &str, kind| Field { path: path.into(), kind };
    let wanted = [field("/n", Kind::Integer), field("/user_id", Kind::Text)];
    assert_eq!(manifest.fields, wanted);
    let event_type = EventType { name: "action".into(), required: vec![], optional: vec![0, 1] };
    assert_eq!(manifest.event_types[0], event_type);
    assert_eq!(manifest.ordering, Ordering::Commutative);
    assert_eq!((&*manifest.state_version, manifest.loads.len()), ("1", 8));
    assert_eq!(manifest.refusals, ["asked"]);
}

#[test]
fn settings_decide_the_manifest() {
    let manifest = configured(r#"{"state_version": "7"}"#).manifest;
    assert_eq!(manifest.state_version, "7");
    assert!(!manifest.loads.contains(&"7".to_owned()));
}

#[test]
fn what_is_not_a_component_is_refused_before_it_is_compiled() {
    refused(
        b"",
        expect![
            "not a usable WebAssembly component: the file is empty or ends within the first eight bytes; was it still being written?"
        ],
    );
    refused(
        b"\0asm\x01\0\0\0",
        expect![
            "not a usable WebAssembly component: it is a core module; link it as a component (`wasm-component-ld`, or `wasm-tools component new`)"
        ],
    );
    refused(
        b"\0asm\x0e\0\x01\0",
        expect!["not a usable WebAssembly component: it is WebAssembly of a version this daemon does not know"],
    );
    refused(
        b"\x7fELF\x02\x01\x01\0",
        expect![
            "not a usable WebAssembly component: it is compiled for a machine (ELF); only portable components are taken"
        ],
    );
    refused(
        b"(component)",
        expect![[r#"not a usable WebAssembly component: it does not begin with `\0asm`, as WebAssembly does"#]],
    );
}

#[test]
fn a_truncated_component_is_refused_wherever_it_ends() {
    let bytes = bytes("selfcheck");
    let engine = Engine::new(Limits::default(), None).unwrap();
    // What stands behind the last section that means something (names, who produced it) may be missing.
    let whole = whole_without_names(&bytes);
    let check = |length: usize| match engine.load(&bytes[..length]) {
        // Behind a whole section it is a component, but not yet a plugin.
        Err(PluginError::NotAComponent(_) | PluginError::Contract { .. }) => assert!(length < whole, "{length}"),
        Err(other) => panic!("{length}: {other}"),
        Ok(_) => assert!(length >= whole, "the first {length} bytes were taken"),
    };
    std::thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || (part..whole).step_by(4).for_each(check));
        }
    });
    check(whole);
    assert!(whole > bytes.len() / 2);
}

/// How long a component is without the custom sections at its end.
fn whole_without_names(bytes: &[u8]) -> usize {
    let (mut at, mut whole) = (8, 8);
    while at < bytes.len() {
        let id = bytes[at];
        let (mut length, mut shift) = (0usize, 0);
        loop {
            at += 1;
            length |= usize::from(bytes[at] & 0x7f) << shift;
            shift += 7;
            if bytes[at] & 0x80 == 0 {
                break;
            }
        }
        at += 1 + length;
        if id != 0 {
            whole = at;
        }
    }
    whole
}

#[test]
fn the_empty_component_is_told_what_to_export() {
    refused(
        b"\0asm\x0d\0\x01\0",
        expect![
            "the component does not fit the contract tally:aggregator@0.1.0: it exports nothing; a plugin exports `tally:aggregator/aggregator@0.1.0` (in Rust, is the `export!` compiled in?)"
        ],
    );
}

#[test]
fn imports_other_than_log_are_refused_by_name() {
    refused(
        &renamed("tally:aggregator/log@0.1.0", "wasi:aggregators/log@0.1.0"),
        expect![
            "the component does not fit the contract tally:aggregator@0.1.0: it imports `wasi:aggregators/log@0.1.0`; plugins get no WASI, only `tally:aggregator/log@0.1.0`: build for `wasm32-unknown-unknown`, or with `--stub-wasi` where the language's runtime wants WASI"
        ],
    );
    refused(
        &renamed("tally:aggregator/log@0.1.0", "tally:aggregator/net@0.1.0"),
        expect![
            "the component does not fit the contract tally:aggregator@0.1.0: it imports `tally:aggregator/net@0.1.0`; the only thing a plugin may import is `tally:aggregator/log@0.1.0`"
        ],
    );
}

#[test]
fn another_version_of_the_contract_is_refused_and_a_patch_is_not() {
    refused(
        &renamed("tally:aggregator/aggregator@0.1.0", "tally:aggregator/aggregator@0.2.0"),
        expect![
            "the component does not fit the contract tally:aggregator@0.1.0: it exports `tally:aggregator/aggregator@0.2.0`, but this daemon speaks tally:aggregator@0.1.0; build it against `wit/0.1.0`"
        ],
    );
    let patched = renamed("tally:aggregator/aggregator@0.1.0", "tally:aggregator/aggregator@0.1.9");
    let component = load(Limits::default(), &patched);
    assert!(component.configure("{}").unwrap().instantiate().is_ok());
}

#[test]
fn a_function_that_is_missing_or_of_another_type_is_named() {
    refused(
        &renamed("describe", "descripe"),
        expect![
            "the component does not fit the contract tally:aggregator@0.1.0: its export `tally:aggregator/aggregator` lacks `describe`; build it against `wit/0.1.0`"
        ],
    );
    refused(
        &renamed("settings-schema", "settings-scheme"),
        expect![
            "the component does not fit the contract tally:aggregator@0.1.0: an import or export has another type than in `wit/0.1.0`: failed to convert function to given type: type mismatch with results: expected record field named settings-schema, found settings-scheme"
        ],
    );
}

#[test]
fn a_component_over_the_limit_is_refused() {
    let bytes = bytes("probe");
    let limits = Limits { component_bytes: bytes.len() - 1, ..Limits::default() };
    let error = Engine::new(limits, None).unwrap().load(&bytes).err();
    assert!(matches!(error, Some(PluginError::TooLarge { .. })), "{error:?}");
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let refused = |settings: &str, message: Expect| {
        let error = probe().configure(settings).err().expect("refused");
        message.assert_eq(&error.to_string());
    };
    refused("[1]", expect!["the settings must be a JSON object: found `[1]`"]);
    refused("{", expect!["the settings must be a JSON object: EOF while parsing an object at line 1 column 1"]);
    refused(
        r#"{"fail_configure": "weights must be integers"}"#,
        expect!["the plugin refused its settings: weights must be integers"],
    );
    refused(
        r#"{"wrong_manifest": true}"#,
        expect![[
            r#"the plugin's manifest is not acceptable: manifest: event_types[0].required (event type "action"): index 9 is out of range: there are 2 fields"#
        ]],
    );
    refused(r#"{"trap_in": "configure"}"#, expect!["`configure` trapped: wasm `unreachable` instruction executed"]);
}

#[test]
fn the_optional_selfcheck_is_called_where_it_is_exported() {
    assert!(!probe().has_selfcheck());
    let limits = Limits { fuel_base: 10_000_000, ..Limits::default() };
    let component = load(limits, &bytes("selfcheck"));
    assert!(component.has_selfcheck());
    let mut instance = component.configure("{}").unwrap().instantiate().unwrap();
    assert!(instance.create().is_ok());
    let error = component.configure(r#"{"unfit": 1}"#).err().unwrap();
    expect!["the plugin's self-check failed: the settings say that it is unfit"].assert_eq(&error.to_string());
    let error = component.configure(r#"{"loop": 1}"#).err().unwrap();
    assert!(matches!(&error, PluginError::Call(CallError::OutOfFuel { call: "selfcheck", .. })), "{error:?}");
}
