//! How what a watcher is told reaches it.

use crate::actor::cell::ActorCell;
use crate::ground::error::Fault;
use crate::mailbox::delivery::{Delivery, Surroundings};
use crate::mailbox::dispatch::RemoteActor;
use crate::refs::watch::{Down, EVENTS_MAX, Event, Notice, WatchEvent, WatchId, WatchSink};
use actix::dev::MessageResponse;
use actix::{Actor, Handler};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

type Wrap<A, M> = fn(Inform<M>) -> Box<dyn Delivery<A>>;

/// Delivers the notices of one watch to the watching actor, past its inlet's bound: there are only so many of them. The watch
/// is that of one instance, and ends with it.
pub(crate) struct ActorSink<A: RemoteActor> {
    watch: WatchId,
    cell: Weak<ActorCell<A>>,
    incarnation: u64,
    over: AtomicBool,
    down: Wrap<A, Down>,
    event: Option<Wrap<A, WatchEvent>>,
    waiting: Arc<Waiting>,
}

/// What of a watch waits for its handler.
#[derive(Default)]
struct Waiting {
    events: AtomicUsize,
    /// The latest incarnation of the watched actor, if a notice of a restart waits: one for all restarts. Else 0.
    restarted: AtomicU64,
}

impl<A: RemoteActor + Handler<Down>> ActorSink<A> {
    pub(crate) fn down_only(cell: &Arc<ActorCell<A>>, watch: WatchId) -> Self {
        let incarnation = cell.status.incarnation();
        Self {
            watch,
            cell: Arc::downgrade(cell),
            incarnation,
            over: AtomicBool::new(false),
            down: wrap,
            event: None,
            waiting: Arc::default(),
        }
    }

    pub(crate) fn with_events(cell: &Arc<ActorCell<A>>, watch: WatchId) -> Self
    where
        A: Handler<WatchEvent>,
    {
        Self { event: Some(wrap), ..Self::down_only(cell, watch) }
    }
}

impl<A: RemoteActor> WatchSink for ActorSink<A> {
    fn notice(&self, notice: Notice) {
        let Some(cell) = self.cell.upgrade() else { return };
        let (watch, told) = (self.watch, self.incarnation);
        if cell.status.incarnation() != told {
            return;
        }
        match notice {
            Notice::Down(reason) => {
                if !self.over.swap(true, Ordering::AcqRel) {
                    drop(cell.forget_watch(watch));
                    let down = Down { watch, reason };
                    cell.inlet.send_beyond((self.down)(Inform {
                        told,
                        notice: Some(down),
                        waits: None,
                    }));
                }
            }
            Notice::Event(event) => {
                let Some(wrap) = self.event else { return };
                if self.over.load(Ordering::Acquire) {
                    return;
                }
                let Some(waits) = Waits::for_its_turn(&self.waiting, event) else { return };
                let event = WatchEvent { watch, event };
                cell.inlet.send_beyond(wrap(Inform {
                    told,
                    notice: Some(event),
                    waits: Some(waits),
                }));
            }
        }
    }
}

/// Counts an event that waits for its handler.
struct Waits {
    waiting: Arc<Waiting>,
    restart: bool,
}

impl Waits {
    /// `None`: as many wait as may, or the one that waits tells of this too.
    fn for_its_turn(waiting: &Arc<Waiting>, event: Event) -> Option<Self> {
        let restart = match event {
            Event::Restarted { incarnation } => {
                if waiting.restarted.fetch_max(incarnation, Ordering::AcqRel) > 0 {
                    return None;
                }
                true
            }
            _ => {
                if waiting.events.fetch_add(1, Ordering::Relaxed) >= EVENTS_MAX {
                    waiting.events.fetch_sub(1, Ordering::Relaxed);
                    return None;
                }
                false
            }
        };
        Some(Self { waiting: waiting.clone(), restart })
    }

    /// Its turn has come; the latest incarnation, if it tells of restarts.
    fn turn(self) -> Option<u64> {
        if self.restart {
            return Some(self.waiting.restarted.swap(0, Ordering::AcqRel));
        }
        self.waiting.events.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

/// A notice on its way. It has no caller: the mesh itself sends it.
struct Inform<M> {
    /// The incarnation that began the watch.
    told: u64,
    notice: Option<M>,
    waits: Option<Waits>,
}

/// What a watch tells its watcher.
trait Told: actix::Message<Result = ()> + Send + 'static {
    /// The actor has been restarted again while this waited.
    fn restarted(&mut self, incarnation: u64);
}

impl Told for Down {
    fn restarted(&mut self, _: u64) {}
}

impl Told for WatchEvent {
    fn restarted(&mut self, incarnation: u64) {
        self.event = Event::Restarted { incarnation };
    }
}

fn wrap<A, M>(inform: Inform<M>) -> Box<dyn Delivery<A>>
where
    A: Actor + Handler<M>,
    M: Told,
{
    Box::new(inform)
}

impl<A, M> Delivery<A> for Inform<M>
where
    A: Actor + Handler<M>,
    M: Told,
{
    fn deliver(&mut self, actor: &mut A, ctx: &mut A::Context, around: &Surroundings) {
        let Some(mut notice) = self.notice.take() else { return };
        if let Some(incarnation) = self.waits.take().and_then(Waits::turn) {
            notice.restarted(incarnation);
        }
        // It may have come in while the instance that wanted it ended.
        if self.told == around.incarnation {
            actor.handle(notice, ctx).handle(ctx, None);
        }
    }

    fn is_notice_to(&self) -> Option<u64> {
        Some(self.told)
    }

    fn refuse(&mut self, _why: Fault) {}
}
