//! What a message looks like as bytes: MessagePack by field name, with large bodies set aside.
//!
//! [`Encoder`] appends one value to a buffer it keeps and collects the bodies that are too large to copy; [`Payload`] is the
//! receiving end: a slice of what arrived and the bodies that belong to it. serde has no way to hand either through a user's
//! `Serialize`, hence one thread-local each, set for the length of one call and restored afterwards (also by a panic).

pub use crate::ground::encoding::EncodeError;

use crate::codec::limits::INLINE_MAX;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::cell::{Cell, RefCell};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Bodies one message can set aside; further ones are copied into it. A guess: enough for any sane message, and small
/// enough that a receiver can hold the lengths without a thought.
pub const BODIES_MAX: usize = 16;

/// Nesting a received value may have. Deeper ones are refused before the decoder's recursion can hurt the stack
/// (rmp-serde's own limit of 1,024 frames of a user's types could exceed a 2 MiB thread stack).
pub const DEPTH_MAX: usize = 128;

/// The longest text of a decoder's complaint that is kept or sent to the other side, in bytes.
pub const REASON_MAX: usize = 200;

/// A received value could not be decoded as the expected type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It isn't what the type's `Deserialize` expects: sender and receiver disagree about the type.
    #[error("{0}")]
    Mismatch(String),
    /// Bytes were left over behind the value.
    #[error("bytes are left over behind the value")]
    Trailing,
    /// The type's `Deserialize` panicked.
    #[error("the decoder of this type panicked")]
    Panicked,
}

thread_local! {
    /// The bodies that the messages under way have set aside: one within the other, the innermost one's last.
    static ASIDE: RefCell<Vec<bytes::Bytes>> = const { RefCell::new(Vec::new()) };
    /// How many those are, and at which the innermost message's begin; `None`: this thread encodes nothing. Apart from
    /// them, so that the many messages without any don't touch what has to be dropped.
    static ASIDE_LEN: Cell<usize> = const { Cell::new(0) };
    static ASIDE_FROM: Cell<Option<usize>> = const { Cell::new(None) };
    static ATTACHED: RefCell<Vec<bytes::Bytes>> = const { RefCell::new(Vec::new()) };
}

/// Takes a body out of the message that this thread is encoding. `None`: there is none, or it has set enough aside.
pub(crate) fn set_aside(body: &bytes::Bytes) -> Option<u32> {
    let from = ASIDE_FROM.get()?;
    let (len, index) = (ASIDE_LEN.get(), ASIDE_LEN.get() - from);
    if index >= BODIES_MAX {
        return None;
    }
    ASIDE.with_borrow_mut(|aside| aside.push(body.clone()));
    ASIDE_LEN.set(len + 1);
    u32::try_from(index).ok()
}

/// The body that a placeholder of the message in hand stands for.
pub(crate) fn attached(index: u32) -> Option<bytes::Bytes> {
    ATTACHED.with_borrow(|bodies| bodies.get(usize::try_from(index).ok()?).cloned())
}

/// What of a value is its envelope and doesn't count: names of fields, marks, lengths, numbers and short texts, up to so many bytes
/// of MessagePack. What fits into a lane's frame, so that bodies are all that counts of a message that has no more than that beside them.
pub(crate) const ENVELOPE_MAX: usize = INLINE_MAX;

/// The parts of an encoded value, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Of MessagePack.
    pub(crate) payload: usize,
    /// Of that, the texts and byte strings that are longer than [`ENVELOPE_MAX`], by themselves.
    pub(crate) texts: usize,
    /// Of the bodies that it set aside.
    pub(crate) bodies: usize,
}

impl Size {
    /// Bytes in all.
    pub(crate) fn total(self) -> usize {
        self.payload.saturating_add(self.bodies)
    }

    /// What travels beside the lane.
    fn beside(self) -> usize {
        if self.payload > INLINE_MAX { self.total() } else { self.bodies }
    }

    /// What counts: bodies and long texts, and the rest beyond an envelope. A value that is nothing but an envelope counts itself.
    fn counted(self) -> usize {
        let rest = (self.payload - self.texts).saturating_sub(ENVELOPE_MAX);
        let alone = self.bodies == 0 && self.payload <= ENVELOPE_MAX;
        if alone {
            self.payload
        } else {
            self.bodies.saturating_add(self.texts).saturating_add(rest)
        }
    }

    /// Whether it is larger than a mesh sends.
    pub(crate) fn exceeds(self, limit: usize) -> bool {
        self.counted() > limit
    }

    /// Whether a receiver of this limit refuses it. `strict`: one that counts no envelope apart.
    pub(crate) fn is_refused(self, limit: usize, strict: bool) -> bool {
        self.exceeds(limit) || (strict && self.beside() > limit)
    }
}

/// Encodes values into a buffer of its own, again and again.
#[derive(Debug)]
pub struct Encoder {
    bytes: Vec<u8>,
    bodies: Vec<bytes::Bytes>,
    texts_len: usize,
    bodies_len: usize,
    limit: usize,
}

impl Encoder {
    /// An encoder for values of at most `limit` bytes, as [`MeshBuilder::body_max`](crate::MeshBuilder::body_max) counts them.
    pub const fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), bodies: Vec::new(), texts_len: 0, bodies_len: 0, limit }
    }

    /// Appends `value`.
    ///
    /// # Errors
    /// [`EncodeError`]; what was encoded before is left as it was.
    pub fn encode<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let (start, bodies_before) = (self.bytes.len(), self.bodies.len());
        let outcome = {
            let scope = Aside::enter(&mut self.bodies);
            let limit = self.limit.saturating_add(ENVELOPE_MAX);
            let mut out = Bounded { bytes: &mut self.bytes, limit, texts: 0, exceeded: false };
            let mut serializer = rmp_serde::Serializer::new(&mut out).with_struct_map();
            let outcome = value.serialize(&mut serializer);
            drop(scope);
            match outcome {
                _ if out.exceeded => Err(EncodeError::TooLarge { limit: self.limit }),
                Err(error) => Err(EncodeError::Unencodable(shorten(error.to_string()))),
                Ok(()) => Ok(out.texts),
            }
        };
        let added: usize = self.bodies[bodies_before..].iter().map(bytes::Bytes::len).sum();
        let outcome = outcome.and_then(|texts| {
            let (texts, bodies) = (self.texts_len + texts, self.bodies_len + added);
            if (Size { payload: self.bytes.len(), texts, bodies }).exceeds(self.limit) {
                return Err(EncodeError::TooLarge { limit: self.limit });
            }
            (self.texts_len, self.bodies_len) = (texts, bodies);
            Ok(())
        });
        if outcome.is_err() {
            self.bytes.truncate(start);
            self.bodies.truncate(bodies_before);
        }
        outcome
    }

    /// How large that is.
    pub(crate) fn size(&self) -> Size {
        Size { payload: self.bytes.len(), texts: self.texts_len, bodies: self.bodies_len }
    }

    /// What was encoded, without the bodies.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bodies that were set aside, in the order of their placeholders.
    pub fn bodies(&self) -> &[bytes::Bytes] {
        &self.bodies
    }

    /// Takes what was encoded and leaves the encoder empty.
    pub fn take(&mut self) -> (Vec<u8>, Vec<bytes::Bytes>) {
        (self.texts_len, self.bodies_len) = (0, 0);
        (std::mem::take(&mut self.bytes), std::mem::take(&mut self.bodies))
    }

    /// Takes the bodies only.
    pub fn take_bodies(&mut self) -> Vec<bytes::Bytes> {
        self.bodies_len = 0;
        std::mem::take(&mut self.bodies)
    }

    /// Empties it and sets a new limit. Keeps at most `keep` bytes of the buffer.
    pub fn reset(&mut self, limit: usize, keep: usize) {
        self.bytes.clear();
        if self.bytes.capacity() > keep {
            self.bytes = Vec::new();
        }
        if !self.bodies.is_empty() {
            self.bodies.clear();
        }
        (self.texts_len, self.bodies_len) = (0, 0);
        self.limit = limit;
    }

    /// What was encoded as a payload to decode again, as the receiver would see it.
    pub fn payload(&self) -> Payload<'_> {
        Payload { bytes: &self.bytes, bodies: &self.bodies }
    }
}

/// While it lives, this thread's encoding collects bodies, for `home`.
struct Aside<'a> {
    home: &'a mut Vec<bytes::Bytes>,
    from: usize,
    outer: Option<usize>,
}

impl<'a> Aside<'a> {
    fn enter(home: &'a mut Vec<bytes::Bytes>) -> Self {
        let from = ASIDE_LEN.get();
        if !home.is_empty() {
            ASIDE_LEN.set(from + home.len());
            ASIDE.with_borrow_mut(|aside| aside.append(home));
        }
        Self { home, from, outer: ASIDE_FROM.replace(Some(from)) }
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        ASIDE_FROM.set(self.outer);
        if ASIDE_LEN.get() > self.from {
            ASIDE_LEN.set(self.from);
            *self.home = ASIDE.with_borrow_mut(|aside| aside.split_off(self.from));
        }
    }
}

/// Appends to a buffer up to a limit.
struct Bounded<'a> {
    bytes: &'a mut Vec<u8>,
    limit: usize,
    /// Bytes of the long texts and byte strings, each of which is one write.
    texts: usize,
    exceeded: bool,
}

impl io::Write for Bounded<'_> {
    #[inline]
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        self.write_all(more).map(|()| more.len())
    }

    #[inline]
    fn write_all(&mut self, more: &[u8]) -> io::Result<()> {
        if more.len() > self.limit.saturating_sub(self.bytes.len()) {
            self.exceeded = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if more.len() > ENVELOPE_MAX {
            self.texts += more.len();
        }
        self.bytes.extend_from_slice(more);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A received value that is not decoded yet, borrowed from what arrived.
#[derive(Debug, Clone, Copy, Default)]
pub struct Payload<'a> {
    /// The MessagePack bytes, exactly one value.
    pub bytes: &'a [u8],
    /// The bodies its placeholders stand for.
    pub bodies: &'a [bytes::Bytes],
}

impl Payload<'_> {
    /// Decodes the value.
    ///
    /// # Errors
    /// [`DecodeError`]: another type, leftover bytes, nesting deeper than [`DEPTH_MAX`], or lengths that lie.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        let _scope = (!self.bodies.is_empty()).then(|| Attached::enter(self.bodies));
        // A user's `Deserialize`: its panic must not take the network's thread with it, nor end the actor, for any peer
        // could cause it.
        catch_unwind(AssertUnwindSafe(|| {
            let mut deserializer = rmp_serde::Deserializer::from_read_ref(self.bytes);
            deserializer.set_max_depth(DEPTH_MAX);
            let value = T::deserialize(&mut deserializer)
                .map_err(|e| DecodeError::Mismatch(shorten(e.to_string())))?;
            // The deserializer that borrows doesn't tell how far it came, but reading one more marker does: only at the
            // end of the slice is there none.
            match u8::deserialize(&mut deserializer) {
                // Moved out, for dropping the whole error looks at every kind of it.
                Err(rmp_serde::decode::Error::InvalidMarkerRead(end)) => {
                    drop(end);
                    Ok(value)
                }
                _ => Err(DecodeError::Trailing),
            }
        }))
        .unwrap_or(Err(DecodeError::Panicked))
    }
}

/// While it lives, placeholders decoded on this thread find these bodies.
struct Attached {
    outer: Vec<bytes::Bytes>,
}

impl Attached {
    fn enter(bodies: &[bytes::Bytes]) -> Self {
        Self { outer: ATTACHED.replace(bodies.to_vec()) }
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        ATTACHED.set(std::mem::take(&mut self.outer));
    }
}

/// Cuts a text to [`REASON_MAX`] bytes at a character's border.
pub(crate) fn shorten(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(REASON_MAX));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::bytes::Bytes;
    use crate::codec::limits::INLINE_MAX;
    use serde::Deserializer;

    #[derive(Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Post {
        text: String,
        parts: Vec<Bytes>,
        more: Option<Bytes>,
    }

    fn post() -> Post {
        Post {
            text: "hi".into(),
            parts: vec![Bytes::from(vec![1; INLINE_MAX + 1]), Bytes::from(vec![2; INLINE_MAX])],
            more: Some(Bytes::from(vec![3; 1 << 20])),
        }
    }

    #[test]
    fn large_bodies_are_set_aside_uncopied_and_meet_their_message_again() {
        let post = post();
        let mut encoder = Encoder::new(64 << 20);
        encoder.encode(&post).unwrap();
        assert!(encoder.bytes().len() < INLINE_MAX + 100);
        assert_eq!(encoder.bodies().len(), 2);
        assert_eq!(encoder.bodies()[1].as_ptr(), post.more.as_ref().unwrap().as_ptr());
        let back: Post = encoder.payload().decode().unwrap();
        assert_eq!(back.more.as_ref().unwrap().as_ptr(), post.more.as_ref().unwrap().as_ptr());
        assert_eq!(back, post);
    }

    #[test]
    fn an_oversize_value_is_refused_and_leaves_the_encoder_as_it_was() {
        let mut encoder = Encoder::new(1 << 20);
        encoder.encode("first").unwrap();
        let before = encoder.bytes().to_vec();
        assert_eq!(encoder.encode(&post()), Err(EncodeError::TooLarge { limit: 1 << 20 }));
        assert_eq!(
            encoder.encode(&vec![300u16; 1 << 20]),
            Err(EncodeError::TooLarge { limit: 1 << 20 })
        );
        assert_eq!(encoder.bytes(), before);
        assert!(encoder.bodies().is_empty());
    }

    #[test]
    fn the_limit_is_that_of_the_content_whatever_its_type_and_not_of_the_envelope() {
        const LIMIT: usize = 1 << 20;
        let limited = |value: &dyn Fn(&mut Encoder) -> Result<(), EncodeError>| {
            let mut encoder = Encoder::new(LIMIT);
            let outcome = value(&mut encoder);
            // A receiver knows what travels beside the lane only.
            assert!(outcome.is_err() || encoder.size().beside() <= LIMIT + ENVELOPE_MAX);
            outcome.is_ok()
        };
        let body = |len| Bytes::from(vec![1; len]);
        for (len, passes) in [(LIMIT, true), (LIMIT + 1, false)] {
            assert_eq!(limited(&|e| e.encode(&body(len))), passes);
            assert_eq!(limited(&|e| e.encode(&("envelope", body(len)))), passes);
            let halves = (body(LIMIT / 2), "x".repeat(60_000), body(len - LIMIT / 2));
            assert_eq!(limited(&|e| e.encode(&halves)), passes);
            assert_eq!(limited(&|e| e.encode(&"x".repeat(len))), passes);
            assert_eq!(limited(&|e| e.encode(&("envelope", Some("x".repeat(len))))), passes);
            let both = ("x".repeat(100_000), body(len - 100_000), "x".repeat(100));
            assert_eq!(limited(&|e| e.encode(&both)), passes);
            // One by one, without a text: five bytes say how many, and the envelope has room for all but the last 64 KiB.
            let octets = vec![1u8; len + ENVELOPE_MAX - 5];
            assert_eq!(limited(&|e| e.encode(&octets)), passes);
            let short = vec!["x".repeat(998); (LIMIT + ENVELOPE_MAX) / 1001];
            let rest = "y".repeat(len + ENVELOPE_MAX - 4 - 3 - short.len() * 1001);
            assert_eq!(limited(&|e| e.encode(&(&short, &rest))), passes);
        }
        assert!(limited(&|e| e.encode(&vec![1u8; LIMIT])));
        let mut small = Encoder::new(100);
        assert!(small.encode(&"x".repeat(98)).is_ok());
        assert!(Encoder::new(100).encode(&"x".repeat(99)).is_err());
        assert!(Encoder::new(100).encode(&(body(100_000), 1)).is_err());
    }

    #[test]
    fn leftover_bytes_are_refused() {
        for rest in [&[0x91][..], &[0xc0], &[0xcc], &[0xc1]] {
            let bytes = [&[0x05][..], rest].concat();
            assert_eq!(
                Payload { bytes: &bytes, bodies: &[] }.decode::<u8>(),
                Err(DecodeError::Trailing)
            );
        }
        assert_eq!(Payload { bytes: &[0x05], bodies: &[] }.decode::<u8>(), Ok(5));
    }

    #[test]
    fn lengths_that_lie_and_deep_nesting_are_refused() {
        let array = [0xdd, 0xff, 0xff, 0xff, 0xff];
        assert!(Payload { bytes: &array, bodies: &[] }.decode::<Vec<u64>>().is_err());
        let bin = [0xc6, 0xff, 0xff, 0xff, 0xff, 1, 2];
        assert!(Payload { bytes: &bin, bodies: &[] }.decode::<Bytes>().is_err());
        #[derive(serde::Deserialize, Debug)]
        #[allow(dead_code)]
        struct Nest(Vec<Nest>);
        let deep = vec![0x91; 1 << 20];
        assert!(Payload { bytes: &deep, bodies: &[] }.decode::<Nest>().is_err());
        assert!(Payload { bytes: &deep, bodies: &[] }.decode::<serde::de::IgnoredAny>().is_err());
    }

    #[test]
    fn a_panicking_decoder_is_an_error_and_leaves_no_bodies_behind() {
        #[derive(Debug)]
        struct Bomb;
        impl<'de> serde::Deserialize<'de> for Bomb {
            fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
                panic!("boom")
            }
        }
        let bodies = [bytes::Bytes::from_static(b"x")];
        assert_eq!(
            Payload { bytes: &[5], bodies: &bodies }.decode::<Bomb>().unwrap_err(),
            DecodeError::Panicked
        );
        assert!(attached(0).is_none());
    }

    #[test]
    fn a_message_encoded_within_another_keeps_its_bodies_apart() {
        struct Outer(Bytes);
        impl Serialize for Outer {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut inner = Encoder::new(1 << 30);
                inner.encode(&post()).map_err(serde::ser::Error::custom)?;
                assert_eq!(inner.bodies().len(), 2);
                self.0.serialize(serializer)
            }
        }
        let large = |byte| Bytes::from(vec![byte; INLINE_MAX + 1]);
        let mut encoder = Encoder::new(1 << 30);
        // Before, around and behind the inner one; and behind another value.
        for _ in 0..2 {
            encoder.encode(&(large(8), Outer(large(9)), large(10))).unwrap();
        }
        let first: Vec<u8> = encoder.bodies().iter().map(|body| body[0]).collect();
        assert_eq!(first, [8, 9, 10, 8, 9, 10]);
    }

    #[test]
    fn a_panic_in_the_midst_of_encoding_leaves_no_bodies_behind() {
        struct Bomb;
        impl Serialize for Bomb {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                panic!("boom")
            }
        }
        let large = Bytes::from(vec![8; INLINE_MAX + 1]);
        let value = (large.clone(), Bomb);
        let panicked = catch_unwind(|| Encoder::new(1 << 30).encode(&value));
        assert!(panicked.is_err());
        assert_eq!(set_aside(&bytes::Bytes::new()), None);
        let mut next = Encoder::new(1 << 30);
        next.encode(&large).unwrap();
        assert_eq!(next.bodies().len(), 1);
    }

    #[test]
    fn reasons_are_cut_at_a_character() {
        assert_eq!(shorten("é".repeat(200)).len(), REASON_MAX);
        assert_eq!(shorten("aé".repeat(200)).len(), 199);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = Payload { bytes: &bytes, bodies: &[] }.decode::<Post>();
        }
    }
}
