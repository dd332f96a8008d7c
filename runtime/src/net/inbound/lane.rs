//! The task between a peer's lane and an object's inlet.
//!
//! The stream is always read, so that a slow actor holds up nothing but its own lane: what its inlet has no room for
//! waits here, undecoded, within the credit that was granted. What arrives together is decoded straight out of QUIC's
//! chunks and put into the inlet with one lock and one wake-up; a payload larger than a frame goes in as it came.

use super::budget::Budget;
use super::credit::Credit;
use super::held::{Fetched, Head, Held, Line, What};
use super::keeping::{Keeping, Verdict};
use super::replies::Replies;
use super::succession::Term;
use super::tenure::Tenure;
use crate::codec::frame::lane::{Backward, Beside, Forward, forward, usual_tell};
use crate::codec::frame::splitter::{Frames, Span, Splitter};
use crate::codec::frame::{FrameError, LANE_FRAME_MAX, NUMBERS_MAX, PAYLOAD_INLINE_MAX};
use crate::codec::limits::INITIAL_BYTES;
use crate::codec::payload::{ENVELOPE_MAX, Payload};
use crate::ground::error::Fault;
use crate::net::bodies::{BodyError, Meeting, receive};
use crate::net::output::Output;
use crate::net::refusals::Refusals;
use crate::net::stream::{CHUNKS, STREAM_GONE, Source, poll_read};
use crate::refs::binder::WeakBinder;
use crate::refs::caller::Caller;
use crate::refs::decode_scope::DecodeScope;
use crate::refs::exposed::{Exposed, Inbound};
use crate::refs::target::OwnedPayload;
use crate::refs::way_back::{RemoteReply, ReplyPort, WayBack};
use bytes::Bytes;
use quinn::{ReadError, RecvStream, WriteError};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;

/// How soon a sender hears what was taken when there's no other reason to tell it, so that little is in doubt when the
/// link is lost. A guess.
const NEWS_AFTER: Duration = Duration::from_millis(20);

/// Batches read before other tasks of the network's thread get their turn.
const BATCHES_MAX: usize = 8;

impl Source for Arc<Replies> {
    fn poll_output(&self, cx: &mut Context<'_>) -> Poll<Output> {
        Replies::poll_output(self, cx)
    }
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        Replies::poll_gone(self, cx)
    }
    fn written(&self, body_bytes: usize) {
        Replies::written(self, body_bytes);
    }
    fn refused(&self, why: &WriteError) {
        match why {
            WriteError::Stopped(_) => self.refuse(),
            _ => self.close(),
        }
    }
}

/// Why a lane ended otherwise than well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaneError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("{0}")]
    Body(String),
    #[error("the peer has opened the next lane to the object")]
    Succeeded,
    #[error("the peer takes no answers, or is gone and has left too much behind")]
    Unheard,
    #[error("the peer kept memory that others wait for, and sent nothing")]
    Idle,
}

impl From<BodyError> for LaneError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Frame(error) => Self::Frame(error),
            gone @ BodyError::Gone(_) => Self::Body(gone.to_string()),
        }
    }
}

/// What a lane needs of its surroundings.
pub(crate) struct Setting {
    pub(crate) caller: Caller,
    pub(crate) object: Arc<dyn Exposed>,
    pub(crate) term: Term,
    /// Of a lane by a published name.
    pub(crate) tenure: Option<Tenure>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) meeting: Arc<Meeting>,
    pub(crate) replies: Arc<Replies>,
    pub(crate) refusals: Arc<Refusals>,
    /// The largest message with its bodies.
    pub(crate) message_max: u64,
    /// The id of the lane's stream.
    pub(crate) lane: u64,
    pub(crate) recv: RecvStream,
    /// What was read behind the first frame.
    pub(crate) splitter: Splitter,
    pub(crate) frames: Frames,
}

/// A message that is here as a whole.
enum Arrived<'a> {
    /// Of the size of a lane's frames: decoded here.
    Small(Payload<'a>),
    /// To be decoded by the actor that it is for: meanwhile others' messages would wait.
    Large(OwnedPayload),
}

/// Asks that wait here when the lane ends are none that an actor has.
impl Drop for InLane {
    fn drop(&mut self) {
        let asks = self.held.asks();
        if asks > 0 {
            self.replies.close_and_drop(asks);
        }
    }
}

/// The receiver's half of a lane.
pub(crate) struct InLane {
    caller: Caller,
    object: Arc<dyn Exposed>,
    /// Until everything has been passed on.
    term: Option<Term>,
    tenure: Option<Tenure>,
    inbound: Box<dyn Inbound>,
    /// What `inbound` decodes for.
    binder: WeakBinder,
    meeting: Arc<Meeting>,
    replies: Arc<Replies>,
    refusals: Arc<Refusals>,
    port: Arc<dyn ReplyPort>,
    message_max: u64,
    lane: u64,
    recv: RecvStream,
    splitter: Splitter,
    frames: Frames,
    chunks: Box<[Bytes; CHUNKS]>,
    budget: Arc<Budget>,
    credit: Credit,
    /// Index in the protocol of each message id that the lane introduced; `None`: unknown.
    numbers: Vec<Option<u16>>,
    groups: u64,
    held: Line,
    /// Places in the inlet for messages being staged.
    places: u32,
    /// The inlet was asked for places, and will grant them in turn.
    in_line: bool,
    /// The actor has ended: what is staged is refused.
    ended: bool,
    staged: bool,
    undelivered: (u64, Fault),
    finished_reading: bool,
    drained: bool,
    news_at: Option<Pin<Box<tokio::time::Sleep>>>,
    keeping: Keeping,
    /// The inlet's next progress is worth a timer.
    listening: bool,
}

impl InLane {
    pub(crate) fn new(setting: Setting) -> Self {
        let Setting {
            caller,
            object,
            term,
            tenure,
            budget,
            meeting,
            replies,
            refusals,
            message_max,
            lane,
            recv,
            splitter,
            frames,
        } = setting;
        let mut inbound = object.inbound();
        inbound.set_port(replies.clone());
        Self {
            caller,
            binder: inbound.binder(),
            inbound,
            object,
            term: Some(term),
            tenure,
            meeting,
            port: replies.clone(),
            replies,
            refusals,
            message_max,
            lane,
            recv,
            splitter,
            frames,
            chunks: Box::new([const { Bytes::new() }; CHUNKS]),
            credit: Credit::new(budget.clone()),
            budget,
            numbers: Vec::new(),
            groups: 0,
            held: Line::default(),
            places: 0,
            in_line: false,
            ended: false,
            staged: false,
            undelivered: (0, Fault::NoReply),
            finished_reading: false,
            drained: false,
            news_at: None,
            keeping: Keeping::default(),
            listening: false,
        }
    }

    /// Runs the lane to its end.
    pub(crate) async fn run(mut self) -> Result<(), LaneError> {
        self.replies.send(&Backward::Opened { limit: self.message_max });
        let mut is_known = false;
        let outcome = std::future::poll_fn(|cx| {
            if !std::mem::replace(&mut is_known, true) {
                self.replies.set_reader(cx.waker());
            }
            self.poll(cx)
        });
        let outcome = outcome.await;
        self.meeting.lane_ended(self.lane);
        if outcome.is_err() {
            self.replies.close();
        }
        outcome
    }

    /// The most that may travel beside one message: its content, and its envelope where that doesn't fit into the frame.
    fn beside_max(&self) -> u64 {
        self.message_max + ENVELOPE_MAX as u64
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LaneError>> {
        if self.term.as_ref().is_some_and(|term| term.is_over(cx)) {
            return Poll::Ready(Err(LaneError::Succeeded));
        }
        if self.replies.is_unheard() {
            return Poll::Ready(Err(LaneError::Unheard));
        }
        if self.tenure.as_ref().is_some_and(|tenure| tenure.is_over(cx)) {
            self.refuse_all(cx);
            return Poll::Ready(Ok(()));
        }
        // What came together with the first frame.
        if !self.frames.spans().is_empty() {
            self.take_frames(cx)?;
        }
        for batch in 0.. {
            if self.finished_reading {
                break;
            }
            if batch == BATCHES_MAX {
                cx.waker().wake_by_ref();
                break;
            }
            match poll_read(&mut self.recv, &mut self.chunks[..], cx)? {
                Poll::Pending => break,
                Poll::Ready(0) => {
                    self.splitter.end()?;
                    self.finished_reading = true;
                    self.credit.finished();
                }
                Poll::Ready(count) => {
                    for chunk in &mut self.chunks[..count] {
                        self.splitter.push(std::mem::take(chunk), &mut self.frames)?;
                    }
                    self.take_frames(cx)?;
                }
            }
        }
        // After reading, so that bodies that were announced just now are waited for too.
        self.pass_on_held(cx)?;
        if self.replies.is_unheard() {
            return Poll::Ready(Err(LaneError::Unheard));
        }
        self.tell_news(cx);
        let missing = || self.held.is_incomplete();
        let finished = self.finished_reading;
        match self.keeping.poll(cx, &self.credit, &self.budget, finished, missing) {
            Verdict::Keep => {}
            Verdict::Reclaim => self.replies.send(&Backward::Reclaim),
            Verdict::End => return Poll::Ready(Err(LaneError::Idle)),
        }
        if self.finished_reading && self.held.is_empty() {
            if !std::mem::replace(&mut self.drained, true) {
                self.term = None;
                self.replies.asker_ended();
                self.replies.send(&Backward::Drained);
            }
            // Well ended only when all of it was taken and answered.
            if self.credit.behind() == 0 && self.replies.poll_all_answered(cx).is_ready() {
                self.replies.finish();
                return Poll::Ready(Ok(()));
            }
        }
        // What was here by now, and had room, has been passed on.
        if self.replies.is_withdrawn() && !self.drained {
            self.give_back(cx);
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    }

    /// The sender has lost its right: of what it sent nothing more is handled, and nothing more is answered.
    fn refuse_all(&mut self, cx: &mut Context<'_>) {
        if self.credit.behind() > 0 {
            self.inbound.refuse_untaken();
        }
        self.learn_taken(cx);
        // What was handled isn't told as lost.
        if self.credit.has_news()
            && let Some((messages, bytes, taken)) = self.credit.grant(cx, true)
        {
            self.replies.send(&Backward::Credit { messages, bytes, taken });
        }
        self.replies.end_with(&Backward::Refused(Fault::NoSuchActor));
        let _ = self.recv.stop(STREAM_GONE);
    }

    /// The sender leaves, and takes back what hasn't been passed on.
    fn give_back(&mut self, cx: &mut Context<'_>) {
        // Before the last frame: what the actor had refused.
        self.learn_taken(cx);
        let passed = self.credit.received_count() - self.held.len() as u64;
        self.replies.end_with(&Backward::Withdrawn { passed });
        let _ = self.recv.stop(STREAM_GONE);
    }

    fn take_frames(&mut self, cx: &mut Context<'_>) -> Result<(), LaneError> {
        let mut frames = std::mem::take(&mut self.frames);
        let count = frames.spans().len();
        let mut binder = std::mem::take(&mut self.binder);
        let outcome = {
            let _scope = DecodeScope::enter(&mut binder, self.caller.peer());
            (0..count).try_for_each(|at| {
                let left = u32::try_from(count - at).unwrap_or(u32::MAX);
                self.take_frame(&frames, frames.spans()[at], left, cx)
            })
        };
        self.binder = binder;
        frames.clear();
        self.frames = frames;
        self.commit();
        outcome
    }

    /// One frame. `left` counts it and those behind it in this batch.
    #[inline]
    fn take_frame(
        &mut self,
        frames: &Frames,
        span: Span,
        left: u32,
        cx: &mut Context<'_>,
    ) -> Result<(), LaneError> {
        let mut charge = span.size as u64;
        let frame = frames.get(span);
        // What most frames are, without all that a frame can be being passed around.
        if let Some((number, payload)) = usual_tell(frame, self.numbers.len())
            && self.places > 0
            && self.held.is_empty()
            && let Some(&Some(index)) = self.numbers.get(number)
        {
            self.credit.received(charge)?;
            let payload = Payload { bytes: payload, bodies: &[] };
            match self.inbound.stage(index, payload, self.caller, None) {
                Ok(()) => self.staged_one(charge),
                Err((error, _)) => {
                    self.failed(charge, Some(index), None, Fault::BadPayload(error.to_string()));
                }
            }
            return Ok(());
        }
        let (what, beside, payload) =
            match forward(frame, self.numbers.len(), self.beside_max().max(INITIAL_BYTES))? {
                Forward::Open { .. } => return Err(FrameError::Unexpected("OPEN").into()),
                Forward::Need { bytes, .. } => {
                    self.learn_taken(cx);
                    // A sender that doesn't know our limit yet may ask for more, and will find out.
                    self.credit.need(bytes.min(self.beside_max() + LANE_FRAME_MAX as u64));
                    return Ok(());
                }
                Forward::Cancel { ask } => {
                    let held = self.held.cancel(ask);
                    return Ok(self.replies.cancel(ask, held)?);
                }
                Forward::Flush { ask } => {
                    // First: an ask beyond its credit must not be counted as one that somebody has.
                    self.credit.received(charge)?;
                    self.replies.expect(ask)?;
                    (What::Flush { ask }, None, &[][..])
                }
                Forward::Message { ask, number, id, beside, payload } => {
                    if let Some(id) = id {
                        if self.numbers.len() >= NUMBERS_MAX {
                            return Err(FrameError::Unexpected("so many message ids").into());
                        }
                        let index = self.object.message_index(id);
                        if index.is_none() {
                            self.refusals.unknown_message(self.caller.peer(), &*self.object, id);
                        }
                        self.numbers.push(index);
                    }
                    charge += beside.as_ref().map_or(0, Beside::total);
                    self.credit.received(charge)?;
                    if let Some(ask) = ask {
                        self.replies.expect(ask)?;
                    }
                    (
                        What::Message { ask, index: self.numbers.get(number).copied().flatten() },
                        beside,
                        payload,
                    )
                }
            };
        let head = Head { what, charge };
        if self.held.is_empty() && beside.is_none() && self.place(left, cx) {
            self.stage(head, Arrived::Small(Payload { bytes: payload, bodies: &[] }));
            return Ok(());
        }
        // To be decoded later: the payload, not the frame, is kept.
        let start = span.end - payload.len();
        let payload = frames.keep(Span { start, ..span });
        let beside = beside.map(|beside| self.fetch(beside));
        self.held.push(head, payload, beside);
        Ok(())
    }

    /// Starts to receive bodies that were announced, however many messages are before theirs.
    fn fetch(&mut self, beside: Beside) -> Fetched {
        let (mut done, coming) = oneshot::channel();
        let (meeting, lane, group) = (self.meeting.clone(), self.lane, self.groups);
        let progress = self.keeping.body_bytes.clone();
        self.groups += 1;
        drop(tokio::spawn(async move {
            let received = async {
                let mut stream = meeting.stream(lane, group).await?;
                receive(&mut stream, &beside.lens, |bytes| {
                    progress.fetch_add(bytes as u64, Ordering::Relaxed);
                })
                .await
            };
            let received = tokio::select! {
                // In this order: the stream of bodies that were announced is asked for, so that it isn't kept when it comes.
                biased;
                received = received => received,
                // Its asker gave up: the stream is stopped by being dropped.
                () = done.closed() => return,
            };
            let _ = done.send(received);
        }));
        Fetched { coming, payload_is_last: beside.payload }
    }

    /// Whether there's room in the inlet for one more message; asks for `want` places if there's none in hand.
    fn place(&mut self, want: u32, cx: &mut Context<'_>) -> bool {
        if self.places == 0 && !self.ended {
            if self.replies.poll_room(self.held.asks(), cx).is_pending() {
                return false;
            }
            // Places that are not used go back with the commit; what was staged must be in the queue before more is asked.
            self.commit();
            let reserved = self.inbound.poll_reserve(cx, want);
            self.in_line = reserved.is_pending();
            match reserved {
                Poll::Pending => return false,
                Poll::Ready(0) => {
                    self.ended = true;
                    // The next stream is refused for what is true then; another actor may have the name by that time.
                    self.replies.send(&Backward::Reclaim);
                }
                Poll::Ready(places) => self.places = places,
            }
        }
        true
    }

    fn stage(&mut self, head: Head, arrived: Arrived<'_>) {
        let Head { what, charge } = head;
        let failed = match what {
            What::Cancelled => return self.credit.dropped(charge),
            What::Flush { ask } => {
                self.inbound.stage_flush(RemoteReply::new(self.port.clone(), ask));
                None
            }
            What::Message { ask, index: None } => Some((
                ask.map(|ask| RemoteReply::new(self.port.clone(), ask)),
                Fault::UnknownMessage,
            )),
            What::Message { ask: None, index: Some(_) } if self.ended => {
                Some((None, Fault::Stopped))
            }
            What::Message { ask, index: Some(index) } => {
                let reply = ask.map(|ask| RemoteReply::new(self.port.clone(), ask));
                let staged = match arrived {
                    Arrived::Small(payload) => {
                        self.inbound.stage(index, payload, self.caller, reply)
                    }
                    Arrived::Large(payload) => {
                        let tell = || WayBack::Tell(self.port.clone());
                        let way_back = reply.map_or_else(tell, WayBack::Ask);
                        self.inbound
                            .stage_large(index, payload, self.caller, way_back)
                            .map_err(|(error, way_back)| (error, way_back.reply()))
                    }
                };
                staged.err().map(|(error, reply)| (reply, Fault::BadPayload(error.to_string())))
            }
        };
        match failed {
            None => self.staged_one(charge),
            Some((reply, fault)) => {
                let What::Message { index, .. } = what else { return };
                self.failed(charge, index, reply, fault);
            }
        }
    }

    #[inline]
    fn staged_one(&mut self, charge: u64) {
        self.places = self.places.saturating_sub(1);
        self.staged = true;
        self.credit.passed_on(charge);
    }

    fn failed(
        &mut self,
        charge: u64,
        index: Option<u16>,
        reply: Option<RemoteReply>,
        fault: Fault,
    ) {
        self.refusals.message_failed(self.caller.peer(), &*self.object, index, &fault);
        self.credit.dropped(charge);
        match reply {
            Some(reply) => reply.fault(fault),
            None => self.undelivered = (self.undelivered.0 + 1, fault),
        }
    }

    fn pass_on_held(&mut self, cx: &mut Context<'_>) -> Result<(), LaneError> {
        let was_in_line = std::mem::take(&mut self.in_line);
        if !self.held.is_empty() {
            let mut binder = std::mem::take(&mut self.binder);
            let outcome = {
                let _scope = DecodeScope::enter(&mut binder, self.caller.peer());
                self.stage_held(cx)
            };
            self.binder = binder;
            outcome?;
        }
        self.commit();
        if was_in_line && !self.in_line {
            // The first message can't go on now, or has gone: what was granted for it meanwhile is for others.
            self.inbound.withdraw();
        }
        Ok(())
    }

    fn stage_held(&mut self, cx: &mut Context<'_>) -> Result<(), LaneError> {
        loop {
            let asks = self.held.asks();
            let Some(held) = self.held.front_mut() else { break };
            if matches!(held.head.what, What::Cancelled) {
                // Its turn costs no place, but lets the sender send more, which it must not be if it reads no answers.
                if self.replies.poll_room(asks, cx).is_pending() {
                    break;
                }
                let charge = held.head.charge;
                self.held.pop_front();
                self.credit.dropped(charge);
                continue;
            }
            let mut bodies = Vec::new();
            let mut payload_is_last = false;
            if let Some(beside) = &mut held.beside {
                match Pin::new(&mut beside.coming).poll(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Err(_)) => {
                        return Err(LaneError::Body("the bodies were given up".into()));
                    }
                    Poll::Ready(Ok(received)) => {
                        bodies = received?;
                        payload_is_last = beside.payload_is_last;
                    }
                }
                held.beside = None;
            }
            if payload_is_last && let Some(whole) = bodies.pop() {
                held.payload = whole;
            }
            // Counted when places are asked for, not for each message that has one.
            let want = if self.places == 0 { self.held.ready_to_go() } else { 1 };
            if !self.place(want, cx) {
                // The bodies are here; they wait with their message.
                if !bodies.is_empty()
                    && let Some(held) = self.held.front_mut()
                {
                    let (done, coming) = oneshot::channel();
                    let _ = done.send(Ok(bodies));
                    held.beside = Some(Fetched { coming, payload_is_last: false });
                }
                break;
            }
            if let Some(Held { head, payload, .. }) = self.held.pop_front() {
                self.stage(
                    head,
                    if payload.len() > PAYLOAD_INLINE_MAX {
                        Arrived::Large(OwnedPayload { bytes: payload, bodies, _place: None })
                    } else {
                        Arrived::Small(Payload { bytes: &payload, bodies: &bodies })
                    },
                );
            }
        }
        Ok(())
    }

    fn commit(&mut self) {
        // First, so that no flush behind it is answered before its sender knows.
        if self.undelivered.0 > 0 {
            let (tells, fault) = std::mem::replace(&mut self.undelivered, (0, Fault::NoReply));
            self.replies.send(&Backward::Undelivered { tells, fault });
        }
        if std::mem::take(&mut self.staged) || self.places > 0 {
            self.inbound.commit();
            self.places = 0;
        }
    }

    fn learn_taken(&mut self, cx: &mut Context<'_>) {
        let taken = self.inbound.poll_taken(cx);
        self.credit.taken_from_inlet(taken);
        // Before the credit that counts them as taken.
        let tells = self.inbound.take_refused_tells();
        if tells > 0 {
            self.replies.send(&Backward::Undelivered { tells, fault: Fault::Stopped });
        }
    }

    /// Grants credit when that is worth a frame, and tells after a while what was taken even if it isn't.
    fn tell_news(&mut self, cx: &mut Context<'_>) {
        let closing = self.finished_reading && self.held.is_empty();
        if self.credit.wants_news() || (closing && self.credit.behind() > 0) {
            self.learn_taken(cx);
        }
        if let Some((messages, bytes, taken)) = self.credit.grant(cx, false) {
            self.replies.send(&Backward::Credit { messages, bytes, taken });
            self.news_at = None;
        }
        if self.listening {
            self.learn_taken(cx);
            self.listening = !self.credit.has_news();
        }
        if self.news_at.is_none()
            && !self.listening
            && (self.credit.behind() > 0 || self.credit.has_news())
        {
            self.news_at = Some(Box::pin(tokio::time::sleep(NEWS_AFTER)));
        }
        while let Some(timer) = &mut self.news_at {
            if timer.as_mut().poll(cx).is_pending() {
                break;
            }
            self.news_at = None;
            self.learn_taken(cx);
            if self.credit.has_news()
                && let Some((messages, bytes, taken)) = self.credit.grant(cx, true)
            {
                self.replies.send(&Backward::Credit { messages, bytes, taken });
            }
            // The inlet wakes us when the handler goes on; a slow actor costs no timer meanwhile.
            self.listening = self.credit.behind() > 0;
        }
    }
}
