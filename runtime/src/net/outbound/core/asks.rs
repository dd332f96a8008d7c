//! Asks and flushes in flight, and tells in doubt: how each of them ends.

use super::stream::Opened;
use super::{Core, Effects, Want};
use crate::codec::frame::{FrameError, lane as frames};
use crate::ground::error::Fault;
use crate::net::outbound::unconfirmed::Unconfirmed;
use std::hash::{BuildHasherDefault, Hasher};

/// Hashes the numbers of asks, which this side gives out one after the other, so that nobody can choose them.
pub(super) type Consecutive = BuildHasherDefault<Spread>;

/// Spreads consecutive numbers over a table by a multiplication (Knuth's, by the golden ratio).
#[derive(Default)]
pub(super) struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
pub(super) struct Ask<S> {
    pub(super) slot: S,
    pub(super) stream: u64,
    pub(super) message: u64,
    pub(super) flush: bool,
    /// Of the ref that it came through.
    pub(super) era: u64,
}

impl<S> Core<S> {
    /// Takes out whoever waits for the answer to an ask. `None`: it gave up.
    ///
    /// # Errors
    /// [`FrameError::Unexpected`]: there was never such an ask on this stream, or it has been answered.
    pub(crate) fn answered(&mut self, stream: u64, ask: u64) -> Result<Option<S>, FrameError> {
        let waited_for = self.arriving(stream, ask)?;
        Ok(if waited_for { self.arrived(ask) } else { None })
    }

    /// The answer to an ask begins to arrive beside the lane; [`Self::arrived`] is to follow. Until then the ask fails with
    /// its link, or by the peer's silence, as any other does. `false`: nobody waits for it.
    ///
    /// # Errors
    /// As [`Self::answered`].
    pub(crate) fn arriving(&mut self, stream: u64, ask: u64) -> Result<bool, FrameError> {
        if ask >= self.asks_sent || self.asks.get(&ask).is_some_and(|asked| asked.stream != stream)
        {
            return Err(FrameError::Unexpected("answer"));
        }
        let unconfirmed = if self.is_current(stream) {
            Some(&mut self.stream.unconfirmed)
        } else {
            self.drained.iter_mut().find(|d| d.number == stream).map(|d| &mut d.unconfirmed)
        };
        // As many answers as questions, also to those that gave up: else a peer could make us wait for bodies without end.
        if !unconfirmed.map_or(self.over.is_some(), Unconfirmed::answered) {
            return Err(FrameError::Unexpected("answer"));
        }
        let Some(message) = self.asks.get(&ask).map(|asked| asked.message) else {
            return Ok(false);
        };
        // Handlers take messages in order: what was sent before an ask that is answered has been taken too.
        if self.is_current(stream) {
            self.stream.unconfirmed.confirm(message);
        }
        Ok(true)
    }

    /// The answer is here, or will not come. `None`: nobody waits for it any more.
    pub(crate) fn arrived(&mut self, ask: u64) -> Option<S> {
        self.asks.remove(&ask).map(|asked| asked.slot)
    }

    /// Replaces the slot of an ask.
    pub(crate) fn replace<R>(&mut self, ask: u64, by: impl FnOnce(S) -> (S, R)) -> Option<R> {
        let mut asked = self.asks.remove(&ask)?;
        let result;
        (asked.slot, result) = by(asked.slot);
        self.asks.insert(ask, asked);
        Some(result)
    }

    /// Whether the answer to an ask is still waited for.
    pub(crate) fn is_awaited(&self, ask: u64) -> bool {
        self.asks.contains_key(&ask)
    }

    /// Tells that reached the other side on this stream but no handler.
    pub(crate) fn undelivered(&mut self, stream: u64, tells: u64, fx: &mut Effects<S>) {
        let carried = if self.is_current(stream) {
            self.stream.opened_in
        } else {
            let drained = self.drained.iter().find(|drained| drained.number == stream);
            drained.map_or(self.stream.opened_in, |drained| drained.opened_in)
        };
        self.lose(carried, tells, fx);
    }

    pub(super) fn lose(&mut self, (era, publication): Opened, tells: u64, fx: &mut Effects<S>) {
        if tells == 0 {
            return;
        }
        self.lost.add(era, tells);
        fx.lost = fx.lost.saturating_add(tells);
        fx.lost_by = publication;
        self.fail_flushes(fx);
    }

    /// A flush must not succeed when a message before it may be lost. If there is one, it is who is told.
    fn fail_flushes(&mut self, fx: &mut Effects<S>) {
        let fails = |core: &Self, era| core.lost.concern(era);
        let mut flushes: Vec<u64> = self
            .asks
            .iter()
            .filter(|(_, ask)| ask.flush && fails(self, ask.era))
            .map(|(&ask, _)| ask)
            .collect();
        flushes.sort_unstable();
        let mut told = None;
        for flush in flushes {
            let Some(ask) = self.asks.remove(&flush) else { continue };
            told = Some(told.map_or(ask.era, |era: u64| era.min(ask.era)));
            fx.failed.push((ask.slot, Fault::LostTells { at_most: self.lost.since(ask.era) }));
        }
        for waiting in std::mem::take(&mut self.queue) {
            let era = waiting.era;
            if matches!(waiting.want, Want::Flushed(_)) && fails(self, era) {
                told = Some(told.map_or(era, |told| told.min(era)));
                let fault = Fault::LostTells { at_most: self.lost.since(era) };
                self.fail(waiting, &fault, fx);
            } else {
                self.queue.push_back(waiting);
            }
        }
        if let Some(era) = told {
            self.lost.told(era);
        }
    }

    pub(super) fn fail_asks_of(&mut self, stream: u64, fault: &Fault, fx: &mut Effects<S>) {
        let mut lost: Vec<u64> =
            self.asks.iter().filter(|(_, ask)| ask.stream == stream).map(|(&ask, _)| ask).collect();
        // In the order in which they were asked, not in that of the table, which is another one in each run.
        lost.sort_unstable();
        for ask in lost {
            fx.failed.extend(self.asks.remove(&ask).map(|ask| (ask.slot, fault.clone())));
        }
    }

    /// Ends every ask, in flight or in line. The messages themselves stay where they are.
    pub(crate) fn fail_asks(&mut self, fault: &Fault, fx: &mut Effects<S>) {
        let mut asks: Vec<_> = self.asks.drain().collect();
        asks.sort_unstable_by_key(|(ask, _)| *ask);
        for (ask, asked) in asks {
            self.tell_cancelled(asked.stream, ask, fx);
            fx.failed.push((asked.slot, fault.clone()));
        }
        for waiting in std::mem::take(&mut self.queue) {
            match waiting.want {
                Want::Nothing => self.queue.push_back(waiting),
                _ => self.fail(waiting, fault, fx),
            }
        }
    }

    /// The number that the next ask or flush gets when it is submitted.
    pub(crate) fn next_ask(&self) -> u64 {
        self.next_ask
    }

    /// The asker of what was sent gave up. Nothing is kept for it any more, and the other side is told, if it understands
    /// that and the stream isn't ended yet. What is still in line is withdrawn by its ticket. Drop what is returned without
    /// the lane's lock.
    pub(crate) fn cancel(&mut self, ask: u64, fx: &mut Effects<S>) -> Option<S> {
        let asked = self.asks.remove(&ask)?;
        self.tell_cancelled(asked.stream, ask, fx);
        Some(asked.slot)
    }

    fn tell_cancelled(&mut self, stream: u64, ask: u64, fx: &mut Effects<S>) {
        if self.stream.understands.cancels && self.takes_cancels(stream) {
            if self.out.is_empty() {
                fx.writer = self.writer.take().or(fx.writer.take());
            }
            frames::put_cancel(&mut self.out, ask);
        }
    }

    /// Bytes of memory that it keeps for asks and what is to be written, capacities included.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        let asks = self.asks.capacity() * (size_of::<(u64, Ask<S>)>() + 1);
        asks + self.out.capacity() + self.queue.capacity() * size_of::<super::line::Waiting<S>>()
    }

    /// Whether asks are in flight.
    pub(crate) fn has_asks(&self) -> bool {
        !self.asks.is_empty()
    }
}
