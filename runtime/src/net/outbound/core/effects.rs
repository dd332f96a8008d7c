//! What a core is given and what it gives back: values, for others to carry out.

use crate::ground::error::Fault;
use crate::net::outbound::ticket::Ticket;
use std::sync::Arc;
use std::task::Waker;

/// What a message wants in return; `S` is where an answer goes.
#[derive(Debug)]
pub(crate) enum Want<S> {
    Nothing,
    Answer(S),
    Flushed(S),
}

/// What the other side of a stream understands beyond version 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Understands {
    /// CANCEL.
    pub(crate) cancels: bool,
    /// That the limit of a message is that of its content, its envelope apart.
    pub(crate) envelopes: bool,
}

/// What became of a submitted message.
#[derive(Debug)]
pub(crate) enum Submitted {
    Accepted,
    Waiting(Arc<Ticket>),
}

/// What a change of the core asks its surroundings to do.
#[derive(Debug)]
pub(crate) struct Effects<S> {
    /// Open a stream (connecting first, if need be), then call `Core::opened` or `Core::open_failed`.
    pub(crate) open: bool,
    /// The stream's writer, which has something to do.
    pub(crate) writer: Option<Waker>,
    /// Senders in line that can go on.
    pub(crate) wake: Vec<Waker>,
    /// Asks that failed.
    pub(crate) failed: Vec<(S, Fault)>,
    /// So many more tells are in doubt.
    pub(crate) lost: u64,
    /// Which publication of the object's name lost them, if that is known.
    pub(crate) lost_by: Option<u64>,
    /// Whether the lane went from "no asks in flight" to some.
    pub(crate) expecting: bool,
    /// Whether such an ask looks like one of those that come one after the other: no others were under way with the last.
    pub(crate) alone: bool,
}

impl<S> Default for Effects<S> {
    fn default() -> Self {
        Self {
            open: false,
            writer: None,
            wake: Vec::new(),
            failed: Vec::new(),
            lost: 0,
            lost_by: None,
            expecting: false,
            alone: false,
        }
    }
}

impl<S> Effects<S> {
    /// Whether there is nothing to carry out behind the lock: the usual case while messages stream.
    pub(crate) fn is_nothing(&self) -> bool {
        let Self { open, writer, wake, failed, lost, lost_by: _, expecting: _, alone: _ } = self;
        !open && writer.is_none() && wake.is_empty() && failed.is_empty() && *lost == 0
    }
}
