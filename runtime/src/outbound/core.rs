//! The sender's half of a lane, without I/O.
//!
//! Messages leave in the order in which they were submitted, whatever happens: straight into the stream's buffer while
//! there is credit and nobody waits, else into a queue. Credit counts messages and bytes, both as totals since the stream
//! was opened, so that no grant can be counted twice.
//!
//! One stream at a time carries new messages. When it has to go (its link is being replaced, or it has been idle), it is
//! *drained*: nothing new enters it, it is ended, and only after the receiver has said that all of it reached the inlet
//! may the next stream open. Replies to what an older stream carried still arrive on that one.
//!
//! Contract: every method that takes [`Effects`] may add to them; carry them out after releasing the lane's lock.

use super::ticket::Ticket;
use super::unconfirmed::Unconfirmed;
use crate::error::Fault;
use crate::frame::lane::{self as frames, Beside, MessageHeader};
use crate::frame::{FrameError, NUMBERS_MAX, PAYLOAD_INLINE_MAX};
use crate::payload::Encoder;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// What a stream may carry before the receiver has granted anything, in messages and bytes, so that a first ask takes one
/// round trip. Part of the wire format. Guesses: a burst of small messages, or one payload of the largest size in the lane.
pub(crate) const INITIAL_MESSAGES: u64 = 64;
/// See [`INITIAL_MESSAGES`].
pub(crate) const INITIAL_BYTES: u64 = 128 * 1024;

/// Streams of one lane that have been drained and not ended yet, because what they carried is not answered: no more than a
/// peer allows streams on a few links.
const DRAINED_MAX: usize = 256;

/// What a message wants in return; `S` is where an answer goes.
#[derive(Debug)]
pub(crate) enum Want<S> {
    Nothing,
    Answer(S),
    Flushed(S),
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
    /// Open a stream (connecting first, if need be), then call [`Core::opened`] or [`Core::open_failed`].
    pub(crate) open: bool,
    /// The stream's writer, which has something to do.
    pub(crate) writer: Option<Waker>,
    /// Senders in line that can go on.
    pub(crate) wake: Vec<Waker>,
    /// Asks that failed.
    pub(crate) failed: Vec<(S, Fault)>,
    /// So many more tells are in doubt.
    pub(crate) lost: u64,
    /// Whether the lane went from "no asks in flight" to some.
    pub(crate) expecting: bool,
}

impl<S> Default for Effects<S> {
    fn default() -> Self {
        Self {
            open: false,
            writer: None,
            wake: Vec::new(),
            failed: Vec::new(),
            lost: 0,
            expecting: false,
        }
    }
}

/// What the stream's writer has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Write these bytes to the stream, and each group of bodies to a stream of its own.
    Write { bytes: Vec<u8>, bodies: Vec<Bodies> },
    /// End the stream; nothing more will come.
    Finish,
    /// The stream is no longer the lane's.
    Gone,
}

/// The bodies of one message; `group` numbers the messages of a stream that have bodies, from 0.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bodies {
    pub(crate) group: u64,
    pub(crate) bodies: Vec<Bytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No stream.
    Closed,
    /// [`Effects::open`] was asked for.
    Opening,
    /// Messages flow.
    Open,
    /// The stream takes nothing new; waiting for the receiver to have all of it.
    Draining { finished: bool },
}

/// What belongs to one stream.
#[derive(Debug)]
struct Stream {
    /// The receiver has said that the object is there.
    accepted: bool,
    messages_max: u64,
    bytes_max: u64,
    bytes: u64,
    unconfirmed: Unconfirmed,
    numbers: Vec<&'static str>,
    groups: u64,
    /// NEED was sent and no credit has come since.
    asked_for_more: bool,
    /// Tells sent before the receiver accepted the stream: their senders are told how it goes.
    early: Vec<Arc<Ticket>>,
}

impl Stream {
    fn new() -> Self {
        Self {
            accepted: false,
            messages_max: INITIAL_MESSAGES,
            bytes_max: INITIAL_BYTES,
            bytes: 0,
            unconfirmed: Unconfirmed::default(),
            numbers: Vec::new(),
            groups: 0,
            asked_for_more: false,
            early: Vec::new(),
        }
    }
}

/// Hashes the numbers of asks, which this side gives out one after the other, so that nobody can choose them.
type Consecutive = BuildHasherDefault<Spread>;

/// Spreads consecutive numbers over a table by a multiplication (Knuth's, by the golden ratio).
#[derive(Default)]
struct Spread(u64);

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
struct Ask<S> {
    slot: S,
    stream: u64,
    message: u64,
    flush: bool,
}

#[derive(Debug)]
struct Waiting<S> {
    place: u64,
    ticket: Option<Arc<Ticket>>,
    want: Want<S>,
    id: &'static str,
    payload: Vec<u8>,
    bodies: Vec<Bytes>,
}

/// A message in hand.
struct Message<'a, S> {
    want: Want<S>,
    id: &'static str,
    payload: &'a [u8],
    bodies: Vec<Bytes>,
}

/// The sender's half of a lane.
#[derive(Debug)]
pub(crate) struct Core<S> {
    object: [u8; 16],
    protocol: String,
    state: State,
    /// Number of the stream in use, or of the last one. Streams that were drained have lower numbers.
    stream_number: u64,
    stream: Stream,
    drained: Vec<(u64, Unconfirmed)>,
    queue: VecDeque<Waiting<S>>,
    next_place: u64,
    asks: HashMap<u64, Ask<S>, Consecutive>,
    next_ask: u64,
    out: Vec<u8>,
    out_hint: usize,
    out_bodies: Vec<Bodies>,
    writer: Option<Waker>,
    lost: u64,
    /// The largest message that the receiver takes; known once it accepted a stream.
    limit: u64,
    touched: bool,
    /// The peer is silent: nothing more is written to a stream that may be dead.
    held: bool,
    /// The mesh has ended.
    over: Option<Fault>,
}

impl<S> Core<S> {
    /// A lane to an object; no stream yet.
    pub(crate) fn new(object: [u8; 16], protocol: &str) -> Self {
        Self {
            object,
            protocol: protocol.to_owned(),
            state: State::Closed,
            stream_number: 0,
            stream: Stream::new(),
            drained: Vec::new(),
            queue: VecDeque::new(),
            next_place: 0,
            asks: HashMap::default(),
            next_ask: 0,
            out: Vec::new(),
            out_hint: 0,
            out_bodies: Vec::new(),
            writer: None,
            lost: 0,
            limit: u64::MAX,
            touched: false,
            held: false,
            over: None,
        }
    }

    /// Takes a message's place in line. The encoder's bodies are taken out of it, its bytes are copied.
    ///
    /// # Errors
    /// [`Fault::LostTells`], [`Fault::TooLarge`], [`Fault::Full`]; nothing was taken then.
    pub(crate) fn submit(
        &mut self,
        want: Want<S>,
        id: &'static str,
        encoder: &mut Encoder,
        refuse_when_full: bool,
        fx: &mut Effects<S>,
    ) -> Result<Submitted, Fault> {
        self.touched = true;
        if let Some(fault) = &self.over {
            return Err(fault.clone());
        }
        if self.lost > 0 {
            return Err(Fault::LostTells { at_most: std::mem::take(&mut self.lost) });
        }
        let payload_len = encoder.bytes().len();
        let total = payload_len + encoder.bodies().iter().map(Bytes::len).sum::<usize>();
        if total as u64 > self.limit {
            return Err(Fault::TooLarge { limit: self.limit });
        }
        let plain = payload_len <= PAYLOAD_INLINE_MAX && encoder.bodies().is_empty();
        if self.state == State::Open && self.queue.is_empty() && !self.held {
            let message = if plain {
                Message { want, id, payload: encoder.bytes(), bodies: Vec::new() }
            } else if payload_len <= PAYLOAD_INLINE_MAX {
                let bodies = encoder.take_bodies();
                Message { want, id, payload: encoder.bytes(), bodies }
            } else {
                let (payload, mut bodies) = encoder.take();
                bodies.push(payload.into());
                Message { want, id, payload: &[], bodies }
            };
            let whole_beside = payload_len > PAYLOAD_INLINE_MAX;
            return match self.write(message, whole_beside, fx) {
                Ok(is_tell) => Ok(self.acceptance(is_tell, refuse_when_full)),
                Err(_) if refuse_when_full => Err(Fault::Full),
                Err(Message { want, id, payload, bodies }) => {
                    let payload = payload.to_vec();
                    Ok(self.line_up(want, id, payload, bodies, whole_beside, true, fx))
                }
            };
        }
        if refuse_when_full {
            let starting = matches!(self.state, State::Closed | State::Opening);
            // Before there is a stream, as much is taken as one may carry at its start.
            if !starting
                || self.queue.len() as u64 >= INITIAL_MESSAGES
                || total as u64 > INITIAL_BYTES / 2
            {
                return Err(Fault::Full);
            }
        }
        let (payload, bodies) =
            if plain { (encoder.bytes().to_vec(), Vec::new()) } else { encoder.take() };
        Ok(self.line_up(want, id, payload, bodies, false, !refuse_when_full, fx))
    }

    /// What the sender of a message that is in the buffer now holds: until the receiver accepted the stream, a tell's
    /// sender waits, so that it learns at once that the object isn't there.
    fn acceptance(&mut self, is_tell: bool, no_waiting: bool) -> Submitted {
        if self.stream.accepted || !is_tell || no_waiting {
            return Submitted::Accepted;
        }
        let ticket = Arc::new(Ticket::new(self.place()));
        self.stream.early.push(ticket.clone());
        Submitted::Waiting(ticket)
    }

    fn place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one message")]
    fn line_up(
        &mut self,
        want: Want<S>,
        id: &'static str,
        mut payload: Vec<u8>,
        mut bodies: Vec<Bytes>,
        whole_beside: bool,
        may_wait: bool,
        fx: &mut Effects<S>,
    ) -> Submitted {
        if whole_beside && let Some(whole) = bodies.pop() {
            payload = whole.into();
        }
        let place = self.place();
        let ticket = may_wait.then(|| Arc::new(Ticket::new(place)));
        self.queue.push_back(Waiting { place, ticket: ticket.clone(), want, id, payload, bodies });
        match self.state {
            State::Closed => {
                self.state = State::Opening;
                fx.open = true;
            }
            State::Open => self.advance(fx),
            State::Opening | State::Draining { .. } => {}
        }
        ticket.map_or(Submitted::Accepted, Submitted::Waiting)
    }

    /// Puts a message into the buffer if there's credit for it; else gives it back. Says whether it was a tell.
    fn write<'a>(
        &mut self,
        message: Message<'a, S>,
        whole_beside: bool,
        fx: &mut Effects<S>,
    ) -> Result<bool, Message<'a, S>> {
        let stream = &mut self.stream;
        if stream.unconfirmed.sent_count() >= stream.messages_max {
            return Err(message);
        }
        let was_empty = self.out.is_empty();
        let flush = matches!(message.want, Want::Flushed(_));
        let (is_tell, slot) = match message.want {
            Want::Flushed(slot) => {
                let size = frames::flush_size(self.next_ask) as u64;
                if stream.bytes + size > stream.bytes_max {
                    return Err(Message { want: Want::Flushed(slot), ..message });
                }
                stream.bytes += size;
                frames::put_flush(&mut self.out, self.next_ask);
                (false, Some(slot))
            }
            want => {
                let known = stream
                    .numbers
                    .iter()
                    .position(|id| std::ptr::eq(*id, message.id) || *id == message.id);
                let number = known.unwrap_or(stream.numbers.len());
                let beside = (!message.bodies.is_empty()).then(|| Beside {
                    lens: message.bodies.iter().map(|body| body.len() as u64).collect(),
                    payload: whole_beside,
                });
                let header = MessageHeader {
                    ask: matches!(want, Want::Answer(_)).then_some(self.next_ask),
                    number,
                    id: known.is_none().then_some(message.id),
                    beside: beside.as_ref(),
                    payload_len: message.payload.len(),
                };
                let size = header.size();
                let charge = size as u64 + beside.as_ref().map_or(0, Beside::total);
                // More ids than a stream may introduce: a protocol that large never passes the derive's checks.
                if stream.bytes + charge > stream.bytes_max || number >= NUMBERS_MAX {
                    return Err(Message { want, ..message });
                }
                stream.bytes += charge;
                if was_empty {
                    self.out.reserve(self.out_hint.max(size));
                }
                header.put(&mut self.out);
                self.out.extend_from_slice(message.payload);
                if known.is_none() {
                    stream.numbers.push(message.id);
                }
                if beside.is_some() {
                    self.out_bodies.push(Bodies { group: stream.groups, bodies: message.bodies });
                    stream.groups += 1;
                }
                match want {
                    Want::Answer(slot) => (false, Some(slot)),
                    _ => (true, None),
                }
            }
        };
        let number = stream.unconfirmed.sent(is_tell);
        if let Some(slot) = slot {
            fx.expecting |= self.asks.is_empty();
            let stream = self.stream_number;
            self.asks.insert(self.next_ask, Ask { slot, stream, message: number, flush });
            self.next_ask += 1;
        }
        if was_empty {
            fx.writer = self.writer.take().or(fx.writer.take());
        }
        Ok(is_tell)
    }

    /// Moves messages from the queue into the buffer as far as credit goes, and asks for more if it doesn't go far enough.
    fn advance(&mut self, fx: &mut Effects<S>) {
        if self.state != State::Open || self.held {
            return;
        }
        while let Some(mut next) = self.queue.pop_front() {
            let total = next.payload.len() + next.bodies.iter().map(Bytes::len).sum::<usize>();
            if total as u64 > self.limit {
                self.fail(next, &Fault::TooLarge { limit: self.limit }, fx);
                continue;
            }
            let whole_beside = next.payload.len() > PAYLOAD_INLINE_MAX;
            if whole_beside {
                next.bodies.push(std::mem::take(&mut next.payload).into());
            }
            let Waiting { place, ticket, want, id, payload, bodies } = next;
            match self.write(Message { want, id, payload: &payload, bodies }, whole_beside, fx) {
                Ok(is_tell) => {
                    if let Some(ticket) = ticket {
                        if is_tell && !self.stream.accepted {
                            self.stream.early.push(ticket);
                        } else {
                            fx.wake.extend(ticket.decide(Ok(())));
                        }
                    }
                }
                Err(Message { want, mut bodies, .. }) => {
                    let payload = match bodies.pop() {
                        Some(whole) if whole_beside => whole.into(),
                        body => {
                            bodies.extend(body);
                            payload
                        }
                    };
                    self.queue.push_front(Waiting { place, ticket, want, id, payload, bodies });
                    self.ask_for_more(total as u64, fx);
                    return;
                }
            }
        }
    }

    fn ask_for_more(&mut self, head: u64, fx: &mut Effects<S>) {
        // Until the receiver has told its limit, nobody knows whether it would take a message so large.
        if !self.stream.accepted || std::mem::replace(&mut self.stream.asked_for_more, true) {
            return;
        }
        if self.out.is_empty() {
            fx.writer = self.writer.take().or(fx.writer.take());
        }
        // Generous by an id and a header.
        frames::put_need(&mut self.out, self.queue.len() as u64, head + 1024);
    }

    fn fail(&mut self, waiting: Waiting<S>, fault: &Fault, fx: &mut Effects<S>) {
        match waiting.want {
            Want::Answer(slot) | Want::Flushed(slot) => fx.failed.push((slot, fault.clone())),
            Want::Nothing if waiting.ticket.is_none() => {
                self.lost += 1;
                fx.lost += 1;
            }
            Want::Nothing => {}
        }
        if let Some(ticket) = waiting.ticket {
            fx.wake.extend(ticket.decide(Err(fault.clone())));
        }
    }

    /// A sender in line gave up.
    pub(crate) fn withdraw(&mut self, ticket: &Ticket, fx: &mut Effects<S>) {
        if !ticket.is_waiting() {
            return;
        }
        if let Ok(at) = self.queue.binary_search_by_key(&ticket.place, |waiting| waiting.place) {
            drop(self.queue.remove(at));
            if at == 0 {
                self.stream.asked_for_more = false;
                self.advance(fx);
            }
        }
    }

    /// A stream is open; returns its number. Its first bytes wait for the writer.
    pub(crate) fn opened(&mut self, fx: &mut Effects<S>) -> u64 {
        self.held = false;
        self.stream_number += 1;
        self.state = State::Open;
        self.stream = Stream::new();
        self.out.clear();
        self.out_bodies.clear();
        self.writer = None;
        frames::put_open(&mut self.out, &self.object, &self.protocol);
        self.advance(fx);
        self.stream_number
    }

    /// No stream could be opened.
    pub(crate) fn open_failed(&mut self, fault: &Fault, fx: &mut Effects<S>) {
        if self.state == State::Opening {
            self.state = State::Closed;
            self.fail_queue(fault, fx);
        }
    }

    fn fail_queue(&mut self, fault: &Fault, fx: &mut Effects<S>) {
        for waiting in std::mem::take(&mut self.queue) {
            self.fail(waiting, fault, fx);
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
            self.limit = limit;
            for ticket in std::mem::take(&mut self.stream.early) {
                fx.wake.extend(ticket.decide(Ok(())));
            }
            self.advance(fx);
        }
    }

    /// The receiver refused the stream: nothing that was sent on it was handled.
    pub(crate) fn refused(&mut self, stream: u64, fault: &Fault, fx: &mut Effects<S>) {
        if !self.is_current(stream) {
            return;
        }
        let early = std::mem::take(&mut self.stream.early);
        let told = early.len() as u64;
        for ticket in early {
            fx.wake.extend(ticket.decide(Err(fault.clone())));
        }
        self.fail_asks_of(stream, fault, fx);
        // Those who wait to be told were told; only tells that nobody waits for are in doubt.
        self.lose(self.stream.unconfirmed.tells().saturating_sub(told), fx);
        self.state = State::Closed;
        self.stream = Stream::new();
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
            self.stream.asked_for_more = false;
            &mut self.stream.unconfirmed
        } else {
            match self.drained.iter_mut().find(|(number, _)| *number == stream) {
                Some((_, unconfirmed)) => unconfirmed,
                None => return Ok(()),
            }
        };
        if !unconfirmed.confirm(taken) {
            return Err(FrameError::Unexpected("taken"));
        }
        self.advance(fx);
        Ok(())
    }

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
        if ask >= self.next_ask || self.asks.get(&ask).is_some_and(|asked| asked.stream != stream) {
            return Err(FrameError::Unexpected("answer"));
        }
        let unconfirmed = if self.is_current(stream) {
            Some(&mut self.stream.unconfirmed)
        } else {
            self.drained.iter_mut().find(|(number, _)| *number == stream).map(|(_, u)| u)
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

    /// Tells that reached the other side but no handler.
    pub(crate) fn undelivered(&mut self, tells: u64, fx: &mut Effects<S>) {
        self.lose(tells, fx);
    }

    fn lose(&mut self, tells: u64, fx: &mut Effects<S>) {
        if tells == 0 {
            return;
        }
        self.lost = self.lost.saturating_add(tells);
        fx.lost = fx.lost.saturating_add(tells);
        self.fail_flushes(fx);
    }

    /// A flush must not succeed when a message before it may be lost. If there is one, it is who is told.
    fn fail_flushes(&mut self, fx: &mut Effects<S>) {
        let fault = Fault::LostTells { at_most: self.lost };
        let mut flushes: Vec<u64> =
            self.asks.iter().filter(|(_, ask)| ask.flush).map(|(&ask, _)| ask).collect();
        flushes.sort_unstable();
        let mut told = !flushes.is_empty();
        for flush in flushes {
            fx.failed.extend(self.asks.remove(&flush).map(|ask| (ask.slot, fault.clone())));
        }
        for waiting in std::mem::take(&mut self.queue) {
            if matches!(waiting.want, Want::Flushed(_)) {
                told = true;
                self.fail(waiting, &fault, fx);
            } else {
                self.queue.push_back(waiting);
            }
        }
        if told {
            self.lost = 0;
        }
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
        let old = std::mem::replace(&mut self.stream, Stream::new());
        self.drained.push((stream, old.unconfirmed));
        for ticket in old.early {
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
        if !self.queue.is_empty() {
            self.state = State::Opening;
            fx.open = true;
        }
    }

    /// A stream has ended: `Ok` by the receiver after everything on it was taken and answered, else for this reason.
    pub(crate) fn ended(&mut self, stream: u64, outcome: Result<(), Fault>, fx: &mut Effects<S>) {
        let fault = outcome.as_ref().err().cloned().unwrap_or(Fault::NoReply);
        self.fail_asks_of(stream, &fault, fx);
        if let Some(at) = self.drained.iter().position(|(number, _)| *number == stream) {
            let (_, unconfirmed) = self.drained.swap_remove(at);
            if outcome.is_err() {
                self.lose(unconfirmed.tells(), fx);
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
        self.lose(self.stream.unconfirmed.tells().saturating_sub(told), fx);
        self.stream = Stream::new();
        self.reopen(fx);
    }

    fn fail_asks_of(&mut self, stream: u64, fault: &Fault, fx: &mut Effects<S>) {
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
        fx.failed.extend(asks.into_iter().map(|(_, ask)| (ask.slot, fault.clone())));
        for waiting in std::mem::take(&mut self.queue) {
            match waiting.want {
                Want::Nothing => self.queue.push_back(waiting),
                _ => self.fail(waiting, fault, fx),
            }
        }
    }

    /// The peer fell silent, or answers again. While it is silent, what is submitted waits in line.
    pub(crate) fn hold(&mut self, held: bool, fx: &mut Effects<S>) {
        self.held = held;
        self.advance(fx);
    }

    /// Ends everything, for good.
    pub(crate) fn shut_down(&mut self, fault: &Fault, fx: &mut Effects<S>) {
        self.fail_asks(fault, fx);
        self.fail_queue(fault, fx);
        for ticket in std::mem::take(&mut self.stream.early) {
            fx.wake.extend(ticket.decide(Err(fault.clone())));
        }
        self.state = State::Closed;
        self.over = Some(fault.clone());
        fx.writer = self.writer.take().or(fx.writer.take());
    }

    /// Drops what is kept for askers that gave up.
    pub(crate) fn forget_asks(&mut self, mut gave_up: impl FnMut(&S) -> bool) {
        self.asks.retain(|_, ask| !gave_up(&ask.slot));
    }

    /// Whether it was used since the last call of this.
    pub(crate) fn was_touched(&mut self) -> bool {
        std::mem::take(&mut self.touched)
    }

    /// Whether nothing at all is under way or in line.
    pub(crate) fn is_quiet(&self) -> bool {
        self.asks.is_empty()
            && self.queue.is_empty()
            && self.out.is_empty()
            && self.stream.early.is_empty()
    }

    /// Whether this is the stream in use: a drained one keeps its number until the next is open.
    fn is_current(&self, stream: u64) -> bool {
        stream == self.stream_number && self.is_open()
    }

    /// Whether a stream is in use.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::Draining { .. })
    }

    /// Whether a stream is in use and takes new messages.
    pub(crate) fn is_flowing(&self) -> bool {
        self.state == State::Open
    }

    /// Whether there's neither a stream nor a wish for one.
    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether asks are in flight.
    pub(crate) fn has_asks(&self) -> bool {
        !self.asks.is_empty()
    }
}
