//! `#[derive(RemoteActor)]`: knows only the tokens of the actor and of its protocols, and asserts that one serves the others.

use crate::attr::{self, Errors};
use proc_macro2::TokenStream;
use quote::quote;
use syn::punctuated::Punctuated;
use syn::{Data, DeriveInput, Path, Token, parenthesized};

pub(crate) fn derive(item: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    attr::refuse_union(item, "an actor", &mut errors);

    let mut webmesh = attr::webmesh();
    let mut serves: Option<Vec<Path>> = None;
    let known = &["serves", "crate"];
    let complete =
        attr::read_attributes(item, "remote", known, &mut errors, |key, meta, errors| {
            if key == "crate" {
                webmesh = attr::crate_path(meta)?;
                return Ok(());
            }
            let content;
            parenthesized!(content in meta.input);
            let protocols = Punctuated::<Path, Token![,]>::parse_terminated(&content)?;
            if protocols.is_empty() {
                errors.at(
                    &meta.path,
                    "`serves()` lists no protocol; an actor is reached through at least one",
                );
            }
            let mut earlier: Vec<String> = Vec::new();
            for protocol in &protocols {
                let shown = attr::shown(protocol);
                if earlier.contains(&shown) {
                    errors.at(protocol, format!("`{shown}` is listed twice"));
                }
                earlier.push(shown);
            }
            serves = Some(protocols.into_iter().collect());
            Ok(())
        });
    if complete && serves.is_none() {
        errors.at(
            &item.ident,
            "an actor names the protocols that it serves: `#[remote(serves(Room))]`",
        );
    }
    let serves = serves.unwrap_or_default();
    // Without a protocol there is nothing that the actor could be.
    let (Some(main), Data::Struct(_) | Data::Enum(_)) = (serves.first(), &item.data) else {
        return errors.before(TokenStream::new());
    };

    let name = &item.ident;
    let (parameters, own, bounds) = item.generics.split_for_impl();
    // That it serves the first one is checked by `RemoteActor::Main`.
    let others = serves.iter().skip(1);
    errors.before(quote! {
        #[automatically_derived]
        impl #parameters #webmesh::RemoteActor for #name #own #bounds {
            type Main = #main;
        }
        #[automatically_derived]
        impl #parameters #webmesh::__private::actix::Handler<#webmesh::__private::Attach<Self>> for #name #own #bounds {
            type Result = ();

            fn handle(&mut self, attach: #webmesh::__private::Attach<Self>, ctx: &mut Self::Context) {
                attach.install(ctx);
            }
        }
        const _: () = {
            #[allow(dead_code)]
            fn serves_all #parameters () #bounds {
                #(#webmesh::__private::assert_served::<#others, #name #own>();)*
            }
        };
    })
}
