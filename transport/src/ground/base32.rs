//! Lower-case base32 without padding (the alphabet of RFC 4648, section 6), the text form of peer ids and PeerRefs.
//!
//! Each byte string has exactly one text and each accepted text exactly one byte string: upper case, padding, and
//! left-over bits that aren't zero are refused, so that two texts never stand for the same thing.

use data_encoding::{BASE32_NOPAD_NOCASE, DecodeKind};

/// Why a text isn't base32 as written here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base32Error {
    /// A byte at this offset isn't one of `a`–`z`, `2`–`7`.
    Symbol(usize),
    /// No byte string has a text of this length.
    Length,
    /// The last symbol carries bits that stand for nothing and aren't zero.
    Trailing,
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = BASE32_NOPAD_NOCASE.encode(bytes);
    text.make_ascii_lowercase();
    text
}

pub(crate) fn decode(text: &str) -> Result<Vec<u8>, Base32Error> {
    if let Some(at) = text.bytes().position(|b| b.is_ascii_uppercase()) {
        return Err(Base32Error::Symbol(at));
    }
    BASE32_NOPAD_NOCASE.decode(text.as_bytes()).map_err(|error| match error.kind {
        DecodeKind::Length | DecodeKind::Padding => Base32Error::Length,
        DecodeKind::Symbol => Base32Error::Symbol(error.position),
        DecodeKind::Trailing => Base32Error::Trailing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_one_spelling() {
        // RFC 4648, section 10, in lower case and without padding.
        for (bytes, text) in
            [("", ""), ("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foobar", "mzxw6ytboi")]
        {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text), Ok(bytes.as_bytes().to_vec()));
        }
        assert_eq!(decode("MY"), Err(Base32Error::Symbol(0)));
        assert_eq!(decode("m1"), Err(Base32Error::Symbol(1)));
        assert_eq!(decode("mz"), Err(Base32Error::Trailing));
        assert_eq!(decode("m"), Err(Base32Error::Length));
        assert_eq!(decode("my======"), Err(Base32Error::Symbol(2)));
    }
}
