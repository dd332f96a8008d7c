//! The stream that a lane has at a time: how it opens, gets credit, is drained and ends.

use super::{Core, Effects, Understands};
use crate::codec::frame::{FrameError, lane as frames};
use crate::codec::limits::{INITIAL_BYTES, INITIAL_MESSAGES};
use crate::ground::error::Fault;
use crate::net::outbound::ticket::Ticket;
use crate::net::outbound::unconfirmed::Unconfirmed;
use crate::net::output::Output;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Streams of one lane that have been drained and not ended yet, because what they carried is not answered: no more than a
/// peer allows streams on a few links.
const DRAINED_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// No stream.
    Closed,
    /// [`Effects::open`] was asked for.
    Opening,
    /// Messages flow.
    Open,
    /// The stream takes nothing new; waiting for the receiver to have all of it.
    Draining { finished: bool },
}

/// In which era of the lane a stream was opened, and to which publication of the name.
pub(super) type Opened = (u64, Option<u64>);

/// A stream that carries nothing new. Answers to what it carried are still on their way.
#[derive(Debug)]
pub(super) struct Drained {
    pub(super) number: u64,
    pub(super) unconfirmed: Unconfirmed,
    pub(super) opened_in: Opened,
}

/// What belongs to one stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) opened_in: Opened,
    /// The receiver has said that the object is there.
    pub(super) accepted: bool,
    pub(super) messages_max: u64,
    pub(super) bytes_max: u64,
    pub(super) bytes: u64,
    pub(super) unconfirmed: Unconfirmed,
    pub(super) numbers: Vec<&'static str>,
    pub(super) groups: u64,
    /// The bytes that NEED asked for, if no credit has come since.
    pub(super) asked_for: Option<u64>,
    /// How many messages the stream's writer has taken.
    pub(super) taken_by_writer: u64,
    /// What the other side understands.
    pub(super) understands: Understands,
    /// Tells sent before the receiver accepted the stream: their senders are told how it goes.
    pub(super) early: Vec<Arc<Ticket>>,
}

impl Stream {
    pub(super) fn new(opened_in: Opened) -> Self {
        Self {
            opened_in,
            accepted: false,
            messages_max: INITIAL_MESSAGES,
            bytes_max: INITIAL_BYTES,
            bytes: 0,
            unconfirmed: Unconfirmed::default(),
            numbers: Vec::new(),
            groups: 0,
            asked_for: None,
            taken_by_writer: 0,
            understands: Understands::default(),
            early: Vec::new(),
        }
    }

    /// The number under which the stream has introduced a message id.
    #[inline]
    pub(super) fn number(&self, id: &'static str) -> Option<usize> {
        self.numbers.iter().position(|known| std::ptr::eq(*known, id) || *known == id)
    }
}

impl<S> Core<S> {
    /// A stream is open, to a side that understands so much; returns its number. Its first bytes wait for the writer.
    pub(crate) fn opened(&mut self, understands: Understands, fx: &mut Effects<S>) -> u64 {
        self.held = false;
        self.stream_number += 1;
        self.state = State::Open;
        self.stream = Stream { understands, ..self.next_stream() };
        self.out.clear();
        self.out_bodies.clear();
        self.writer = None;
        frames::put_open(&mut self.out, &self.object, &self.protocol);
        self.advance(fx);
        self.stream_number
    }

    pub(super) fn next_stream(&self) -> Stream {
        Stream::new((self.era, self.publication))
    }

    /// No stream could be opened.
    pub(crate) fn open_failed(&mut self, fault: &Fault, fx: &mut Effects<S>) {
        if self.state == State::Opening {
            self.state = State::Closed;
            self.fail_queue(fault, fx);
        }
    }

    fn keep_writer(&mut self, cx: &Context<'_>) {
        match &mut self.writer {
            Some(waker) => waker.clone_from(cx.waker()),
            writer => *writer = Some(cx.waker().clone()),
        }
    }

    /// What the writer of a stream has to do. Stores its waker if there's nothing.
    pub(crate) fn poll_output(&mut self, stream: u64, cx: &mut Context<'_>) -> Poll<Output> {
        if stream != self.stream_number || matches!(self.state, State::Closed | State::Opening) {
            return Poll::Ready(Output::Gone);
        }
        if !self.out.is_empty() {
            self.out_hint = self.out.len().clamp(64, 64 * 1024);
            self.stream.taken_by_writer = self.stream.unconfirmed.sent_count();
            let bytes = std::mem::take(&mut self.out);
            return Poll::Ready(Output::Write {
                bytes,
                bodies: std::mem::take(&mut self.out_bodies),
            });
        }
        if let State::Draining { finished: finished @ false } = &mut self.state {
            *finished = true;
            return Poll::Ready(Output::Finish);
        }
        self.keep_writer(cx);
        Poll::Pending
    }

    /// The receiver accepted the stream.
    pub(crate) fn accepted(&mut self, stream: u64, limit: u64, fx: &mut Effects<S>) {
        if self.is_current(stream) {
            self.stream.accepted = true;
            (self.limit, self.strict) = (limit, !self.stream.understands.envelopes);
            for ticket in std::mem::take(&mut self.stream.early) {
                fx.wake.extend(ticket.decide(Ok(())));
            }
            self.advance(fx);
        }
    }

    /// The receiver refused the stream: at its start, and then nothing that was sent on it was handled, or later, when the
    /// right to the object was taken back, and then nothing more will be.
    pub(crate) fn refused(&mut self, stream: u64, fault: &Fault, fx: &mut Effects<S>) {
        if !self.is_current(stream) {
            if let Some(at) = self.drained.iter().position(|drained| drained.number == stream) {
                let drained = self.drained.swap_remove(at);
                self.fail_asks_of(stream, fault, fx);
                self.lose(drained.opened_in, drained.unconfirmed.tells(), fx);
            }
            return;
        }
        let early = std::mem::take(&mut self.stream.early);
        let told = early.len() as u64;
        for ticket in early {
            fx.wake.extend(ticket.decide(Err(fault.clone())));
        }
        self.fail_asks_of(stream, fault, fx);
        // Those who wait to be told were told; only tells that nobody waits for are in doubt.
        let in_doubt = self.stream.unconfirmed.tells().saturating_sub(told);
        self.lose(self.stream.opened_in, in_doubt, fx);
        self.state = State::Closed;
        self.stream = self.next_stream();
        fx.writer = self.writer.take().or(fx.writer.take());
        self.fail_queue(fault, fx);
    }

    /// The receiver granted credit and says what it took.
    ///
    /// # Errors
    /// [`FrameError::Unexpected`]: it claims to have taken more than was sent.
    pub(crate) fn credit(
        &mut self,
        stream: u64,
        messages: u64,
        bytes: u64,
        taken: u64,
        fx: &mut Effects<S>,
    ) -> Result<(), FrameError> {
        let unconfirmed = if self.is_current(stream) {
            self.stream.messages_max = self.stream.messages_max.max(messages);
            self.stream.bytes_max = self.stream.bytes_max.max(bytes);
            self.stream.asked_for = None;
            &mut self.stream.unconfirmed
        } else {
            match self.drained.iter_mut().find(|drained| drained.number == stream) {
                Some(drained) => &mut drained.unconfirmed,
                None => return Ok(()),
            }
        };
        if !unconfirmed.confirm(taken) {
            return Err(FrameError::Unexpected("taken"));
        }
        self.advance(fx);
        Ok(())
    }

    /// The receiver asks for the end of a stream.
    pub(crate) fn reclaimed(&mut self, stream: u64, fx: &mut Effects<S>) {
        if self.is_current(stream) {
            self.drain(fx);
        }
    }

    /// Ends the stream after what was written to it; later messages wait for the next one.
    pub(crate) fn drain(&mut self, fx: &mut Effects<S>) {
        if self.state == State::Open {
            self.state = State::Draining { finished: false };
            fx.writer = self.writer.take().or(fx.writer.take());
        }
    }

    /// The receiver has all of the stream in its inlet: the next one may open.
    ///
    /// # Errors
    /// [`FrameError::Unexpected`]: the stream was not ended by us, or too many are in that state.
    pub(crate) fn drained(&mut self, stream: u64, fx: &mut Effects<S>) -> Result<(), FrameError> {
        if stream != self.stream_number || self.state != (State::Draining { finished: true }) {
            return Err(FrameError::Unexpected("DRAINED"));
        }
        if self.drained.len() >= DRAINED_MAX {
            return Err(FrameError::Unexpected("so many drained streams without an end"));
        }
        let next = self.next_stream();
        let Stream { unconfirmed, opened_in, early, .. } =
            std::mem::replace(&mut self.stream, next);
        self.drained.push(Drained { number: stream, unconfirmed, opened_in });
        for ticket in early {
            fx.wake.extend(ticket.decide(Ok(())));
        }
        self.reopen(fx);
        Ok(())
    }

    fn reopen(&mut self, fx: &mut Effects<S>) {
        self.state = State::Closed;
        // The old stream's writer, if it still waits, finds that it is no longer wanted.
        fx.writer = self.writer.take().or(fx.writer.take());
        self.out.clear();
        self.out_bodies.clear();
        if !self.queue.is_empty() && !self.taking_back {
            self.state = State::Opening;
            fx.open = true;
        }
    }

    /// A stream has ended: `Ok` by the receiver after everything on it was taken and answered, else for this reason.
    pub(crate) fn ended(&mut self, stream: u64, outcome: Result<(), Fault>, fx: &mut Effects<S>) {
        let fault = outcome.as_ref().err().cloned().unwrap_or(Fault::NoReply);
        self.fail_asks_of(stream, &fault, fx);
        if let Some(at) = self.drained.iter().position(|drained| drained.number == stream) {
            let drained = self.drained.swap_remove(at);
            if outcome.is_err() {
                self.lose(drained.opened_in, drained.unconfirmed.tells(), fx);
            }
        }
        if stream != self.stream_number || matches!(self.state, State::Closed | State::Opening) {
            return;
        }
        let early = std::mem::take(&mut self.stream.early);
        let told = early.len() as u64;
        for ticket in early {
            fx.wake.extend(ticket.decide(Err(fault.clone())));
        }
        let in_doubt = self.stream.unconfirmed.tells().saturating_sub(told);
        self.lose(self.stream.opened_in, in_doubt, fx);
        self.stream = self.next_stream();
        self.reopen(fx);
    }

    /// Whether this is the stream in use: a drained one keeps its number until the next is open.
    pub(crate) fn is_current(&self, stream: u64) -> bool {
        stream == self.stream_number && self.is_open()
    }

    /// Whether a stream is in use.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::Draining { .. })
    }

    /// Whether this stream still takes words about what it carried.
    pub(super) fn takes_cancels(&self, stream: u64) -> bool {
        let goes_on = matches!(self.state, State::Open | State::Draining { finished: false });
        goes_on && stream == self.stream_number
    }

    /// Whether a stream is in use and takes new messages.
    pub(crate) fn is_flowing(&self) -> bool {
        self.state == State::Open
    }

    /// Messages that the stream in use has carried.
    pub(crate) fn sent_count(&self) -> u64 {
        self.stream.unconfirmed.sent_count()
    }

    /// Whether there's neither a stream nor a wish for one.
    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }
}
