//! One link at work: its streams are accepted and told apart, names are resolved and actors watched over its control
//! stream.

use crate::body::{BodyError, Meeting, read_head};
use crate::caller::Caller;
use crate::error::Fault;
use crate::frame::control::{Control, DownCode, Refusal, control, put_control};
use crate::frame::lane::{Backward, Forward, forward};
use crate::frame::splitter::{Frames, Splitter};
use crate::frame::{CONTROL_FRAME_MAX, FrameError, LANE_FRAME_MAX, stream_kind};
use crate::inbound::budget::Budget;
use crate::inbound::lane::{InLane, LaneError, Setting};
use crate::inbound::replies::Replies;
use crate::links::Links;
use crate::network::Query;
use crate::outbound::core::Output;
use crate::outbound::lane::Lane;
use crate::publish::ResolveError;
use crate::stream::{CHUNKS, STREAM_GONE, Source, poll_read, refuse, write};
use crate::watch::{DownReason, Event, Notice, WatchId, WatchSink};
use crate::wire_ref::{ObjectId, WireRef};
use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{RecvStream, SendStream};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use webmesh_transport::Link;

/// Watches that one peer may keep on this mesh's actors. A guess: far more than a program with sense has, and ~1 MB.
const WATCHES_MAX: usize = 4096;

/// Bytes of control frames that wait for a peer to read them before it is given up. It has all its answers and notices in
/// there, so only a peer that doesn't read gets this far.
const CONTROL_BACKLOG_MAX: usize = 1 << 20;

/// What all windows on one link may grant together; the default of the transport's receive window, so that what a peer
/// may send at once is the same by both counts.
const WINDOWS_MAX: u64 = 16 << 20;

/// Replies that wait for one peer to read them, beyond what each lane may have, in messages of the largest size. A guess.
const REPLIES_MAX: u64 = 4;

/// Lanes that this side opens on one link before it ends an old one for each new one. A peer allows 80 streams by default,
/// two of them are HELLO and control, and quinn announces room for more only after an eighth of them has ended.
const LANES_MAX: usize = 64;

/// How long a lane that lost its connection waits to be told why. A guess; it comes at once.
const WHY_WITHIN: Duration = Duration::from_secs(2);

/// One link and what goes on upon it.
pub(crate) struct Session {
    link: Link,
    links: Weak<Links>,
    message_max: u64,
    meeting: Arc<Meeting>,
    budget: Arc<Budget>,
    replies_budget: Arc<Budget>,
    control: Arc<Outbox>,
    has_control: AtomicBool,
    requests: Mutex<HashMap<u64, oneshot::Sender<Result<WireRef, ResolveError>>>>,
    next_request: AtomicU64,
    /// The peer's watches on actors of this mesh.
    watched: Mutex<HashMap<u64, (WatchId, ObjectId)>>,
    /// Lanes of this side, by the ids of their streams.
    lanes: Mutex<BTreeMap<u64, Arc<Lane>>>,
    lanes_in: AtomicUsize,
    /// The ways back of the peer's lanes, by the ids of their streams.
    replies: Mutex<HashMap<u64, Arc<Replies>>>,
    draining: AtomicBool,
    down: watch::Sender<Option<Fault>>,
}

impl Session {
    /// Starts serving a link.
    pub(crate) fn start(link: Link, links: &Arc<Links>) -> Arc<Self> {
        let message_max = links.message_max() as u64;
        let session = Arc::new(Self {
            budget: Budget::new(
                WINDOWS_MAX,
                message_max + LANE_FRAME_MAX as u64,
                Some(links.budget()),
            ),
            replies_budget: Budget::new(REPLIES_MAX * message_max, 0, Some(links.replies_budget())),
            link,
            links: Arc::downgrade(links),
            message_max,
            meeting: Arc::default(),
            control: Arc::default(),
            has_control: AtomicBool::new(false),
            requests: Mutex::default(),
            next_request: AtomicU64::new(0),
            watched: Mutex::default(),
            lanes: Mutex::default(),
            lanes_in: AtomicUsize::new(0),
            replies: Mutex::default(),
            draining: AtomicBool::new(false),
            down: watch::Sender::new(None),
        });
        if session.link.dialled() {
            session.has_control.store(true, Ordering::Relaxed);
            let opener = session.clone();
            drop(tokio::spawn(async move {
                if let Ok((mut send, recv)) = opener.link.quic().open_bi().await
                    && send.write_all(&[stream_kind::CONTROL]).await.is_ok()
                {
                    opener.control_stream(send, recv).await;
                }
            }));
        }
        drop(tokio::spawn(session.clone().accept_lanes()));
        drop(tokio::spawn(session.clone().accept_bodies()));
        session
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn meeting(&self) -> &Arc<Meeting> {
        &self.meeting
    }

    pub(crate) fn message_max(&self) -> u64 {
        self.message_max
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    // ---- this side's lanes

    /// A stream was opened for a lane.
    pub(crate) fn lane_opened(&self, stream: u64, lane: &Arc<Lane>) {
        self.lanes.lock().insert(stream, lane.clone());
    }

    /// A lane's stream has ended.
    pub(crate) fn lane_closed(&self, stream: u64) {
        self.lanes.lock().remove(&stream);
        self.tell_drained();
    }

    /// Ends the lane that was used longest ago, if there are as many as there may be.
    pub(crate) fn make_room(&self) {
        if self.lanes.lock().len() >= LANES_MAX {
            self.evict();
        }
    }

    /// Ends the lane that was used longest ago.
    pub(crate) fn evict(&self) {
        let oldest = {
            let lanes = self.lanes.lock();
            let flowing = lanes.values().filter(|lane| lane.look(|s| s.core.is_flowing()));
            flowing.min_by_key(|lane| lane.last_used()).cloned()
        };
        if let Some(lane) = oldest {
            lane.change(|state, fx| state.core.drain(fx));
        }
    }

    /// Another link takes all new lanes: this one's are drained, then it ends.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        let lanes: Vec<_> = self.lanes.lock().values().cloned().collect();
        for lane in lanes {
            lane.change(|state, fx| {
                if state.session.as_ref().is_some_and(|session| session.link == self.link) {
                    state.core.drain(fx);
                }
            });
        }
        self.tell_drained();
    }

    /// It is the one for new lanes again.
    pub(crate) fn revive(&self) {
        self.draining.store(false, Ordering::Release);
    }

    fn tell_drained(&self) {
        if self.is_draining()
            && self.lanes.lock().is_empty()
            && self.lanes_in.load(Ordering::Acquire) == 0
            && self.requests.lock().is_empty()
        {
            self.link.drained();
        }
    }

    /// The link has ended.
    pub(crate) fn down(&self, fault: &Fault) {
        self.down.send_replace(Some(fault.clone()));
        self.control.close();
        self.requests.lock().clear();
        let watched: Vec<_> = self.watched.lock().drain().collect();
        if let Some(mesh) = self.links.upgrade().and_then(|links| links.mesh()) {
            for (_, (watch, object)) in watched {
                if let Some(exposed) = mesh.objects().any(&object) {
                    exposed.unwatch(watch);
                }
            }
        }
    }

    /// Why the link ended; waits a moment to be told.
    pub(crate) async fn why_down(&self) -> Fault {
        let mut down = self.down.subscribe();
        let told = tokio::time::timeout(WHY_WITHIN, down.wait_for(Option::is_some)).await;
        match told {
            Ok(Ok(fault)) => fault.clone().unwrap_or(Fault::PeerGone),
            _ => Fault::PeerGone,
        }
    }

    /// Whether every ask of the peer's has been answered and every answer handed to QUIC.
    pub(crate) fn is_settled(&self) -> bool {
        self.replies.lock().values().all(|replies| replies.is_settled())
    }

    // ---- the peer's streams

    async fn accept_lanes(self: Arc<Self>) {
        while let Ok((send, recv)) = self.link.quic().accept_bi().await {
            let id = u64::from(quinn::VarInt::from(recv.id()));
            self.meeting.lane_began(id);
            self.lanes_in.fetch_add(1, Ordering::AcqRel);
            let session = self.clone();
            drop(tokio::spawn(async move {
                if let Err(LaneError::Frame(error)) = session.clone().serve(id, send, recv).await {
                    refuse(&session.link, &error);
                }
                session.meeting.lane_ended(id);
                session.lanes_in.fetch_sub(1, Ordering::AcqRel);
                session.tell_drained();
            }));
        }
    }

    async fn accept_bodies(self: Arc<Self>) {
        while let Ok(mut stream) = self.link.quic().accept_uni().await {
            let session = self.clone();
            drop(tokio::spawn(async move {
                let met = match read_head(&mut stream).await {
                    Ok((lane, group)) => {
                        session.meeting.arrived(lane, group, stream).map_err(BodyError::Frame)
                    }
                    Err(error) => Err(error),
                };
                if let Err(BodyError::Frame(error)) = met {
                    refuse(&session.link, &error);
                }
            }));
        }
    }

    /// A two-way stream of the peer's, to its end.
    async fn serve(
        self: Arc<Self>,
        id: u64,
        send: SendStream,
        mut recv: RecvStream,
    ) -> Result<(), LaneError> {
        let mut kind = [0];
        if recv.read(&mut kind).await?.is_none() {
            return Err(FrameError::EndsWithinFrame.into());
        }
        match kind[0] {
            stream_kind::LANE => self.serve_lane(id, send, recv).await,
            stream_kind::CONTROL if self.has_control.swap(true, Ordering::AcqRel) => {
                Err(FrameError::Unexpected("a second control stream").into())
            }
            stream_kind::CONTROL => {
                // It lasts as long as the link: not a lane that a drained link would have to wait for.
                self.lanes_in.fetch_sub(1, Ordering::AcqRel);
                self.tell_drained();
                self.clone().control_stream(send, recv).await;
                self.lanes_in.fetch_add(1, Ordering::AcqRel);
                Ok(())
            }
            unknown => Err(FrameError::UnknownStream(unknown).into()),
        }
    }

    async fn serve_lane(
        self: Arc<Self>,
        id: u64,
        send: SendStream,
        mut recv: RecvStream,
    ) -> Result<(), LaneError> {
        let mut splitter = Splitter::new(LANE_FRAME_MAX);
        let mut frames = Frames::default();
        while frames.spans().is_empty() {
            match recv.read_chunk(usize::MAX, true).await? {
                Some(chunk) => splitter.push(chunk.bytes, &mut frames)?,
                None => return Err(FrameError::EndsWithinFrame.into()),
            }
        }
        let first = frames.take_first();
        let Forward::Open { object, protocol } = forward(&first, 0, 0)? else {
            return Err(FrameError::Unexpected("a message before OPEN").into());
        };
        let replies =
            Arc::new(Replies::new(self.message_max as usize, self.replies_budget.clone()));
        let writer = write(self.link.clone(), id, send, replies.clone());
        let Some(links) = self.links.upgrade() else { return Ok(()) };
        let Some(mesh) = links.mesh() else { return Ok(()) };
        let caller = self.link.peer();
        let id_of_object = ObjectId(object);
        let opened = mesh.objects().open(&id_of_object, protocol, caller);
        let term = links.succession().begin(caller, id_of_object);
        drop((mesh, links));
        match opened {
            Err(fault) => {
                replies.send(&Backward::Refused(fault));
                replies.finish();
                let _ = recv.stop(STREAM_GONE);
                writer.await;
                Ok(())
            }
            Ok(object) => {
                self.replies.lock().insert(id, replies.clone());
                let lane = InLane::new(Setting {
                    caller: Caller::new(caller),
                    object,
                    term,
                    budget: self.budget.clone(),
                    meeting: self.meeting.clone(),
                    replies,
                    message_max: self.message_max,
                    lane: id,
                    recv,
                    splitter,
                    frames,
                });
                let writer = tokio::spawn(writer);
                let outcome = lane.run().await;
                let _ = writer.await;
                self.replies.lock().remove(&id);
                outcome
            }
        }
    }

    // ---- the control stream

    /// Asks the peer for a published object.
    pub(crate) async fn resolve(&self, query: &Query) -> Result<WireRef, ResolveError> {
        let request = self.next_request.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.requests.lock().insert(request, answer);
        let _forget = Forget(|| {
            drop(self.requests.lock().remove(&request));
            self.tell_drained();
        });
        let _expecting = self.link.expect_answers();
        self.say(&Control::Resolve {
            request,
            name: &query.name,
            requirement: &query.requirement,
            protocol: query.protocol,
        });
        answered.await.unwrap_or(Err(ResolveError::NoAnswer))
    }

    /// Asks the peer to tell what happens to an object of its.
    pub(crate) fn watch(&self, watch: u64, object: ObjectId, epoch: u64) {
        self.say(&Control::Watch { watch, object: object.0, epoch });
    }

    /// No more of that.
    pub(crate) fn unwatch(&self, watch: u64) {
        self.say(&Control::Unwatch { watch });
    }

    fn say(&self, frame: &Control<'_>) {
        if !self.control.push(frame) {
            refuse(&self.link, &FrameError::Unexpected("silence on the control stream"));
        }
    }

    async fn control_stream(self: Arc<Self>, send: SendStream, mut recv: RecvStream) {
        let mut splitter = Splitter::new(CONTROL_FRAME_MAX);
        let id = u64::from(quinn::VarInt::from(send.id()));
        let writer = tokio::spawn(write(self.link.clone(), id, send, self.control.clone()));
        let read = async {
            let mut frames = Frames::default();
            let mut chunks = Box::new([const { Bytes::new() }; CHUNKS]);
            loop {
                let count =
                    std::future::poll_fn(|cx| poll_read(&mut recv, &mut chunks, cx)).await?;
                if count == 0 {
                    return Err(LaneError::Frame(FrameError::Unexpected(
                        "the end of the control stream",
                    )));
                }
                for chunk in &mut chunks[..count] {
                    splitter.push(std::mem::take(chunk), &mut frames)?;
                }
                for &span in frames.spans() {
                    self.heard(control(frames.get(span))?)?;
                }
                frames.clear();
            }
        };
        let outcome: Result<(), LaneError> = read.await;
        if let Err(LaneError::Frame(error)) = outcome {
            refuse(&self.link, &error);
        }
        self.control.close();
        let _ = writer.await;
    }

    fn heard(self: &Arc<Self>, frame: Control<'_>) -> Result<(), FrameError> {
        let Some(links) = self.links.upgrade() else { return Ok(()) };
        match frame {
            Control::Resolve { request, name, requirement, protocol } => {
                let Some(mesh) = links.mesh() else { return Ok(()) };
                match mesh.answer_query(name, requirement, protocol, self.link.peer()) {
                    Ok(wire) => match rmp_serde::to_vec_named(&wire) {
                        Ok(reference) => {
                            self.say(&Control::Resolved { request, reference: &reference })
                        }
                        Err(error) => {
                            self.say(&Control::Unresolved {
                                request,
                                refusal: Refusal::Malformed(error.to_string()),
                            });
                        }
                    },
                    Err(error) => {
                        self.say(&Control::Unresolved { request, refusal: refusal(error) })
                    }
                }
            }
            Control::Resolved { request, reference } => {
                let bytes = crate::payload::Payload { bytes: reference, bodies: &[] };
                let wire = bytes
                    .decode::<WireRef>()
                    .map_err(|error| ResolveError::BadAnswer(error.to_string()));
                // A ref of another peer's actor is no answer: who hands it out cannot vouch for it.
                let wire = wire.and_then(|wire| {
                    if wire.peer == self.link.peer() {
                        Ok(wire)
                    } else {
                        Err(ResolveError::BadAnswer("a ref to another peer".into()))
                    }
                });
                self.answered(request, wire);
            }
            Control::Unresolved { request, refusal } => self.answered(
                request,
                Err(match refusal {
                    Refusal::Unknown => ResolveError::Unknown,
                    Refusal::NoMatchingVersion(published) => {
                        ResolveError::NoMatchingVersion { published }
                    }
                    Refusal::WrongProtocol(found) => ResolveError::WrongProtocol { found },
                    Refusal::Malformed(why) => ResolveError::BadAnswer(why),
                }),
            ),
            Control::Watch { watch, object, epoch } => {
                self.watch_for_peer(&links, watch, ObjectId(object), epoch)?
            }
            Control::Unwatch { watch } => {
                let watched = self.watched.lock().remove(&watch);
                if let (Some((id, object)), Some(mesh)) = (watched, links.mesh())
                    && let Some(exposed) = mesh.objects().any(&object)
                {
                    exposed.unwatch(id);
                }
            }
            Control::Down { watch, reason } => {
                let reason = match reason {
                    DownCode::Stopped => DownReason::Stopped,
                    DownCode::Panicked => DownReason::Panicked,
                    DownCode::NoSuchActor => DownReason::NoSuchActor,
                    DownCode::Revoked => DownReason::Revoked,
                    DownCode::Stale => DownReason::Stale,
                    DownCode::TooMany => DownReason::PeerGone,
                };
                links.watches().down(self.link.peer(), watch, reason);
            }
            Control::Restarted { watch, incarnation } => {
                links.watches().event(self.link.peer(), watch, Event::Restarted { incarnation });
            }
        }
        Ok(())
    }

    fn answered(&self, request: u64, answer: Result<WireRef, ResolveError>) {
        if let Some(waiting) = self.requests.lock().remove(&request) {
            let _ = waiting.send(answer);
        }
    }

    fn watch_for_peer(
        self: &Arc<Self>,
        links: &Arc<Links>,
        watch: u64,
        object: ObjectId,
        epoch: u64,
    ) -> Result<(), FrameError> {
        let Some(mesh) = links.mesh() else { return Ok(()) };
        let id = WatchId::next();
        {
            let mut watched = self.watched.lock();
            match watched.get(&watch) {
                // The peer had another link meanwhile, which has ended, and says again what it wants.
                Some((_, known)) if *known == object => return Ok(()),
                Some(_) => {
                    return Err(FrameError::Unexpected("a second watch of the same number"));
                }
                None if watched.len() >= WATCHES_MAX => {
                    drop(watched);
                    self.say(&Control::Down { watch, reason: DownCode::TooMany });
                    return Ok(());
                }
                None => watched.insert(watch, (id, object)),
            };
        }
        match mesh.objects().admit(&object, self.link.peer()) {
            Some(exposed) => {
                let sink = Arc::new(PeerWatch { session: Arc::downgrade(self), watch });
                exposed.watch(id, sink);
                // The link may have ended while this frame waited to be read, and looked in vain for the watch.
                if self.down.borrow().is_some() && self.watched.lock().remove(&watch).is_some() {
                    exposed.unwatch(id);
                }
            }
            None => {
                self.watched.lock().remove(&watch);
                let reason = match mesh.absent(epoch) {
                    DownReason::Stale => DownCode::Stale,
                    _ => DownCode::NoSuchActor,
                };
                self.say(&Control::Down { watch, reason });
            }
        }
        Ok(())
    }
}

fn refusal(error: ResolveError) -> Refusal {
    match error {
        ResolveError::NoMatchingVersion { published } => Refusal::NoMatchingVersion(published),
        ResolveError::WrongProtocol { found } => Refusal::WrongProtocol(found),
        ResolveError::Name(why) | ResolveError::Requirement(why) => Refusal::Malformed(why),
        _ => Refusal::Unknown,
    }
}

/// A peer that watches an actor of this mesh.
struct PeerWatch {
    session: Weak<Session>,
    watch: u64,
}

impl WatchSink for PeerWatch {
    fn notice(&self, notice: Notice) {
        let Some(session) = self.session.upgrade() else { return };
        let watch = self.watch;
        match notice {
            Notice::Down(reason) => {
                if session.watched.lock().remove(&watch).is_none() {
                    return;
                }
                let reason = match reason {
                    DownReason::Panicked => DownCode::Panicked,
                    DownReason::NoSuchActor => DownCode::NoSuchActor,
                    DownReason::Revoked => DownCode::Revoked,
                    DownReason::Stale => DownCode::Stale,
                    _ => DownCode::Stopped,
                };
                session.say(&Control::Down { watch, reason });
            }
            Notice::Event(Event::Restarted { incarnation }) => {
                session.say(&Control::Restarted { watch, incarnation })
            }
            // Those the watcher's own side finds out.
            Notice::Event(_) => {}
        }
    }
}

/// Runs something when dropped.
struct Forget<F: FnMut()>(F);

impl<F: FnMut()> Drop for Forget<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Control frames on their way out. Written before there is a stream, they wait for it.
#[derive(Debug, Default)]
struct Outbox {
    state: Mutex<OutboxState>,
}

#[derive(Debug, Default)]
struct OutboxState {
    out: Vec<u8>,
    writer: Option<Waker>,
    closed: bool,
}

impl Outbox {
    /// `false`: too much waits already.
    fn push(&self, frame: &Control<'_>) -> bool {
        let waker = {
            let mut state = self.state.lock();
            if state.closed {
                return true;
            }
            if state.out.len() > CONTROL_BACKLOG_MAX {
                return false;
            }
            put_control(&mut state.out, frame);
            state.writer.take()
        };
        waker.into_iter().for_each(Waker::wake);
        true
    }

    fn close(&self) {
        let waker = {
            let mut state = self.state.lock();
            state.closed = true;
            state.out = Vec::new();
            state.writer.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Source for Arc<Outbox> {
    fn poll_output(&self, cx: &mut Context<'_>) -> Poll<Output> {
        let mut state = self.state.lock();
        if state.closed {
            return Poll::Ready(Output::Gone);
        }
        if !state.out.is_empty() {
            return Poll::Ready(Output::Write {
                bytes: std::mem::take(&mut state.out),
                bodies: Vec::new(),
            });
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }
    fn written(&self, _: usize) {}
}
