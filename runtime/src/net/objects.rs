//! The objects of a mesh that can be reached from outside.

use crate::codec::wire_ref::ObjectId;
use crate::ground::error::Fault;
use crate::net::names::{Names, Own};
use crate::net::refusals::Reason;
use crate::net::rights::Rights;
use crate::refs::exposed::Exposed;
use crate::refs::target::LocalTarget;
use dashmap::DashMap;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use webmesh_transport::PeerId;

/// The objects of one mesh by their ids.
#[derive(Default)]
pub(crate) struct Objects {
    /// Those whose ids are random, and the right to call them.
    private: DashMap<ObjectId, Arc<dyn Exposed>>,
    /// Those that are published, which have rules.
    names: Names,
    rights: Arc<Rights>,
    /// Held while what is published is changed here and in the directory.
    publishing: Mutex<()>,
}

/// What a caller was let in to.
pub(crate) struct Admitted {
    pub(crate) object: Arc<dyn Exposed>,
    /// By a name, whose rule may come to say no; else by an id that nobody can guess.
    pub(crate) by_name: bool,
}

impl Objects {
    /// Makes an object reachable to whoever knows this id.
    pub(crate) fn insert(&self, id: ObjectId, object: Arc<dyn Exposed>) {
        self.private.insert(id, object);
    }

    /// Takes that away.
    pub(crate) fn remove(&self, id: &ObjectId) {
        self.private.remove(id);
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    pub(crate) fn rights(&self) -> &Arc<Rights> {
        &self.rights
    }

    /// To be held while what is published is changed. No code of the application runs meanwhile.
    pub(crate) fn publishing(&self) -> MutexGuard<'_, ()> {
        self.publishing.lock()
    }

    /// Finds an object for a caller.
    ///
    /// # Errors
    /// [`Fault::NoSuchActor`] if it is unknown or the caller may not reach it (which must look the same),
    /// [`Fault::WrongProtocol`] if it serves another protocol.
    pub(crate) fn open(
        &self,
        id: &ObjectId,
        protocol: &str,
        caller: PeerId,
    ) -> Result<Admitted, Fault> {
        let admitted = self.admit(id, caller).ok_or(Fault::NoSuchActor)?;
        if admitted.object.protocol() != protocol {
            return Err(Fault::WrongProtocol);
        }
        Ok(admitted)
    }

    /// Finds an object for a caller. `None` if it is unknown or the caller may not reach it.
    pub(crate) fn admit(&self, id: &ObjectId, caller: PeerId) -> Option<Admitted> {
        let private = self.private.get(id).map(|object| object.clone());
        if let Some(object) = private {
            return Some(Admitted { object, by_name: false });
        }
        // The rule is the application's code: it runs outside of all locks.
        let published = self.names.find(id)?;
        let admitted = published.access.admits(caller);
        admitted.then(|| Admitted { object: published.object.clone(), by_name: true })
    }

    /// Whether a caller still has the right to this actor that it has by a published id.
    pub(crate) fn admits(&self, id: &ObjectId, caller: PeerId, own: Own) -> bool {
        self.admit(id, caller).is_some_and(|admitted| admitted.object.local().key() == own)
    }

    /// Whether there is something behind an id, for whoever it is.
    pub(crate) fn contains(&self, id: &ObjectId) -> bool {
        self.private.contains_key(id) || self.names.find(id).is_some()
    }

    /// Why a peer finds nothing behind an id.
    pub(crate) fn why_hidden(&self, id: &ObjectId) -> Reason {
        if self.contains(id) { Reason::ForbiddenActor } else { Reason::UnknownActor }
    }

    /// Finds an object for a ref of this process that knows its own id, and needs no permission.
    pub(crate) fn local(&self, id: &ObjectId, protocol: &str) -> Option<Arc<dyn LocalTarget>> {
        let object = self.private.get(id)?.clone();
        (object.protocol() == protocol).then(|| object.local())
    }

    /// Has every object's actor refuse further messages. What its handlers have in hand goes on.
    pub(crate) fn drain_all(&self) {
        self.each(|object| object.local().drain());
    }

    /// How many asks their handlers have in hand; those of an actor of several ids count several times.
    pub(crate) fn asks_in_hand(&self) -> usize {
        let all: Vec<_> = self.private.iter().map(|entry| entry.value().clone()).collect();
        all.into_iter().map(|object| object.local().status().asks_in_hand()).sum()
    }

    /// Tells every object's actor to stop.
    pub(crate) fn stop_all(&self) {
        self.each(|object| object.local().stop());
    }

    /// The same, once it has no ask in hand. All know of that before the first one stops, which stops its children.
    pub(crate) fn stop_all_once_idle(&self) {
        self.each(|object| object.local().status().stop_once_idle(true));
        self.stop_all();
    }

    /// Tells those again that have put it off for the asks in hand, if `now` whatever they still have. Says whether there were any.
    pub(crate) fn stop_put_off(&self, now: bool) -> bool {
        let all: Vec<_> = self.private.iter().map(|entry| entry.value().clone()).collect();
        let mut any = false;
        for object in all {
            let local = object.local();
            if now {
                local.status().stop_once_idle(false);
            }
            if local.status().take_put_off() {
                any = true;
                local.stop();
            }
        }
        any
    }

    fn each(&self, act: impl Fn(Arc<dyn Exposed>)) {
        let mut all: Vec<_> =
            self.private.iter().map(|entry| (entry.key().0, entry.value().clone())).collect();
        // The table's own order is another one in each run.
        all.sort_unstable_by_key(|(id, _)| *id);
        for (_, object) in all {
            act(object);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.private.is_empty()
    }

    /// How many there are: one for each protocol of each actor.
    pub(crate) fn len(&self) -> usize {
        self.private.len()
    }
}
