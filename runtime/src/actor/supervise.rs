//! Keeps an actor alive: polls its context, and when that panics puts a fresh instance in its place.
//!
//! A panic in a handler, in `started` or in a future of the context ends the instance: its timers, its asynchronous
//! handlers in flight and the message in hand are lost, the queue and the refs stay. A panic of an instance that is stopping,
//! or of an actor that somebody else wants to end, is the actor's end. actix's own `Supervisor` does not
//! survive panics (docs/measurements.md), hence this one.

use crate::actor::cell::ActorCell;
use crate::actor::current::Current;
use crate::actor::drain::{Feed, Pump, SHARE};
use crate::actor::restart::{Life, Record, Restart, Verdict};
use crate::mailbox::Hand;
use crate::mailbox::dispatch::RemoteActor;
use crate::refs::caller::Blame;
use crate::refs::turn::Turn;
use crate::refs::watch::DownReason;
use actix::dev::{AsyncContextParts, ContextFut};
use actix::{ActorContext, ActorState, AsyncContext, Context};
use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll, ready};
use tokio::time::{Instant, Sleep};

/// A supervisor on its way to its thread. If it never gets there, the actor ends all the same.
pub(crate) struct Supervisor<A: RemoteActor, F> {
    ending: Ending<A>,
    factory: F,
    restart: Restart,
}

impl<A, F> Supervisor<A, F>
where
    A: RemoteActor,
    F: FnMut() -> A + Send + 'static,
{
    pub(crate) fn new(cell: Arc<ActorCell<A>>, factory: F, restart: Restart) -> Self {
        Self { ending: Ending { cell, reason: DownReason::Stopped }, factory, restart }
    }

    /// Runs the actor until it stops, or panics for good.
    pub(crate) fn run(self) -> Running<A, F> {
        let Self { ending, factory, restart } = self;
        let (feed, record) = (Feed::new(), Record::default());
        Running {
            instance: None,
            feed,
            pause: None,
            made: Instant::now(),
            handed_out: 0,
            record,
            ending,
            factory,
            restart,
        }
    }
}

/// A supervisor at work. A future by hand: an `async fn` would hold the instance twice, and an idle actor's memory is
/// mostly this.
pub(crate) struct Running<A: RemoteActor, F> {
    instance: Option<Instance<A>>,
    feed: Rc<RefCell<Feed<A>>>,
    /// Runs before the next instance is made.
    pause: Option<Pin<Box<Sleep>>>,
    /// When the present instance was made, or tried to be.
    made: Instant,
    /// Messages handed out before it.
    handed_out: u64,
    record: Record,
    ending: Ending<A>,
    factory: F,
    restart: Restart,
}

// Nothing in it is pinned in place; actix's contexts are `Unpin`.
impl<A: RemoteActor, F> Unpin for Running<A, F> {}

impl<A, F> Future for Running<A, F>
where
    A: RemoteActor,
    F: FnMut() -> A,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.instance.is_none() {
            if this.ending.cell.must_end() {
                return Poll::Ready(());
            }
            if let Some(pause) = &mut this.pause {
                if pause.as_mut().poll(cx).is_pending() {
                    // So that a stop ends the pause.
                    let hand = &mut this.feed.borrow_mut().hand;
                    this.ending.cell.inlet.settle_waiting(hand, cx);
                    return Poll::Pending;
                }
                this.pause = None;
            }
        }
        // What a panic that nobody caught here has left behind.
        Blame::take();
        let panic = match &mut this.instance {
            Some(instance) => {
                let mut feed = this.feed.borrow_mut();
                feed.share = SHARE;
                // Here rather than in the pump, which actix doesn't poll while the actor waits for an `AtomicResponse`.
                feed.refuse_rest(&this.ending.cell);
                drop(feed);
                ready!(instance.poll(cx))
            }
            None => match this.make_instance() {
                Ok(instance) => {
                    let panic = this.instance.insert(instance).poll(cx);
                    ready!(panic)
                }
                Err(panic) => Some(panic),
            },
        };
        match panic {
            Some(panic) => this.panicked(panic, cx),
            None => Poll::Ready(()),
        }
    }
}

impl<A, F> Running<A, F>
where
    A: RemoteActor,
    F: FnMut() -> A,
{
    fn make_instance(&mut self) -> Result<Instance<A>, Box<dyn Any + Send>> {
        let cell = &self.ending.cell;
        let incarnation = cell.status.incarnation();
        if incarnation > 0 {
            cell.restarted(incarnation);
        }
        self.made = Instant::now();
        {
            let mut feed = self.feed.borrow_mut();
            self.handed_out = feed.handed_out;
            feed.share = SHARE;
        }
        let pump = Pump::supervised(cell.clone(), self.feed.clone());
        let factory = &mut self.factory;
        let context = catch_unwind(AssertUnwindSafe(move || {
            let mut ctx = Context::new();
            ctx.spawn(pump);
            ctx.into_future(factory())
        }))?;
        Ok(Instance { context: Some(context), cell: cell.clone() })
    }

    /// An instance, or the making of one, has panicked.
    fn panicked(&mut self, panic: Box<dyn Any + Send>, cx: &task::Context<'_>) -> Poll<()> {
        let (cell, now) = (&self.ending.cell, Instant::now());
        let waited_for = self.feed.borrow().waits_for.take();
        let far = Blame::take().or(waited_for);
        report_panic(cell, panic);
        // Before anything of the instance is dropped, so that those who wait for it find out why.
        cell.status.panicked();
        let mut stops = cell.must_end();
        if let Some(mut instance) = self.instance.take() {
            stops |= instance.is_stopping();
            instance.terminate();
        }
        if let Some(far) = &far
            && cell.status.quarantine.blame(far, now)
        {
            let (actor, kind) = (cell.name(), std::any::type_name::<A>());
            tracing::warn!(actor, kind, peer = %far.peer(), "a host whose messages make the actor panic is refused for a minute");
        }
        if stops {
            // It was to end anyway, hence as `Stopped`: nobody has given it up.
            return Poll::Ready(());
        }
        let life = Life {
            messages: self.feed.borrow().handed_out - self.handed_out,
            lived: now.duration_since(self.made),
            by_far_message: far.is_some(),
        };
        match self.record.after_panic(self.restart, life, now) {
            Verdict::GiveUp => {
                let (actor, kind) = (cell.name(), std::any::type_name::<A>());
                tracing::error!(actor, kind, "panicked once too often, not restarted");
                self.ending.reason = DownReason::Panicked;
                Poll::Ready(())
            }
            Verdict::Restart { pause } => {
                cell.forget_instance(&mut self.feed.borrow_mut().hand);
                self.pause = Some(Box::pin(tokio::time::sleep(pause)));
                // Its neighbours get their turn before it is looked at again.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl<A: RemoteActor, F> Drop for Running<A, F> {
    fn drop(&mut self) {
        self.instance = None;
        // What is in hand first; then `ending` finds nothing left to do.
        self.ending.cell.end(&mut self.feed.borrow_mut().hand, self.ending.reason);
    }
}

/// One instance of the actor in its context. Whatever panics in it, also while it is dropped, stays in it.
struct Instance<A: RemoteActor> {
    context: Option<ContextFut<A, Context<A>>>,
    cell: Arc<ActorCell<A>>,
}

impl<A: RemoteActor> Instance<A> {
    /// Ready with the panic, if it ended by one.
    fn poll(&mut self, cx: &mut task::Context<'_>) -> Poll<Option<Box<dyn Any + Send>>> {
        let Some(context) = &mut self.context else { return Poll::Ready(None) };
        let _current = Current::enter(self.cell.clone(), context.ctx());
        let _turn = Turn::enter(cx.waker());
        // Here rather than in the pump, which actix doesn't poll while the actor waits for an `AtomicResponse`.
        if self.cell.stop_requested() {
            context.ctx().stop();
        }
        match catch_unwind(AssertUnwindSafe(|| Pin::new(context).poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(None),
            Err(panic) => Poll::Ready(Some(panic)),
        }
    }

    /// Whether its stop has begun, or is behind it.
    fn is_stopping(&mut self) -> bool {
        let state = self.context.as_mut().map(|context| context.ctx().state());
        matches!(state, Some(ActorState::Stopping | ActorState::Stopped))
    }

    /// Keeps actix from polling it once more when it is dropped.
    fn terminate(&mut self) {
        if let Some(context) = &mut self.context {
            context.ctx().parts().terminate();
        }
    }
}

impl<A: RemoteActor> Drop for Instance<A> {
    fn drop(&mut self) {
        // It runs still if the thread itself ends. actix would then poll it to its stop in its own drop, where a panic
        // and another one of a field that is dropped are one too many for the process.
        if self.context.as_mut().is_some_and(ContextFut::alive) {
            if let Some(context) = &mut self.context {
                context.ctx().stop();
            }
            if let Poll::Ready(Some(panic)) =
                self.poll(&mut task::Context::from_waker(task::Waker::noop()))
            {
                report_panic(&self.cell, panic);
            }
            self.terminate();
        }
        let context = self.context.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(move || drop(context))) {
            report_panic(&self.cell, panic);
        }
    }
}

/// Says in the log what went wrong. The panic hook has printed it already; this adds whose it was.
fn report_panic<A: RemoteActor>(cell: &ActorCell<A>, panic: Box<dyn Any + Send>) {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)");
    tracing::error!(
        actor = cell.name(),
        kind = std::any::type_name::<A>(),
        message,
        "an actor panicked"
    );
    // A payload may panic when dropped, which must not end the supervisor.
    let _ = catch_unwind(AssertUnwindSafe(move || drop(panic)));
}

/// Ends the cell when dropped, whatever the cause: a stop, a panic for good, or the end of the thread.
struct Ending<A: RemoteActor> {
    cell: Arc<ActorCell<A>>,
    reason: DownReason,
}

impl<A: RemoteActor> Drop for Ending<A> {
    fn drop(&mut self) {
        self.cell.end(&mut Hand::default(), self.reason);
    }
}
