//! How a ref looks inside a message: `{peer, object, epoch, protocol, hints}` by field name (docs/wire.md). New fields
//! (more hints) can be added; unknown ones are ignored.

use serde::{Deserialize, Deserializer, Serialize, de};
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use webmesh_transport::{Hints, PeerId, PeerRef, peer_ref::RendezvousPoint};

use crate::message::MAX_ID_BYTES;

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
    pub(crate) protocol: String,
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
    /// Where its peer may be found.
    pub(crate) fn whereabouts(&self) -> Hints {
        let point = |Point { peer, addresses, tls }| RendezvousPoint { peer, addresses, tls };
        let rendezvous = self.rendezvous.iter().cloned().map(point).collect();
        Hints { addresses: self.hints.clone(), rendezvous }
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

fn bounded_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let id = String::deserialize(deserializer)?;
    if id.is_empty() || id.len() > MAX_ID_BYTES {
        return Err(de::Error::custom("a protocol id has 1 to 128 bytes"));
    }
    Ok(id)
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
            let mut first = Vec::new();
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
        let bytes = crate::bytes::Bytes::deserialize(deserializer)?;
        <[u8; 16]>::try_from(&bytes[..])
            .map(ObjectId)
            .map_err(|_| de::Error::custom("an object id has 16 bytes"))
    }
}
