//! A reply whose bodies are on their way beside the lane.

use super::lane::Lane;
use super::room::{Place, Room};
use crate::codec::frame::lane::Beside;
use crate::ground::error::Fault;
use crate::net::bodies::{BodyError, receive};
use crate::net::session::Session;
use crate::refs::target::{Looked, OwnedPayload};
use bytes::Bytes;
use quinn::RecvStream;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often it is looked whether the asker still waits. A guess: room is kept for who gave up for so long.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Bytes that a reply must bring within [`PATIENCE`] looks while others wait for its room, or it is given up: 35 kbit/s. A guess: less
/// than any line over which one would send large replies.
const PROGRESS_MIN: u64 = 64 * 1024;
/// See [`PROGRESS_MIN`].
const PATIENCE: u32 = 15;

/// Why a reply doesn't come.
enum Ended {
    Body(BodyError),
    /// The asker gave up, or the ask has failed by now.
    Unwanted,
    /// It brought nothing while others waited.
    Idle,
    /// Too much waits.
    Full,
}

impl From<BodyError> for Ended {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

/// A reply whose bodies are on their way.
pub(super) struct Arrival {
    pub(super) session: Arc<Session>,
    pub(super) lane: Arc<Lane>,
    /// The id of the lane's stream.
    pub(super) id: u64,
    pub(super) group: u64,
    pub(super) beside: Beside,
    pub(super) inline: Bytes,
    /// Who asked, and when that one looks; `None`: nobody waits for it.
    pub(super) ask: Option<(u64, Looked)>,
}

impl Arrival {
    /// Receives the bodies and delivers the reply.
    pub(super) async fn receive(mut self) {
        let (asked, looked) = self.ask.take().unzip();
        let outcome = self.bodies(asked.zip(looked)).await;
        let slot = |ask| self.lane.change(|state, _| state.core.arrived(ask));
        match outcome {
            Ok(None) => {}
            Ok(Some((ask, mut bodies, place))) => {
                let inline = std::mem::take(&mut self.inline);
                let bytes =
                    if self.beside.payload { bodies.pop().unwrap_or_default() } else { inline };
                if let Some(slot) = slot(ask) {
                    place.arrived();
                    slot.value(OwnedPayload { bytes, bodies, _place: Some(Arc::new(place)) });
                }
            }
            Err(Ended::Body(BodyError::Frame(error))) => self.session.refuse(&error),
            Err(Ended::Body(error @ BodyError::Gone(_))) => {
                tracing::debug!(%error, "a reply's bodies did not arrive");
                // If the link has ended, the lane's reader says why.
                if self.session.link().quic().close_reason().is_none() {
                    // Dropped, which reads as a peer that is gone.
                    drop(asked.and_then(slot));
                }
            }
            Err(Ended::Unwanted) => drop(asked.and_then(slot)),
            Err(Ended::Idle) => {
                tracing::debug!(peer = %self.lane.peer, "a reply is given up: it brings nothing, and others wait");
                drop(asked.and_then(slot));
            }
            Err(Ended::Full) => {
                tracing::debug!(peer = %self.lane.peer, "a reply is dropped: too many wait to be received");
                if let Some(slot) = asked.and_then(slot) {
                    slot.fault(Fault::ReplyDropped);
                }
            }
        }
    }

    async fn bodies(
        &self,
        ask: Option<(u64, Looked)>,
    ) -> Result<Option<(u64, Vec<Bytes>, Place)>, Ended> {
        let Self { session, id, group, beside, .. } = self;
        // Nobody waits for it: the stream is stopped by being dropped.
        let Some((ask, looked)) = ask else {
            drop(session.meeting().stream(*id, *group).await?);
            return Ok(None);
        };
        let mut looked = Some(looked);
        let mut stream = self.stream(ask, &mut looked).await?;
        // Not before its stream is here: one of those that wait could keep it from being opened.
        let room = session.reply_room();
        let place = room.enter(self.lane.peer, beside.total());
        if looked.is_none() {
            place.awaited();
        }
        let progress = AtomicU64::new(0);
        let received = async {
            self.turn(&place, room, looked).await?;
            let count = |bytes| {
                progress.fetch_add(bytes as u64, Ordering::Relaxed);
            };
            Ok::<_, Ended>(receive(&mut stream, &beside.lens, count).await?)
        };
        let bodies = tokio::select! {
            biased;
            received = received => received?,
            why = self.look_after(ask, &place, room, &progress) => return Err(why),
        };
        Ok(Some((ask, bodies, place)))
    }

    /// The stream of the bodies, which those of replies before it that nobody awaits don't keep out once this one is awaited.
    async fn stream(&self, ask: u64, looked: &mut Option<Looked>) -> Result<RecvStream, BodyError> {
        let mut stream = pin!(self.session.meeting().stream(self.id, self.group));
        if let Some(look) = looked {
            tokio::select! {
                biased;
                stream = &mut stream => return stream,
                _ = look => *looked = None,
            }
        }
        let starving = self.session.parking().starve(self.session.link());
        // It is let in for as long as its asker waits.
        while self.lane.look(|state| state.core.is_awaited(ask)) {
            tokio::select! {
                biased;
                stream = &mut stream => return stream,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        drop(starving);
        stream.await
    }

    /// Waits for room, without holding up the link.
    async fn turn(
        &self,
        place: &Place,
        room: &Room,
        mut looked: Option<Looked>,
    ) -> Result<(), Ended> {
        let mut parked = None;
        poll_fn(|cx| {
            // An asker that gives up is noticed by itself.
            if let Some(look) = &mut looked
                && Pin::new(look).poll(cx).is_ready()
            {
                looked = None;
                place.awaited();
            }
            let admitted = place.poll_admitted(cx);
            if admitted.is_pending() && parked.is_none() {
                let parking = self.session.parking();
                parked = parking.park(self.session.link(), room, self.beside.total());
                if parked.is_none() {
                    return std::task::Poll::Ready(Err(Ended::Full));
                }
            }
            admitted.map(Ok)
        })
        .await
    }

    /// Ends when the reply is to be given up.
    async fn look_after(
        &self,
        ask: u64,
        place: &Place,
        room: &Room,
        progress: &AtomicU64,
    ) -> Ended {
        let (mut looks, mut before) = (0, 0);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if !self.lane.look(|state| state.core.is_awaited(ask)) {
                return Ended::Unwanted;
            }
            let now = progress.load(Ordering::Relaxed);
            if now - before >= PROGRESS_MIN || !room.is_waited_for() || !place.is_admitted() {
                (looks, before) = (0, now);
                continue;
            }
            looks += 1;
            if looks >= PATIENCE {
                return Ended::Idle;
            }
        }
    }
}
