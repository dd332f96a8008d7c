//! Names of services.
//!
//! An *open* name, such as `chat/rust`, may be provided by anyone: segments of lower-case ASCII letters, digits, `-`, `_`
//! and `.`, parted by `/`. So a name has one spelling, looks like no other, and needs no quoting in a shell or a URL.
//! Other characters are kept free, `@` among them for names that belong to the owner of a key.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest name, in bytes. A guess: fits a line of a terminal, and thousands of names fit a message.
pub const NAME_LEN_MAX: usize = 128;

/// The most segments of a name. A guess.
pub const NAME_SEGMENTS_MAX: usize = 8;

/// The name of a service, known to be well-formed. Cheap to clone.
///
/// ```
/// use webmesh_registry::ServiceName;
/// let name: ServiceName = "chat/rust".parse().unwrap();
/// assert_eq!(name.as_str(), "chat/rust");
/// assert!("Chat/Rust".parse::<ServiceName>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(Arc<str>);

/// Why a text isn't the name of a service. Choose another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// More than [`NAME_LEN_MAX`] bytes.
    #[error("the name has {len} bytes and may have {NAME_LEN_MAX}")]
    TooLong {
        /// The length found, in bytes.
        len: usize,
    },
    /// More than [`NAME_SEGMENTS_MAX`] segments.
    #[error("the name has more than {NAME_SEGMENTS_MAX} segments")]
    TooDeep,
    /// The name is empty, begins or ends with `/`, or has two of them together.
    #[error("the name, or a segment of it, is empty; write it as in \"chat/rust\"")]
    EmptySegment,
    /// A character that names don't have.
    #[error(
        "the name has {character:?}; it may have a-z, 0-9, '-', '_', '.', and '/' between segments"
    )]
    Character {
        /// The first such character.
        character: char,
    },
    /// A segment must begin and end with a letter or a digit.
    #[error(
        "a segment of the name begins or ends with {character:?}; a letter or a digit must stand there"
    )]
    Edge {
        /// The character there.
        character: char,
    },
}

impl ServiceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > NAME_LEN_MAX {
            return Err(NameError::TooLong { len: text.len() });
        }
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.' | '/');
        if let Some(character) = text.chars().find(|c| !allowed(*c)) {
            return Err(NameError::Character { character });
        }
        if text.split('/').count() > NAME_SEGMENTS_MAX {
            return Err(NameError::TooDeep);
        }
        for segment in text.split('/') {
            let (Some(first), Some(last)) = (segment.chars().next(), segment.chars().last()) else {
                return Err(NameError::EmptySegment);
            };
            if let Some(character) = [first, last].into_iter().find(|c| !c.is_ascii_alphanumeric())
            {
                return Err(NameError::Edge { character });
            }
        }
        Ok(Self(text.into()))
    }
}

impl TryFrom<&str> for ServiceName {
    type Error = NameError;

    fn try_from(text: &str) -> Result<Self, NameError> {
        text.parse()
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceName({})", self.0)
    }
}

impl Serialize for ServiceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ServiceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = ServiceName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a service")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ServiceName, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, NameError> {
        text.parse::<ServiceName>().map(|name| name.to_string())
    }

    #[test]
    fn names_are_paths_of_plain_words() {
        for name in ["chat", "chat/rust", "a/b/c/d/e/f/g/h", "my-app.v2/room_7", "0"] {
            assert_eq!(parse(name).as_deref(), Ok(name));
        }
        assert_eq!(parse(&"a".repeat(128)), Ok("a".repeat(128)));
    }

    #[test]
    fn a_name_that_could_be_mistaken_for_another_is_refused() {
        assert_eq!(parse(""), Err(NameError::EmptySegment));
        for name in ["/chat", "chat/", "chat//rust", "/"] {
            assert_eq!(parse(name), Err(NameError::EmptySegment), "{name}");
        }
        for (name, character) in [
            ("Chat", 'C'),
            ("chat rust", ' '),
            ("chat@owner", '@'),
            ("ch\u{430}t", '\u{430}'),
            ("chat\0", '\0'),
            ("chat\n", '\n'),
        ] {
            assert_eq!(parse(name), Err(NameError::Character { character }), "{name}");
        }
        for (name, character) in [("chat/..", '.'), ("-chat", '-'), ("chat/rust_", '_')] {
            assert_eq!(parse(name), Err(NameError::Edge { character }), "{name}");
        }
        assert_eq!(parse(&"a".repeat(129)), Err(NameError::TooLong { len: 129 }));
        assert_eq!(parse("a/b/c/d/e/f/g/h/i"), Err(NameError::TooDeep));
    }

    #[test]
    fn a_name_read_from_a_message_is_checked_too() {
        let name: ServiceName = "chat/rust".parse().unwrap();
        let json = serde_json::to_string(&name).unwrap();
        assert_eq!(json, "\"chat/rust\"");
        assert_eq!(serde_json::from_str::<ServiceName>(&json).unwrap(), name);
        assert!(serde_json::from_str::<ServiceName>("\"chat//rust\"").is_err());
    }
}
