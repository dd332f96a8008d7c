//! A host's public key: its name to everyone else.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::signed_bytes;
use crate::ground::base32::{self, Base32Error};

/// Length of a peer id's text: 256 bits at 5 a symbol.
pub const PEER_ID_TEXT_LEN: usize = 52;

/// The ed25519 public key of a host.
///
/// A value of this type is always the canonical encoding of a curve point outside the small subgroup, so a signature
/// under it means something. Its text form is 52 characters of lower-case base32; [`fmt::Debug`] shows the first eight.
///
/// Serialized as 32 bytes, or as its text where the format is meant for human eyes (JSON).
///
/// ```
/// use webmesh_transport::{PeerId, SecretKey};
/// let peer = SecretKey::generate().peer_id();
/// let text = peer.to_string();
/// assert_eq!(text.len(), 52);
/// assert_eq!(text.parse::<PeerId>(), Ok(peer));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 32]);

/// Why something isn't a peer id. Nothing was changed; ask whoever gave it for the right one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerIdError {
    /// The text or the bytes have the wrong length.
    #[error(
        "a peer id is {PEER_ID_TEXT_LEN} characters (32 bytes), this has {found}; was it cut off?"
    )]
    Length {
        /// The length found, in characters of a text or in bytes.
        found: usize,
    },
    /// The text has a character that base32 doesn't use.
    #[error("character {} of the peer id isn't one of a-z and 2-7", position + 1)]
    Character {
        /// Byte offset of the character.
        position: usize,
    },
    /// The last character carries bits that a peer id doesn't have.
    #[error("the last character of the peer id can't be right; it was mistyped")]
    TrailingBits,
    /// The bytes aren't the canonical encoding of a point of the curve.
    #[error("these 32 bytes aren't an ed25519 public key; the peer id was mistyped or made up")]
    NotAKey,
    /// The point is in the small subgroup, where anyone can forge signatures.
    #[error("this is a weak ed25519 key under which anyone can sign; it is nobody's peer id")]
    WeakKey,
}

/// A signature doesn't fit the key, the context and the message: one of them was altered, or another key signed.
/// What it was meant to prove must not be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not by this peer over this content")]
pub struct SignatureError;

impl PeerId {
    /// The 32 bytes of the public key (RFC 8032, section 5.1.2).
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Takes the 32 bytes of a public key.
    ///
    /// # Errors
    /// [`PeerIdError::NotAKey`] for what isn't the canonical encoding of a curve point, [`PeerIdError::WeakKey`] for a
    /// point of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, PeerIdError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| PeerIdError::NotAKey)?;
        if key.is_weak() {
            return Err(PeerIdError::WeakKey);
        }
        // Decompression also takes y >= p and the "negative zero" x: a second spelling of the same key.
        if key.to_edwards().compress().as_bytes() != bytes {
            return Err(PeerIdError::NotAKey);
        }
        Ok(Self(*bytes))
    }

    /// From a key that this process made itself, which needs no check.
    pub(super) fn from_own_key(key: &VerifyingKey) -> Self {
        Self(key.to_bytes())
    }

    /// Checks that this peer signed `message` under `context` (see [`SecretKey::sign`](super::SecretKey::sign)).
    ///
    /// # Errors
    /// [`SignatureError`] when anything at all differs.
    pub fn verify(
        &self,
        context: &str,
        message: &[u8],
        signature: &[u8; 64],
    ) -> Result<(), SignatureError> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| SignatureError)?;
        // Strict: no second signature can be made out of a valid one.
        key.verify_strict(&signed_bytes(context, message), &Signature::from_bytes(signature))
            .map_err(|_| SignatureError)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&base32::encode(&self.0))
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({}…)", &base32::encode(&self.0)[..8])
    }
}

impl FromStr for PeerId {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, PeerIdError> {
        let wrong_length = || PeerIdError::Length { found: text.chars().count() };
        if text.len() != PEER_ID_TEXT_LEN {
            return Err(wrong_length());
        }
        let bytes = base32::decode(text).map_err(|error| match error {
            Base32Error::Symbol(position) => PeerIdError::Character { position },
            Base32Error::Trailing => PeerIdError::TrailingBits,
            Base32Error::Length => wrong_length(),
        })?;
        let bytes = bytes.as_slice().try_into().map_err(|_| wrong_length())?;
        Self::from_bytes(bytes)
    }
}

impl Serialize for PeerId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for PeerId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = PeerId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a peer id")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<PeerId, E> {
                let found = bytes.len();
                let bytes =
                    bytes.try_into().map_err(|_| E::custom(PeerIdError::Length { found }))?;
                PeerId::from_bytes(bytes).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PeerId, E> {
                text.parse().map_err(E::custom)
            }
        }

        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Visitor)
        } else {
            deserializer.deserialize_bytes(Visitor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;

    #[test]
    fn a_peer_id_has_exactly_one_text() {
        let peer = SecretKey::from_bytes([7; 32]).peer_id();
        let text = peer.to_string();
        assert_eq!(text.parse::<PeerId>(), Ok(peer));
        assert!(matches!(
            text.to_uppercase().parse::<PeerId>(),
            Err(PeerIdError::Character { .. })
        ));
        assert_eq!(text[1..].parse::<PeerId>(), Err(PeerIdError::Length { found: 51 }));
        assert_eq!(format!("{text}a").parse::<PeerId>(), Err(PeerIdError::Length { found: 53 }));
        assert_eq!(
            format!("0{}", &text[1..]).parse::<PeerId>(),
            Err(PeerIdError::Character { position: 0 })
        );
        // 52 symbols carry 260 bits, so each key has 15 more spellings to refuse.
        let refused = "abcdefghijklmnopqrstuvwxyz234567"
            .chars()
            .filter(|c| *c != text.chars().last().unwrap())
            .filter(|c| {
                format!("{}{c}", &text[..51]).parse::<PeerId>() == Err(PeerIdError::TrailingBits)
            })
            .count();
        assert_eq!(refused, 30);
        // As many bytes as a peer id, but not ASCII.
        assert!("é".repeat(26).parse::<PeerId>().is_err());
    }

    #[test]
    fn weak_points_and_second_spellings_of_points_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert_eq!(PeerId::from_bytes(&identity), Err(PeerIdError::WeakKey));
        assert_eq!(PeerId::from_bytes(&[0; 32]), Err(PeerIdError::WeakKey));
        // y = p + 3 encodes the point with y = 3 a second time; y = 3 is on the curve.
        let mut canonical = [0; 32];
        canonical[0] = 3;
        let mut second = [0xff; 32];
        second[0] = 0xf0;
        second[31] = 0x7f;
        assert!(PeerId::from_bytes(&canonical).is_ok());
        assert_eq!(PeerId::from_bytes(&second), Err(PeerIdError::NotAKey));
        // y = 2 is on no point.
        canonical[0] = 2;
        assert_eq!(PeerId::from_bytes(&canonical), Err(PeerIdError::NotAKey));
    }

    #[test]
    fn a_peer_id_survives_both_kinds_of_format() {
        let peer = SecretKey::from_bytes([8; 32]).peer_id();
        let bytes = rmp_serde::to_vec(&peer).unwrap();
        assert_eq!(bytes.len(), 34);
        assert_eq!(rmp_serde::from_slice::<PeerId>(&bytes).unwrap(), peer);
        let json = serde_json::to_string(&peer).unwrap();
        assert_eq!(json, format!("\"{peer}\""));
        assert_eq!(serde_json::from_str::<PeerId>(&json).unwrap(), peer);
        assert!(rmp_serde::from_slice::<PeerId>(&bytes[..33]).is_err());
        assert!(rmp_serde::from_slice::<PeerId>(&[0xc4, 2, 1, 2]).is_err());
    }

    #[test]
    fn debug_shows_enough_to_tell_peers_apart_and_no_more() {
        let peer = SecretKey::from_bytes([9; 32]).peer_id();
        assert_eq!(format!("{peer:?}"), format!("PeerId({}…)", &peer.to_string()[..8]));
    }
}
