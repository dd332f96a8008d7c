//! What becomes of a handler's responder. actix answers through a plain oneshot channel, which says that it was closed,
//! but not why.

use crate::ground::error::Fault;
use crate::ground::message::Message;
use crate::refs::cancellation::Signal;
use crate::refs::status::{InHand, Status};
use actix::dev::OneshotSender;
use futures_util::task::AtomicWaker;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker, ready};
use tokio::sync::oneshot;

/// The obligation to answer a local ask.
pub(crate) struct LocalReply<M: Message> {
    sender: Option<OneshotSender<M::Result>>,
    /// Elsewhere while a handler runs, which has its own guard against panics.
    fate: Option<Arc<Fate>>,
}

impl<M: Message> LocalReply<M> {
    /// An obligation of an actor of this status, and the end at which the answer arrives.
    pub(crate) fn new(status: &Status) -> (Self, Answer<M::Result>) {
        let (sender, receiver) = oneshot::channel();
        let mut answer = Answer::from(receiver);
        // Not ready: the sender is here.
        let _ = answer.watch(status);
        (Self { sender: Some(sender), fate: Some(answer.fate.clone()) }, answer)
    }

    pub(crate) fn fate(&self) -> Option<&Fate> {
        self.fate.as_deref()
    }

    /// For the time that the handler has the message in hand.
    pub(crate) fn take_fate(&mut self) -> Option<Arc<Fate>> {
        self.fate.take()
    }

    /// The handler has returned.
    pub(crate) fn put_fate(&mut self, fate: Option<Arc<Fate>>) {
        self.fate = fate;
    }

    pub(crate) fn take_sender(&mut self) -> Option<OneshotSender<M::Result>> {
        self.sender.take()
    }

    /// The handler has the responder: if it hasn't answered at once, the actor has the ask in hand.
    pub(crate) fn handed_over(self, status: &Status) {
        if let Some(fate) = &self.fate
            && !fate.is_settled()
        {
            status.has_in_hand(InHand::near(fate.clone()));
        }
    }
}

impl<M: Message> Drop for LocalReply<M> {
    fn drop(&mut self) {
        // Still armed while a panic unwinds: the handler that had it in hand is the one that panicked.
        if self.sender.is_some()
            && std::thread::panicking()
            && let Some(fate) = &self.fate
        {
            fate.refused(&Fault::Panicked);
        }
    }
}

/// Where the answer of a handler arrives, or why there is none.
pub(crate) struct Answer<T> {
    receiver: oneshot::Receiver<T>,
    fate: Arc<Fate>,
    /// It, or why there is none, was told.
    over: bool,
}

impl<T> From<oneshot::Receiver<T>> for Answer<T> {
    fn from(receiver: oneshot::Receiver<T>) -> Self {
        Self { receiver, fate: Arc::new(Fate::default()), over: false }
    }
}

impl<T> Answer<T> {
    pub(crate) fn fate(&self) -> &Arc<Fate> {
        &self.fate
    }

    /// Begins to watch the responder, which may be dropped before anybody awaits the answer. Ready if there is one now.
    pub(crate) fn watch(&mut self, status: &Status) -> Poll<Result<T, Fault>> {
        // With no heed to tokio's budget, which could put it off.
        let mut receiver = tokio::task::unconstrained(&mut self.receiver);
        let waker = Waker::from(self.fate.clone());
        let answered = Pin::new(&mut receiver).poll(&mut Context::from_waker(&waker));
        self.over |= answered.is_ready();
        answered.map_err(|_| self.fate.verdict(status))
    }

    /// The answer of an actor of this status. Not to be polled again once it was ready.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, status: &Status) -> Poll<Result<T, Fault>> {
        self.fate.waiter.register(cx.waker());
        let waker = Waker::from(self.fate.clone());
        let answered = Pin::new(&mut self.receiver).poll(&mut Context::from_waker(&waker));
        self.over |= answered.is_ready();
        Poll::Ready(ready!(answered).map_err(|_| self.fate.verdict(status)))
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        self.fate.settled.store(true, Ordering::Release);
        // An actor may keep its responder for ever, but not the asker's task with it.
        drop(self.fate.waiter.take());
        if !self.over {
            self.fate.abandon();
        }
    }
}

/// How far an ask came; read by the asker when its responder was dropped.
pub(crate) struct Fate {
    stage: AtomicU64,
    /// The responder has answered or is gone, or nobody waits for it.
    settled: AtomicBool,
    waiter: AtomicWaker,
    /// The asker gave up.
    abandoned: AtomicBool,
    /// Says so to a handler that wants to know.
    signal: OnceLock<Arc<Signal>>,
}

impl Default for Fate {
    fn default() -> Self {
        Self {
            stage: AtomicU64::new(Self::QUEUED),
            settled: AtomicBool::new(false),
            waiter: AtomicWaker::new(),
            abandoned: AtomicBool::new(false),
            signal: OnceLock::new(),
        }
    }
}

/// The channel wakes it on the thread that answers, or that drops the responder: there it can be seen whether a panic is
/// what drops it, as that of a `ResponseFuture` is, which has a task to itself.
impl Wake for Fate {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if std::thread::panicking() {
            self.refused(&Fault::Panicked);
        }
        self.settled.store(true, Ordering::Release);
        self.waiter.wake();
    }
}

impl Fate {
    const QUEUED: u64 = u64::MAX;
    const STOPPED: u64 = u64::MAX - 1;
    const PANICKED: u64 = u64::MAX - 2;

    /// The actor's instance of this number has it in hand.
    pub(crate) fn handled_by(&self, incarnation: u64) {
        self.stage.store(incarnation, Ordering::Release);
    }

    /// Whether nothing is waited for any more.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// There will be no answer: `Panicked`, or the actor stopped.
    pub(crate) fn refused(&self, why: &Fault) {
        let stage = if *why == Fault::Panicked { Self::PANICKED } else { Self::STOPPED };
        self.stage.store(stage, Ordering::Release);
    }

    fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
        // Against that in `signal`: one of the two sees what the other did.
        fence(Ordering::SeqCst);
        if let Some(signal) = self.signal.get() {
            signal.give();
        }
    }

    /// Whether the asker gave up.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// By what a handler hears that the asker gives up.
    pub(crate) fn signal(&self) -> Arc<Signal> {
        let signal = self.signal.get_or_init(Arc::default).clone();
        fence(Ordering::SeqCst);
        if self.is_abandoned() {
            signal.give();
        }
        signal
    }

    /// Why no answer came.
    fn verdict(&self, status: &Status) -> Fault {
        match self.stage.load(Ordering::Acquire) {
            Self::STOPPED => Fault::Stopped,
            Self::PANICKED => Fault::Panicked,
            Self::QUEUED => status.ended().unwrap_or(Fault::Stopped),
            incarnation => status.verdict(incarnation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Asker(AtomicU64);

    impl Wake for Asker {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn an_asker_is_woken_once_and_told_whether_a_panic_dropped_its_responder() {
        for panics in [true, false] {
            let (status, (sender, receiver)) = (Status::default(), oneshot::channel::<u64>());
            let mut answer = Answer::from(receiver);
            answer.fate().handled_by(0);
            assert!(answer.watch(&status).is_pending());
            let asker = Arc::new(Asker::default());
            let waker = Waker::from(asker.clone());
            assert!(answer.poll(&mut Context::from_waker(&waker), &status).is_pending());
            let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let _sender = sender;
                assert!(!panics, "as expected");
            }));
            assert_eq!((dropped.is_err(), asker.0.load(Ordering::Relaxed)), (panics, 1));
            let fault = if panics { Fault::Panicked } else { Fault::NoReply };
            assert_eq!(
                answer.poll(&mut Context::from_waker(&waker), &status),
                Poll::Ready(Err(fault))
            );
        }
    }

    #[test]
    fn nothing_of_an_asker_that_gave_up_is_kept_by_the_responder() {
        let (status, (sender, receiver)) = (Status::default(), oneshot::channel::<u64>());
        let mut answer = Answer::from(receiver);
        let asker = Arc::new(Asker::default());
        let waker = Waker::from(asker.clone());
        assert!(answer.poll(&mut Context::from_waker(&waker), &status).is_pending());
        drop((answer, waker));
        assert_eq!(Arc::strong_count(&asker), 1);
        assert!(sender.is_closed());
    }
}
