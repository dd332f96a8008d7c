//! A lane as the rest of the runtime sees it: the core behind its lock, and what carries out its effects.

use super::core::{Core, Effects, Owed, Submitted, Want};
use super::ticket::Ticket;
use crate::codec::payload::Encoder;
use crate::codec::wire_ref::WireRef;
use crate::ground::error::Fault;
use crate::net::remote_watches::LostTells;
use crate::net::session::eviction::Activity;
use crate::net::session::{CarriedLane, Session};
use crate::net::stream::Express;
use crate::net::wake_batch;
use crate::refs::target::{AskSlot, OutKind, OutMessage, Queued, WhenFull};
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use webmesh_transport::{Expecting, Hints, Link, Origin, PeerId};

/// Refs whose word of where the peer is a lane remembers. A guess: one may lie, and a few may be out of date.
const HINTS_KEPT: usize = 4;

/// What the lock of a lane protects.
pub(crate) struct State {
    pub(crate) core: Core<AskSlot>,
    /// The link that carries the stream in use.
    pub(crate) session: Option<Arc<Session>>,
    /// The way to that stream for an ask that nothing else is under way with.
    pub(crate) express: Option<Express>,
    /// Keeps the peer probed while asks are in flight, over the link of this id.
    expecting: Option<(u64, Expecting)>,
}

impl State {
    /// To be called before the lock is released.
    fn settle(&mut self, fx: &Effects<AskSlot>) {
        if !fx.expecting {
            return;
        }
        if let Some(link) = self.session.as_ref().map(|session| session.link())
            && self.expecting.as_ref().is_none_or(|(over, _)| *over != link.id())
        {
            self.expecting = Some((link.id(), link.expect_answers()));
        }
    }
}

/// What a lane asks of the connections that it belongs to. Nothing that each message needs.
pub(crate) trait LaneKeeper: Send + Sync {
    /// Gets a stream for a lane. May be called from any thread.
    fn open(self: Arc<Self>, lane: Arc<Lane>);
    /// Tells of a lane may not have arrived.
    fn lost_tells(&self, lane: &Lane, lost: LostTells);
    /// The peer has said what became of a stream of messages, or that has ended.
    fn lane_settled(&self);
}

/// A lane to one object of another mesh.
pub(crate) struct Lane {
    pub(crate) peer: PeerId,
    pub(crate) object: [u8; 16],
    keeper: Weak<dyn LaneKeeper>,
    /// Where the peer may be found, by the refs that were used; the latest first.
    hints: Mutex<Vec<Hints>>,
    /// The largest message that this mesh sends, in bytes.
    message_max: usize,
    /// When it was last used, in rounds of the housekeeping.
    last_used: AtomicU64,
    state: Mutex<State>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Lane {
    pub(crate) fn new(keeper: Weak<dyn LaneKeeper>, wire: &WireRef, message_max: usize) -> Self {
        Self {
            peer: wire.peer,
            object: wire.object.0,
            keeper,
            hints: Mutex::default(),
            message_max,
            last_used: AtomicU64::new(0),
            state: Mutex::new(State {
                core: Core::new(wire.object.0, &wire.protocol),
                session: None,
                express: None,
                expecting: None,
            }),
        }
    }

    pub(crate) fn hints(&self) -> Vec<Hints> {
        self.hints.lock().clone()
    }

    /// One more ref to the object is used. What the application said isn't forgotten for what others say.
    pub(crate) fn add_hints(&self, hints: Hints) {
        if hints.is_empty() {
            return;
        }
        let mut known = self.hints.lock();
        known.retain(|other| *other != hints);
        known.insert(0, hints);
        if known.len() > HINTS_KEPT {
            let others = known.iter().rposition(|hints| hints.origin != Origin::User);
            known.remove(others.unwrap_or(HINTS_KEPT));
        }
    }

    /// Changes the core and carries out what follows.
    pub(crate) fn change<R>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut State, &mut Effects<AskSlot>) -> R,
    ) -> R {
        let mut fx = Effects::default();
        let result = {
            let mut state = self.state.lock();
            let result = change(&mut state, &mut fx);
            state.settle(&fx);
            result
        };
        self.carry_out(fx);
        result
    }

    /// Looks at the core.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.state.lock())
    }

    fn carry_out(self: &Arc<Self>, fx: Effects<AskSlot>) {
        if fx.is_nothing() {
            return;
        }
        fx.writer.into_iter().chain(fx.wake).for_each(wake_batch::wake);
        for (slot, fault) in fx.failed {
            slot.fault(fault);
        }
        if fx.lost > 0 {
            tracing::warn!(peer = %self.peer, at_most = fx.lost, "tells to an actor may be lost");
            if let Some(keeper) = self.keeper.upgrade() {
                keeper.lost_tells(self, LostTells { at_most: fx.lost, by: fx.lost_by });
            }
        }
        if fx.open {
            match self.keeper.upgrade() {
                Some(keeper) => keeper.open(self.clone()),
                None => {
                    // Nothing is under way without a stream.
                    let Owed { lost, .. } = self.end();
                    if lost > 0 {
                        tracing::warn!(peer = %self.peer, lost, "accepted tells are lost: the mesh had ended");
                    }
                }
            }
        }
    }

    /// The receiver has said of a stream what became of it, or it has ended.
    pub(super) fn settled(&self) {
        if let Some(keeper) = self.keeper.upgrade() {
            keeper.lane_settled();
        }
    }

    /// The mesh has ended. Returns which tells were accepted and may not have arrived.
    pub(crate) fn end(self: &Arc<Self>) -> Owed {
        self.change(|state, fx| {
            let owed = state.core.shut_down(&Fault::ShutDown, fx);
            // Its tasks may have gone with their thread; a lane and its session must not keep each other.
            state.session = None;
            state.express = None;
            owed
        })
    }

    /// The housekeeping's round; says for how many rounds the lane has been idle.
    pub(crate) fn tidy(&self, round: u64) -> u64 {
        let mut state = self.state.lock();
        if state.core.was_touched() || !state.core.is_quiet() {
            self.last_used.store(round, Ordering::Relaxed);
        }
        if !state.core.has_asks() {
            state.expecting = None;
        }
        round.saturating_sub(self.last_used())
    }

    pub(crate) fn last_used(&self) -> u64 {
        self.last_used.load(Ordering::Relaxed)
    }

    /// Takes a message's place in line, now, for a ref of this era.
    pub(crate) fn send(
        self: &Arc<Self>,
        era: u64,
        message: OutMessage<'_>,
    ) -> Result<(Queued, u64), Fault> {
        let OutMessage { id, kind, encode, when_full } = message;
        crate::codec::encoder_pool::with_encoder(self.message_max, |encoder| {
            let want = match kind {
                OutKind::Flush(slot) => Want::Flushed(slot),
                OutKind::Tell => {
                    encode(encoder)?;
                    if encoder.bodies().is_empty()
                        && self.state.lock().core.append_tell(era, id, encoder.bytes())
                    {
                        return Ok((Queued::Accepted, 0));
                    }
                    Want::Nothing
                }
                OutKind::Ask(slot) => {
                    encode(encoder)?;
                    Want::Answer(slot)
                }
            };
            self.submit(era, want, id, encoder, when_full == WhenFull::Refuse)
        })
    }

    /// The long way of a message, with all that may follow from it. Apart, so that the short one needs little stack.
    #[inline(never)]
    fn submit(
        self: &Arc<Self>,
        era: u64,
        want: Want<AskSlot>,
        id: &'static str,
        encoder: &mut Encoder,
        refuse: bool,
    ) -> Result<(Queued, u64), Fault> {
        let mut alone = None;
        let (submitted, ask) = self.change(|state, fx| {
            let ask = state.core.next_ask();
            let submitted = state.core.submit(era, want, id, encoder, refuse, fx);
            // Whoever asks one thing after the other has no more to send for now.
            if fx.alone
                && let Some(express) = &state.express
                && let Some(writer) = fx.writer.take()
            {
                alone = Some((express.clone(), writer));
            }
            (submitted, ask)
        });
        if let Some((express, writer)) = alone {
            express.send(writer);
        }
        let queued = match submitted? {
            Submitted::Accepted => Queued::Accepted,
            Submitted::Waiting(ticket) => {
                Queued::Waiting(Box::pin(InLine { lane: self.clone(), ticket }))
            }
        };
        Ok((queued, ask))
    }
}

/// A sender that waits in line. Dropped, it withdraws its message.
struct InLine {
    lane: Arc<Lane>,
    ticket: Arc<Ticket>,
}

impl Future for InLine {
    type Output = Result<(), Fault>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.ticket.poll(cx)
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        self.lane.change(|state, fx| state.core.withdraw(&self.ticket, fx));
    }
}

impl CarriedLane for Lane {
    fn activity(&self) -> Option<Activity> {
        let sent = self.look(|s| s.core.is_flowing().then(|| s.core.sent_count()))?;
        Some(Activity { last_used: self.last_used(), sent })
    }

    fn drain(self: Arc<Self>) {
        self.change(|state, fx| state.core.drain(fx));
    }

    fn drain_from(self: Arc<Self>, link: &Link) {
        self.change(|state, fx| {
            if state.session.as_ref().is_some_and(|session| session.link() == link) {
                state.core.drain(fx);
            }
        });
    }
}
