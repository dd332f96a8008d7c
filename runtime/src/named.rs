//! A resolved ref in the process that hosts its actor: it falls under the name's rule as one of another host's does, here for
//! the key of the own mesh.

use crate::actor_ref::LocalTarget;
use crate::error::Fault;
use crate::mesh::{Mesh, WeakMesh};
use crate::names::Own;
use crate::rights::{Holder, Losing, Right};
use crate::watch::{DownReason, Notice, WatchId, WatchSink};
use crate::wire_ref::{ObjectId, WireRef};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use webmesh_transport::PeerId;

/// The rule is being asked for the first time.
const UNASKED: u8 = 0;
/// The actor that was found first has the name, and the rule lets this mesh in.
const ADMITTED: u8 = 1;
/// Not so: the name is looked up for each message.
const CHANGED: u8 = 2;

/// What stands behind a name, for refs of its own process.
pub(crate) struct Named {
    id: ObjectId,
    protocol: String,
    peer: PeerId,
    mesh: WeakMesh,
    state: AtomicU8,
    /// The actor that had the name when this was made, and the right to it.
    first: Option<(Arc<dyn LocalTarget>, Right)>,
    /// Those that were begun by this, to be ended by it.
    watches: Mutex<BTreeMap<WatchId, Weak<NearWatch>>>,
}

/// A [`Named`] behind which nothing shows that changes: refs are keys of maps, and are compared by what doesn't.
pub(crate) trait AsNamed: Send + Sync {
    fn named(&self) -> &Named;
}

impl AsNamed for Named {
    fn named(&self) -> &Named {
        self
    }
}

impl Named {
    /// The target of the refs to this id.
    pub(crate) fn of(mesh: &Mesh, id: ObjectId, protocol: &str) -> Arc<Self> {
        mesh.objects().near(id, protocol, || Self::new(mesh, id, protocol))
    }

    fn new(mesh: &Mesh, id: ObjectId, protocol: &str) -> Arc<Self> {
        let (peer, objects) = (mesh.peer_id(), mesh.objects());
        let found = objects.names().find(&id).map(|published| published.object.clone());
        let first = found.filter(|object| object.protocol() == protocol).map(|found| found.local());
        let own = first.as_ref().map(|target| target.key());
        let named = Arc::new_cyclic(|named: &Weak<Self>| Self {
            id,
            protocol: protocol.to_owned(),
            peer,
            mesh: mesh.downgrade(),
            state: AtomicU8::new(if first.is_some() { UNASKED } else { CHANGED }),
            first: first.map(|target| {
                let right = objects.rights().hold(id, peer, target.key(), named.clone());
                (target, right)
            }),
            watches: Mutex::default(),
        });
        if let Some(own) = own {
            let state = if objects.admits(&id, peer, own) { ADMITTED } else { CHANGED };
            // Unless it was asked again meanwhile.
            let (unasked, relaxed) = (UNASKED, Ordering::Relaxed);
            let _ = named.state.compare_exchange(unasked, state, relaxed, relaxed);
        }
        named
    }

    /// Whether another one made now would be the same.
    pub(crate) fn is_settled(&self, protocol: &str) -> bool {
        self.state.load(Ordering::Relaxed) == ADMITTED && self.protocol == protocol
    }

    /// The actor that this leads to now.
    ///
    /// # Errors
    /// [`Fault::NoSuchActor`]: nothing is published, or not for this mesh.
    pub(crate) fn with<R>(
        &self,
        call: impl FnOnce(&Arc<dyn LocalTarget>) -> R,
    ) -> Result<R, Fault> {
        if let Some((first, _)) = &self.first
            && self.state.load(Ordering::Relaxed) == ADMITTED
        {
            return Ok(call(first));
        }
        let mesh = self.mesh.upgrade().ok_or(Fault::ShutDown)?;
        let admitted = mesh.objects().open(&self.id, &self.protocol, self.peer)?;
        Ok(call(&admitted.object.local()))
    }

    /// The peer and the published id.
    pub(crate) fn key(&self) -> Own {
        (self.peer, self.id)
    }

    /// `None`: the mesh is gone.
    pub(crate) fn wire(&self) -> Option<WireRef> {
        Some(self.mesh.upgrade()?.wire_ref(self.id, 0, self.protocol.clone()))
    }

    pub(crate) fn watch(&self, watch: WatchId, sink: Arc<dyn WatchSink>) {
        let down = |reason| sink.notice(Notice::Down(reason));
        let Some(mesh) = self.mesh.upgrade() else { return down(DownReason::Stopped) };
        let Ok(target) = self.with(Arc::clone) else { return down(DownReason::NoSuchActor) };
        let (objects, own) = (mesh.objects(), target.key());
        let near = Arc::new_cyclic(|near: &Weak<NearWatch>| {
            let right = objects.rights().hold(self.id, self.peer, own, near.clone());
            NearWatch { watch, sink, watched: Mutex::new(Some((target.clone(), right))) }
        });
        {
            let mut watches = self.watches.lock();
            watches.retain(|_, near| near.strong_count() > 0);
            watches.insert(watch, Arc::downgrade(&near));
        }
        target.watch(watch, near.clone());
        // The rule may have changed before the right was entered.
        near.judged(objects.admits(&self.id, self.peer, own));
    }

    pub(crate) fn unwatch(&self, watch: WatchId) {
        let near = self.watches.lock().remove(&watch);
        let watched = near.and_then(|near| near.upgrade()).and_then(|near| near.end());
        if let Some((target, _)) = watched {
            target.unwatch(watch);
        }
    }
}

impl Holder for Named {
    fn judged(&self, admitted: bool) -> Option<Losing> {
        self.state.store(if admitted { ADMITTED } else { CHANGED }, Ordering::Relaxed);
        None
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Some(mesh) = self.mesh.upgrade() {
            mesh.objects().forget_near(&self.id);
        }
    }
}

/// A watch that was begun by a resolved ref.
struct NearWatch {
    watch: WatchId,
    sink: Arc<dyn WatchSink>,
    /// Taken by its end.
    watched: Mutex<Option<(Arc<dyn LocalTarget>, Right)>>,
}

impl NearWatch {
    fn end(&self) -> Option<(Arc<dyn LocalTarget>, Right)> {
        self.watched.lock().take()
    }
}

impl WatchSink for NearWatch {
    fn notice(&self, notice: Notice) {
        match notice {
            Notice::Down(_) => {
                if self.end().is_some() {
                    self.sink.notice(notice);
                }
            }
            Notice::Event(_) => self.sink.notice(notice),
        }
    }
}

impl Holder for NearWatch {
    fn judged(&self, admitted: bool) -> Option<Losing> {
        if !admitted && let Some((target, _)) = self.end() {
            target.unwatch(self.watch);
            self.sink.notice(Notice::Down(DownReason::Revoked));
        }
        None
    }
}
