//! How a ref looks inside a message: `{peer, object, epoch, protocol, hints}` by field name (docs/wire.md). New fields
//! (more hints) can be added; unknown ones are ignored.

use serde::{Deserialize, Deserializer, Serialize, de};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use webmesh_transport::{Hints, Origin, PeerId, PeerRef, peer_ref::RendezvousPoint};

use crate::ground::message::{MAX_ID_BYTES, Protocol};

/// Addresses a ref may carry. A guess: two address families, a few interfaces.
pub(crate) const HINTS_MAX: usize = 8;

/// Rendezvous a ref may carry. A guess: more than a careful host keeps.
const POINTS_MAX: usize = 4;

/// The name of an object within a mesh: 128 random bits, which nobody can guess, so that knowing it is the right to call
/// it. For a published object they are a keyed hash of the name instead.
pub(crate) use webmesh_registry::ObjectId;

/// The serialised form of an `ActorRef`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireRef {
    pub(crate) peer: PeerId,
    #[serde(with = "object_id")]
    pub(crate) object: ObjectId,
    /// When the mesh that hosts the object was started, in ms since 1970; 0 for a published object, whose id outlives
    /// the process.
    pub(crate) epoch: u64,
    #[serde(deserialize_with = "bounded_id")]
    pub(crate) protocol: Cow<'static, str>,
    /// In the answer to a query, which publication of the name it found; the same one again has the same number. Nothing in
    /// refs inside messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) publication: Option<u64>,
    /// Where the peer may be found; tried in addition to whatever is known of it. Only that peer's key is accepted there.
    #[serde(default, deserialize_with = "bounded_hints", skip_serializing_if = "Vec::is_empty")]
    pub(crate) hints: Vec<SocketAddr>,
    /// Through whom the peer may be met.
    #[serde(default, deserialize_with = "bounded_points", skip_serializing_if = "Vec::is_empty")]
    pub(crate) rendezvous: Vec<Point>,
}

/// A rendezvous of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Point {
    peer: PeerId,
    #[serde(default, deserialize_with = "bounded_hints")]
    addresses: Vec<SocketAddr>,
    #[serde(default, deserialize_with = "bounded_hints", skip_serializing_if = "Vec::is_empty")]
    tls: Vec<SocketAddr>,
}

impl WireRef {
    /// Reads a ref that must be of protocol `P`, whose id then isn't kept once more.
    pub(crate) fn deserialize_of<'de, P: Protocol, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let Of { peer, object, epoch, protocol: IdOf(_), hints, rendezvous } =
            Of::<P>::deserialize(deserializer)?;
        // Only the host that publishes a name says which publication it is, and only when it is asked.
        Ok(Self {
            peer,
            object,
            epoch,
            protocol: P::ID.into(),
            publication: None,
            hints,
            rendezvous,
        })
    }

    /// Where its peer may be found, by the word of `origin`.
    pub(crate) fn whereabouts(&self, origin: Origin) -> Hints {
        let point = |Point { peer, addresses, tls }| RendezvousPoint { peer, addresses, tls };
        let rendezvous = self.rendezvous.iter().cloned().map(point).collect();
        Hints { origin, addresses: self.hints.clone(), rendezvous }
    }

    /// Says that its peer may be found there, too.
    pub(crate) fn add_whereabouts(&mut self, reference: &PeerRef) {
        for address in reference.addresses() {
            if self.hints.len() < HINTS_MAX && !self.hints.contains(address) {
                self.hints.push(*address);
            }
        }
        let PeerRef::Signed(signed) = reference else { return };
        for point in signed.rendezvous() {
            let RendezvousPoint { peer, addresses, tls } = point.clone();
            let point = Point { peer, addresses, tls };
            if self.rendezvous.len() < POINTS_MAX && !self.rendezvous.contains(&point) {
                self.rendezvous.push(point);
            }
        }
    }
}

/// The same of one protocol.
#[derive(Deserialize)]
#[serde(bound = "P: Protocol")]
struct Of<P> {
    peer: PeerId,
    #[serde(with = "object_id")]
    object: ObjectId,
    epoch: u64,
    protocol: IdOf<P>,
    #[serde(default, deserialize_with = "bounded_hints")]
    hints: Vec<SocketAddr>,
    #[serde(default, deserialize_with = "bounded_points")]
    rendezvous: Vec<Point>,
}

/// The id of a protocol, compared and not kept.
struct IdOf<P>(PhantomData<fn() -> P>);

impl<'de, P: Protocol> Deserialize<'de> for IdOf<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Compare<P>(PhantomData<fn() -> P>);
        impl<P: Protocol> de::Visitor<'_> for Compare<P> {
            type Value = IdOf<P>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "the id of protocol {:?}", P::ID)
            }
            fn visit_str<E: de::Error>(self, found: &str) -> Result<IdOf<P>, E> {
                if found == P::ID {
                    return Ok(IdOf(PhantomData));
                }
                Err(E::custom(format_args!(
                    "a ref of protocol {found:?} where {:?} is expected",
                    P::ID
                )))
            }
        }
        deserializer.deserialize_str(Compare(PhantomData))
    }
}

fn bounded_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'static, str>, D::Error> {
    let id = String::deserialize(deserializer)?;
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        return Err(de::Error::custom("a protocol id has 1 to 128 bytes"));
    }
    Ok(id.into())
}

/// Keeps the first hints and drops the rest without storing them.
fn bounded_hints<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    bounded(deserializer, HINTS_MAX)
}

fn bounded<'de, D, T>(deserializer: D, limit: usize) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct First<T>(usize, PhantomData<T>);
    impl<'de, T: Deserialize<'de>> de::Visitor<'de> for First<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }
        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            // A list of two takes no room for four; the length is the sender's word, and bounded.
            let mut first = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(self.0));
            while let Some(element) = seq.next_element()? {
                if first.len() < self.0 {
                    first.push(element);
                }
            }
            Ok(first)
        }
    }
    deserializer.deserialize_seq(First(limit, PhantomData))
}

/// The same with rendezvous.
fn bounded_points<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Point>, D::Error> {
    bounded(deserializer, POINTS_MAX)
}

mod object_id {
    use super::ObjectId;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        id: &ObjectId,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&id.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ObjectId, D::Error> {
        let bytes = crate::codec::bytes::Bytes::deserialize(deserializer)?;
        <[u8; 16]>::try_from(&bytes[..])
            .map(ObjectId)
            .map_err(|_| de::Error::custom("an object id has 16 bytes"))
    }
}
