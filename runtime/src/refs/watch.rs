//! Watching an actor: what a watcher is told.

use std::sync::atomic::{AtomicU64, Ordering};

/// Events of one watch that may wait for their handler. A guess: a flapping peer makes two in 5 s.
pub const EVENTS_MAX: usize = 16;

/// Names one watch within this process; [`watch`](crate::watch()) returns it and every event repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(u64);

impl WatchId {
    /// An id that no other watch of this process has.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Why a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DownReason {
    /// The actor stopped, by itself or with its mesh.
    Stopped,
    /// The actor panicked and was not restarted (any more).
    Panicked,
    /// There was no such actor, or no right to reach it, when the watch began, or when another connection took over from the one
    /// that carried it: what happened in between isn't known then. Whatever has the name by that time is another actor.
    NoSuchActor,
    /// The peer closed the connection or was silent for too long (60 s by default). The actor may still live.
    PeerGone,
    /// The right to reach the actor was taken back.
    Revoked,
    /// Another process uses the key of *this* mesh, and the peer has turned to it. Give each its own key.
    KeyInUse,
    /// The peer's process was started anew; the actor of the old one is no more.
    Stale,
}

impl std::fmt::Display for DownReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Stopped => "it stopped",
            Self::Panicked => "it panicked and was given up",
            Self::NoSuchActor => "no such actor, or no right to reach it",
            Self::PeerGone => "its host is gone",
            Self::Revoked => "the right to reach it was taken back",
            Self::KeyInUse => "this host's key is in use elsewhere",
            Self::Stale => "its host was started anew",
        })
    }
}

/// The end of a watch: exactly one per watch, and the last that is heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Down {
    /// Which watch.
    pub watch: WatchId,
    /// Why it ended.
    pub reason: DownReason,
}

impl actix::Message for Down {
    type Result = ();
}

/// What happened to a watched actor that does not end the watch. Only [`watch_events`](crate::watch_events) delivers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatchEvent {
    /// Which watch.
    pub watch: WatchId,
    /// What happened.
    pub event: Event,
}

impl actix::Message for WatchEvent {
    type Result = ();
}

/// The events of a watch that are not its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// The peer has answered nothing for 5 s.
    Unreachable,
    /// It answers again.
    Reachable,
    /// The actor panicked and was restarted by its supervisor, with the same ref and queue but fresh state. Restarts that
    /// follow each other faster than this is handled, or than a far peer is told, are told as one, the latest.
    Restarted {
        /// How often it has been restarted so far: 1 for the first time.
        incarnation: u64,
    },
    /// Tells that this mesh sent to the actor may not have arrived.
    LostTells {
        /// How many at the most.
        at_most: u64,
    },
}

/// One thing to tell a watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Final.
    Down(DownReason),
    /// Not final.
    Event(Event),
}

/// A watcher, as the watched side sees it. It ignores everything after the first `Down`.
pub(crate) trait WatchSink: Send + Sync {
    /// Must not block.
    fn notice(&self, notice: Notice);
}
