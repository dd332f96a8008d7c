//! `#[derive(Message)]`: the actix message and its id for the wire.

use crate::attr::{self, Errors};
use crate::octets;
use proc_macro2::TokenStream;
use quote::quote;
use syn::{DeriveInput, LitStr, Type, parse_quote};

pub(crate) fn derive(item: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    attr::refuse_union(item, "a message", &mut errors);
    attr::refuse_generics(item, "a message", &mut errors);
    octets::refuse_in_fields(&item.data, &mut errors);

    let mut webmesh = attr::webmesh();
    let mut id: Option<LitStr> = None;
    let mut reply: Type = parse_quote!(());
    let known = &["id", "reply", "crate"];
    let complete =
        attr::read_attributes(item, "message", known, &mut errors, |key, meta, errors| {
            match key {
                "id" => id = Some(attr::id(meta, errors)?),
                "reply" => {
                    reply = meta.value()?.parse()?;
                    octets::refuse_in_type(&reply, errors);
                }
                _ => webmesh = attr::crate_path(meta)?,
            }
            Ok(())
        });
    if complete && id.is_none() {
        errors.at(
            &item.ident,
            "a message needs an id, its name on the wire: `#[message(id = \"chat.post\")]`",
        );
    }
    if !attr::can_be_named(item) {
        return errors.before(TokenStream::new());
    }
    let name = &item.ident;
    let id = id.unwrap_or_else(|| attr::stand_in(item));
    errors.before(quote! {
        #[automatically_derived]
        impl #webmesh::__private::actix::Message for #name {
            type Result = #reply;
        }
        #[automatically_derived]
        impl #webmesh::Message for #name {
            const ID: &'static str = #id;
        }
    })
}
