//! The contract of `wit/0.1.0` as Rust types, generated. Event batches are borrowed, so that columns cross into the
//! guest's memory by one copy each. Nothing outside this crate sees these types.

#![allow(missing_docs, reason = "generated from wit/0.1.0, which documents everything")]
#![allow(unsafe_code, reason = "wasmtime's derived conversions are `unsafe impl`s; nothing unsafe is written here")]
#![allow(clippy::all, reason = "generated code")]

wasmtime::component::bindgen!({
    path: "../../wit/0.1.0",
    world: "plugin",
    ownership: Borrowing { duplicate_if_necessary: true },
    require_store_data_send: true,
});
