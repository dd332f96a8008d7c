//! When something was sent along the road in use of which it isn't known yet whether it arrived.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Moments that are remembered: one for each sixteenth of the time after which a question is asked.
const MARKS_MAX: usize = 16;

/// And no more than one in so long, whatever that is.
const MARK_EVERY_MIN: Duration = Duration::from_millis(10);

/// A datagram of QUIC's that is no longer may be a bare acknowledgement, which nobody acknowledges: a header, a few ranges and a tag.
/// A guess.
const LONE_BYTES_MAX: usize = 64;

/// The moments of one handle.
#[derive(Debug, Default)]
pub(super) struct Unproven {
    marks: VecDeque<Instant>,
    /// Only short datagrams were sent since then, which nobody may ever acknowledge: there is no point in waiting for it.
    short: bool,
    /// A single short datagram doesn't count, for it may be the acknowledgement that ends an exchange; a second one shows that the
    /// exchange goes on, and then the first counts too. A long one counts by itself.
    lone: Option<Instant>,
}

impl Unproven {
    /// So many bytes are sent; `proven` tells what is known to have arrived. Whether there is something to look after from now on.
    pub(super) fn sent(
        &mut self,
        bytes: usize,
        patience: Duration,
        now: Instant,
        proven: impl FnOnce() -> Option<Instant>,
    ) -> bool {
        if self.marks.is_empty() {
            let first = match self.lone {
                // The short one before it most likely ended another exchange.
                _ if bytes > LONE_BYTES_MAX => Some(now),
                None => None,
                Some(lone) => (proven() < Some(lone)).then_some(lone),
            };
            let Some(first) = first else {
                self.lone = Some(now);
                return false;
            };
            self.lone = None;
            self.marks.push_back(first);
            self.short = bytes <= LONE_BYTES_MAX;
            return true;
        }
        if self.short && bytes > LONE_BYTES_MAX {
            // Its acknowledgement says of the short ones before it, too, that they arrived.
            self.marks.clear();
            self.marks.push_back(now);
            self.short = false;
            return false;
        }
        if !self.short && bytes <= LONE_BYTES_MAX {
            self.lone.get_or_insert(now);
            return false;
        }
        let every = MARK_EVERY_MIN.max(patience / MARKS_MAX as u32);
        let due = self.marks.back().is_none_or(|last| now >= *last + every);
        if due && self.marks.len() < MARKS_MAX {
            self.marks.push_back(now);
        }
        false
    }

    /// What was sent at `proven` has arrived. What was sent before isn't asked for any more.
    pub(super) fn proven(&mut self, proven: Option<Instant>) {
        while self.marks.front().is_some_and(|mark| Some(*mark) <= proven) {
            self.marks.pop_front();
        }
        self.lone = self.lone.filter(|lone| Some(*lone) > proven);
        if self.marks.is_empty() {
            // Most connections are idle.
            self.marks = VecDeque::new();
        }
    }

    /// The first moment at which something was sent that isn't known to have arrived.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.marks.front().copied()
    }

    /// Whether an acknowledgement of what was sent can't be counted on.
    pub(super) fn is_short(&self) -> bool {
        self.short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_oldest_datagram_that_is_not_known_to_have_arrived_is_known_to_a_sixteenth() {
        let (start, patience) = (Instant::now(), 160 * MS);
        let mut unproven = Unproven::default();
        for n in 0..160 {
            let new = unproven.sent(1000, patience, start + n * MS, || None);
            assert_eq!(new, n == 0);
            assert!(unproven.marks.len() <= MARKS_MAX);
        }
        for n in (0..140).step_by(7) {
            unproven.proven(Some(start + n * MS));
            let oldest = unproven.oldest().unwrap();
            assert!(oldest > start + n * MS && oldest <= start + (n + 11) * MS, "{n}");
        }
        unproven.proven(Some(start + 160 * MS));
        assert_eq!(unproven.oldest(), None);
    }

    #[test]
    fn the_acknowledgement_of_an_answer_is_not_waited_for_with_the_question() {
        let (start, patience) = (Instant::now(), 160 * MS);
        let mut unproven = Unproven::default();
        assert!(unproven.sent(200, patience, start, || None));
        // The answer has just come, and nobody has looked since.
        assert!(!unproven.sent(40, patience, start + 150 * MS, || None));
        unproven.proven(Some(start));
        assert_eq!(unproven.oldest(), None);
    }

    #[test]
    fn one_short_datagram_wants_no_answer_and_two_do_from_the_first_on() {
        let (start, patience) = (Instant::now(), 160 * MS);
        let mut unproven = Unproven::default();
        assert!(!unproven.sent(40, patience, start, || None));
        assert_eq!(unproven.oldest(), None);
        // The next exchange showed that it arrived.
        assert!(!unproven.sent(40, patience, start + 500 * MS, || Some(start + 400 * MS)));
        assert!(unproven.sent(40, patience, start + 600 * MS, || Some(start + 400 * MS)));
        assert!(unproven.is_short());
        assert_eq!(unproven.oldest(), Some(start + 500 * MS));
        unproven.proven(Some(start + 600 * MS));
        assert!(!unproven.sent(40, patience, start + 700 * MS, || None));
        assert!(unproven.sent(90, patience, start + 710 * MS, || None), "no bare acknowledgement");
        assert_eq!(unproven.oldest(), Some(start + 710 * MS));
        assert!(!unproven.is_short());
    }
}
