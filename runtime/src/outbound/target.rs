//! The actor of another mesh, as a ref that this mesh holds names it.

use super::lane::Lane;
use crate::error::Fault;
use crate::links::Links;
use crate::mesh::WeakMesh;
use crate::remote::{OutMessage, Queued, RemoteTarget};
use crate::watch::{DownReason, Notice, WatchId, WatchSink};
use crate::wire_ref::WireRef;
use std::sync::{Arc, OnceLock, Weak};
use webmesh_transport::Origin;

/// A ref's target. Refs come in messages, any number of them in one: until it is used it is nothing but its name.
pub(crate) struct FarTarget {
    links: Weak<Links>,
    wire: WireRef,
    /// Whose word the name is.
    origin: Origin,
    mesh: WeakMesh,
    /// Since the first use.
    lane: OnceLock<Arc<Lane>>,
}

impl FarTarget {
    pub(crate) fn new(links: Weak<Links>, wire: WireRef, origin: Origin, mesh: WeakMesh) -> Self {
        Self { links, wire, origin, mesh, lane: OnceLock::new() }
    }

    fn lane(&self) -> Result<&Arc<Lane>, Fault> {
        match self.lane.get() {
            Some(lane) => Ok(lane),
            None => {
                let links = self.links.upgrade().ok_or(Fault::ShutDown)?;
                Ok(self.lane.get_or_init(|| links.lane(&self.wire, self.origin)))
            }
        }
    }
}

impl RemoteTarget for FarTarget {
    fn send(&self, message: OutMessage<'_>) -> Result<Queued, Fault> {
        self.lane()?.send(message)
    }

    fn wire(&self) -> &WireRef {
        &self.wire
    }

    fn origin(&self) -> Origin {
        self.origin
    }

    fn mesh(&self) -> WeakMesh {
        self.mesh.clone()
    }

    fn watch(&self, watch: WatchId, sink: Arc<dyn WatchSink>) {
        match self.links.upgrade() {
            Some(links) => links.watch(&self.wire, self.origin, watch, sink),
            None => sink.notice(Notice::Down(DownReason::PeerGone)),
        }
    }

    fn unwatch(&self, watch: WatchId) {
        if let Some(links) = self.links.upgrade() {
            links.unwatch(watch);
        }
    }
}
