//! Messages on their way into the stream: straight into its buffer, or into the queue until there is credit for them.

use super::asks::Ask;
use super::stream::State;
use super::{Core, Effects, Submitted, Want};
use crate::codec::frame::lane::{self as frames, Beside, MessageHeader};
use crate::codec::frame::{NUMBERS_MAX, PAYLOAD_INLINE_MAX};
use crate::codec::limits::{INITIAL_BYTES, INITIAL_MESSAGES};
use crate::codec::payload::{Encoder, Size};
use crate::ground::error::Fault;
use crate::net::outbound::ticket::Ticket;
use crate::net::output::Bodies;
use bytes::Bytes;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Waiting<S> {
    pub(super) place: u64,
    /// Of the ref that it came through.
    pub(super) era: u64,
    /// Its number, if it is an ask or a flush.
    pub(super) ask: u64,
    pub(super) ticket: Option<Arc<Ticket>>,
    pub(super) want: Want<S>,
    pub(super) id: &'static str,
    pub(super) size: Size,
    pub(super) payload: Vec<u8>,
    pub(super) bodies: Vec<Bytes>,
}

impl<S> Waiting<S> {
    /// Whether it is a tell whose sender was told that it is on its way. Who waits in line knows of it.
    pub(super) fn is_accepted_tell(&self) -> bool {
        matches!(self.want, Want::Nothing) && self.ticket.is_none()
    }
}

/// A message in hand.
struct Message<'a, S> {
    era: u64,
    ask: u64,
    want: Want<S>,
    id: &'static str,
    payload: &'a [u8],
    bodies: Vec<Bytes>,
}

impl<S> Core<S> {
    /// The short way of what most messages are while they stream: a small tell without bodies, within credit, of an id
    /// that the stream knows, behind others that its writer has yet to take. It has no effects. `false`: nothing was done,
    /// the message is one for [`Self::submit`].
    #[inline]
    pub(crate) fn append_tell(&mut self, era: u64, id: &'static str, payload: &[u8]) -> bool {
        let stream = &mut self.stream;
        let flows = self.state == State::Open
            && stream.accepted
            && !self.out.is_empty()
            && self.queue.is_empty()
            && !self.held
            && !self.lost.concern(era)
            && self.over.is_none();
        let fits = payload.len() <= PAYLOAD_INLINE_MAX
            && payload.len() as u64 <= self.limit
            && stream.unconfirmed.sent_count() < stream.messages_max;
        if !flows || !fits {
            return false;
        }
        let Some(number) = stream.number(id) else { return false };
        let room = stream.bytes_max.saturating_sub(stream.bytes);
        let Some(size) = frames::put_tell(&mut self.out, number, payload, room) else {
            return false;
        };
        stream.bytes += size;
        stream.unconfirmed.sent(true);
        self.touched = true;
        true
    }

    /// Takes a message's place in line. The encoder's bodies are taken out of it, its bytes are copied.
    ///
    /// # Errors
    /// [`Fault::LostTells`], [`Fault::TooLarge`], [`Fault::Full`]; nothing was taken then.
    pub(crate) fn submit(
        &mut self,
        era: u64,
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
        if self.lost.concern(era) {
            let at_most = self.lost.since(era);
            self.lost.told(era);
            return Err(Fault::LostTells { at_most });
        }
        let size = encoder.size();
        let (payload_len, total) = (size.payload, size.total());
        if size.is_refused(self.limit(), self.strict) {
            return Err(Fault::TooLarge { limit: self.limit });
        }
        // Now, in the order of the calls, which is also that in which they are written.
        let ask = self.next_ask;
        self.next_ask += u64::from(!matches!(want, Want::Nothing));
        let plain = payload_len <= PAYLOAD_INLINE_MAX && encoder.bodies().is_empty();
        if self.state == State::Open && self.queue.is_empty() && !self.held {
            let message = if plain {
                Message { era, ask, want, id, payload: encoder.bytes(), bodies: Vec::new() }
            } else if payload_len <= PAYLOAD_INLINE_MAX {
                let bodies = encoder.take_bodies();
                Message { era, ask, want, id, payload: encoder.bytes(), bodies }
            } else {
                let (payload, mut bodies) = encoder.take();
                bodies.push(payload.into());
                Message { era, ask, want, id, payload: &[], bodies }
            };
            let whole_beside = payload_len > PAYLOAD_INLINE_MAX;
            return match self.write(message, whole_beside, fx) {
                Ok(is_tell) => Ok(self.acceptance(is_tell, refuse_when_full)),
                Err(_) if refuse_when_full => Err(Fault::Full),
                Err(Message { want, id, payload, bodies, .. }) => {
                    let payload = payload.to_vec();
                    Ok(self.line_up(
                        era,
                        ask,
                        want,
                        id,
                        size,
                        payload,
                        bodies,
                        whole_beside,
                        true,
                        fx,
                    ))
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
        Ok(self.line_up(era, ask, want, id, size, payload, bodies, false, !refuse_when_full, fx))
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

    /// The largest message that the receiver takes.
    fn limit(&self) -> usize {
        usize::try_from(self.limit).unwrap_or(usize::MAX)
    }

    fn place(&mut self) -> u64 {
        self.next_place += 1;
        self.next_place
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one message")]
    fn line_up(
        &mut self,
        era: u64,
        ask: u64,
        want: Want<S>,
        id: &'static str,
        size: Size,
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
        let waiting =
            Waiting { place, era, ask, ticket: ticket.clone(), want, id, size, payload, bodies };
        self.queue.push_back(waiting);
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
        let (era, ask) = (message.era, message.ask);
        let was_empty = self.out.is_empty();
        let flush = matches!(message.want, Want::Flushed(_));
        let (is_tell, slot) = match message.want {
            Want::Flushed(slot) => {
                let size = frames::flush_size(message.ask) as u64;
                if stream.bytes + size > stream.bytes_max {
                    return Err(Message { want: Want::Flushed(slot), ..message });
                }
                stream.bytes += size;
                frames::put_flush(&mut self.out, message.ask);
                (false, Some(slot))
            }
            want => {
                let known = stream.number(message.id);
                let number = known.unwrap_or(stream.numbers.len());
                let beside = (!message.bodies.is_empty()).then(|| Beside {
                    lens: message.bodies.iter().map(|body| body.len() as u64).collect(),
                    payload: whole_beside,
                });
                let header = MessageHeader {
                    ask: matches!(want, Want::Answer(_)).then_some(message.ask),
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
            if self.asks.is_empty() {
                fx.expecting = true;
                fx.alone = std::mem::take(&mut self.at_once) <= 1;
            }
            let stream = self.stream_number;
            self.asks.insert(ask, Ask { slot, stream, message: number, flush, era });
            self.asks_sent = ask + 1;
            self.at_once = self.at_once.max(self.asks.len());
        }
        if was_empty {
            fx.writer = self.writer.take().or(fx.writer.take());
        }
        Ok(is_tell)
    }

    /// Moves messages from the queue into the buffer as far as credit goes, and asks for more if it doesn't go far enough.
    pub(super) fn advance(&mut self, fx: &mut Effects<S>) {
        if self.state != State::Open || self.held || self.taking_back {
            return;
        }
        while let Some(mut next) = self.queue.pop_front() {
            let total = next.size.total();
            if next.size.is_refused(self.limit(), self.strict) {
                self.fail(next, &Fault::TooLarge { limit: self.limit }, fx);
                continue;
            }
            let whole_beside = next.payload.len() > PAYLOAD_INLINE_MAX;
            if whole_beside {
                next.bodies.push(std::mem::take(&mut next.payload).into());
            }
            let Waiting { place, era, ask, ticket, want, id, size, payload, bodies } = next;
            let message = Message { era, ask, want, id, payload: &payload, bodies };
            match self.write(message, whole_beside, fx) {
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
                    let waiting =
                        Waiting { place, era, ask, ticket, want, id, size, payload, bodies };
                    self.queue.push_front(waiting);
                    self.ask_for_more(total as u64, fx);
                    return;
                }
            }
        }
    }

    fn ask_for_more(&mut self, head: u64, fx: &mut Effects<S>) {
        // Until the receiver has told its limit, nobody knows whether it would take a message so large. Asking again for no
        // more would be said in vain, however many senders in line give up one after the other.
        if !self.stream.accepted || self.stream.asked_for.is_some_and(|bytes| bytes >= head) {
            return;
        }
        self.stream.asked_for = Some(head);
        if self.out.is_empty() {
            fx.writer = self.writer.take().or(fx.writer.take());
        }
        // Generous by an id and a header.
        frames::put_need(&mut self.out, self.queue.len() as u64, head + 1024);
    }

    pub(super) fn fail(&mut self, waiting: Waiting<S>, fault: &Fault, fx: &mut Effects<S>) {
        match waiting.want {
            Want::Answer(slot) | Want::Flushed(slot) => fx.failed.push((slot, fault.clone())),
            Want::Nothing if waiting.ticket.is_none() => {
                self.lost.add(waiting.era, 1);
                fx.lost = fx.lost.saturating_add(1);
                fx.lost_by = self.publication;
            }
            Want::Nothing => {}
        }
        if let Some(ticket) = waiting.ticket {
            fx.wake.extend(ticket.decide(Err(fault.clone())));
        }
    }

    pub(super) fn fail_queue(&mut self, fault: &Fault, fx: &mut Effects<S>) {
        for waiting in std::mem::take(&mut self.queue) {
            self.fail(waiting, fault, fx);
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
                self.advance(fx);
            }
        }
    }
}
