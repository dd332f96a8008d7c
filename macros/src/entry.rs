//! `#[webmesh::main]` and `#[webmesh::test]`: an `async fn` under a runtime of webmesh's making, so that its user
//! needs no dependency on tokio.

use crate::attr::{self, Errors, Keys};
use proc_macro2::TokenStream;
use quote::quote;
use syn::meta::ParseNestedMeta;
use syn::parse::Parser;
use syn::{Error, ItemFn, LitInt, LitStr, Result};

pub(crate) fn main(args: TokenStream, item: TokenStream) -> TokenStream {
    let function: ItemFn = match syn::parse2(item) {
        Ok(function) => function,
        Err(error) => return error.into_compile_error(),
    };
    expand_main(args, &function).unwrap_or_else(|error| {
        let error = error.into_compile_error();
        // Without one, the compiler would complain about a missing `main` as well.
        let stub = (function.sig.ident == "main").then(|| {
            quote!(
                fn main() {}
            )
        });
        quote!(#error #stub)
    })
}

pub(crate) fn test(args: TokenStream, item: TokenStream) -> TokenStream {
    syn::parse2(item)
        .and_then(|function| expand_test(args, &function))
        .unwrap_or_else(Error::into_compile_error)
}

fn expand_main(args: TokenStream, function: &ItemFn) -> Result<TokenStream> {
    let mut errors = Errors::default();
    let mut webmesh = attr::webmesh();
    let mut multi_thread = false;
    let mut workers: Option<LitInt> = None;
    read_keys(args, &["flavor", "worker_threads", "crate"], &mut errors, |key, meta, errors| {
        match key {
            "flavor" => {
                multi_thread =
                    choice(meta, "current_thread", "multi_thread", errors)? == "multi_thread";
            }
            "worker_threads" => {
                let number: LitInt = meta.value()?.parse()?;
                if number.base10_parse::<usize>()? == 0 {
                    errors.at(&number, "at least one worker thread is needed");
                }
                workers = Some(number);
            }
            _ => webmesh = attr::crate_path(meta)?,
        }
        Ok(())
    });
    if let (Some(number), false) = (&workers, multi_thread) {
        errors.at(number, "`worker_threads` needs `flavor = \"multi_thread\"`");
    }
    check_function(function, "#[webmesh::main]", &mut errors);
    errors.finish()?;

    let flavor = match (multi_thread, workers) {
        (false, _) => quote!(CurrentThread),
        (true, None) => quote!(MultiThread(::core::option::Option::None)),
        (true, Some(number)) => quote!(MultiThread(::core::option::Option::Some(#number))),
    };
    let call =
        |body| quote!(#webmesh::__private::block_on(#webmesh::__private::Flavor::#flavor, #body));
    Ok(wrap(function, TokenStream::new(), call))
}

fn expand_test(args: TokenStream, function: &ItemFn) -> Result<TokenStream> {
    let mut errors = Errors::default();
    let mut webmesh = attr::webmesh();
    let mut paused = true;
    read_keys(args, &["clock", "crate"], &mut errors, |key, meta, errors| {
        match key {
            "clock" => paused = choice(meta, "paused", "real", errors)? == "paused",
            _ => webmesh = attr::crate_path(meta)?,
        }
        Ok(())
    });
    check_function(function, "#[webmesh::test]", &mut errors);
    for attribute in function.attrs.iter().filter(|attribute| attribute.path().is_ident("test")) {
        errors.at(attribute, "`#[webmesh::test]` makes it a test already; it would run twice");
    }
    errors.finish()?;

    let call = |body| {
        if paused {
            // A macro, so that a missing feature is told by a sentence.
            quote!(#webmesh::__block_on_paused!(#body))
        } else {
            quote!(#webmesh::__private::block_on(#webmesh::__private::Flavor::CurrentThread, #body))
        }
    };
    Ok(wrap(function, quote!(#[::core::prelude::v1::test]), call))
}

/// Reads the keys of the attribute itself.
fn read_keys(
    args: TokenStream,
    known: &'static [&'static str],
    errors: &mut Errors,
    mut read: impl FnMut(&'static str, &ParseNestedMeta<'_>, &mut Errors) -> Result<()>,
) {
    let mut keys = Keys::new(known);
    let outcome = syn::meta::parser(|meta| {
        let key = keys.check(&meta)?;
        read(key, &meta, errors)
    })
    .parse2(args);
    if let Err(error) = outcome {
        errors.push(error);
    }
}

/// Reads `= "…"`, one of two words.
fn choice(
    meta: &ParseNestedMeta<'_>,
    first: &'static str,
    second: &'static str,
    errors: &mut Errors,
) -> Result<&'static str> {
    let word: LitStr = meta.value()?.parse()?;
    match word.value() {
        given if given == first => Ok(first),
        given if given == second => Ok(second),
        _ => {
            errors.at(&word, format!("either \"{first}\" or \"{second}\""));
            Ok(first)
        }
    }
}

/// Only an `async fn` that can be called with nothing will do.
fn check_function(function: &ItemFn, attribute: &str, errors: &mut Errors) {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        errors.at(signature.fn_token, format!("`{attribute}` runs an `async fn`"));
    }
    if !signature.inputs.is_empty() {
        errors.at(&signature.inputs, format!("`{attribute}` calls it without arguments"));
    }
    if !signature.generics.params.is_empty() {
        errors.at(&signature.generics, format!("`{attribute}` calls it without type parameters"));
    }
}

/// The function without its `async`, around the function as it was written.
fn wrap(
    function: &ItemFn,
    attribute: TokenStream,
    call: impl FnOnce(TokenStream) -> TokenStream,
) -> TokenStream {
    let ItemFn { attrs, vis, sig, block } = function;
    let mut outer = sig.clone();
    outer.asyncness = None;
    let name = &sig.ident;
    let call = call(quote!(#name()));
    quote! {
        #attribute
        #(#attrs)*
        #vis #outer {
            #sig #block
            #call
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_keeps_its_attributes_visibility_and_type() {
        let item = quote!(
            /// Documented.
            #[should_panic]
            pub(crate) async fn it() -> Result<(), E> {
                body().await
            }
        );
        let expected = quote!(
            #[::core::prelude::v1::test]
            /// Documented.
            #[should_panic]
            pub(crate) fn it() -> Result<(), E> {
                async fn it() -> Result<(), E> {
                    body().await
                }
                ::webmesh::__block_on_paused!(it())
            }
        );
        assert_eq!(test(TokenStream::new(), item).to_string(), expected.to_string());
    }

    #[test]
    fn a_refused_main_leaves_a_main_behind() {
        let broken = main(
            quote!(flavor = 7),
            quote!(
                async fn main() {}
            ),
        )
        .to_string();
        assert!(broken.contains("compile_error") && broken.ends_with("fn main () { }"));
        let elsewhere = main(
            quote!(flavor = 7),
            quote!(
                async fn start() {}
            ),
        )
        .to_string();
        assert!(elsewhere.contains("compile_error") && !elsewhere.contains("fn main"));
    }
}
