//! The end of a lane with its mesh: what it owes by then, and how it takes back what hasn't arrived.
//!
//! Who leaves says WITHDRAW to the peer. The receiver then passes on nothing more of any stream, and says of each how many of its
//! messages it has passed on: from then on both sides count alike. Only what was handed to QUIC, and of which the peer says nothing at
//! all, stays in doubt.

use super::stream::State;
use super::{Core, Effects};
use crate::codec::frame::FrameError;
use crate::ground::error::Fault;
use std::iter::Sum;
use std::ops::Add;

/// Tells that were accepted and aren't known to have arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Owed {
    /// Those that never left this side, or that the receiver has given back.
    pub(crate) lost: u64,
    /// Those that left, and of which the receiver hasn't said anything: each may have arrived or not.
    pub(crate) unconfirmed: u64,
}

impl Owed {
    pub(crate) fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl Add for Owed {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let lost = self.lost.saturating_add(other.lost);
        Self { lost, unconfirmed: self.unconfirmed.saturating_add(other.unconfirmed) }
    }
}

impl Sum for Owed {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

impl<S> Core<S> {
    /// Takes nothing new; what was taken before still leaves.
    pub(crate) fn refuse_new(&mut self, fault: &Fault) {
        self.over.get_or_insert_with(|| fault.clone());
    }

    /// Tells that were accepted and aren't known to have reached the other side's inlet. One whose sender waits to hear how it goes
    /// isn't among them.
    pub(crate) fn owed(&self) -> Owed {
        let in_line = self.queue.iter().filter(|waiting| waiting.is_accepted_tell()).count();
        let stream = &self.stream;
        let sent = stream.unconfirmed.tells().saturating_sub(stream.early.len() as u64);
        // Which of them are the early ones isn't known. So none that may have left counts as lost.
        let unconfirmed = sent.min(stream.unconfirmed.tells_until(stream.taken_by_writer));
        let lost = in_line as u64 + self.given_back + sent - unconfirmed;
        Owed { lost, unconfirmed }
    }

    /// Nothing that waits in line leaves any more. From now on the receiver may give back what it hasn't passed on; it is asked to
    /// over the link.
    pub(crate) fn take_back(&mut self, fault: &Fault) {
        self.refuse_new(fault);
        self.taking_back = true;
    }

    /// Whether the receiver has yet to say of some tell what became of it.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.is_open() && self.stream.unconfirmed.tells() > self.stream.early.len() as u64
    }

    /// The receiver has passed on the first `passed` messages of a stream, and drops the rest.
    ///
    /// # Errors
    /// [`FrameError::Unexpected`]: nothing is taken back, or more than was sent is said to have been passed on.
    pub(crate) fn withdrawn(
        &mut self,
        stream: u64,
        passed: u64,
        fx: &mut Effects<S>,
    ) -> Result<(), FrameError> {
        // A drained stream was passed on as a whole.
        let drained = self.drained.iter().any(|drained| drained.number == stream);
        if self.taking_back && drained {
            return Ok(());
        }
        let expected = self.taking_back && self.is_current(stream) && self.stream.accepted;
        if !expected || !self.stream.unconfirmed.confirm(passed) {
            return Err(FrameError::Unexpected("WITHDRAWN"));
        }
        self.given_back += self.stream.unconfirmed.tells();
        self.fail_asks_of(stream, &Fault::ShutDown, fx);
        self.state = State::Closed;
        self.stream = self.next_stream();
        self.out.clear();
        self.out_bodies.clear();
        fx.writer = self.writer.take().or(fx.writer.take());
        Ok(())
    }

    /// Ends everything, for good. Returns which tells were accepted and may not have arrived: those are not among the
    /// effects, for nobody can be told of them through this lane.
    pub(crate) fn shut_down(&mut self, fault: &Fault, fx: &mut Effects<S>) -> Owed {
        let (owed, lost) = (self.owed(), fx.lost);
        self.fail_asks(fault, fx);
        self.fail_queue(fault, fx);
        fx.lost = lost;
        for ticket in std::mem::take(&mut self.stream.early) {
            fx.wake.extend(ticket.decide(Err(fault.clone())));
        }
        self.state = State::Closed;
        self.stream = self.next_stream();
        // What they carried is in the receiver's inlet, and stays there when the link ends.
        self.drained.clear();
        self.given_back = 0;
        self.over = Some(fault.clone());
        fx.writer = self.writer.take().or(fx.writer.take());
        owed
    }
}
