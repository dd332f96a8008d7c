//! The seam between a mesh and its network: what the local half of the runtime asks of the half that holds connections.

use crate::codec::wire_ref::WireRef;
use crate::net::outbound::core::Owed;
use crate::net::query::{Query, ResolveError};
use crate::refs::target::RemoteTarget;
use futures_util::future::BoxFuture;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use webmesh_transport::{Origin, PeerId, PeerRef};

/// The connections of one mesh.
pub(crate) trait Network: Send + Sync {
    /// The actor of another mesh that goes by this name, by the word of `origin`. Nothing is kept of it beyond what is returned, and
    /// nobody connected to, before it is used.
    fn target(&self, wire: WireRef, origin: Origin) -> Arc<dyn RemoteTarget>;
    /// Where the word of a peer may lead this host, as it is connected now.
    fn origin_of(&self, peer: &PeerId) -> Origin;
    /// The application says where a peer may be found that has fallen silent.
    fn look_for(&self, wire: &WireRef);
    /// Resolves a published name at another mesh.
    fn resolve(
        &self,
        at: PeerRef,
        query: Query,
    ) -> BoxFuture<'static, Result<WireRef, ResolveError>>;
    /// The connected peers that don't answer at the moment.
    fn silent(&self) -> HashSet<PeerId>;
    /// Has what was accepted leave for good, and with `refuse` takes nothing new. To be called again and again: what is left to
    /// wait for.
    fn drain(&self, how: Drain, refuse: bool) -> Undrained;
    /// Resolves when a peer has said what became of a stream of messages, or that has ended: at once if one did since the last time.
    fn one_settled(&self) -> BoxFuture<'static, ()>;
    /// Takes back what hasn't arrived.
    fn withdraw(&self);
    /// The links to peers that have yet to say of some tell what became of it. Those that are silent are left out.
    fn in_doubt(&self) -> Vec<InDoubt>;
    /// How long what was said to peers may still be on its way.
    fn farewell(&self) -> Duration;
    /// Ends everything that is under way. Returns which tells were accepted and may not have arrived; none the next time.
    fn end(&self) -> Owed;
}

/// For what a mesh that ends waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    /// For each lane to be at its end, and for an answer to each ask that is in hand here.
    All,
    /// For tells that were accepted to be where they go, and for the answers that were given.
    Promised,
}

/// What hasn't left yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undrained {
    Nothing,
    /// Answers that were given, or are still to be.
    Answers,
    /// Streams of messages.
    Lanes,
}

/// A link to a peer that has yet to say of some tell what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InDoubt {
    /// The link's number.
    pub(crate) link: u64,
    /// Datagrams that came over it.
    pub(crate) heard: u64,
    /// What an answer of the peer's may take.
    pub(crate) trip: Duration,
}
