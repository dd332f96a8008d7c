//! How the sender of a message from another mesh hears of it.

use crate::codec::payload::Encoder;
use crate::ground::encoding::EncodeError;
use crate::ground::error::Fault;
use crate::refs::cancellation::Signal;
use std::sync::{Arc, Weak};

/// The way back for replies.
pub(crate) trait ReplyPort: Send + Sync {
    /// Sends the reply that `encode` writes. If encoding fails, the port sends the failure instead.
    fn reply(&self, ask: u64, encode: &mut dyn FnMut(&mut Encoder) -> Result<(), EncodeError>);
    /// Sends a failure.
    fn fault(&self, ask: u64, fault: Fault);
    /// Says that so many tells reached no handler.
    fn undelivered(&self, tells: u64, fault: Fault);
    /// Whether the asker has given up.
    fn is_cancelled(&self, ask: u64) -> bool;
    /// By what a handler hears that the asker gives up. `None`: the ask was answered.
    fn signal(&self, ask: u64) -> Option<Arc<Signal>>;
    /// Whether nobody is there any more to be answered.
    fn is_closed(&self) -> bool;
}

/// How the sender of one message hears of it.
pub(crate) enum WayBack {
    /// It asked.
    Ask(RemoteReply),
    /// It told, and hears nothing unless the message fails.
    Tell(Arc<dyn ReplyPort>),
}

impl WayBack {
    /// The message reached no handler.
    pub(crate) fn fault(self, fault: Fault) {
        match self {
            Self::Ask(reply) => reply.fault(fault),
            Self::Tell(port) => port.undelivered(1, fault),
        }
    }

    /// Whether it asked and has given up.
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self, Self::Ask(reply) if reply.is_cancelled())
    }

    /// The obligation to answer, if there's one.
    pub(crate) fn reply(self) -> Option<RemoteReply> {
        match self {
            Self::Ask(reply) => Some(reply),
            Self::Tell(_) => None,
        }
    }
}

/// The obligation to answer one ask. Dropped unanswered, it answers [`Fault::NoReply`].
pub(crate) struct RemoteReply {
    port: Option<Arc<dyn ReplyPort>>,
    ask: u64,
}

impl RemoteReply {
    pub(crate) fn new(port: Arc<dyn ReplyPort>, ask: u64) -> Self {
        Self { port: Some(port), ask }
    }

    /// The way that it will take, and the number of the ask.
    pub(crate) fn port(&self) -> Option<(Weak<dyn ReplyPort>, u64)> {
        self.port.as_ref().map(|port| (Arc::downgrade(port), self.ask))
    }

    /// Sends the reply that `encode` writes.
    pub(crate) fn reply(mut self, encode: &mut dyn FnMut(&mut Encoder) -> Result<(), EncodeError>) {
        if let Some(port) = &self.port {
            // The application's code: should it panic, the obligation is still there to be answered by the drop.
            port.reply(self.ask, encode);
        }
        self.port = None;
    }

    /// Whether the asker has given up.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.port.as_ref().is_some_and(|port| port.is_cancelled(self.ask))
    }

    /// By what a handler hears that the asker gives up.
    pub(crate) fn signal(&self) -> Option<Arc<Signal>> {
        self.port.as_ref()?.signal(self.ask)
    }

    /// Sends a failure.
    pub(crate) fn fault(mut self, fault: Fault) {
        if let Some(port) = self.port.take() {
            port.fault(self.ask, fault);
        }
    }
}

impl Drop for RemoteReply {
    fn drop(&mut self) {
        if let Some(port) = self.port.take() {
            // While a panic unwinds, the handler that had it in hand is the one that panicked.
            port.fault(
                self.ask,
                if std::thread::panicking() { Fault::Panicked } else { Fault::NoReply },
            );
        }
    }
}

impl std::fmt::Debug for RemoteReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteReply").field("ask", &self.ask).finish_non_exhaustive()
    }
}
