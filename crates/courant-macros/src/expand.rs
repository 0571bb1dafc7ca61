//! From a type to its `impl`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{Attribute, Data, DeriveInput, Error, Field, Fields, Ident, Result};

use crate::attribute::{self, Described, KeyChoice, Kind};

/// The code that a derive adds: the `impl`, or the error.
pub(crate) fn derive(input: TokenStream, kind: Kind) -> TokenStream {
    let expanded = syn::parse2::<DeriveInput>(input).and_then(|input| expand(&input, kind));
    expanded.unwrap_or_else(Error::into_compile_error)
}

fn expand(input: &DeriveInput, kind: Kind) -> Result<TokenStream> {
    attribute::refuse_personal(attributes(input))?;
    if let Some(parameter) = input.generics.params.first() {
        let said = "an event has no parameters: what is on the wire has one type, with one name";
        return Err(Error::new_spanned(parameter, said));
    }
    if let Data::Union(data) = &input.data {
        return Err(Error::new(data.union_token.span, "an event is a struct or an enum"));
    }
    let described = attribute::read(input, kind)?;
    let key = key(input, &described)?;
    let Described { type_name, topic, owner, .. } = &described;
    let name = &input.ident;
    let owner_const = owner.as_ref().map(|owner| {
        quote!(const OWNER: ::core::option::Option<&'static str> = ::core::option::Option::Some(#owner);)
    });
    let command = owner.as_ref().map(|_| {
        quote! {
            #[automatically_derived]
            impl ::courant::Command for #name {}
        }
    });
    Ok(quote! {
        #[automatically_derived]
        impl ::courant::Event for #name {
            const TYPE: &'static str = #type_name;
            const TOPIC: &'static str = #topic;
            #owner_const

            fn key(&self) -> ::core::option::Option<::courant::Key> {
                #key
            }
        }

        #command
    })
}

/// The attributes of the type and of everything in it.
fn attributes(input: &DeriveInput) -> impl Iterator<Item = &Attribute> {
    let fields: Vec<&Field> = match &input.data {
        Data::Struct(data) => data.fields.iter().collect(),
        Data::Enum(data) => data.variants.iter().flat_map(|variant| &variant.fields).collect(),
        Data::Union(data) => data.fields.named.iter().collect(),
    };
    input.attrs.iter().chain(fields.into_iter().flat_map(|field| &field.attrs))
}

/// The body of `key`.
fn key(input: &DeriveInput, described: &Described) -> Result<TokenStream> {
    let field = match &described.key {
        KeyChoice::NoKey => return Ok(quote!(::core::option::Option::None)),
        KeyChoice::Field(field) => field,
    };
    let there = named_fields(input);
    if there.contains(&field) {
        let value = quote_spanned!(field.span()=> ::courant::Key::of(&self.#field));
        return Ok(quote!(::core::option::Option::Some(#value)));
    }
    let names: Vec<String> = there.iter().map(|name| format!("`{name}`")).collect();
    let there = match names.join(", ") {
        names if names.is_empty() => "it has no named fields".to_owned(),
        names => format!("it has {names}"),
    };
    Err(Error::new(field.span(), format!("there is no field `{field}` to take the key from; {there}")))
}

fn named_fields(input: &DeriveInput) -> Vec<&Ident> {
    match &input.data {
        Data::Struct(data) => match &data.fields {
            Fields::Named(fields) => fields.named.iter().filter_map(|field| field.ident.as_ref()).collect(),
            Fields::Unnamed(_) | Fields::Unit => Vec::new(),
        },
        Data::Enum(_) | Data::Union(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: Kind, input: TokenStream) -> String {
        expand(&parsed(input), kind).expect_err("is refused").to_string()
    }

    fn parsed(input: TokenStream) -> DeriveInput {
        syn::parse2(input).expect("parses")
    }

    #[test]
    fn what_is_described_is_what_is_written() {
        let input = parsed(quote! {
            #[event(type = "shop.order-placed", topic = "shop.orders", key = order_id)]
            struct OrderPlaced { order_id: String }
        });
        let code = expand(&input, Kind::Event).expect("expands").to_string();
        for part in ["\"shop.order-placed\"", "\"shop.orders\"", "self . order_id"] {
            assert!(code.contains(part), "{part} in {code}");
        }
        assert!(!code.contains("OWNER"), "{code}");
    }

    #[test]
    fn a_command_has_an_owner() {
        let input = parsed(quote! {
            #[command(type = "shop.take-payment", topic = "shop.payments", no_key, owner = "payments")]
            struct TakePayment;
        });
        let code = expand(&input, Kind::Command).expect("expands").to_string();
        assert!(code.contains("Some (\"payments\")"), "{code}");
        assert!(code.contains(":: courant :: Command"), "{code}");
        let without = quote!(
            #[command(type = "a", topic = "b", no_key)]
            struct A;
        );
        assert!(said(Kind::Command, without).contains("which one consumer"));
    }

    #[test]
    fn each_omission_has_its_own_sentence() {
        let cases = [
            (
                quote!(
                    struct A;
                ),
                "say what it is called",
            ),
            (
                quote!(
                    #[event(topic = "t", no_key)]
                    struct A;
                ),
                "a name on the wire",
            ),
            (
                quote!(
                    #[event(type = "a", no_key)]
                    struct A;
                ),
                "say where it goes",
            ),
            (
                quote!(
                    #[event(type = "a", topic = "t")]
                    struct A;
                ),
                "say what it is about",
            ),
            (
                quote!(
                    #[event(type = "a", topic = "t", key = id)]
                    struct A {
                        di: u8,
                    }
                ),
                "it has `di`",
            ),
            (
                quote!(
                    #[event(type = "a", topic = "t", key = id)]
                    struct A;
                ),
                "no named fields",
            ),
            (
                quote!(
                    #[event(type = "A", topic = "t", no_key)]
                    struct A;
                ),
                "small letters",
            ),
            (
                quote!(
                    #[event(type = "a", topic = "t/t", no_key)]
                    struct A;
                ),
                "it has '/'",
            ),
            (
                quote!(
                    #[event(type = "a", topic = "t", no_key, key = b)]
                    struct A {
                        b: u8,
                    }
                ),
                "said twice",
            ),
            (
                quote!(
                    #[event(type = "a", topic = "t", no_key, owner = "b")]
                    struct A;
                ),
                "takes `type`",
            ),
            (
                quote!(
                    #[event(type = "a", topic = "t", no_key)]
                    struct A<T>(T);
                ),
                "no parameters",
            ),
            (
                quote!(
                    #[event(type = "a", topic = "t", no_key)]
                    struct A {
                        #[personal]
                        email: String,
                    }
                ),
                "cannot be protected yet",
            ),
        ];
        for (input, sentence) in cases {
            let text = input.to_string();
            let error = said(Kind::Event, input);
            assert!(error.contains(sentence), "{text}: {error}");
        }
    }
}
