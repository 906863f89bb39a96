//! The contract's own types, generated from `wit/`. Authors rarely need them; the rest of the SDK turns them into typed
//! events and builds tables out of them.
#![allow(missing_docs, unsafe_code, clippy::all, reason = "generated from wit/, which is where it is documented")]

wit_bindgen::generate!({
    path: "../../wit/0.1.0",
    world: "plugin-with-shards",
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "tally_sdk::wire",
    additional_derives: [Clone, PartialEq],
});
