//! A resolved ref in the process that hosts its actor: it falls under the name's rule as one of another host's does, here for
//! the key of the own mesh.

use crate::codec::wire_ref::{ObjectId, WireRef};
use crate::ground::error::Fault;
use crate::mesh::Inner;
use crate::net::names::Own;
use crate::net::rights::{Holder, Losing, Right};
use crate::refs::target::{LocalTarget, NamedTarget};
use crate::refs::watch::{DownReason, Notice, WatchId, WatchSink};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
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
    mesh: Weak<Inner>,
    state: AtomicU8,
    /// The actor that had the name when this was made, and the right to it.
    first: Option<(Arc<dyn LocalTarget>, Right)>,
    /// Those that were begun by this, to be ended by it.
    watches: Mutex<BTreeMap<WatchId, Weak<NearWatch>>>,
}

impl Named {
    /// The target of the refs to this id.
    pub(crate) fn of(mesh: &Inner, id: ObjectId, protocol: &str) -> Arc<Self> {
        mesh.named.find(id, protocol, || Self::new(mesh, id, protocol))
    }

    fn new(mesh: &Inner, id: ObjectId, protocol: &str) -> Arc<Self> {
        let (peer, objects) = (mesh.peer, &mesh.objects);
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
}

impl NamedTarget for Named {
    fn settled(&self) -> Option<&Arc<dyn LocalTarget>> {
        let admitted = self.state.load(Ordering::Relaxed) == ADMITTED;
        self.first.as_ref().filter(|_| admitted).map(|(first, _)| first)
    }

    fn look_up(&self) -> Result<Arc<dyn LocalTarget>, Fault> {
        let mesh = self.mesh.upgrade().ok_or(Fault::ShutDown)?;
        let admitted = mesh.objects.open(&self.id, &self.protocol, self.peer)?;
        Ok(admitted.object.local())
    }

    fn key(&self) -> Own {
        (self.peer, self.id)
    }

    fn wire(&self) -> Option<WireRef> {
        Some(self.mesh.upgrade()?.wire_ref(self.id, 0, self.protocol.clone()))
    }

    fn watch(&self, watch: WatchId, sink: Arc<dyn WatchSink>) {
        let down = |reason| sink.notice(Notice::Down(reason));
        let Some(mesh) = self.mesh.upgrade() else { return down(DownReason::Stopped) };
        let named: &dyn NamedTarget = self;
        let Ok(target) = named.with(Arc::clone) else { return down(DownReason::NoSuchActor) };
        let (objects, own) = (&mesh.objects, target.key());
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

    fn unwatch(&self, watch: WatchId) {
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
            mesh.named.forget(&self.id);
        }
    }
}

/// The targets of one mesh's refs to its own names: those to one id share one.
#[derive(Default)]
pub(crate) struct NamedTargets(Mutex<HashMap<ObjectId, Weak<Named>>>);

impl NamedTargets {
    fn find(&self, id: ObjectId, protocol: &str, new: impl FnOnce() -> Arc<Named>) -> Arc<Named> {
        let known = self.0.lock().get(&id).and_then(Weak::upgrade);
        if let Some(known) = known.filter(|known| known.is_settled(protocol)) {
            return known;
        }
        // The rule is asked meanwhile, outside of the lock.
        let named = new();
        self.0.lock().insert(id, Arc::downgrade(&named));
        named
    }

    /// The last of those refs is gone.
    fn forget(&self, id: &ObjectId) {
        let mut known = self.0.lock();
        if known.get(id).is_some_and(|known| known.strong_count() == 0) {
            known.remove(id);
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
