//! Feeds an actor from its inlet: a future that lives in the actor's own context.
//!
//! As part of the context it can respect `ctx.wait`: while an `AtomicResponse` is under way nothing further is handed out.
//! (Calling handlers in a loop runs such responses in reverse order, docs/measurements.md.)

use crate::actor::cell::ActorCell;
use crate::actor::current::Current;
use crate::mailbox::Hand;
use crate::mailbox::delivery::Surroundings;
use crate::mailbox::dispatch::RemoteActor;
use crate::net::wake_batch::Cork;
use crate::refs::caller::Caller;
use crate::refs::turn::Turn;
use crate::refs::watch::DownReason;
use actix::fut::ActorFuture;
use actix::{AsyncContext, Context};
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll};

/// Messages an actor handles before it lets its neighbours on the thread run, a guess that keeps the turn of an actor below a tenth of a millisecond.
pub(crate) const SHARE: u32 = 64;

/// Messages after which what was answered so far leaves, and the other side goes to work on it while the actor goes on with the
/// rest. With 64 asks in flight, half of them makes both sides work at the same time; a quarter is no better (measured).
const BREATH: u32 = SHARE / 2;

/// What outlives one instance of the actor: the messages in hand and the counters.
pub(crate) struct Feed<A: RemoteActor> {
    pub(crate) hand: Hand<A>,
    /// Messages left to handle before yielding. actix may poll the pump several times within one turn of the task, so
    /// whoever knows the turn (the supervisor) refills it.
    pub(crate) share: u32,
    /// Messages handed out, ever: what a supervisor takes for progress. Also those whose handler panicked, lest a peer
    /// that knows one such message could end the actor by sending it ten times.
    pub(crate) handed_out: u64,
    /// See [`Surroundings`].
    pub(crate) waits_for: Rc<Cell<Option<Caller>>>,
}

impl<A: RemoteActor> Feed<A> {
    pub(crate) fn new() -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            hand: Hand::default(),
            share: SHARE,
            handed_out: 0,
            waits_for: Rc::default(),
        }))
    }
}

impl<A: RemoteActor> Feed<A> {
    /// Refuses what is in hand, if the actor takes no further messages.
    pub(crate) fn refuse_rest(&mut self, cell: &ActorCell<A>) {
        cell.drain_hand(&mut self.hand);
    }
}

/// The future in the context.
pub(crate) struct Pump<A: RemoteActor> {
    cell: Arc<ActorCell<A>>,
    feed: Rc<RefCell<Feed<A>>>,
    around: Surroundings,
    /// Not under our supervisor: actix itself polls the context.
    alone: bool,
}

impl<A: RemoteActor> Pump<A> {
    /// For an instance under a supervisor, which ends the cell.
    pub(crate) fn supervised(cell: Arc<ActorCell<A>>, feed: Rc<RefCell<Feed<A>>>) -> Self {
        let around =
            Surroundings { waits_for: feed.borrow().waits_for.clone(), ..cell.surroundings() };
        Self { cell, feed, around, alone: false }
    }

    /// For a running actix actor, whose end is the end of its context.
    pub(crate) fn alone(cell: Arc<ActorCell<A>>) -> Self {
        let around = cell.surroundings();
        Self { cell, feed: Feed::new(), around, alone: true }
    }
}

impl<A: RemoteActor> ActorFuture<A> for Pump<A> {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut A,
        ctx: &mut Context<A>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Self::Output> {
        let this = self.get_mut();
        let _current =
            this.alone.then(|| (Current::enter(this.cell.clone(), ctx), Turn::enter(cx.waker())));
        // Borrowed across handlers, which cannot reach it.
        let feed = &mut *this.feed.borrow_mut();
        if this.alone {
            feed.share = SHARE;
        }
        // What the handlers answer and send leaves together.
        let mut cork = Cork::enter();
        let inlet = &this.cell.inlet;
        inlet.refuse_unwanted(&mut feed.hand);
        if this.alone && this.cell.stop_requested() {
            // The mesh ends; the actor was there before it and goes on.
            return Poll::Ready(());
        }
        if this.alone {
            feed.refuse_rest(&this.cell);
        }
        loop {
            if ctx.waiting() {
                // actix polls us again when the wait is over.
                inlet.settle_waiting(&mut feed.hand, cx);
                return Poll::Pending;
            }
            if feed.share == 0 {
                inlet.settle(&mut feed.hand);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if feed.share == SHARE - BREATH && cork.holds() {
                inlet.settle(&mut feed.hand);
                cork.pull();
                yield_to_runtime(cx);
                return Poll::Pending;
            }
            inlet.top_up(&mut feed.hand);
            let Some(delivery) = feed.hand.next() else {
                match inlet.poll_refill(&mut feed.hand, cx) {
                    Poll::Ready(()) => continue,
                    Poll::Pending => return Poll::Pending,
                }
            };
            feed.share -= 1;
            feed.handed_out += 1;
            if delivery.is_large() {
                // What was answered before need not wait for it, nor the neighbours for what comes after.
                cork.pull();
                feed.share = 0;
            }
            delivery.deliver(actor, ctx, &this.around);
            feed.hand.done();
            cork.breathe();
        }
    }
}

/// Wakes the task after everything else on the thread that is ready, I/O too, had its turn. A wake-up alone would let a
/// `LocalSet` poll it again before any task outside of the set, such as those that send.
fn yield_to_runtime(cx: &mut task::Context<'_>) {
    let yielding = std::pin::pin!(tokio::task::yield_now());
    if yielding.poll(cx).is_ready() {
        cx.waker().wake_by_ref();
    }
}

impl<A: RemoteActor> Drop for Pump<A> {
    fn drop(&mut self) {
        if self.alone {
            Current::forget_alone(&self.cell);
            let mut reason = DownReason::Stopped;
            if std::thread::panicking() {
                reason = DownReason::Panicked;
                let (actor, kind) = (self.cell.name(), std::any::type_name::<A>());
                tracing::error!(actor, kind, "an exposed actor panicked, which is its end");
            }
            self.cell.end(&mut self.feed.borrow_mut().hand, reason);
        }
    }
}
