//! The actor of another mesh, as a ref that this mesh holds names it.

use crate::codec::wire_ref::WireRef;
use crate::ground::error::Fault;
use crate::net::connections::Links;
use crate::net::outbound::lane::Lane;
use crate::refs::binder::WeakBinder;
use crate::refs::target::{OutMessage, Queued, RemoteTarget};
use crate::refs::watch::{DownReason, Notice, WatchId, WatchSink};
use std::sync::{Arc, OnceLock, Weak};
use webmesh_transport::Origin;

/// A ref's target. Refs come in messages, any number of them in one: until it is used it is nothing but its name.
pub(crate) struct FarTarget {
    links: Weak<Links>,
    wire: WireRef,
    /// Whose word the name is.
    origin: Origin,
    /// Which publication of the name it was resolved to.
    publication: Option<u64>,
    binder: WeakBinder,
    /// Since the first use, or since it was resolved, and the lane's era then.
    lane: OnceLock<(Arc<Lane>, u64)>,
}

impl FarTarget {
    /// `wire` names a publication if the ref was resolved just now: then the lane hears of it at once.
    pub(crate) fn new(
        links: &Arc<Links>,
        mut wire: WireRef,
        origin: Origin,
        binder: WeakBinder,
    ) -> Self {
        let publication = wire.publication.take();
        let lane = OnceLock::new();
        if publication.is_some() {
            let resolved = links.lane(&wire, origin);
            let era = resolved.change(|state, fx| state.core.resolved(publication, fx));
            let _ = lane.set((resolved, era));
        }
        Self { links: Arc::downgrade(links), wire, origin, publication, binder, lane }
    }

    fn lane(&self) -> Result<&(Arc<Lane>, u64), Fault> {
        if let Some(lane) = self.lane.get() {
            return Ok(lane);
        }
        let links = self.links.upgrade().ok_or(Fault::ShutDown)?;
        Ok(self.lane.get_or_init(|| {
            let lane = links.lane(&self.wire, self.origin);
            let era = lane.look(|state| state.core.era());
            (lane, era)
        }))
    }
}

impl RemoteTarget for FarTarget {
    fn send(&self, message: OutMessage<'_>) -> Result<(Queued, u64), Fault> {
        let (lane, era) = self.lane()?;
        lane.send(*era, message)
    }

    fn cancel(&self, ask: u64) {
        if let Some((lane, _)) = self.lane.get() {
            let slot = lane.change(|state, fx| state.core.cancel(ask, fx));
            // Without the lock: it wakes whoever still has the other end.
            drop(slot);
        }
    }

    fn wire(&self) -> &WireRef {
        &self.wire
    }

    fn origin(&self) -> Origin {
        self.origin
    }

    fn binder(&self) -> WeakBinder {
        self.binder.clone()
    }

    fn is_connecting(&self) -> bool {
        self.lane.get().is_some_and(|(lane, _)| lane.look(|state| state.core.is_without_stream()))
    }

    fn watch(&self, watch: WatchId, sink: Arc<dyn WatchSink>) {
        match self.links.upgrade() {
            Some(links) => links.watch(&self.wire, self.origin, self.publication, watch, sink),
            None => sink.notice(Notice::Down(DownReason::PeerGone)),
        }
    }

    fn unwatch(&self, watch: WatchId) {
        if let Some(links) = self.links.upgrade() {
            links.unwatch(watch);
        }
    }
}
