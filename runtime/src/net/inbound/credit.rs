//! What one lane's sender may send, counted as totals since the stream was opened.
//!
//! The receiver promises that it can hold what it granted: `released + window`, where *released* counts what the handler
//! has taken. The window starts small and grows fourfold whenever the sender runs out while the handler keeps up (then the
//! window, not the actor, is what slows the sender); a slow actor's window stays as it is. Window and single large
//! messages are paid for out of the link's [`Budget`].

use super::budget::Budget;
use crate::codec::frame::FrameError;
use crate::codec::limits::{INITIAL_BYTES, INITIAL_MESSAGES};
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;

/// Messages in a lane's window at its start and at the most. The lower one is a guess; with the upper one, which holds
/// what arrives during 4 ms at 4 million messages a second, tells of 100 B in place were 20% faster than with half of it.
const WINDOW_MESSAGES: (u64, u64) = (512, 16 * 1024);

/// Bytes in a lane's window at its start and at the most. Guesses: the upper one is one round trip of 50 ms at 2.5 Gbit/s.
const WINDOW_BYTES: (u64, u64) = (128 * 1024, 16 << 20);

/// Messages one behind the other that were charged the same and went the same way.
#[derive(Debug)]
struct Charges {
    bytes: u64,
    count: u32,
    to_inlet: bool,
}

/// What is known of one lane's traffic.
#[derive(Debug)]
pub(crate) struct Credit {
    budget: Arc<Budget>,
    window_messages: u64,
    window_bytes: u64,
    received: u64,
    received_bytes: u64,
    /// Messages that the handler has taken, or that went no further than here, in the order they came.
    taken: u64,
    released_bytes: u64,
    /// What the messages that are not taken yet were charged, in the order they came.
    charges: VecDeque<Charges>,
    /// Of the inlet's own count.
    inlet_taken: u64,
    granted_messages: u64,
    granted_bytes: u64,
    /// Paid for out of the budget, still.
    paid: u64,
    /// The size of the message that the sender has waiting.
    needed: Option<u64>,
    /// The window has grown for that message.
    grown: bool,
    told_taken: u64,
}

impl Credit {
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self {
            budget,
            window_messages: WINDOW_MESSAGES.0,
            window_bytes: WINDOW_BYTES.0,
            received: 0,
            received_bytes: 0,
            taken: 0,
            released_bytes: 0,
            charges: VecDeque::new(),
            inlet_taken: 0,
            granted_messages: INITIAL_MESSAGES,
            granted_bytes: INITIAL_BYTES,
            paid: 0,
            needed: None,
            grown: false,
            told_taken: 0,
        }
    }

    /// A message arrived. Whether it goes to the inlet is decided later, in order, by [`Self::passed_on`] or
    /// [`Self::dropped`].
    ///
    /// # Errors
    /// [`FrameError::Overdrawn`].
    #[inline]
    pub(crate) fn received(&mut self, bytes: u64) -> Result<(), FrameError> {
        self.received += 1;
        self.received_bytes += bytes;
        if self.received > self.granted_messages || self.received_bytes > self.granted_bytes {
            return Err(FrameError::Overdrawn);
        }
        Ok(())
    }

    /// The next message, charged so much, went to the inlet.
    #[inline]
    pub(crate) fn passed_on(&mut self, bytes: u64) {
        self.charged(bytes, true);
    }

    /// The next message went no further.
    pub(crate) fn dropped(&mut self, bytes: u64) {
        self.charged(bytes, false);
    }

    #[inline]
    fn charged(&mut self, bytes: u64, to_inlet: bool) {
        match self.charges.back_mut() {
            Some(last)
                if last.bytes == bytes && last.to_inlet == to_inlet && last.count < u32::MAX =>
            {
                last.count += 1
            }
            _ => self.charges.push_back(Charges { bytes, to_inlet, count: 1 }),
        }
    }

    /// The inlet says how many of this lane's messages the handler has taken since the lane began.
    pub(crate) fn taken_from_inlet(&mut self, inlet_taken: u64) {
        while let Some(first) = self.charges.front_mut() {
            let mut count = first.count;
            if first.to_inlet {
                let taken = inlet_taken.saturating_sub(self.inlet_taken);
                count = count.min(u32::try_from(taken).unwrap_or(u32::MAX));
                if count == 0 {
                    break;
                }
                self.inlet_taken += u64::from(count);
            }
            self.taken += u64::from(count);
            self.released_bytes += u64::from(count) * first.bytes;
            first.count -= count;
            if first.count == 0 {
                self.charges.pop_front();
            }
        }
        if self.needed.is_some() && self.taken == self.received {
            // The handler keeps up: the window is what slows the sender.
            self.grow();
        }
        self.settle();
    }

    fn settle(&mut self) {
        // What was paid for beyond the start's allowance, and is outstanding no more, goes back.
        let outstanding = self.granted_bytes - self.released_bytes;
        let due = outstanding.saturating_sub(INITIAL_BYTES);
        if due < self.paid {
            self.budget.give_back(self.paid - due);
            self.paid = due;
        }
    }

    /// The sender has run out of credit; its next message is this large.
    pub(crate) fn need(&mut self, bytes: u64) {
        self.needed = Some(bytes);
        self.grown = false;
        let behind = self.received - self.taken;
        if behind <= self.window_messages / 2
            && self.received_bytes - self.released_bytes <= self.window_bytes / 2
        {
            self.grow();
        }
    }

    fn grow(&mut self) {
        if !std::mem::replace(&mut self.grown, true) {
            self.window_messages = (self.window_messages * 4).min(WINDOW_MESSAGES.1);
            self.window_bytes = (self.window_bytes * 4).min(WINDOW_BYTES.1);
        }
    }

    /// What the message in line asks for beyond the window: nothing unless the handler has taken all before it, else a
    /// slow actor's senders would each have more and more in line.
    fn needed_bytes(&self) -> u64 {
        match self.needed {
            Some(needed) if self.taken == self.received => self.received_bytes + needed,
            _ => 0,
        }
    }

    /// The sender sends nothing more on this stream: what it was granted and didn't use goes back.
    pub(crate) fn finished(&mut self) {
        self.needed = None;
        self.granted_messages = self.received;
        self.granted_bytes = self.received_bytes.max(self.released_bytes);
        self.settle();
    }

    /// Bytes that are kept for this lane out of what all share.
    pub(crate) fn paid(&self) -> u64 {
        self.paid
    }

    /// Messages received.
    pub(crate) fn received_count(&self) -> u64 {
        self.received
    }

    /// Bytes received, as they are counted.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Whether news of what the handler takes could lead to a grant, or is waited for.
    pub(crate) fn wants_news(&self) -> bool {
        self.taken < self.received
            && (self.needed.is_some()
                || self.granted_messages - self.received < self.window_messages / 2
                || self.granted_bytes - self.received_bytes < self.window_bytes / 2)
    }

    /// Messages received that the handler hasn't taken.
    pub(crate) fn behind(&self) -> u64 {
        self.received - self.taken
    }

    /// Whether the sender doesn't know yet what was taken.
    pub(crate) fn has_news(&self) -> bool {
        self.told_taken < self.taken
    }

    /// What to grant: totals of messages and bytes, and how many messages were taken. `None`: nothing worth a frame,
    /// unless `even_so`. Waits for the budget if there's a need that it can't pay for.
    pub(crate) fn grant(&mut self, cx: &Context<'_>, even_so: bool) -> Option<(u64, u64, u64)> {
        let mut messages = self.granted_messages.max(self.taken + self.window_messages);
        let mut bytes = self.granted_bytes.max(self.released_bytes + self.window_bytes);
        bytes = bytes.max(self.needed_bytes());
        let worth = messages - self.granted_messages >= self.window_messages / 2
            || bytes - self.granted_bytes >= self.window_bytes / 2
            || (self.needed.is_some()
                && (messages > self.granted_messages || bytes > self.granted_bytes));
        if !worth && !even_so {
            return None;
        }
        let price = |bytes: u64| {
            (bytes - self.released_bytes).saturating_sub(INITIAL_BYTES).saturating_sub(self.paid)
        };
        if !self.budget.take_for_window(price(bytes)) {
            // Less than the window must do: at least what the message in line needs, else what is paid for anyway.
            let least = self.needed_bytes().max(self.granted_bytes);
            if self.budget.take_for_need(price(least)) {
                bytes = least;
            } else {
                self.budget.wait(cx);
                if !even_so {
                    return None;
                }
                bytes = self.granted_bytes;
                messages = self.granted_messages;
            }
        }
        let outstanding = (bytes - self.released_bytes).saturating_sub(INITIAL_BYTES);
        self.paid = self.paid.max(outstanding);
        if messages > self.received && bytes >= self.received_bytes + self.needed.unwrap_or(0) {
            self.needed = None;
        }
        self.granted_messages = messages;
        self.granted_bytes = bytes;
        self.told_taken = self.taken;
        Some((messages, bytes, self.taken))
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.budget.give_back(self.paid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn receive(credit: &mut Credit, count: u64, bytes: u64) {
        for _ in 0..count {
            credit.received(bytes).unwrap();
            credit.passed_on(bytes);
        }
    }

    #[test]
    fn whoever_sends_more_than_was_granted_is_found_out() {
        let mut credit = Credit::new(Budget::new(0, 0, None));
        receive(&mut credit, INITIAL_MESSAGES, 10);
        assert_eq!(credit.received(10), Err(FrameError::Overdrawn));
        let mut credit = Credit::new(Budget::new(0, 0, None));
        assert_eq!(credit.received(INITIAL_BYTES + 1), Err(FrameError::Overdrawn));
    }

    #[test]
    fn a_slow_actor_keeps_its_senders_waiting_and_a_quick_one_lets_the_window_grow() {
        let budget = Budget::new(1 << 30, 0, None);
        let mut credit = Credit::new(budget);
        let (messages, _, _) = credit.grant(&cx(), false).unwrap();
        assert_eq!(messages, WINDOW_MESSAGES.0);
        receive(&mut credit, messages, 10);
        credit.need(10);
        // Nothing taken: nothing is let through, however often the sender asks.
        assert_eq!(credit.grant(&cx(), false), None);
        credit.need(1 << 20);
        assert_eq!(credit.grant(&cx(), false), None);
        credit.taken_from_inlet(1);
        assert_eq!(credit.grant(&cx(), false).unwrap().0, messages + 1);
        receive(&mut credit, 1, 10);
        // All is taken: the window is what slows the sender, and grows, once for each time that it runs out.
        credit.need(10);
        credit.taken_from_inlet(messages + 1);
        credit.taken_from_inlet(messages + 1);
        assert_eq!(credit.grant(&cx(), false).unwrap().0, messages + 1 + 4 * WINDOW_MESSAGES.0);
    }

    #[test]
    fn what_a_sender_left_unused_goes_back_when_it_ends_its_stream() {
        let budget = Budget::new(4 << 20, 16 << 20, None);
        let mut credit = Credit::new(budget.clone());
        credit.need(16 << 20);
        assert!(credit.grant(&cx(), false).unwrap().1 >= 16 << 20);
        assert!(!budget.take_for_need(16 << 20));
        credit.finished();
        assert!(budget.take_for_need(20 << 20));
        budget.give_back(20 << 20);
    }

    #[test]
    fn a_message_that_went_no_further_counts_as_taken_in_its_turn() {
        let mut credit = Credit::new(Budget::new(1 << 30, 0, None));
        credit.received(10).unwrap();
        credit.passed_on(10);
        credit.received(20).unwrap();
        credit.dropped(20);
        credit.taken_from_inlet(0);
        assert_eq!(credit.behind(), 2);
        credit.taken_from_inlet(1);
        assert_eq!((credit.behind(), credit.released_bytes), (0, 30));
    }

    #[test]
    fn a_large_message_is_paid_for_and_its_price_comes_back() {
        let budget = Budget::new(4 << 20, 16 << 20, None);
        let mut one = Credit::new(budget.clone());
        let mut other = Credit::new(budget.clone());
        one.need(16 << 20);
        other.need(16 << 20);
        assert!(one.grant(&cx(), false).unwrap().1 >= 16 << 20);
        assert_eq!(other.grant(&cx(), false), None);
        one.received(16 << 20).unwrap();
        one.passed_on(16 << 20);
        one.taken_from_inlet(1);
        assert!(other.grant(&cx(), false).unwrap().1 >= 16 << 20);
        drop((one, other));
        assert!(budget.take_for_need(20 << 20));
    }

    #[test]
    fn what_was_taken_is_told_even_if_nothing_can_be_granted() {
        let mut credit = Credit::new(Budget::new(0, 0, None));
        receive(&mut credit, 3, 10);
        credit.taken_from_inlet(3);
        assert!(credit.has_news());
        assert_eq!(credit.grant(&cx(), true).map(|grant| grant.2), Some(3));
        assert!(!credit.has_news());
    }

    proptest::proptest! {
        #[test]
        fn the_budget_is_never_overdrawn_and_always_comes_back(steps in proptest::collection::vec((0u8..4, 0u64..(1 << 20)), 0..200)) {
            let budget = Budget::new(3 << 20, 1 << 20, None);
            let mut lanes = [Credit::new(budget.clone()), Credit::new(budget.clone())];
            let mut passed = [0u64; 2];
            for (step, size) in steps {
                let at = (size % 2) as usize;
                let lane = &mut lanes[at];
                match step {
                    0 if lane.received < lane.granted_messages && lane.received_bytes + size <= lane.granted_bytes => {
                        lane.received(size).unwrap();
                        lane.passed_on(size);
                        passed[at] += 1;
                    }
                    1 => lane.need(size),
                    2 => lane.taken_from_inlet(lane.inlet_taken + (passed[at] - lane.inlet_taken) / 2),
                    _ => drop(lane.grant(&cx(), size % 3 == 0)),
                }
                let outstanding: u64 = lanes.iter().map(|l| (l.granted_bytes - l.released_bytes).saturating_sub(INITIAL_BYTES)).sum();
                assert!(outstanding <= 4 << 20, "{outstanding}");
            }
            drop(lanes);
            assert!(budget.take_for_need(4 << 20));
        }
    }
}
