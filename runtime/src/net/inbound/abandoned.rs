//! Asks whose askers have given up while the actor has them, or can't say any more that they give up, because they have ended the stream:
//! handlers are not cut short, so they may go on for long. Lest asking, giving up and asking again pile up work here, they are counted by peer and by address prefix, over all lanes and
//! connections; beyond a bound, the lanes of that peer or prefix pass nothing on.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use webmesh_transport::PeerId;

/// How many one peer may have. A guess: as many as one stream may have without an answer; 16 s of a thousand asks a second
/// that are given up at once, where handlers take so long and don't look.
pub(super) const PEER_MAX: usize = 16 * 1024;

/// How many all peers of one address prefix may have. A guess: four such peers.
const PREFIX_MAX: usize = 4 * PEER_MAX;

/// How many all peers may have that come through relays of one prefix, for where they are isn't known. A guess: sixteen such
/// peers.
const RELAY_MAX: usize = 16 * PEER_MAX;

/// Entries of a table before those that nobody uses are cleared away.
const TABLE_MIN: usize = 64;

/// How many there are, by peer and by prefix.
#[derive(Debug, Default)]
pub(crate) struct Abandoned {
    peers: Table<PeerId>,
    /// Of peers that are there (`false`), and of those that come through a relay there.
    prefixes: Table<Option<(IpAddr, bool)>>,
    /// Of one peer in one prefix: what the prefix is charged for it.
    shares: Table<(PeerId, Option<(IpAddr, bool)>)>,
    /// How many accounts there have been.
    accounts: AtomicU64,
}

impl Abandoned {
    /// What is counted of a peer that is seen in this network, or comes through a relay there (`true`).
    pub(crate) fn account(&self, peer: PeerId, network: Option<(IpAddr, bool)>) -> Account {
        let relayed = network.is_some_and(|(_, relayed)| relayed);
        let prefix_max = if relayed { RELAY_MAX } else { PREFIX_MAX };
        Account {
            number: self.accounts.fetch_add(1, Ordering::Relaxed),
            of_peer: self.peers.count(peer, PEER_MAX),
            of_prefix: self.prefixes.count(network, prefix_max),
            share: self.shares.count((peer, network), PEER_MAX),
        }
    }
}

#[derive(Debug)]
struct Table<K>(Mutex<HashMap<K, Weak<Count>>>);

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq> Table<K> {
    fn count(&self, key: K, max: usize) -> Arc<Count> {
        let mut table = self.0.lock();
        if let Some(count) = table.get(&key).and_then(Weak::upgrade) {
            return count;
        }
        if table.len() >= TABLE_MIN && table.len() == table.capacity() {
            table.retain(|_, count| count.strong_count() > 0);
        }
        let count = Arc::new(Count { max, now: AtomicUsize::new(0), waiting: Mutex::default() });
        table.insert(key, Arc::downgrade(&count));
        count
    }
}

#[derive(Debug)]
struct Count {
    max: usize,
    now: AtomicUsize,
    /// By the account's number.
    waiting: Mutex<BTreeMap<u64, Waker>>,
}

impl Count {
    fn poll_room(&self, account: u64, cx: &Context<'_>) -> Poll<()> {
        if self.now.load(Ordering::Relaxed) < self.max {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock();
        // Again, under the lock that whoever makes room takes after it.
        if self.now.load(Ordering::SeqCst) < self.max {
            return Poll::Ready(());
        }
        waiting
            .entry(account)
            .and_modify(|waker| waker.clone_from(cx.waker()))
            .or_insert_with(|| cx.waker().clone());
        Poll::Pending
    }

    /// Returns by how much the part below the maximum grows.
    fn add(&self, asks: usize) -> usize {
        let before = self.now.fetch_add(asks, Ordering::SeqCst);
        asks.min(self.max.saturating_sub(before))
    }

    /// Returns by how much the part below the maximum shrinks.
    fn release(&self, asks: usize) -> usize {
        let before = self.now.fetch_sub(asks, Ordering::SeqCst);
        if before >= self.max && before - asks < self.max {
            let waiting = std::mem::take(&mut *self.waiting.lock());
            waiting.into_values().for_each(Waker::wake);
        }
        before.min(self.max) - (before - asks).min(self.max)
    }
}

/// The counts that a lane's asks go to.
#[derive(Debug)]
pub(crate) struct Account {
    number: u64,
    of_peer: Arc<Count>,
    of_prefix: Arc<Count>,
    share: Arc<Count>,
}

impl Account {
    /// So many asks that the actor has were given up.
    pub(crate) fn add(&self, asks: usize) {
        self.of_peer.add(asks);
        // What was under way already can lead beyond a peer's bound. Others of its prefix don't pay for that.
        self.of_prefix.add(self.share.add(asks));
    }

    /// The actor is done with so many of them.
    pub(crate) fn release(&self, asks: usize) {
        if asks > 0 {
            self.of_peer.release(asks);
            self.of_prefix.release(self.share.release(asks));
        }
    }

    /// Ready while there may be more of them.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        std::task::ready!(self.of_peer.poll_room(self.number, cx));
        self.of_prefix.poll_room(self.number, cx)
    }
}

/// Its lane waits for room no more.
impl Drop for Account {
    fn drop(&mut self) {
        for count in [&self.of_peer, &self.of_prefix] {
            // In a statement of its own: what the waker keeps may not be dropped under the lock.
            let waker = count.waiting.lock().remove(&self.number);
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Wake;
    use webmesh_transport::SecretKey;

    #[derive(Default)]
    struct Woken(AtomicUsize);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_peer_has_one_bound_over_all_its_lanes_and_its_prefix_another_over_all_its_peers() {
        let abandoned = Abandoned::default();
        let cx = &Context::from_waker(Waker::noop());
        let here = Some((IpAddr::from([192, 0, 2, 0]), false));
        let key = || SecretKey::generate().peer_id();
        let peer = key();
        let (one, two) = (abandoned.account(peer, here), abandoned.account(peer, here));
        one.add(PEER_MAX - 1);
        assert!(two.poll_room(cx).is_ready());
        two.add(1);
        assert!(one.poll_room(cx).is_pending() && two.poll_room(cx).is_pending());
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        assert!(two.poll_room(&Context::from_waker(&waker)).is_pending());
        one.release(1);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(two.poll_room(cx).is_ready());
        one.add(1);
        let others: Vec<_> = (2..5).map(|_| abandoned.account(key(), here)).collect();
        let (newcomer, elsewhere) = (
            abandoned.account(key(), here),
            abandoned.account(key(), here.map(|(ip, _)| (ip, true))),
        );
        assert!(newcomer.poll_room(cx).is_ready());
        others.iter().for_each(|account| account.add(PEER_MAX));
        assert!(newcomer.poll_room(cx).is_pending() && elsewhere.poll_room(cx).is_ready());
        // It is the peer that counts, not its lanes, which come and go.
        drop(one);
        assert!(abandoned.account(peer, here).poll_room(cx).is_pending());
    }

    #[test]
    fn one_peer_does_not_use_up_what_its_prefix_has_however_far_it_goes_beyond_its_own() {
        let abandoned = Abandoned::default();
        let cx = &Context::from_waker(Waker::noop());
        let [here, there] = [1, 2].map(|net| Some((IpAddr::from([192, 0, net, 0]), false)));
        let key = || SecretKey::generate().peer_id();
        let (peer, other) = (key(), abandoned.account(key(), here));
        let (one, two) = (abandoned.account(peer, here), abandoned.account(peer, there));
        one.add(PREFIX_MAX + 7);
        assert!(one.poll_room(cx).is_pending() && other.poll_room(cx).is_ready());
        assert_eq!(one.of_prefix.now.load(Ordering::Relaxed), PEER_MAX);
        // The same peer from elsewhere, and back in another order.
        two.add(5);
        one.release(PREFIX_MAX);
        assert_eq!(one.of_prefix.now.load(Ordering::Relaxed), 7);
        one.release(7);
        two.release(5);
        for count in [&one.of_peer, &one.of_prefix, &two.of_prefix, &one.share, &two.share] {
            assert_eq!(count.now.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn lanes_that_end_while_they_wait_leave_no_waker() {
        let abandoned = Abandoned::default();
        let peer = SecretKey::generate().peer_id();
        let first = abandoned.account(peer, None);
        first.add(PEER_MAX);
        for _ in 0..100 {
            let lane = abandoned.account(peer, None);
            for _ in 0..2 {
                let waker = Waker::from(Arc::new(Woken::default()));
                assert!(lane.poll_room(&Context::from_waker(&waker)).is_pending());
            }
            assert_eq!(first.of_peer.waiting.lock().len(), 1);
        }
        assert!(first.of_peer.waiting.lock().is_empty());
    }

    #[test]
    fn peers_that_are_gone_leave_nothing() {
        let abandoned = Abandoned::default();
        for n in 0..10_000u32 {
            let [a, b, c, d] = n.to_be_bytes();
            let network = Some(([a, c, d, b].into(), false));
            drop(abandoned.account(SecretKey::generate().peer_id(), network));
        }
        assert!(
            abandoned.peers.0.lock().len() <= 1024 && abandoned.prefixes.0.lock().len() <= 1024
        );
        assert!(abandoned.shares.0.lock().len() <= 1024);
    }
}
