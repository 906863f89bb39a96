//! The derive macros of `tally-sdk`, documented there. They know the names of the SDK's traits, and nothing else.

mod event;
mod state;

use proc_macro::TokenStream;
use syn::{DeriveInput, parse_macro_input};

/// Reads a struct from an event of one type, or an enum of such structs from events of several. See `tally_sdk::Event`.
#[proc_macro_derive(Event, attributes(event, field))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    event::derive(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Saves, loads and merges a struct field by field. See `tally_sdk::State`.
#[proc_macro_derive(State, attributes(state))]
pub fn derive_state(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    state::derive(&input).unwrap_or_else(|error| error.to_compile_error()).into()
}
