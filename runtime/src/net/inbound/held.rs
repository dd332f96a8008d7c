//! Messages that wait in a lane: for room in the inlet, or for bodies that are on their way.

use crate::net::bodies::BodyError;
use bytes::Bytes;
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// Places asked for at once. A guess: a quarter of an inlet of the usual size, lest counting take long.
const WANTED_MAX: usize = 1024;

/// What a message is to become, and what it was charged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) what: What,
    pub(super) charge: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum What {
    /// `index` in the protocol; `None`: unknown to it.
    Message {
        ask: Option<u64>,
        index: Option<u16>,
    },
    Flush {
        ask: u64,
    },
    /// An ask or flush whose asker gave up and was answered. It only counts as taken in its turn.
    Cancelled,
}

impl What {
    fn ask(self) -> Option<u64> {
        match self {
            Self::Message { ask, .. } => ask,
            Self::Flush { ask } => Some(ask),
            Self::Cancelled => None,
        }
    }
}

/// A message that waits.
pub(super) struct Held {
    pub(super) head: Head,
    pub(super) payload: Bytes,
    pub(super) beside: Option<Fetched>,
    /// The number of this ask, or of the last one before it in the line.
    last_ask: Option<u64>,
}

/// The bodies of a held message: on their way, then here.
pub(super) struct Fetched {
    pub(super) coming: oneshot::Receiver<Result<Vec<Bytes>, BodyError>>,
    pub(super) payload_is_last: bool,
}

/// Messages that wait, in order.
#[derive(Default)]
pub(super) struct Line {
    held: VecDeque<Held>,
    /// How many of them are asks or flushes.
    asks: usize,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn push(&mut self, head: Head, payload: Bytes, beside: Option<Fetched>) {
        let last_ask = head.what.ask().or(self.held.back().and_then(|last| last.last_ask));
        self.asks += usize::from(head.what.ask().is_some());
        self.held.push_back(Held { head, payload, beside, last_ask });
    }

    pub(super) fn front_mut(&mut self) -> Option<&mut Held> {
        self.held.front_mut()
    }

    pub(super) fn pop_front(&mut self) -> Option<Held> {
        let held = self.held.pop_front()?;
        self.asks -= usize::from(held.head.what.ask().is_some());
        Some(held)
    }

    /// How many could go on now, one behind the other, but for places. The first is known to be here.
    pub(super) fn ready_to_go(&self) -> u32 {
        let here = self.held.iter().skip(1).take_while(|held| held.beside.is_none());
        u32::try_from(1 + here.take(WANTED_MAX).count()).unwrap_or(u32::MAX)
    }

    /// Whether bodies of any of them are still to come.
    pub(super) fn is_incomplete(&self) -> bool {
        let waits = |held: &Held| held.beside.as_ref().is_some_and(|b| b.coming.is_empty());
        self.held.iter().any(waits)
    }

    /// Takes an ask (or flush) out: what there is of it is dropped, its bodies are no longer received, and what is left
    /// counts as taken in its turn. `false`: it isn't here. The asks' numbers rise along the line.
    pub(super) fn cancel(&mut self, ask: u64) -> bool {
        let at = self.held.partition_point(|held| held.last_ask < Some(ask));
        match self.held.get_mut(at) {
            Some(held) if held.head.what.ask() == Some(ask) => {
                held.head.what = What::Cancelled;
                self.asks -= 1;
                (held.payload, held.beside) = (Bytes::new(), None);
                true
            }
            _ => false,
        }
    }

    /// How many asks (and flushes) wait.
    pub(super) fn asks(&self) -> usize {
        self.asks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(ask: Option<u64>) -> Head {
        Head { what: What::Message { ask, index: Some(0) }, charge: 1 }
    }

    #[test]
    fn an_ask_is_found_among_tells_and_leaves_nothing_but_its_turn() {
        let mut line = Line::default();
        let asks = [None, Some(3), None, None, Some(7), Some(8), None];
        for ask in asks {
            line.push(message(ask), Bytes::from_static(b"payload"), None);
        }
        assert!(line.cancel(7) && !line.cancel(7) && !line.cancel(5) && !line.cancel(0));
        assert!(!line.cancel(9));
        assert_eq!(line.asks(), 2);
        assert!(line.cancel(3) && line.cancel(8));
        assert_eq!(line.asks(), 0);
        for ask in asks {
            let held = line.pop_front().unwrap();
            assert_eq!(matches!(held.head.what, What::Cancelled), ask.is_some());
            assert_eq!(held.payload.is_empty(), ask.is_some());
        }
    }

    #[test]
    fn no_more_is_asked_for_than_can_go_on_before_bodies_that_are_missing() {
        let mut line = Line::default();
        let (_done, coming) = oneshot::channel();
        for _ in 0..3 {
            line.push(message(None), Bytes::new(), None);
        }
        assert_eq!(line.ready_to_go(), 3);
        line.push(message(None), Bytes::new(), Some(Fetched { coming, payload_is_last: false }));
        line.push(message(None), Bytes::new(), None);
        assert_eq!(line.ready_to_go(), 3);
        assert!(line.is_incomplete());
    }
}
