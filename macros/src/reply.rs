//! `#[derive(Reply)]`: what actix's `MessageResponse` derive emits, through `webmesh` and for generic types too.

use crate::attr::{self, Errors};
use crate::octets;
use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, parse_quote};

pub(crate) fn derive(item: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    attr::refuse_union(item, "a reply", &mut errors);
    octets::refuse_in_fields(&item.data, &mut errors);
    let mut webmesh = attr::webmesh();
    attr::read_attributes(item, "reply", &["crate"], &mut errors, |_, meta, _| {
        webmesh = attr::crate_path(meta)?;
        Ok(())
    });
    if matches!(item.data, Data::Union(_)) {
        return errors.before(TokenStream::new());
    }

    let name = &item.ident;
    let (_, own, _) = item.generics.split_for_impl();
    let mut generics = item.generics.clone();
    generics.params.push(parse_quote!(__A));
    generics.params.push(parse_quote!(__M));
    let bounds = generics.make_where_clause();
    bounds.predicates.push(parse_quote!(__A: #webmesh::__private::actix::Actor));
    bounds.predicates.push(parse_quote!(__M: #webmesh::__private::actix::Message<Result = Self>));
    if !item.generics.params.is_empty() {
        bounds.predicates.push(parse_quote!(Self: 'static));
    }
    let (parameters, _, bounds) = generics.split_for_impl();
    errors.before(quote! {
        #[automatically_derived]
        impl #parameters #webmesh::__private::actix::dev::MessageResponse<__A, __M> for #name #own #bounds {
            fn handle(
                self,
                _: &mut <__A as #webmesh::__private::actix::Actor>::Context,
                sender: ::core::option::Option<#webmesh::__private::actix::dev::OneshotSender<Self>>,
            ) {
                if let ::core::option::Option::Some(sender) = sender {
                    // Whoever asked may have stopped waiting.
                    ::core::mem::drop(sender.send(self));
                }
            }
        }
    })
}
