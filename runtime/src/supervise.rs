//! Keeps an actor alive: polls its context, and when that panics puts a fresh instance in its place.
//!
//! A panic in a handler, in `started` or in a future of the context ends the instance: its timers, its asynchronous
//! handlers in flight and the message in hand are lost, the queue and the refs stay. actix's own `Supervisor` does not
//! survive panics (docs/measurements.md), hence this one.

use crate::actor_cell::ActorCell;
use crate::context::Current;
use crate::dispatch::RemoteActor;
use crate::inlet::Hand;
use crate::pump::{Feed, Pump, SHARE};
use crate::turn::Turn;
use crate::watch::DownReason;
use actix::dev::{AsyncContextParts, ContextFut};
use actix::{ActorContext, AsyncContext, Context};
use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// What happens after an actor has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Restart {
    /// It ends as `Panicked`.
    Never,
    /// It is restarted as long as its instances get as far as a message: this many in a row that panic before are one
    /// too many, and it ends as `Panicked`. The default, with 10: a message that panics its handler is lost, so an actor
    /// that chokes on some messages lives on however many they are, and one that cannot even start does not spin for
    /// ever.
    WhileItProgresses {
        /// Fruitless instances in a row that end it; at least 1.
        attempts: u32,
    },
    /// It is restarted unless it has panicked more than so often within a time, as in Erlang/OTP.
    Within {
        /// Restarts allowed within `window`.
        restarts: u32,
        /// The time they are counted over.
        window: Duration,
    },
}

impl Default for Restart {
    fn default() -> Self {
        Self::WhileItProgresses { attempts: 10 }
    }
}

/// The pause before the second fruitless restart in a row; it doubles with each further one up to [`PAUSE_MAX`]. A guess:
/// ten attempts take 3 s, time for a missing file or port to come back.
const PAUSE_FIRST: Duration = Duration::from_millis(10);

/// See [`PAUSE_FIRST`].
const PAUSE_MAX: Duration = Duration::from_secs(1);

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
    /// Messages handed out before the present instance.
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
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
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
        let Some(panic) = panic else { return Poll::Ready(()) };
        report_panic::<A>(panic);
        // Before anything of the instance is dropped, so that those who wait for it find out why.
        this.ending.cell.status.panicked();
        if let Some(mut instance) = this.instance.take() {
            instance.terminate();
        }
        let progress = this.feed.borrow().handed_out > this.handed_out;
        match this.record.after_panic(this.restart, progress, Instant::now()) {
            Verdict::GiveUp => {
                tracing::error!(
                    actor = std::any::type_name::<A>(),
                    "panicked once too often, not restarted"
                );
                this.ending.reason = DownReason::Panicked;
                Poll::Ready(())
            }
            Verdict::Restart { pause } => {
                if pause > Duration::ZERO {
                    this.pause = Some(Box::pin(tokio::time::sleep(pause)));
                }
                // Its neighbours get their turn between two instances.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
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
        let mut feed = self.feed.borrow_mut();
        self.handed_out = feed.handed_out;
        feed.share = SHARE;
        let pump = Pump::supervised(cell.clone(), self.feed.clone());
        let factory = &mut self.factory;
        let context = catch_unwind(AssertUnwindSafe(move || {
            let mut ctx = Context::new();
            ctx.spawn(pump);
            ctx.into_future(factory())
        }))?;
        Ok(Instance { context: Some(context), cell: cell.clone() })
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
        let _current = Current::enter(self.cell.clone());
        let _turn = Turn::enter(cx.waker());
        // Here rather than in the pump, which actix doesn't poll while the actor waits for an `AtomicResponse`.
        if self.cell.inlet.stop_requested() {
            context.ctx().stop();
        }
        match catch_unwind(AssertUnwindSafe(|| Pin::new(context).poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(None),
            Err(panic) => Poll::Ready(Some(panic)),
        }
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
                report_panic::<A>(panic);
            }
            self.terminate();
        }
        let context = self.context.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(move || drop(context))) {
            report_panic::<A>(panic);
        }
    }
}

/// What a supervisor remembers of its actor's panics.
#[derive(Default)]
struct Record {
    fruitless: u32,
    recent: VecDeque<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Restart { pause: Duration },
    GiveUp,
}

impl Record {
    fn after_panic(&mut self, policy: Restart, progress: bool, now: Instant) -> Verdict {
        match policy {
            Restart::Never => Verdict::GiveUp,
            Restart::WhileItProgresses { attempts } => {
                self.fruitless = if progress { 0 } else { self.fruitless + 1 };
                if self.fruitless >= attempts.max(1) {
                    return Verdict::GiveUp;
                }
                let pause = match self.fruitless {
                    0 | 1 => Duration::ZERO,
                    n => PAUSE_FIRST.saturating_mul(1 << (n - 2).min(16)).min(PAUSE_MAX),
                };
                Verdict::Restart { pause }
            }
            Restart::Within { restarts, window } => {
                while self.recent.front().is_some_and(|then| now.duration_since(*then) >= window) {
                    self.recent.pop_front();
                }
                if self.recent.len() >= usize::try_from(restarts).unwrap_or(usize::MAX) {
                    return Verdict::GiveUp;
                }
                self.recent.push_back(now);
                Verdict::Restart { pause: Duration::ZERO }
            }
        }
    }
}

/// Says in the log what went wrong. The panic hook has printed it already; this adds whose it was.
fn report_panic<A>(panic: Box<dyn Any + Send>) {
    let actor = std::any::type_name::<A>();
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no text)");
    tracing::error!(actor, message, "an actor panicked");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_that_progresses_is_restarted_for_ever() {
        let mut record = Record::default();
        for _ in 0..100_000 {
            let verdict = record.after_panic(Restart::default(), true, Instant::now());
            assert_eq!(verdict, Verdict::Restart { pause: Duration::ZERO });
        }
    }

    #[test]
    fn an_actor_that_cannot_start_is_given_up_after_ever_longer_pauses() {
        let mut record = Record::default();
        let mut pauses = Duration::ZERO;
        for attempt in 1.. {
            match record.after_panic(Restart::default(), false, Instant::now()) {
                Verdict::Restart { pause } => pauses += pause,
                Verdict::GiveUp => {
                    assert_eq!(attempt, 10);
                    break;
                }
            }
        }
        assert!(pauses > Duration::from_secs(1) && pauses < Duration::from_secs(5), "{pauses:?}");
    }

    #[test]
    fn restarts_are_counted_within_their_window() {
        let policy = Restart::Within { restarts: 2, window: Duration::from_secs(10) };
        let (mut record, start) = (Record::default(), Instant::now());
        assert_ne!(record.after_panic(policy, true, start), Verdict::GiveUp);
        assert_ne!(record.after_panic(policy, true, start), Verdict::GiveUp);
        assert_eq!(record.after_panic(policy, true, start), Verdict::GiveUp);
        assert_ne!(
            record.after_panic(policy, true, start + Duration::from_secs(10)),
            Verdict::GiveUp
        );
    }
}
