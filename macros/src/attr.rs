//! What the attributes have in common: keys that are known and given once, ids, the name of the crate, and
//! errors that are collected instead of ending the macro.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote};
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Data, DeriveInput, Error, Fields, LitStr, Path, PathSegment, Result};

/// The longest id, as `webmesh::message::MAX_ID_BYTES` has it.
const MAX_ID_BYTES: usize = 128;

/// The errors found so far. All are reported, so that one build shows every mistake.
#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    pub(crate) fn push(&mut self, error: Error) {
        match &mut self.0 {
            Some(first) => first.combine(error),
            None => self.0 = Some(error),
        }
    }

    /// An error that underlines `tokens`.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, problem: impl std::fmt::Display) {
        self.push(Error::new_spanned(tokens, problem));
    }

    pub(crate) fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// `code` after the errors. What is emitted in spite of them keeps the compiler from complaining once more wherever the
    /// type is used.
    pub(crate) fn before(self, code: TokenStream) -> TokenStream {
        let errors = self.0.map(Error::into_compile_error);
        quote!(#errors #code)
    }
}

/// Checks the keys of one attribute, which may be spread over several occurrences of it.
pub(crate) struct Keys {
    known: &'static [&'static str],
    seen: Vec<&'static str>,
}

impl Keys {
    pub(crate) fn new(known: &'static [&'static str]) -> Self {
        Self { known, seen: Vec::new() }
    }

    /// The key that stands here, if it is known and new.
    pub(crate) fn check(&mut self, meta: &ParseNestedMeta<'_>) -> Result<&'static str> {
        let Some(&key) = self.known.iter().find(|key| meta.path.is_ident(key)) else {
            let known: Vec<String> = self.known.iter().map(|key| format!("`{key}`")).collect();
            let given = shown(&meta.path);
            return Err(meta.error(format!("unknown key `{given}`; known: {}", known.join(", "))));
        };
        if self.seen.contains(&key) {
            return Err(meta.error(format!("`{key}` is given twice")));
        }
        self.seen.push(key);
        Ok(key)
    }
}

/// Reads the attributes called `name` of a derive's item: `read` gets each key with what follows it. Tells whether all could be read,
/// for what is missing after an error may stand behind it.
pub(crate) fn read_attributes(
    item: &DeriveInput,
    name: &str,
    known: &'static [&'static str],
    errors: &mut Errors,
    mut read: impl FnMut(&'static str, &ParseNestedMeta<'_>, &mut Errors) -> Result<()>,
) -> bool {
    let mut keys = Keys::new(known);
    let mut complete = true;
    for attribute in item.attrs.iter().filter(|attribute| attribute.path().is_ident(name)) {
        let outcome = attribute.parse_nested_meta(|meta| {
            let key = keys.check(&meta)?;
            read(key, &meta, errors)
        });
        if let Err(error) = outcome {
            complete = false;
            errors.push(error);
        }
    }
    for attribute in inner_attributes(&item.data) {
        if attribute.path().is_ident(name) {
            errors
                .at(attribute, format!("`#[{name}(…)]` belongs on the type, not on a part of it"));
        }
    }
    complete
}

/// The attributes of fields and variants.
fn inner_attributes(data: &Data) -> Vec<&Attribute> {
    let variants = match data {
        Data::Enum(data) => data.variants.iter().flat_map(|variant| &variant.attrs).collect(),
        Data::Struct(_) | Data::Union(_) => Vec::new(),
    };
    let fields =
        fields(data).into_iter().flat_map(|fields| fields.iter().flat_map(|field| &field.attrs));
    variants.into_iter().chain(fields).collect()
}

/// The field lists of a struct (one) or an enum (one per variant).
pub(crate) fn fields(data: &Data) -> Vec<&Fields> {
    match data {
        Data::Struct(data) => vec![&data.fields],
        Data::Enum(data) => data.variants.iter().map(|variant| &variant.fields).collect(),
        Data::Union(_) => Vec::new(),
    }
}

/// Unions hold untagged bits, which nobody can encode.
pub(crate) fn refuse_union(item: &DeriveInput, what: &str, errors: &mut Errors) {
    if let Data::Union(data) = &item.data {
        errors.push(Error::new(
            data.union_token.span,
            format!("{what} is a struct or an enum, not a union"),
        ));
    }
}

/// An id names one type, so that type has no parameters.
pub(crate) fn refuse_generics(item: &DeriveInput, what: &str, errors: &mut Errors) {
    if !item.generics.params.is_empty() {
        errors.at(
            &item.generics.params,
            format!("{what} can't be generic: its id names one type; use a type without parameters for each id"),
        );
    }
}

/// Whether a type that is named by an id may look like this.
pub(crate) fn can_be_named(item: &DeriveInput) -> bool {
    item.generics.params.is_empty() && !matches!(item.data, Data::Union(_))
}

/// In place of an id that is missing or can't be read: no other type has it.
pub(crate) fn stand_in(item: &DeriveInput) -> LitStr {
    LitStr::new(&format!("?{}", item.ident), item.ident.span())
}

/// Reads `= "…"`: an id for the wire.
pub(crate) fn id(meta: &ParseNestedMeta<'_>, errors: &mut Errors) -> Result<LitStr> {
    let id: LitStr = meta.value()?.parse()?;
    let bytes = id.value().len();
    if bytes == 0 {
        errors.at(&id, "the id is empty; it is the name on the wire, such as \"chat.post\"");
    } else if bytes > MAX_ID_BYTES {
        errors.at(&id, format!("the id has {bytes} bytes; {MAX_ID_BYTES} are the most"));
    }
    Ok(id)
}

/// Reads `= path`: the name by which the user's crate knows `webmesh`.
pub(crate) fn crate_path(meta: &ParseNestedMeta<'_>) -> Result<Path> {
    meta.value()?.call(Path::parse_mod_style)
}

/// `::webmesh`, unless the attribute names another path.
pub(crate) fn webmesh() -> Path {
    let mut path = Path::from(PathSegment::from(format_ident!("webmesh")));
    path.leading_colon = Some(syn::Token![::](Span::call_site()));
    path
}

/// A path as a reader would write it, for messages.
pub(crate) fn shown(path: impl ToTokens) -> String {
    path.to_token_stream().to_string().replace(' ', "").replace(',', ", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use syn::parse_quote;

    /// What is reported for an item with `#[message(…)]`, whose only keys here are `id` and `crate`.
    fn problems(item: DeriveInput) -> Vec<String> {
        let mut errors = Errors::default();
        read_attributes(&item, "message", &["id", "crate"], &mut errors, |key, meta, errors| {
            match key {
                "id" => drop(id(meta, errors)?),
                _ => drop(crate_path(meta)?),
            }
            Ok(())
        });
        let Err(error) = errors.finish() else { return Vec::new() };
        error.into_iter().map(|error| error.to_string()).collect()
    }

    #[test]
    fn keys_may_be_spread_over_several_attributes() {
        let item = parse_quote!(
            #[message(id = "a")]
            #[serde(default)]
            #[message(crate = self::b)]
            struct S;
        );
        assert_eq!(problems(item), [""; 0]);
    }

    #[test]
    fn a_key_is_known_and_given_once() {
        let unknown = parse_quote!(
            #[message(identity::long = "a")]
            struct S;
        );
        assert_eq!(problems(unknown), ["unknown key `identity::long`; known: `id`, `crate`"]);
        let twice = parse_quote!(
            #[message(id = "a")]
            #[message(id = "b")]
            struct S;
        );
        assert_eq!(problems(twice), ["`id` is given twice"]);
    }

    #[test]
    fn one_mistake_does_not_hide_another() {
        let item = parse_quote!(
            #[message(id = "", name = 1)]
            #[message(7)]
            struct S(#[message(id = "b")] u8);
        );
        assert_eq!(problems(item).len(), 4);
    }

    #[test]
    fn an_id_is_measured_in_bytes() {
        let of_length = |bytes: usize| {
            let text = "é".repeat(bytes / 2) + &"e".repeat(bytes % 2);
            problems(parse_quote!(
                #[message(id = #text)]
                struct S;
            ))
        };
        assert_eq!(of_length(MAX_ID_BYTES), [""; 0]);
        assert_eq!(of_length(MAX_ID_BYTES + 1), ["the id has 129 bytes; 128 are the most"]);
        assert_eq!(of_length(0).len(), 1);
    }

    #[test]
    fn paths_are_shown_as_they_are_written() {
        let ty: syn::Type = parse_quote!(::std::collections::HashMap<String, Vec<u8>>);
        assert_eq!(shown(ty), "::std::collections::HashMap<String, Vec<u8>>");
    }
}
