//! `#[derive(State)]`: every field is a part, in order, except those marked `#[state(skip)]`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Data, DeriveInput, Error, Fields, Member, Result};

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(&input.ident, "State can only be derived for a struct; implement it by hand"));
    };
    let parts = parts(&data.fields)?;
    let name = &input.ident;
    let (generics, types, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #generics ::tally_sdk::State for #name #types #bounds {
            fn save(&self, out: &mut ::std::vec::Vec<u8>) {
                #(::tally_sdk::State::save(&self.#parts, out);)*
            }

            fn load(
                &mut self,
                saved: &mut ::tally_sdk::Reader<'_>,
            ) -> ::std::result::Result<(), ::tally_sdk::LoadError> {
                #(::tally_sdk::State::load(&mut self.#parts, saved)?;)*
                ::std::result::Result::Ok(())
            }

            fn merge(&mut self, later: &Self) {
                #(::tally_sdk::State::merge(&mut self.#parts, &later.#parts);)*
            }
        }
    })
}

fn parts(fields: &Fields) -> Result<Vec<Member>> {
    let mut parts = Vec::new();
    for (field, member) in fields.iter().zip(fields.members()) {
        if !skipped(&field.attrs)? {
            parts.push(member);
        }
    }
    Ok(parts)
}

fn skipped(attributes: &[Attribute]) -> Result<bool> {
    let mut skipped = false;
    for attribute in attributes.iter().filter(|a| a.path().is_ident("state")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("skip") {
                skipped = true;
                return Ok(());
            }
            Err(meta.error("the only thing to say here is `skip`"))
        })?;
    }
    Ok(skipped)
}
