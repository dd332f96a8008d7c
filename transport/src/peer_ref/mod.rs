//! PeerRef: how a host can be reached, and how sure one may be of it.
//!
//! - [`PeerRef`]: either class of reference, in bytes and as text.
//! - `address`: which addresses a reference may name, and [`AddressRef`], the class that names nothing else.
//! - `signed`: [`SignedRef`], the class that its own host has signed; versions and expiry.
//! - [`hints`]: where others say that a host is, and whose word may lead where.
//! - `local_ref`: this host's own reference, signed anew in time.
//! - `codec`: the one encoding of each content.
//! - `text`: the `wm1…` form for a chat message or a QR code.
//! - [`inspect()`]: explains any text, valid or not.
//! - `store`: [`PeerRefStore`], what is known about peers, and what may replace it.
//!
//! Follows docs/architecture.md; docs/peer-ref.md has the format byte by byte, tests/vectors/peer_ref.json its examples.

mod address;
pub(crate) mod codec;
pub mod hints;
mod inspect;
pub(crate) mod local_ref;
mod signed;
mod store;
mod text;

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use address::{AddressFault, AddressRef, check_address};
pub use codec::DecodeError;
pub use inspect::{Claims, Inspection, Verdict, inspect};
pub use signed::{
    ContentError, ExpiredError, RefContent, RendezvousPoint, SignedRef, SuccessionError, in_words,
};
pub use store::{PeerRefStore, Remembered};
pub use text::ParseError;

use crate::identity::PeerId;

/// No reference is longer than this many bytes, signature included (docs/architecture.md: a record of the lookup as BEP44 has it).
pub const PEER_REF_LEN_MAX: usize = 1_000;

/// A host names at most this many direct addresses. A guess: a few interfaces, in both address families, and what is
/// observed from outside.
pub const ADDRESSES_MAX: usize = 16;

/// At most this many rendezvous points: all of the m = 8 servers that the connection DHT may assign.
pub const RENDEZVOUS_MAX: usize = 8;

/// A rendezvous point has at most this many addresses, and as many TLS endpoints. A guess: two networks in both
/// address families, twice.
pub const RENDEZVOUS_ADDRESSES_MAX: usize = 8;

/// How to reach a host. The class says what may be believed about who answers there.
///
/// ```
/// use webmesh_transport::{PeerRef, SecretKey, peer_ref::{RefContent, SignedRef}};
/// let secret = SecretKey::generate();
/// let signed = SignedRef::sign(&secret, RefContent {
///     version: 1,
///     addresses: vec!["192.0.2.7:4433".parse().unwrap()],
///     rendezvous: vec![],
///     expires: 1_800_000_000,
/// }).unwrap();
/// let text = PeerRef::from(signed).to_string();
/// assert!(text.starts_with("wm1"));
/// let read: PeerRef = text.parse().unwrap();
/// assert_eq!(read.peer(), Some(secret.peer_id()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerRef {
    /// Addresses only: whoever answers there is accepted, and the identity learnt is reported.
    Addresses(AddressRef),
    /// Signed by the host it names: only that host's key is accepted.
    Signed(SignedRef),
}

impl PeerRef {
    /// The host that must answer; `None` when anyone may.
    pub fn peer(&self) -> Option<PeerId> {
        match self {
            Self::Addresses(_) => None,
            Self::Signed(signed) => Some(signed.peer()),
        }
    }

    /// The host's direct addresses, the preferred one first: 0 to [`ADDRESSES_MAX`], and at least one when unsigned.
    pub fn addresses(&self) -> &[SocketAddr] {
        match self {
            Self::Addresses(plain) => plain.addresses(),
            Self::Signed(signed) => signed.addresses(),
        }
    }

    /// The one encoding of this reference, at most [`PEER_REF_LEN_MAX`] bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Addresses(plain) => codec::encode_addresses(plain.addresses()),
            Self::Signed(signed) => signed.to_bytes(),
        }
    }

    /// Reads a reference and verifies its signature, but not its expiry (see [`SignedRef::check_valid`]).
    ///
    /// # Errors
    /// See [`DecodeError`]. What is accepted is exactly what [`to_bytes`](Self::to_bytes) gives back.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match codec::decode(bytes)? {
            codec::Decoded::Addresses(plain) => Self::Addresses(plain),
            codec::Decoded::Unverified(unverified) => {
                Self::Signed(SignedRef::verify(unverified, bytes)?)
            }
        })
    }
}

impl From<SignedRef> for PeerRef {
    fn from(signed: SignedRef) -> Self {
        Self::Signed(signed)
    }
}

impl From<AddressRef> for PeerRef {
    fn from(plain: AddressRef) -> Self {
        Self::Addresses(plain)
    }
}

impl Serialize for PeerRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.to_bytes())
        }
    }
}

impl<'de> Deserialize<'de> for PeerRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = PeerRef;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a PeerRef")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<PeerRef, E> {
                PeerRef::from_bytes(bytes).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PeerRef, E> {
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
