//! How an actor is doing: its incarnation, and how it ended.

use crate::error::Fault;
use crate::fate::Fate;
use crate::objects::{RemoteReply, ReplyPort};
use crate::quarantine::Quarantine;
use crate::watch::DownReason;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// Shared by an actor's supervisor and everybody who holds a ref to it.
#[derive(Default)]
pub(crate) struct Status {
    incarnation: AtomicU64,
    end: AtomicU8,
    told_to_stop: AtomicBool,
    /// Whose messages it refuses, for they made it panic.
    pub(crate) quarantine: Quarantine,
    /// Asks that handlers didn't answer at once. Also some that have been answered, at most as many again.
    in_hand: Mutex<Vec<InHand>>,
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
        let mut in_hand = self.in_hand.lock();
        if in_hand.len() == in_hand.capacity() {
            in_hand.retain(InHand::is_waited_for);
        }
        in_hand.push(ask);
    }

    /// How many asks its handlers have in hand.
    pub(crate) fn asks_in_hand(&self) -> usize {
        let mut in_hand = self.in_hand.lock();
        in_hand.retain(InHand::is_waited_for);
        in_hand.len()
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
