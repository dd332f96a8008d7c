//! Which of the messages sent on one stream the handler is not known to have taken yet.

use std::collections::VecDeque;

/// Runs of tells and of other messages (asks, flushes) in the order they were sent.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    /// All but the last, which is apart because each message extends it.
    runs: VecDeque<(bool, u64)>,
    last: (bool, u64),
    tells: u64,
    sent: u64,
    taken: u64,
    /// Asks and flushes that the other side hasn't answered.
    unanswered: u64,
}

impl Unconfirmed {
    /// One more message was sent. Returns its number on this stream, from 1.
    #[inline]
    pub(super) fn sent(&mut self, tell: bool) -> u64 {
        if self.last.0 != tell {
            let before = std::mem::replace(&mut self.last, (tell, 0));
            if before.1 > 0 {
                self.runs.push_back(before);
            }
        }
        self.last.1 += 1;
        self.tells += u64::from(tell);
        self.unanswered += u64::from(!tell);
        self.sent += 1;
        self.sent
    }

    /// The first `taken` messages were taken. Lower numbers than before are old news. `false`: more than were sent.
    pub(super) fn confirm(&mut self, taken: u64) -> bool {
        if taken > self.sent {
            return false;
        }
        while self.taken < taken {
            let earlier = !self.runs.is_empty();
            let (tell, count) = self.runs.front_mut().unwrap_or(&mut self.last);
            let step = (*count).min(taken - self.taken);
            *count -= step;
            self.taken += step;
            if *tell {
                self.tells -= step;
            }
            if earlier && *count == 0 {
                self.runs.pop_front();
            }
        }
        true
    }

    /// An answer came. `false`: more answers than questions.
    pub(super) fn answered(&mut self) -> bool {
        let due = self.unanswered > 0;
        self.unanswered -= u64::from(due);
        due
    }

    /// Messages sent so far.
    pub(super) fn sent_count(&self) -> u64 {
        self.sent
    }

    /// Tells that may not have arrived.
    pub(super) fn tells(&self) -> u64 {
        self.tells
    }

    /// Those among the first `count` messages of the stream.
    pub(super) fn tells_until(&self, count: u64) -> u64 {
        let mut left = count.saturating_sub(self.taken);
        let mut tells = 0;
        for &(tell, of_run) in self.runs.iter().chain([&self.last]) {
            let within = of_run.min(left);
            left -= within;
            tells += if tell { within } else { 0 };
        }
        tells
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tells_behind_the_last_confirmed_message_are_in_doubt() {
        let mut unconfirmed = Unconfirmed::default();
        for tell in [true, true, false, true, false] {
            unconfirmed.sent(tell);
        }
        assert_eq!(unconfirmed.tells(), 3);
        assert_eq!(
            [0, 1, 2, 3, 4, 5].map(|count| unconfirmed.tells_until(count)),
            [0, 1, 2, 2, 3, 3]
        );
        assert!(unconfirmed.confirm(1));
        assert_eq!(unconfirmed.tells(), 2);
        assert!(unconfirmed.confirm(3));
        assert_eq!(unconfirmed.tells(), 1);
        assert_eq!([2, 3, 4].map(|count| unconfirmed.tells_until(count)), [0, 0, 1]);
        assert!(unconfirmed.confirm(2));
        assert_eq!(unconfirmed.tells(), 1);
        assert!(unconfirmed.confirm(5));
        assert_eq!(unconfirmed.tells(), 0);
        assert!(!unconfirmed.confirm(6));
    }
}
