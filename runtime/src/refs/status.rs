//! How an actor is doing: its incarnation, and how it ended.

use crate::ground::error::Fault;
use crate::refs::quarantine::Quarantine;
use crate::refs::responder::Fate;
use crate::refs::watch::DownReason;
use crate::refs::way_back::{RemoteReply, ReplyPort};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Shared by an actor's supervisor and everybody who holds a ref to it.
#[derive(Default)]
pub(crate) struct Status {
    incarnation: AtomicU64,
    end: AtomicU8,
    told_to_stop: AtomicBool,
    /// A stop waits for the asks in hand: the mesh is being shut down.
    stops_once_idle: AtomicBool,
    /// A stop was put off for them.
    put_off: AtomicBool,
    /// Whose messages it refuses, for they made it panic.
    pub(crate) quarantine: Quarantine,
    /// Asks that handlers didn't answer at once.
    in_hand: Mutex<AllInHand>,
}

/// How many asks are put on the list before it is looked through the first time. A guess.
const PRUNED_AT: usize = 16;

/// The asks in hand, and some that have been answered or given up: as many again, and [`PRUNED_AT`], at the most.
#[derive(Default)]
struct AllInHand {
    asks: Vec<InHand>,
    /// How many were waited for when it was looked through.
    kept: usize,
}

impl AllInHand {
    /// Each look costs as much as the list is long, and comes after at least half as many asks as that.
    fn push(&mut self, ask: InHand) {
        if self.asks.len() >= 2 * self.kept + PRUNED_AT {
            self.prune();
        }
        self.asks.push(ask);
    }

    fn prune(&mut self) {
        self.asks.retain(InHand::is_waited_for);
        self.kept = self.asks.len();
    }
}

/// An ask that a handler has in hand.
pub(crate) struct InHand {
    fate: Arc<Fate>,
    /// The way back to a far asker, and the number of its ask.
    port: Option<(Weak<dyn ReplyPort>, u64)>,
}

impl InHand {
    pub(crate) fn near(fate: Arc<Fate>) -> Self {
        Self { fate, port: None }
    }

    pub(crate) fn far(fate: Arc<Fate>, reply: &RemoteReply) -> Self {
        Self { fate, port: reply.port() }
    }

    /// Whether an answer is still to come, to somebody who waits for it.
    fn is_waited_for(&self) -> bool {
        let port = || {
            self.port.as_ref().is_none_or(|(port, ask)| {
                port.upgrade().is_some_and(|port| !port.is_closed() && !port.is_cancelled(*ask))
            })
        };
        !self.fate.is_settled() && port()
    }
}

const LIVES: u8 = 0;
const STOPPED: u8 = 1;
const PANICKED: u8 = 2;

impl Status {
    /// How often it has been restarted.
    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Acquire)
    }

    /// A handler has an ask in hand.
    pub(crate) fn has_in_hand(&self, ask: InHand) {
        self.in_hand.lock().push(ask);
    }

    /// How many asks its handlers have in hand.
    pub(crate) fn asks_in_hand(&self) -> usize {
        let mut in_hand = self.in_hand.lock();
        in_hand.prune();
        in_hand.kept
    }

    /// Counts a panic. Called before what the panicked instance held is dropped, so that whoever waits for it finds out
    /// the reason.
    pub(crate) fn panicked(&self) -> u64 {
        self.incarnation.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Somebody else, its parent or its mesh, wants its end. An instance may put that off (`stopping` may answer
    /// `Running::Continue`); no further one is made.
    pub(crate) fn tell_to_stop(&self) {
        self.told_to_stop.store(true, Ordering::Release);
    }

    /// See [`Self::tell_to_stop`].
    pub(crate) fn was_told_to_stop(&self) -> bool {
        self.told_to_stop.load(Ordering::Acquire)
    }

    /// From now on a stop waits until no ask is in hand, or no longer.
    pub(crate) fn stop_once_idle(&self, once_idle: bool) {
        self.stops_once_idle.store(once_idle, Ordering::Release);
    }

    /// Whether a stop that comes now has to wait. Asked in a turn of the actor's task, between handlers: an ask that one of them had
    /// begun with is in hand by then.
    pub(crate) fn puts_off_stop(&self) -> bool {
        let puts_off = self.stops_once_idle.load(Ordering::Acquire) && self.asks_in_hand() > 0;
        if puts_off {
            self.put_off.store(true, Ordering::Release);
        }
        puts_off
    }

    /// Whether a stop was put off since this was last asked.
    pub(crate) fn take_put_off(&self) -> bool {
        self.put_off.swap(false, Ordering::AcqRel)
    }

    /// The actor is no more. Only the first end counts.
    pub(crate) fn end(&self, reason: DownReason) {
        let end = if reason == DownReason::Panicked { PANICKED } else { STOPPED };
        let _ = self.end.compare_exchange(LIVES, end, Ordering::AcqRel, Ordering::Acquire);
    }

    /// How it ended, if it did, as a watcher is told.
    pub(crate) fn down_reason(&self) -> Option<DownReason> {
        match self.end.load(Ordering::Acquire) {
            STOPPED => Some(DownReason::Stopped),
            PANICKED => Some(DownReason::Panicked),
            _ => None,
        }
    }

    /// How it ended, if it did, as a sender is told.
    pub(crate) fn ended(&self) -> Option<Fault> {
        self.down_reason().map(|reason| {
            if reason == DownReason::Panicked { Fault::Panicked } else { Fault::Stopped }
        })
    }

    /// Why an instance dropped a responder without an answer.
    pub(crate) fn verdict(&self, handled_by: u64) -> Fault {
        if self.incarnation() > handled_by {
            Fault::Panicked
        } else {
            self.ended().unwrap_or(Fault::NoReply)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::payload::Encoder;
    use crate::ground::encoding::EncodeError;
    use crate::refs::cancellation::Signal;
    use std::sync::atomic::AtomicUsize;
    use std::task::Waker;

    /// Counts how often it is looked at.
    #[derive(Default)]
    struct Looks(AtomicUsize);

    impl ReplyPort for Looks {
        fn reply(&self, _: u64, _: &mut dyn FnMut(&mut Encoder) -> Result<(), EncodeError>) {}
        fn fault(&self, _: u64, _: Fault) {}
        fn undelivered(&self, _: u64, _: Fault) {}
        fn is_cancelled(&self, _: u64) -> bool {
            false
        }
        fn signal(&self, _: u64) -> Option<Arc<Signal>> {
            None
        }
        fn is_closed(&self) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed);
            false
        }
    }

    #[test]
    fn asks_that_stay_in_hand_are_looked_at_no_more_than_once_for_each_that_comes() {
        const STAY: usize = 1_023;
        const PASS: usize = 100_000;
        let (status, port) = (Status::default(), Arc::new(Looks::default()));
        let weak: Weak<Looks> = Arc::downgrade(&port);
        for n in 0..STAY {
            let port: Weak<dyn ReplyPort> = weak.clone();
            status.has_in_hand(InHand { fate: Arc::default(), port: Some((port, n as u64)) });
        }
        for _ in 0..PASS {
            let fate = Arc::new(Fate::default());
            status.has_in_hand(InHand::near(fate.clone()));
            // As it is when the answer comes.
            Waker::from(fate).wake();
            assert!(status.in_hand.lock().asks.len() <= 2 * (STAY + 1) + PRUNED_AT);
        }
        let looks = port.0.load(Ordering::Relaxed);
        assert!(looks <= PASS + 2 * STAY, "{looks}");
        assert_eq!(status.asks_in_hand(), STAY);
    }

    #[test]
    fn a_stop_is_put_off_only_for_asks_in_hand_and_only_while_it_may_be() {
        let (status, fate) = (Status::default(), Arc::new(Fate::default()));
        status.has_in_hand(InHand::near(fate.clone()));
        assert!(!status.puts_off_stop() && !status.take_put_off());
        status.stop_once_idle(true);
        assert!(status.puts_off_stop() && status.take_put_off() && !status.take_put_off());
        status.stop_once_idle(false);
        assert!(!status.puts_off_stop());
        status.stop_once_idle(true);
        Waker::from(fate).wake();
        assert!(!status.puts_off_stop() && !status.take_put_off());
    }
}
