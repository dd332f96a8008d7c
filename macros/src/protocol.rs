//! `#[derive(Protocol)]`: the ids of its messages, and how they reach any actor that handles them all.
//!
//! `impl<A> ServedBy<A> for Room where A: Handler<Join> + …` stands in the crate of the protocol, where `Room` is local; the other
//! way round (`impl Serves<Room> for RoomActor`) the orphan rule would forbid it in an API crate.

use crate::attr::{self, Errors};
use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{DeriveInput, LitStr, Path, Result, Token, parenthesized, token};

/// What `accepts(…)` lists, each in its order.
#[derive(Default)]
struct Accepted {
    messages: Vec<Path>,
    streams: Vec<Path>,
}

pub(crate) fn derive(item: &DeriveInput) -> TokenStream {
    let mut errors = Errors::default();
    attr::refuse_union(item, "a protocol", &mut errors);
    attr::refuse_generics(item, "a protocol", &mut errors);

    let mut webmesh = attr::webmesh();
    let mut id: Option<LitStr> = None;
    let mut accepted: Option<Accepted> = None;
    let known = &["id", "accepts", "crate"];
    let complete =
        attr::read_attributes(item, "protocol", known, &mut errors, |key, meta, errors| {
            match key {
                "id" => id = Some(attr::id(meta, errors)?),
                "accepts" => accepted = Some(Accepted::read(meta, errors)?),
                _ => webmesh = attr::crate_path(meta)?,
            }
            Ok(())
        });
    if complete && id.is_none() {
        errors.at(
            &item.ident,
            "a protocol needs an id, its name on the wire: `#[protocol(id = \"example.chat.room/1\", …)]`",
        );
    }
    if complete && accepted.is_none() {
        errors.at(
            &item.ident,
            "a protocol lists its messages: `#[protocol(accepts(Join, Post), …)]`; `accepts()` if it has none",
        );
    }
    if !attr::can_be_named(item) {
        return errors.before(TokenStream::new());
    }
    let id = id.unwrap_or_else(|| attr::stand_in(item));
    let mut accepted = accepted.unwrap_or_default();
    accepted.name_once();
    let code = emit(item, &webmesh, &id, &accepted, errors.is_empty());
    errors.before(code)
}

impl Accepted {
    /// Reads `(Join, Post, stream(History))`.
    fn read(meta: &ParseNestedMeta<'_>, errors: &mut Errors) -> Result<Self> {
        let content;
        parenthesized!(content in meta.input);
        let mut accepted = Self::default();
        while !content.is_empty() {
            let word: Path = content.parse()?;
            let (list, message) = if content.peek(token::Paren) {
                if !word.is_ident("stream") {
                    let problem = "expected a message, or `stream(…)` around one";
                    return Err(syn::Error::new_spanned(word, problem));
                }
                let inner;
                parenthesized!(inner in content);
                let message: Path = inner.parse()?;
                if !inner.is_empty() {
                    return Err(inner.error("`stream(…)` takes one message"));
                }
                (&mut accepted.streams, message)
            } else {
                (&mut accepted.messages, word)
            };
            list.push(message);
            if !content.is_empty() {
                content.parse::<Token![,]>()?;
            }
        }
        let mut earlier: Vec<String> = Vec::new();
        for message in accepted.all() {
            let shown = attr::shown(message);
            if earlier.contains(&shown) {
                errors.at(message, format!("`{shown}` is listed twice"));
            }
            earlier.push(shown);
        }
        Ok(accepted)
    }

    /// Leaves out what is listed twice, which was told.
    fn name_once(&mut self) {
        let mut earlier: Vec<String> = Vec::new();
        let mut is_new = |message: &Path| {
            let shown = attr::shown(message);
            let is_new = !earlier.contains(&shown);
            earlier.push(shown);
            is_new
        };
        self.messages.retain(&mut is_new);
        self.streams.retain(&mut is_new);
    }

    fn all(&self) -> impl Iterator<Item = &Path> {
        self.messages.iter().chain(&self.streams)
    }
}

fn emit(
    item: &DeriveInput,
    webmesh: &Path,
    id: &LitStr,
    accepted: &Accepted,
    check_ids: bool,
) -> TokenStream {
    let name = &item.ident;
    let Accepted { messages, streams } = accepted;
    let all: Vec<&Path> = accepted.all().collect();
    let indices = 0..messages.len();
    let distinct = all.iter().enumerate().skip(1).map(|(index, message)| {
        let problem =
            format!("`{}` has the id of an earlier message of this protocol", attr::shown(message));
        quote_spanned!(message.span()=> assert_new_id(IDS, #index, #problem);)
    });
    let check = (check_ids && all.len() > 1).then(|| {
        quote! {
            const _: () = {
                // Named by one word, so that an error underlines the message alone.
                use #webmesh::__private::assert_new_id;
                const IDS: &[&str] = &[#(<#all as #webmesh::Message>::ID),*];
                #(#distinct)*
            };
        }
    });
    quote! {
        #[automatically_derived]
        impl #webmesh::Protocol for #name {
            const ID: &'static str = #id;
            const MESSAGES: &'static [&'static str] = &[#(<#messages as #webmesh::Message>::ID),*];
            const STREAMS: &'static [&'static str] = &[#(<#streams as #webmesh::Message>::ID),*];
        }
        #(
            #[automatically_derived]
            impl #webmesh::Accepts<#messages> for #name {
                const INDEX: usize = #indices;
            }
        )*
        #(
            #[automatically_derived]
            impl #webmesh::Streams<#streams> for #name {}
        )*
        #[automatically_derived]
        impl<__A> #webmesh::ServedBy<__A> for #name
        where
            __A: #webmesh::__private::actix::Actor<Context = #webmesh::__private::actix::Context<__A>>,
            #(__A: #webmesh::__private::actix::Handler<#messages>,)*
        {
            const TABLE: &'static [#webmesh::__private::Dispatch<__A>] =
                &[#(#webmesh::__private::Dispatch::of::<#messages>()),*];
        }
        #check
    }
}
