//! The sender's half of a lane in the hands of an arbitrary application and an arbitrary peer: an input is a list of things
//! that happen. Whatever they are, messages leave in the order in which they were submitted, none twice, and every ask ends
//! exactly once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::codec::frame::lane::{Forward, forward};
use crate::codec::frame::{FrameError, varint};
use crate::codec::payload::{Encoder, Payload};
use crate::ground::error::Fault;
use crate::net::outbound::core::{Core, Effects, Submitted, Understands, Want};
use crate::net::outbound::ticket::Ticket;
use crate::net::output::Output;

/// Beyond any body that is sent here.
const BODIES_LEN_MAX: u64 = 1 << 30;

/// As a peer of this version.
const UNDERSTANDS: Understands = Understands { cancels: true, envelopes: true };

pub(super) fn run(data: &[u8]) {
    let mut world = World {
        core: Core::new([1; 16], "p"),
        opening: false,
        stream: 0,
        known: 0,
        finished: false,
        next: 0,
        seen: None,
        open_asks: BTreeSet::new(),
        waiting: Vec::new(),
    };
    let mut bytes = data.iter().copied();
    while let Some(what) = bytes.next() {
        world.happens(what, bytes.next().unwrap_or(0));
    }
    world.change(|core, fx| core.shut_down(&Fault::ShutDown, fx));
    assert!(world.open_asks.is_empty(), "every ask ends: {:?}", world.open_asks);
}

struct World {
    core: Core<u64>,
    opening: bool,
    stream: u64,
    /// Message ids that the stream has introduced.
    known: usize,
    finished: bool,
    /// The number of the next message, which is its payload, and where its answer goes.
    next: u64,
    /// The number of the last message that left.
    seen: Option<u64>,
    open_asks: BTreeSet<u64>,
    waiting: Vec<(u64, Arc<Ticket>)>,
}

impl World {
    fn change<R>(&mut self, change: impl FnOnce(&mut Core<u64>, &mut Effects<u64>) -> R) -> R {
        let mut fx = Effects::default();
        let result = change(&mut self.core, &mut fx);
        for (slot, _) in fx.failed {
            assert!(self.open_asks.remove(&slot), "ask {slot} ends once");
        }
        assert!(!(fx.open && self.opening), "one stream is opened at a time");
        self.opening |= fx.open;
        result
    }

    fn happens(&mut self, what: u8, with: u8) {
        // Apart from the others, so that seeds go on meaning what they say.
        if what == 0xff {
            return self.change(|core, _| core.take_back(&Fault::ShutDown));
        }
        if what == 0xfe {
            let stream = self.stream;
            let outcome = self.change(|core, fx| core.withdrawn(stream, u64::from(with), fx));
            return self.judge(stream, outcome);
        }
        if what >= 0xf0 {
            let slot = self.change(|core, fx| core.cancel(u64::from(with), fx));
            assert!(slot.is_none_or(|slot| self.open_asks.remove(&slot)), "an ask ends once");
            return;
        }
        let (small, stream) = (u64::from(with), self.stream.saturating_sub(u64::from(with & 1)));
        match what % 18 {
            0 => self.submit(Want::Nothing, "tell", with, false),
            1 => self.submit(Want::Nothing, "tell", with, true),
            2 => self.submit(Want::Answer(self.next), "ask", with, false),
            3 => self.submit(Want::Answer(self.next), "other", with, true),
            4 => self.submit(Want::Flushed(self.next), "", 0, with & 1 == 1),
            5 if self.opening => {
                self.opening = false;
                self.stream = self.change(|core, fx| core.opened(UNDERSTANDS, fx));
                (self.known, self.finished) = (0, false);
            }
            6 if self.opening => {
                self.opening = false;
                self.change(|core, fx| core.open_failed(&Fault::Unreachable, fx));
            }
            7 | 8 => self.write(),
            9 => {
                let messages = small * 8;
                let taken = u64::from(with >> 4);
                let outcome = self.change(|core, fx| {
                    core.credit(stream, messages, small << (with % 24), taken, fx)
                });
                self.judge(stream, outcome);
            }
            10 => match self.core.answered(stream, small) {
                Ok(Some(slot)) => assert!(self.open_asks.remove(&slot), "ask {slot} ends once"),
                Ok(None) => {}
                Err(error) => self.judge(stream, Err(error)),
            },
            11 => self.change(|core, fx| core.accepted(stream, u64::MAX >> (with % 64), fx)),
            12 => self.change(|core, fx| core.refused(stream, &Fault::NoSuchActor, fx)),
            13 => self.change(Core::drain),
            14 => {
                let outcome = self.change(|core, fx| core.drained(stream, fx));
                self.judge(stream, outcome);
            }
            15 => {
                let outcome = if with & 2 == 0 { Ok(()) } else { Err(Fault::PeerGone) };
                self.change(|core, fx| core.ended(stream, outcome, fx));
            }
            16 if with & 1 == 0 => self.change(|core, fx| core.hold(with & 2 == 0, fx)),
            16 => self.change(|core, fx| core.fail_asks(&Fault::Unreachable, fx)),
            _ if !self.waiting.is_empty() => {
                let (number, ticket) =
                    self.waiting.swap_remove(usize::from(with) % self.waiting.len());
                // A sender that gives up before its message left gets no answer and wants none.
                let in_line = ticket.is_waiting();
                self.change(|core, fx| core.withdraw(&ticket, fx));
                if in_line {
                    self.open_asks.remove(&number);
                }
            }
            _ => {}
        }
    }

    fn submit(&mut self, want: Want<u64>, id: &'static str, size: u8, refuse_when_full: bool) {
        let number = self.next;
        self.next += 1;
        let is_ask = !matches!(want, Want::Nothing);
        let mut encoder = Encoder::new(1 << 20);
        // Every eighth is too large for the lane, and goes beside it.
        let filling = "x".repeat(usize::from(size) << (9 * usize::from(size % 8 == 7)));
        let encoded = encoder.encode(&(number, filling));
        assert!(encoded.is_ok());
        if is_ask {
            self.open_asks.insert(number);
        }
        match self.change(|core, fx| core.submit(0, want, id, &mut encoder, refuse_when_full, fx)) {
            Ok(Submitted::Waiting(ticket)) => self.waiting.push((number, ticket)),
            Ok(Submitted::Accepted) => {}
            Err(_) => assert!(!is_ask || self.open_asks.remove(&number)),
        }
    }

    /// The peer broke the protocol: its connection is closed.
    fn judge(&mut self, stream: u64, outcome: Result<(), FrameError>) {
        if outcome.is_err() {
            self.change(|core, fx| core.ended(stream, Err(Fault::PeerGone), fx));
        }
    }

    /// Writes what there is to write, and reads it as the peer would.
    fn write(&mut self) {
        loop {
            let cx = &mut Context::from_waker(Waker::noop());
            let (written, mut bodies) = match self.core.poll_output(self.stream, cx) {
                Poll::Ready(Output::Write { bytes, bodies }) => (bytes, bodies.into_iter()),
                Poll::Ready(Output::Finish) => {
                    assert!(!std::mem::replace(&mut self.finished, true), "it ends once");
                    return;
                }
                Poll::Ready(Output::Gone) | Poll::Pending => return,
            };
            assert!(!self.finished, "nothing follows the end");
            let mut rest = &written[..];
            while !rest.is_empty() {
                let (frame, after) = match varint::get(rest) {
                    Ok(Some((len, prefix))) => rest[prefix..].split_at(len as usize),
                    other => panic!("whole frames: {other:?}"),
                };
                rest = after;
                match forward(frame, self.known, BODIES_LEN_MAX) {
                    Ok(Forward::Message { id, beside, payload, .. }) => {
                        self.known += usize::from(id.is_some());
                        let group = beside.as_ref().and_then(|_| bodies.next());
                        let whole = group.as_ref().and_then(|group| group.bodies.last());
                        self.arrives(whole.map_or(payload, |whole| whole));
                    }
                    Ok(_) => {}
                    Err(error) => panic!("what is written can be read: {error}"),
                }
            }
            assert!(bodies.next().is_none(), "all bodies were announced");
        }
    }

    fn arrives(&mut self, payload: &[u8]) {
        let decoded = (Payload { bytes: payload, bodies: &[] }).decode::<(u64, String)>();
        let Ok((number, _)) = decoded else { panic!("payloads stay whole") };
        assert!(self.seen.is_none_or(|seen| seen < number), "in order, and none twice");
        self.seen = Some(number);
    }
}
