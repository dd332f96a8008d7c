//! The two tasks between a lane and its stream.

use super::arrival::Arrival;
use super::core::Understands;
use super::lane::Lane;
use crate::codec::frame::lane::{Backward, backward};
use crate::codec::frame::splitter::{Frames, Span, Splitter};
use crate::codec::frame::{FrameError, LANE_FRAME_MAX, stream_kind, varint};
use crate::codec::payload::ENVELOPE_MAX;
use crate::ground::error::Fault;
use crate::net::output::Output;
use crate::net::session::Session;
use crate::net::stream::{CHUNKS, Express, Source, poll_read, write};
use crate::refs::target::{AskSlot, OwnedPayload};
use bytes::Bytes;
use quinn::{ConnectionError, ReadError, RecvStream};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use webmesh_transport::{FEATURE_CANCEL, FEATURE_ENVELOPE, Inline};

/// How long a lane waits for the peer to allow one more stream before another lane must make room. A guess.
const STREAM_WITHIN: Duration = Duration::from_millis(200);

/// What a reply may announce before it is a broken frame. One larger than this mesh takes fails its ask alone: the other
/// side knows its own limit only.
const REPLY_ANNOUNCED_MAX: u64 = varint::MAX;

/// One stream of a lane, as its writer sees it.
#[derive(Clone)]
struct Forwards {
    lane: Arc<Lane>,
    stream: u64,
}

impl Source for Forwards {
    fn poll_output(&self, cx: &mut Context<'_>) -> Poll<Output> {
        self.lane.look(|state| state.core.poll_output(self.stream, cx))
    }
    fn written(&self, _: usize) {}
}

/// Opens a stream for the lane on this link and starts its tasks.
pub(crate) async fn open(session: &Arc<Session>, lane: &Arc<Lane>) -> Result<(), ConnectionError> {
    let (mut send, recv) = loop {
        let opening = session.link().quic().open_bi();
        match tokio::time::timeout(STREAM_WITHIN, opening).await {
            Ok(opened) => break opened?,
            // The peer allows fewer streams than we think.
            Err(_) => session.evict(),
        }
    };
    let id = u64::from(quinn::VarInt::from(send.id()));
    session.meeting().lane_began(id);
    if send.write_all(&[stream_kind::LANE]).await.is_err() {
        session.meeting().lane_ended(id);
        return Err(session.link().quic().close_reason().unwrap_or(ConnectionError::Reset));
    }
    session.lane_opened(id, lane.clone());
    let stream = lane.change(|state, fx| {
        state.session = Some(session.clone());
        let understands = Understands {
            cancels: session.link().has_feature(FEATURE_CANCEL),
            envelopes: session.link().has_feature(FEATURE_ENVELOPE),
        };
        let stream = state.core.opened(understands, fx);
        // Asks that an older stream carried are answered over this link too, if at all.
        fx.expecting |= state.core.has_asks();
        stream
    });
    // The link may have begun to drain or have ended meanwhile, and then looked in vain for this stream.
    if session.is_draining() {
        lane.change(|state, fx| state.core.drain(fx));
    }
    let source = Forwards { lane: lane.clone(), stream };
    let writer = write(session.link().clone(), id, send, source);
    let writer = Inline::spawn(&tokio::runtime::Handle::current(), writer);
    lane.change(|state, _| {
        if state.core.is_current(stream) {
            state.express = Some(Express::new(session.link().clone(), writer));
        }
    });
    let (session, lane) = (session.clone(), lane.clone());
    let (begun, fetches) = (Instant::now(), JoinSet::new());
    let reader = Reader { session, lane, stream, id, group: 0, begun, fetches };
    drop(tokio::spawn(reader.run(recv)));
    Ok(())
}

/// Reads what the object's side sends back.
struct Reader {
    session: Arc<Session>,
    lane: Arc<Lane>,
    stream: u64,
    id: u64,
    group: u64,
    /// When the stream was opened.
    begun: Instant,
    /// Replies whose bodies are on their way.
    fetches: JoinSet<()>,
}

impl Reader {
    async fn run(mut self, mut recv: RecvStream) {
        let outcome = match self.read(&mut recv).await {
            // All is answered, but bodies may still be on their way: the link must not end before they are here.
            Ok(()) => self.fetched().await,
            Err(ReaderError::Frame(error)) => {
                self.session.refuse(&error);
                Err(Fault::PeerGone)
            }
            Err(ReaderError::Read(ReadError::ConnectionLost(_))) => {
                Err(self.session.why_down().await)
            }
            Err(ReaderError::Read(_)) => Err(Fault::PeerGone),
        };
        self.session.meeting().lane_ended(self.id);
        self.lane.change(|state, fx| {
            state.core.ended(self.stream, outcome, fx);
            if !state.core.is_open() {
                state.session = None;
                state.express = None;
            }
        });
        self.session.lane_closed(self.id);
        self.lane.settled();
    }

    async fn fetched(&mut self) -> Result<(), Fault> {
        let link = self.session.link().clone();
        let all = async { while self.fetches.join_next().await.is_some() {} };
        tokio::select! {
            () = all => Ok(()),
            _ = link.quic().closed() => Err(self.session.why_down().await),
        }
    }

    async fn read(&mut self, recv: &mut RecvStream) -> Result<(), ReaderError> {
        let mut splitter = Splitter::new(LANE_FRAME_MAX);
        let mut frames = Frames::default();
        let mut chunks = Box::new([const { Bytes::new() }; CHUNKS]);
        loop {
            let count = std::future::poll_fn(|cx| poll_read(recv, &mut chunks[..], cx)).await?;
            if count == 0 {
                return Ok(splitter.end()?);
            }
            for chunk in &mut chunks[..count] {
                splitter.push(std::mem::take(chunk), &mut frames)?;
            }
            self.take(&frames)?;
            frames.clear();
        }
    }

    /// The peer says that something of this side's came to nothing.
    fn heard(&self, what: &str, fault: &Fault) {
        let peer = self.session.link().peer();
        if let Some(left_out) = self.session.refusals().quota(peer) {
            tracing::debug!(%peer, what, ?fault, left_out, "the peer says no");
        }
    }

    /// What one wake-up brought: the core is changed under one lock, answers are delivered afterwards.
    fn take(&mut self, frames: &Frames) -> Result<(), FrameError> {
        let mut values: Vec<(AskSlot, OwnedPayload)> = Vec::new();
        let (lane, stream) = (self.lane.clone(), self.stream);
        while self.fetches.try_join_next().is_some() {}
        let mut arrived = false;
        let outcome = lane.change(|state, fx| {
            let core = &mut state.core;
            for &span in frames.spans() {
                match backward(frames.get(span), REPLY_ANNOUNCED_MAX)? {
                    Backward::Reply { ask, beside: None, payload } => {
                        if let Some(slot) = core.answered(stream, ask)? {
                            let bytes =
                                frames.share(Span { start: span.end - payload.len(), ..span });
                            values.push((slot, OwnedPayload { bytes, ..OwnedPayload::default() }));
                        }
                    }
                    Backward::Reply { ask, beside: Some(beside), payload } => {
                        let limit = self.session.message_max();
                        let ask = if beside.total() > limit + ENVELOPE_MAX as u64 {
                            let slot = core.answered(stream, ask)?;
                            fx.failed.extend(slot.map(|slot| (slot, Fault::TooLarge { limit })));
                            None
                        } else {
                            let waited_for = core.arriving(stream, ask)?;
                            let looked = waited_for.then(|| core.replace(ask, AskSlot::coming));
                            looked.flatten().map(|looked| (ask, looked))
                        };
                        let inline = frames.keep(Span { start: span.end - payload.len(), ..span });
                        let group = self.group;
                        self.group += 1;
                        let (session, lane, id) = (self.session.clone(), lane.clone(), self.id);
                        let arrival = Arrival { session, lane, id, group, beside, inline, ask };
                        self.fetches.spawn(arrival.receive());
                    }
                    Backward::Fault { ask, fault } => {
                        self.heard("an ask", &fault);
                        if let Some(slot) = core.answered(stream, ask)? {
                            fx.failed.push((slot, fault));
                        }
                    }
                    Backward::Credit { messages, bytes, taken } => {
                        core.credit(stream, messages, bytes, taken, fx)?
                    }
                    Backward::Opened { limit } => {
                        self.session.answered_within(self.begun.elapsed());
                        core.accepted(stream, limit, fx);
                    }
                    Backward::Refused(fault) => {
                        self.heard("a stream to an actor", &fault);
                        core.refused(stream, &fault, fx);
                    }
                    Backward::Drained => {
                        arrived = true;
                        core.drained(stream, fx)?;
                    }
                    Backward::Reclaim => core.reclaimed(stream, fx),
                    Backward::Undelivered { tells, fault } => {
                        self.heard("tells", &fault);
                        core.undelivered(stream, tells, fx);
                    }
                    Backward::Withdrawn { passed } => {
                        arrived = true;
                        core.withdrawn(stream, passed, fx)?;
                    }
                }
            }
            Ok(())
        });
        for (slot, value) in values {
            slot.value(value);
        }
        if arrived {
            self.lane.settled();
        }
        outcome
    }
}

#[derive(Debug, thiserror::Error)]
enum ReaderError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Read(#[from] ReadError),
}
