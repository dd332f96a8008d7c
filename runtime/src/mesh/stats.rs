//! What a mesh does at the moment, and what it has refused and dropped: one snapshot for its operator.

use crate::mesh::Mesh;
use crate::net::refusals::{Reason, Refusals};
use serde::{Serialize, Serializer};
use std::net::SocketAddr;
use std::time::Duration;
use webmesh_transport::{Candidate, Drops, Link, PathKind, PeerId, Served};

/// A snapshot of a mesh; by [`Mesh::stats`]. Counters count from the mesh's start. Serialised, its durations are numbers of seconds
/// (`uptime_s`) or milliseconds (`rtt_ms`).
///
/// More fields may come, so that it can't be taken apart or built field by field outside of this crate.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// For how long the mesh has been running.
    #[serde(rename = "uptime_s", serialize_with = "seconds")]
    pub uptime: Duration,
    /// Actors of this mesh that can be reached through refs.
    pub actors: usize,
    /// One link for each connected peer, in the order of the peers' keys.
    pub links: Vec<LinkStats>,
    /// The rendezvous with which a session of this mesh stands.
    pub sessions: Vec<PeerId>,
    /// What this mesh does for others, if it serves: sessions, flows, bytes relayed.
    pub served: Served,
    /// What peers and strangers were refused, by reason.
    pub refusals: RefusalStats,
    /// Datagrams that were dropped, by reason.
    pub drops: Drops,
}

/// A connection to one peer.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LinkStats {
    /// Its key.
    pub peer: PeerId,
    /// Whether it answers at the moment; see `unreachable_after`.
    pub reachable: bool,
    /// Whether this side dialled.
    pub dialled: bool,
    /// The kind of the road in use.
    pub path: PathKind,
    /// The address at which the peer, or the relay, is reached.
    pub via: SocketAddr,
    /// QUIC's estimate of the round trip.
    #[serde(rename = "rtt_ms", serialize_with = "milliseconds")]
    pub rtt: Duration,
    /// How often this side has taken another road since the link began.
    pub road_changes: u64,
    /// Every road that is known, the one in use included.
    pub roads: Vec<Candidate>,
}

/// How often peers and strangers were refused something since the start, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RefusalStats {
    /// Names under which nothing is published.
    pub unknown_name: u64,
    /// Names whose rule doesn't allow the peer, which was told that they are unknown.
    pub forbidden_name: u64,
    /// Names of which no version meets the requirement.
    pub no_matching_version: u64,
    /// Names and requirements that aren't well-formed.
    pub malformed_query: u64,
    /// Streams to actors, and watches on them, that don't exist (any more).
    pub unknown_actor: u64,
    /// Those that exist and aren't for the peer, which was told that they don't.
    pub forbidden_actor: u64,
    /// Streams and names by another protocol than the actor's.
    pub wrong_protocol: u64,
    /// Messages that the actor's protocol doesn't know.
    pub unknown_message: u64,
    /// Messages that don't decode.
    pub bad_payload: u64,
    /// Watches beyond the most that one peer may keep here.
    pub too_many_watches: u64,
    /// Connections that were closed because the peer sent what no frame is.
    pub broken_protocol: u64,
    /// Connections beyond the most that there may be.
    pub connections: u64,
    /// Handshakes from outside that failed.
    pub handshakes: u64,
    /// Sessions with this mesh as a rendezvous.
    pub sessions: u64,
    /// Introductions to a host with a session here.
    pub introductions: u64,
}

fn seconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(duration.as_secs())
}

fn milliseconds<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_micros() as f64 / 1000.0)
}

impl RefusalStats {
    fn of(refusals: &Refusals) -> Self {
        let by = |reason| refusals.counted(reason);
        Self {
            unknown_name: by(Reason::UnknownName),
            forbidden_name: by(Reason::ForbiddenName),
            no_matching_version: by(Reason::NoMatchingVersion),
            malformed_query: by(Reason::MalformedQuery),
            unknown_actor: by(Reason::UnknownActor),
            forbidden_actor: by(Reason::ForbiddenActor),
            wrong_protocol: by(Reason::WrongProtocol),
            unknown_message: by(Reason::UnknownMessage),
            bad_payload: by(Reason::BadPayload),
            too_many_watches: by(Reason::TooManyWatches),
            broken_protocol: by(Reason::BrokenProtocol),
            ..Self::default()
        }
    }
}

impl Mesh {
    /// What this mesh does at the moment, and what it has refused and dropped since it was started. It reads what is there, and walks over all
    /// connections: microseconds for each. Each connection is looked at by itself, not all of them at one moment.
    ///
    /// ```
    /// # use webmesh::Mesh;
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let stats = mesh.stats();
    /// println!("{} peers, {} refused", stats.links.len(), stats.refusals.forbidden_name);
    /// # mesh.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn stats(&self) -> Stats {
        let inner = self.inner();
        let endpoint = &inner.endpoint;
        let silent = inner.network.get().map(|network| network.silent()).unwrap_or_default();
        let described = |link: &Link| {
            let roads = endpoint.roads(link);
            let in_use = roads.iter().find(|road| road.in_use);
            LinkStats {
                peer: link.peer(),
                reachable: !silent.contains(&link.peer()),
                dialled: link.dialled(),
                path: link.path(),
                via: in_use.map_or(link.via(), |road| road.address),
                rtt: link.rtt(),
                road_changes: link.road_changes(),
                roads,
            }
        };
        let refused = endpoint.refused();
        Stats {
            uptime: endpoint.uptime(),
            actors: self.objects().len(),
            links: endpoint.links().iter().map(described).collect(),
            sessions: endpoint.attached_to(),
            served: endpoint.served(),
            refusals: RefusalStats {
                connections: refused.connections,
                handshakes: refused.handshakes,
                sessions: refused.sessions,
                introductions: refused.introductions,
                ..RefusalStats::of(&inner.refusals)
            },
            drops: endpoint.drops(),
        }
    }
}
