//! One lane at a time: the successor of a peer's lane to an object ends what is left of the one before.
//!
//! A sender opens the next lane when all of the last one is in the inlet, or when it has given that one up and counts
//! what it carried as lost. In the second case this side may still hold messages that found no room, on a link whose end
//! it hasn't heard of: delivered later, they would overtake backwards.

use crate::codec::wire_ref::ObjectId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use webmesh_transport::PeerId;

type Key = (PeerId, ObjectId);

/// The lanes that hold messages, of all peers.
#[derive(Debug, Default)]
pub(crate) struct Succession {
    reigning: Mutex<HashMap<Key, Arc<Reign>>>,
}

#[derive(Debug, Default)]
struct Reign {
    over: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Succession {
    /// A lane of this peer to this object begins; the one before it, if there is one, is over.
    pub(crate) fn begin(self: &Arc<Self>, peer: PeerId, object: ObjectId) -> Term {
        let reign = Arc::new(Reign::default());
        let key = (peer, object);
        let before = self.reigning.lock().insert(key, reign.clone());
        if let Some(before) = before {
            before.over.store(true, Ordering::Release);
            let waker = before.waker.lock().take();
            waker.into_iter().for_each(Waker::wake);
        }
        Term { succession: self.clone(), key, reign }
    }
}

/// The time of one lane. Dropped, it needs no successor any more.
#[derive(Debug)]
pub(crate) struct Term {
    succession: Arc<Succession>,
    key: Key,
    reign: Arc<Reign>,
}

impl Term {
    /// Whether a successor has begun. Wakes the task when one does.
    pub(crate) fn is_over(&self, cx: &Context<'_>) -> bool {
        if self.reign.over.load(Ordering::Acquire) {
            return true;
        }
        let mut waker = self.reign.waker.lock();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
        self.reign.over.load(Ordering::Acquire)
    }
}

impl Drop for Term {
    fn drop(&mut self) {
        let mut reigning = self.succession.reigning.lock();
        if reigning.get(&self.key).is_some_and(|reign| Arc::ptr_eq(reign, &self.reign)) {
            reigning.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use webmesh_transport::SecretKey;

    #[test]
    fn a_successor_ends_its_predecessor_and_nobody_else() {
        let succession = Arc::new(Succession::default());
        let cx = Context::from_waker(Waker::noop());
        let peer = SecretKey::generate().peer_id();
        let first = succession.begin(peer, ObjectId([1; 16]));
        let other = succession.begin(peer, ObjectId([2; 16]));
        assert!(!first.is_over(&cx));
        let second = succession.begin(peer, ObjectId([1; 16]));
        assert!(first.is_over(&cx) && !second.is_over(&cx) && !other.is_over(&cx));
        drop(first);
        assert_eq!(succession.reigning.lock().len(), 2);
        drop((second, other));
        assert!(succession.reigning.lock().is_empty());
    }
}
