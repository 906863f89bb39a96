//! `#[derive(Event)]`: what a struct's fields are read from, and which struct an event type becomes.

use proc_macro2::{Span, TokenStream};
use quote::quote;
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::{
    Attribute, Data, DataEnum, DataStruct, DeriveInput, Error, Fields, Generics, Ident, Index, Lifetime, LitStr,
    Result, Token, Type,
};

pub(crate) fn derive(input: &DeriveInput) -> Result<TokenStream> {
    let body = match &input.data {
        Data::Struct(data) => of_struct(input, data)?,
        Data::Enum(data) => of_enum(input, data)?,
        Data::Union(_) => return Err(Error::new_spanned(input, "Event cannot be derived for a union")),
    };
    let name = &input.ident;
    let lifetime = lifetime(&input.generics)?;
    let generics = &input.generics;
    let (own, types) = match generics.lifetimes().next() {
        Some(_) => (quote!(#generics), quote!(#generics)),
        None => (quote!(<#lifetime>), quote!()),
    };
    Ok(quote! {
        #[automatically_derived]
        impl #own ::tally_sdk::Event<#lifetime> for #name #types {
            #body
        }
    })
}

/// The lifetime of the batch that the event borrows from.
fn lifetime(generics: &Generics) -> Result<Lifetime> {
    let mut parameters = generics.params.iter();
    match (parameters.next(), parameters.next()) {
        (None, _) => Ok(Lifetime::new("'batch", Span::call_site())),
        (Some(syn::GenericParam::Lifetime(only)), None) if only.bounds.is_empty() => Ok(only.lifetime.clone()),
        _ => Err(Error::new_spanned(
            generics,
            "an event may have one lifetime, for the text it borrows, and no other parameter",
        )),
    }
}

/// Where a field's value comes from.
enum Source {
    Path(LitStr),
    Prefixed(LitStr, LitStr, LitStr),
    Time,
    Sequence,
}

fn of_struct(input: &DeriveInput, data: &DataStruct) -> Result<TokenStream> {
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(
            &input.ident,
            "an event needs named fields, each with #[field(\"/json/pointer\")]",
        ));
    };
    let event_type = event_type(input)?;
    let lifetime = lifetime(&input.generics)?;
    let (mut declared, mut columns, mut found, mut read) = (vec![], vec![], vec![], vec![]);
    for field in &fields.named {
        let (name, ty) = (&field.ident, &field.ty);
        let column = Index::from(columns.len());
        let value = |path: &LitStr| {
            (
                quote!(schema.field::<#ty>(#path);),
                quote!(<#ty as ::tally_sdk::Value<#lifetime>>::Column),
                quote!(binding.column::<#ty>(#path)),
                quote!(<#ty as ::tally_sdk::Value<#lifetime>>::get(&columns.#column, row.index())),
            )
        };
        let (path, prefix) = match source(name, &field.attrs)? {
            Source::Time => {
                read.push(quote!(#name: row.time()));
                continue;
            }
            Source::Sequence => {
                read.push(quote!(#name: row.sequence()));
                continue;
            }
            Source::Path(path) => (path, None),
            Source::Prefixed(path, prefix, reason) => (path, Some((prefix, reason))),
        };
        let (declare, column, bind, get) = value(&path);
        declared.push(declare);
        columns.push(column);
        found.push(bind);
        match prefix {
            None => read.push(quote!(#name: #get)),
            Some((prefix, reason)) => {
                declared.push(quote!(schema.refusal(#reason);));
                read.push(quote!(#name: ::tally_sdk::Prefixed::strip(#get, #prefix, #reason)?));
            }
        }
    }
    // A lone `()` is something that clippy would find in the author's crate.
    let found = if found.is_empty() { quote!(let _ = binding;) } else { quote!((#(#found,)*)) };
    Ok(quote! {
        type Columns = (#(#columns,)*);
        const TYPES: u32 = 1;

        fn declare(schema: &mut ::tally_sdk::Schema) {
            schema.event_type(#event_type);
            #(#declared)*
        }

        fn columns(binding: &#lifetime ::tally_sdk::Binding<#lifetime>) -> Self::Columns {
            #found
        }

        #[inline]
        fn read(
            columns: &Self::Columns,
            row: ::tally_sdk::Row<#lifetime>,
        ) -> ::std::result::Result<Self, ::tally_sdk::Refusal> {
            let _ = (columns, row);
            ::std::result::Result::Ok(Self { #(#read,)* })
        }
    })
}

fn of_enum(input: &DeriveInput, data: &DataEnum) -> Result<TokenStream> {
    let lifetime = lifetime(&input.generics)?;
    let variants: Vec<(&Ident, &Type)> = data
        .variants
        .iter()
        .map(|variant| match &variant.fields {
            Fields::Unnamed(fields) if fields.unnamed.len() == 1 => Ok((&variant.ident, &fields.unnamed[0].ty)),
            _ => Err(Error::new_spanned(variant, "each variant holds one event: Variant(Event)")),
        })
        .collect::<Result<_>>()?;
    let types: Vec<_> = variants.iter().map(|(_, ty)| ty).collect();
    let reads = variants.iter().enumerate().map(|(index, (name, ty))| {
        let index = Index::from(index);
        quote! {
            let types = <#ty as ::tally_sdk::Event<#lifetime>>::TYPES;
            if row.event_type() < base + types {
                let row = row.with_types_from(base);
                return <#ty as ::tally_sdk::Event<#lifetime>>::read(&columns.#index, row).map(Self::#name);
            }
            let base = base + types;
        }
    });
    Ok(quote! {
        type Columns = (#(<#types as ::tally_sdk::Event<#lifetime>>::Columns,)*);
        const TYPES: u32 = 0 #(+ <#types as ::tally_sdk::Event<#lifetime>>::TYPES)*;

        fn declare(schema: &mut ::tally_sdk::Schema) {
            #(<#types as ::tally_sdk::Event<#lifetime>>::declare(schema);)*
        }

        fn columns(binding: &#lifetime ::tally_sdk::Binding<#lifetime>) -> Self::Columns {
            (#(<#types as ::tally_sdk::Event<#lifetime>>::columns(binding),)*)
        }

        #[inline]
        fn read(
            columns: &Self::Columns,
            row: ::tally_sdk::Row<#lifetime>,
        ) -> ::std::result::Result<Self, ::tally_sdk::Refusal> {
            let base = 0;
            #(#reads)*
            ::std::panic!("event type {} was not declared, {base} were", row.event_type())
        }
    })
}

/// The `"name"` in `#[event(type = "name")]`.
fn event_type(input: &DeriveInput) -> Result<LitStr> {
    let attribute = only(&input.attrs, "event")?.ok_or_else(|| {
        Error::new_spanned(&input.ident, "say which events this is read from: #[event(type = \"name\")]")
    })?;
    let name: LitStr = attribute.parse_args_with(|tokens: ParseStream<'_>| {
        let key = tokens.call(Ident::parse_any)?;
        if key != "type" {
            return Err(Error::new(key.span(), "expected `type = \"name\"`"));
        }
        tokens.parse::<Token![=]>()?;
        tokens.parse()
    })?;
    if name.value().is_empty() {
        return Err(Error::new(name.span(), "an event type has a name"));
    }
    Ok(name)
}

fn source(name: &Option<Ident>, attributes: &[Attribute]) -> Result<Source> {
    let attribute = only(attributes, "field")?.ok_or_else(|| {
        Error::new_spanned(
            name,
            "say what this is read from: #[field(\"/json/pointer\")], #[field(time)] or #[field(sequence)]",
        )
    })?;
    attribute.parse_args_with(|tokens: ParseStream<'_>| {
        if !tokens.peek(LitStr) {
            let word: Ident = tokens.parse()?;
            return match word.to_string().as_str() {
                "time" => Ok(Source::Time),
                "sequence" => Ok(Source::Sequence),
                _ => Err(Error::new(word.span(), "expected \"/json/pointer\", time or sequence")),
            };
        }
        let path: LitStr = tokens.parse()?;
        check_pointer(&path)?;
        if tokens.is_empty() {
            return Ok(Source::Path(path));
        }
        let prefix = argument(tokens, "prefix")?;
        let reason = argument(tokens, "refuse")?;
        tokens.parse::<Option<Token![,]>>()?;
        Ok(Source::Prefixed(path, prefix, reason))
    })
}

/// `, name = "value"`.
fn argument(tokens: ParseStream<'_>, name: &str) -> Result<LitStr> {
    const SHAPE: &str = "expected `prefix = \"..\", refuse = \"reason\"`";
    tokens.parse::<Token![,]>().map_err(|error| Error::new(error.span(), SHAPE))?;
    let key: Ident = tokens.parse().map_err(|error: Error| Error::new(error.span(), SHAPE))?;
    if key != name {
        return Err(Error::new(key.span(), SHAPE));
    }
    tokens.parse::<Token![=]>()?;
    tokens.parse()
}

/// RFC 6901: empty, or every part after a `/`, with `~` only in `~0` and `~1`.
fn check_pointer(path: &LitStr) -> Result<()> {
    let text = path.value();
    let escapes = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    if escapes && (text.is_empty() || text.starts_with('/')) {
        return Ok(());
    }
    Err(Error::new(path.span(), "expected a JSON pointer (RFC 6901), such as \"/user_id\" or \"/properties/plan\""))
}

fn only<'a>(attributes: &'a [Attribute], name: &str) -> Result<Option<&'a Attribute>> {
    let mut found = attributes.iter().filter(|a| a.path().is_ident(name));
    let first = found.next();
    match found.next() {
        None => Ok(first),
        Some(second) => Err(Error::new_spanned(second, format!("#[{name}] stands twice"))),
    }
}
