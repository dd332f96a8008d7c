//! Finds bytes that would be encoded one by one.
//!
//! serde sees a `Vec<u8>` as a sequence of numbers: MessagePack then needs up to two bytes for each, and 32 times as long as for
//! one block (measured on 1 MiB). It can't be told apart in the trait system, so the derives look at how types are written.

use crate::attr::{self, Errors, fields};
use syn::punctuated::Punctuated;
use syn::{Data, Field, GenericArgument, Meta, PathArguments, Token, Type};

/// Reports every field that holds a bare `Vec<u8>` or `[u8]`, at any depth.
pub(crate) fn refuse_in_fields(data: &Data, errors: &mut Errors) {
    for field in fields(data).into_iter().flatten() {
        if !has_own_encoding(field) {
            refuse_in_type(&field.ty, errors);
        }
    }
}

/// Reports every bare `Vec<u8>` or `[u8]` in a type as it is written. Arrays such as `[u8; 32]` are left alone: keys and hashes
/// are short.
pub(crate) fn refuse_in_type(ty: &Type, errors: &mut Errors) {
    match ty {
        Type::Path(path) => {
            let Some(last) = path.path.segments.last() else { return };
            let PathArguments::AngleBracketed(arguments) = &last.arguments else { return };
            for argument in &arguments.args {
                let GenericArgument::Type(inner) = argument else { continue };
                if last.ident == "Vec" && is_u8(inner) {
                    report(ty, errors);
                } else {
                    refuse_in_type(inner, errors);
                }
            }
        }
        Type::Slice(slice) if is_u8(&slice.elem) => report(ty, errors),
        Type::Slice(slice) => refuse_in_type(&slice.elem, errors),
        Type::Array(array) => refuse_in_type(&array.elem, errors),
        Type::Tuple(tuple) => tuple.elems.iter().for_each(|inner| refuse_in_type(inner, errors)),
        Type::Reference(reference) => refuse_in_type(&reference.elem, errors),
        Type::Paren(paren) => refuse_in_type(&paren.elem, errors),
        // A type that came through a `macro_rules` variable.
        Type::Group(group) => refuse_in_type(&group.elem, errors),
        _ => {}
    }
}

fn report(ty: &Type, errors: &mut Errors) {
    let shown = attr::shown(ty);
    errors.at(
        ty,
        format!(
            "the bytes of a `{shown}` are encoded one by one, 32 times slower; use `webmesh::Bytes`"
        ),
    );
}

fn is_u8(ty: &Type) -> bool {
    match ty {
        Type::Path(path) => path.path.is_ident("u8"),
        Type::Paren(paren) => is_u8(&paren.elem),
        Type::Group(group) => is_u8(&group.elem),
        _ => false,
    }
}

/// Whether serde encodes the field by a function of the user's choice, or not at all.
fn has_own_encoding(field: &Field) -> bool {
    field.attrs.iter().filter(|attribute| attribute.path().is_ident("serde")).any(|attribute| {
        // What can't be read here is reported by serde's own derive.
        attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).is_ok_and(
            |keys| {
                keys.iter().any(|key| {
                    ["with", "serialize_with", "skip", "skip_serializing"]
                        .iter()
                        .any(|own| key.path().is_ident(own))
                })
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::{DeriveInput, parse_quote};

    fn is_refused(ty: Type) -> bool {
        let mut errors = Errors::default();
        refuse_in_type(&ty, &mut errors);
        errors.finish().is_err()
    }

    #[test]
    fn bytes_are_found_at_any_depth() {
        assert!(is_refused(parse_quote!(Vec<u8>)));
        assert!(is_refused(parse_quote!(::std::vec::Vec<u8>)));
        assert!(is_refused(parse_quote!(Option<(u8, [Vec<(u8)>; 2])>)));
        assert!(is_refused(parse_quote!(&'static [u8])));
        assert!(is_refused(parse_quote!(Box<[Option<Vec<u8>>]>)));
    }

    #[test]
    fn other_lists_and_short_arrays_are_left_alone() {
        assert!(!is_refused(parse_quote!(Vec<u16>)));
        assert!(!is_refused(parse_quote!([u8; 32])));
        assert!(!is_refused(parse_quote!(Option<u8>)));
        assert!(!is_refused(parse_quote!(webmesh::Bytes)));
        assert!(!is_refused(parse_quote!(Vec<Wrapped<u8>>)));
    }

    #[test]
    fn a_field_with_an_encoding_of_its_own_is_left_alone() {
        let item: DeriveInput = parse_quote!(
            struct Blob {
                #[serde(rename = "b", with = "serde_bytes")]
                bytes: Vec<u8>,
                #[serde(skip)]
                cache: Vec<u8>,
                #[serde(default)]
                refused: Vec<u8>,
            }
        );
        let mut errors = Errors::default();
        refuse_in_fields(&item.data, &mut errors);
        assert_eq!(errors.finish().map_err(|errors| errors.into_iter().count()), Err(1));
    }
}
