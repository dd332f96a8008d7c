//! The control stream: names are resolved and actors watched over it, in both directions.

use super::Session;
use crate::codec::frame::control::{Control, DownCode, Refusal, control};
use crate::codec::frame::splitter::{Frames, Splitter};
use crate::codec::frame::{CONTROL_FRAME_MAX, FrameError};
use crate::codec::wire_ref::{ObjectId, WireRef};
use crate::net::inbound::lane::LaneError;
use crate::net::query::{Query, ResolveError};
use crate::net::stream::{poll_read, write};
use crate::refs::watch::{DownReason, Event};
use bytes::Bytes;
use quinn::{RecvStream, SendStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;
use tokio::time::Instant;
use webmesh_transport::{Excerpt, FEATURE_WATCHING};

/// Chunks taken off the stream at once: it carries little, and every idle connection has one. A guess.
const CHUNKS: usize = 4;

impl Session {
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
        let begun = Instant::now();
        let answer = answered.await.unwrap_or(Err(ResolveError::NoAnswer));
        self.answered_within(begun.elapsed());
        answer
    }

    /// Asks the peer to tell what happens to an object of its. `actor`: which one it has told of as that before.
    pub(crate) fn watch(&self, watch: u64, object: ObjectId, epoch: u64, actor: Option<u64>) {
        let actor = actor.filter(|_| self.link.has_feature(FEATURE_WATCHING));
        self.say(&Control::Watch { watch, object: object.0, epoch, actor });
    }

    /// No more of that.
    pub(crate) fn unwatch(&self, watch: u64) {
        self.say(&Control::Unwatch { watch });
    }

    pub(super) fn say(&self, frame: &Control<'_>) {
        if !self.control.push(frame) {
            self.refuse(&FrameError::Unexpected("silence on the control stream"));
        }
    }

    pub(super) async fn control_stream(self: Arc<Self>, send: SendStream, mut recv: RecvStream) {
        let mut splitter = Splitter::new(CONTROL_FRAME_MAX);
        let id = u64::from(quinn::VarInt::from(send.id()));
        let writer = tokio::spawn(write(self.link.clone(), id, send, self.control.clone()));
        let read = async {
            let mut frames = Frames::default();
            let mut chunks = [const { Bytes::new() }; CHUNKS];
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
            self.refuse(&error);
        }
        self.control.close();
        let _ = writer.await;
    }

    fn heard(self: &Arc<Self>, frame: Control<'_>) -> Result<(), FrameError> {
        let Some(shared) = self.shared.upgrade() else { return Ok(()) };
        match frame {
            Control::Resolve { request, name, requirement, protocol } => {
                self.spoken.store(true, Ordering::Relaxed);
                let Some(host) = shared.host() else { return Ok(()) };
                match host.answer_query(name, requirement, protocol, self.link.peer()) {
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
                    Err((error, reason)) => {
                        let what =
                            format_args!("the name {} {}", Excerpt(name), Excerpt(requirement));
                        self.refusals.refuse(self.link.peer(), what, reason);
                        self.say(&Control::Unresolved { request, refusal: refusal(error) })
                    }
                }
            }
            Control::Resolved { request, reference } => {
                let bytes = crate::codec::payload::Payload { bytes: reference, bodies: &[] };
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
            Control::Watch { watch, object, epoch, actor } => {
                self.spoken.store(true, Ordering::Relaxed);
                self.watch_for_peer(&shared, watch, ObjectId(object), epoch, actor)?
            }
            Control::Unwatch { watch } => {
                if self.forget_watch(watch) {
                    self.watch_ended(watch, "the peer wants no more");
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
                shared.watches.down(self.link.peer(), watch, reason);
            }
            Control::Restarted { watch, incarnation } => {
                shared.watches.event(self.link.peer(), watch, Event::Restarted { incarnation });
            }
            Control::Watching { watch, actor } => shared.watches.found(&self.link, watch, actor),
            Control::Withdraw => self.give_back(),
        }
        Ok(())
    }

    fn answered(&self, request: u64, answer: Result<WireRef, ResolveError>) {
        if let Some(waiting) = self.requests.lock().remove(&request) {
            let _ = waiting.send(answer);
        }
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

/// Runs something when dropped.
struct Forget<F: FnMut()>(F);

impl<F: FnMut()> Drop for Forget<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
