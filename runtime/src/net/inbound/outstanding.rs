//! Which asks of a lane are still to be answered. No I/O.

use crate::codec::frame::FrameError;
use std::collections::VecDeque;

/// Answered asks behind unanswered ones that are kept before they are cleared away. A guess: clearing takes a few
/// microseconds then.
const GAPS_MIN: usize = 1024;

/// The asks that wait for an answer, in the order in which they came; their numbers rise. Answers mostly come in that order
/// too, which costs a comparison each.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    /// Number, and whether it waits still. The first one does.
    asks: VecDeque<(u64, bool)>,
    waiting: usize,
    /// One more than the highest number so far.
    next: u64,
}

impl Outstanding {
    /// One more ask came.
    ///
    /// # Errors
    /// [`FrameError::Unexpected`]: its number is none that follows the last one's.
    pub(super) fn expect(&mut self, ask: u64) -> Result<(), FrameError> {
        if ask < self.next {
            return Err(FrameError::Unexpected("an ask's number"));
        }
        self.next = ask + 1;
        self.asks.push_back((ask, true));
        self.waiting += 1;
        Ok(())
    }

    /// An ask is answered. `false`: it has been already.
    pub(super) fn settle(&mut self, ask: u64) -> bool {
        match self.asks.front() {
            Some((first, _)) if *first == ask => drop(self.asks.pop_front()),
            _ => match self.asks.binary_search_by_key(&ask, |(number, _)| *number) {
                Ok(at) if self.asks[at].1 => self.asks[at].1 = false,
                _ => return false,
            },
        }
        self.waiting -= 1;
        while self.asks.front().is_some_and(|(_, waits)| !waits) {
            self.asks.pop_front();
        }
        // An ask that waits for hours must not have all that came after it remembered.
        if self.asks.len() > 2 * self.waiting + GAPS_MIN {
            self.asks.retain(|(_, waits)| *waits);
        }
        true
    }

    /// Whether there ever was such an ask.
    pub(super) fn knows(&self, ask: u64) -> bool {
        ask < self.next
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ask_is_answered_once_in_whatever_order_and_numbers_rise() {
        let mut asks = Outstanding::default();
        for ask in [0, 1, 5, 6] {
            asks.expect(ask).unwrap();
        }
        assert!(asks.expect(6).is_err() && asks.expect(2).is_err());
        assert!(asks.settle(5) && !asks.settle(5) && !asks.settle(2) && !asks.settle(9));
        assert!(asks.settle(0) && asks.settle(6) && asks.settle(1));
        assert!(asks.is_empty() && asks.asks.is_empty() && !asks.settle(1));
        assert!(asks.knows(6) && !asks.knows(7));
    }

    #[test]
    fn an_ask_that_is_never_answered_does_not_have_all_others_remembered() {
        let mut asks = Outstanding::default();
        asks.expect(0).unwrap();
        for ask in 1..1_000_000 {
            asks.expect(ask).unwrap();
            assert!(asks.settle(ask));
        }
        assert_eq!(asks.len(), 1);
        assert!(asks.asks.capacity() <= 4 * GAPS_MIN, "{}", asks.asks.capacity());
        assert!(asks.settle(0));
    }
}
