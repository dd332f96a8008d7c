//! [`Bytes`]: a body of bytes inside a message, moved without being copied or walked element by element.
//!
//! Up to [`INLINE_MAX`] it is an ordinary MessagePack `bin`. A larger one leaves a placeholder in the message (MessagePack
//! extension type `EXT_BODY`, four bytes: its index) and travels beside it; `payload.rs` says how the two meet again.

pub use crate::codec::limits::INLINE_MAX;

use crate::codec::payload::{attached, set_aside};
use actix::Actor;
use actix::dev::{MessageResponse, OneshotSender};
use bytes::BytesMut;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use std::cell::RefCell;
use std::fmt;

/// MessagePack extension type of the placeholder that a large body leaves behind.
pub(crate) const EXT_BODY: i8 = 1;

/// A cheaply cloned, immutable run of bytes for use in messages.
///
/// Use it in place of `Vec<u8>`, which serde would encode element by element (32 times slower at 1 MiB). Bodies above
/// 64 KiB are sent from this very memory, without a copy.
///
/// ```
/// let body = webmesh::Bytes::from(vec![1, 2, 3]);
/// assert_eq!(&body[..], [1, 2, 3]);
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bytes(bytes::Bytes);

impl Bytes {
    /// No bytes.
    pub const fn new() -> Self {
        Self(bytes::Bytes::new())
    }

    /// Bytes that live as long as the program; nothing is copied.
    pub const fn from_static(bytes: &'static [u8]) -> Self {
        Self(bytes::Bytes::from_static(bytes))
    }

    /// A copy of `bytes`.
    pub fn copy_from_slice(bytes: &[u8]) -> Self {
        Self(bytes::Bytes::copy_from_slice(bytes))
    }

    /// The same bytes as the `bytes` crate's type, sharing the memory.
    pub fn into_inner(self) -> bytes::Bytes {
        self.0
    }
}

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<bytes::Bytes> for Bytes {
    fn from(bytes: bytes::Bytes) -> Self {
        Self(bytes)
    }
}

impl From<&'static [u8]> for Bytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self::from_static(bytes)
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Bytes> for Vec<u8> {
    fn from(bytes: Bytes) -> Self {
        bytes.0.into()
    }
}

impl fmt::Debug for Bytes {
    /// Short bodies in full, long ones by their length, so that a logged message stays readable.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.len() <= 32 { self.0.fmt(f) } else { write!(f, "Bytes({} bytes)", self.len()) }
    }
}

/// A handler may answer with bytes.
impl<A, M> MessageResponse<A, M> for Bytes
where
    A: Actor,
    M: actix::Message<Result = Self>,
{
    fn handle(self, _: &mut A::Context, answer: Option<OneshotSender<Self>>) {
        if let Some(answer) = answer {
            // Whoever asked may be gone.
            let _ = answer.send(self);
        }
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A human-readable format can't be the one that carries a message: it has no placeholders.
        if self.len() > INLINE_MAX
            && !serializer.is_human_readable()
            && let Some(index) = set_aside(&self.0)
        {
            let placeholder = (EXT_BODY, Raw(index.to_be_bytes()));
            return serializer
                .serialize_newtype_struct(rmp_serde::MSGPACK_EXT_STRUCT_NAME, &placeholder);
        }
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}

/// Bodies up to this many bytes share a block when they are received: for those an allocation of their own would cost
/// more than everything else about them. One that is kept holds up to [`BLOCK`] bytes in memory.
const SHARED_MAX: usize = 256;

/// See [`SHARED_MAX`]. A guess: a kept body costs at most 16 times what the largest that shares would cost alone.
const BLOCK: usize = 4096;

thread_local! {
    static SPARE: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

fn copy(bytes: &[u8]) -> bytes::Bytes {
    if bytes.len() > SHARED_MAX {
        return bytes::Bytes::copy_from_slice(bytes);
    }
    SPARE.with_borrow_mut(|spare| {
        if spare.capacity() < bytes.len() {
            *spare = BytesMut::with_capacity(BLOCK);
        }
        spare.extend_from_slice(bytes);
        spare.split().freeze()
    })
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        // A copy, not a slice of the received chunk: a few bytes kept by an actor must not pin a whole batch.
        Ok(Bytes(copy(bytes)))
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
        Ok(bytes.into())
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes, A::Error> {
        // Formats without bytes (JSON) write arrays of numbers. The size hint is the sender's word: believe 4 KiB of it.
        let mut bytes = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(4096));
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes.into())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<Bytes, D::Error> {
        let (kind, Raw(index)) = <(i8, Raw)>::deserialize(deserializer)?;
        if kind != EXT_BODY {
            return Err(de::Error::custom("an extension type that is not a body's placeholder"));
        }
        let index = u32::from_be_bytes(index);
        attached(index)
            .map(Bytes)
            .ok_or_else(|| de::Error::custom("a placeholder without its body"))
    }
}

/// The four bytes of a placeholder, as serde's bytes.
struct Raw([u8; 4]);

impl Serialize for Raw {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RawVisitor;
        impl Visitor<'_> for RawVisitor {
            type Value = Raw;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("four bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Raw, E> {
                bytes.try_into().map(Raw).map_err(|_| E::invalid_length(bytes.len(), &"four bytes"))
            }
        }
        deserializer.deserialize_bytes(RawVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_bytes_survive_json_and_message_pack() {
        let body = Bytes::from(vec![7; 300]);
        let json = serde_json::to_string(&body).unwrap();
        assert_eq!(serde_json::from_str::<Bytes>(&json).unwrap(), body);
        let packed = rmp_serde::to_vec_named(&body).unwrap();
        assert_eq!(packed.len(), 303);
        assert_eq!(rmp_serde::from_slice::<Bytes>(&packed).unwrap(), body);
    }

    #[test]
    fn a_large_body_outside_a_message_is_encoded_in_full() {
        let body = Bytes::from(vec![7; INLINE_MAX + 1]);
        let packed = rmp_serde::to_vec_named(&body).unwrap();
        assert_eq!(rmp_serde::from_slice::<Bytes>(&packed).unwrap(), body);
    }

    #[test]
    fn a_placeholder_outside_a_message_is_refused() {
        let packed = [0xd6, EXT_BODY as u8, 0, 0, 0, 0];
        assert!(rmp_serde::from_slice::<Bytes>(&packed).is_err());
    }

    #[test]
    fn debug_does_not_print_megabytes() {
        assert_eq!(format!("{:?}", Bytes::from(vec![0; 1 << 20])), "Bytes(1048576 bytes)");
    }
}
