//! Watching an actor: what a watcher is told, and how it reaches the watcher.

use std::sync::atomic::{AtomicU64, Ordering};

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
    /// There was no such actor, or no right to reach it, when the watch began.
    NoSuchActor,
    /// The peer closed the connection or was silent for too long (60 s by default). The actor may still live.
    PeerGone,
    /// The right to reach the actor was taken back.
    Revoked,
    /// The peer's process was started anew; the actor of the old one is no more.
    Stale,
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
    /// The actor panicked and was restarted by its supervisor, with the same ref and queue but fresh state.
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
