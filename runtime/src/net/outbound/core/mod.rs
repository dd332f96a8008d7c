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
//!
//! - [`line`]: messages on their way into the stream.
//! - `losses`: tells that may be lost, until a sender has been told.
//! - [`stream`]: the stream itself, from its opening to its end.
//! - [`asks`]: what was sent and isn't settled yet.
//! - [`leaving`]: its end with its mesh.
//! - [`effects`]: what goes in and out.

mod asks;
mod effects;
mod leaving;
mod line;
mod losses;
mod stream;

pub(crate) use effects::{Effects, Submitted, Understands, Want};
pub(crate) use leaving::Owed;

use crate::ground::error::Fault;
use crate::net::output::Bodies;
use asks::{Ask, Consecutive};
use line::Waiting;
use losses::Losses;
use std::collections::{HashMap, VecDeque};
use std::task::Waker;
use stream::{Drained, State, Stream};

/// The sender's half of a lane.
#[derive(Debug)]
pub(crate) struct Core<S> {
    object: [u8; 16],
    protocol: String,
    state: State,
    /// Number of the stream in use, or of the last one. Streams that were drained have lower numbers.
    stream_number: u64,
    stream: Stream,
    drained: Vec<Drained>,
    queue: VecDeque<Waiting<S>>,
    next_place: u64,
    asks: HashMap<u64, Ask<S>, Consecutive>,
    /// The number of the next ask or flush that is submitted.
    next_ask: u64,
    /// One more than the highest number that was written to a stream.
    asks_sent: u64,
    /// The most asks in flight since there were none.
    at_once: usize,
    out: Vec<u8>,
    out_hint: usize,
    out_bodies: Vec<Bodies>,
    writer: Option<Waker>,
    lost: Losses,
    /// Which publication of the object's name a ref was resolved to last.
    publication: Option<u64>,
    /// How often that has changed. A ref belongs to the era in which it was resolved, and to all later ones.
    era: u64,
    /// The largest message that the receiver takes; known once it accepted a stream.
    limit: u64,
    /// It counts no envelope apart.
    strict: bool,
    touched: bool,
    /// The peer is silent: nothing more is written to a stream that may be dead.
    held: bool,
    /// The mesh takes back what hasn't arrived.
    taking_back: bool,
    /// Tells that the receiver gave back.
    given_back: u64,
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
            stream: Stream::new((0, None)),
            drained: Vec::new(),
            queue: VecDeque::new(),
            next_place: 0,
            asks: HashMap::default(),
            next_ask: 0,
            asks_sent: 0,
            at_once: 0,
            out: Vec::new(),
            out_hint: 0,
            out_bodies: Vec::new(),
            writer: None,
            lost: Losses::default(),
            publication: None,
            era: 0,
            limit: u64::MAX,
            strict: false,
            touched: false,
            held: false,
            taking_back: false,
            given_back: 0,
            over: None,
        }
    }

    /// The peer fell silent, or answers again. While it is silent, what is submitted waits in line.
    pub(crate) fn hold(&mut self, held: bool, fx: &mut Effects<S>) {
        self.held = held;
        self.advance(fx);
    }

    /// The object's name was resolved, to this publication of it. Returns the era of the ref: what it sends goes to that
    /// publication or to a later one, and no loss of an earlier one's is told to it. `None`: the peer doesn't say.
    pub(crate) fn resolved(&mut self, publication: Option<u64>, fx: &mut Effects<S>) -> u64 {
        if publication.is_some() && publication != self.publication {
            self.publication = publication;
            self.era += 1;
            // It was opened before, perhaps to the actor that had the name then.
            self.drain(fx);
        }
        self.era
    }

    /// The era of refs that were not resolved by name.
    pub(crate) fn era(&self) -> u64 {
        self.era
    }

    /// Whether no stream is there yet, or again: nothing that is still under way has left this side.
    pub(crate) fn is_without_stream(&self) -> bool {
        matches!(self.state, State::Closed | State::Opening) && self.drained.is_empty()
    }

    /// Whether it was used since the last call of this.
    pub(crate) fn was_touched(&mut self) -> bool {
        std::mem::take(&mut self.touched)
    }

    /// Whether the next call is to hear of tells in doubt.
    pub(crate) fn owes_news(&self) -> bool {
        self.lost.concern(0)
    }

    /// Whether nothing at all is under way or in line.
    pub(crate) fn is_quiet(&self) -> bool {
        self.asks.is_empty()
            && self.queue.is_empty()
            && self.out.is_empty()
            && self.stream.early.is_empty()
            && self.given_back == 0
    }
}
