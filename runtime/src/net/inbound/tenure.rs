//! A lane by a published name: its sender may come to lose the right to it.

use crate::net::rights::{Holder, Losing, Right};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use tokio::sync::oneshot;

/// Tells a lane's task that the right is lost.
#[derive(Debug, Default)]
pub(crate) struct Revocation {
    revoked: AtomicBool,
    waker: Mutex<Option<Waker>>,
    /// Dropped with the lane, which tells that it has refused what it had.
    losing: Mutex<Vec<oneshot::Sender<Infallible>>>,
}

impl Holder for Revocation {
    fn judged(&self, admitted: bool) -> Option<Losing> {
        // A lane that has begun to end doesn't go on: the next one is opened if the right is back.
        if admitted {
            return None;
        }
        let (lost, losing) = oneshot::channel();
        self.losing.lock().push(lost);
        self.revoked.store(true, Ordering::Release);
        let waker = self.waker.lock().take();
        waker.into_iter().for_each(Waker::wake);
        Some(losing)
    }
}

/// The right by which a lane is open.
pub(crate) struct Tenure {
    revocation: Arc<Revocation>,
    _right: Right,
}

impl Tenure {
    /// `hold` enters the right.
    pub(crate) fn new(hold: impl FnOnce(Arc<Revocation>) -> Right) -> Self {
        let revocation = Arc::new(Revocation::default());
        Self { _right: hold(revocation.clone()), revocation }
    }

    /// Whether it has been taken back. Wakes the task when it is.
    pub(crate) fn is_over(&self, cx: &Context<'_>) -> bool {
        if self.revocation.revoked.load(Ordering::Acquire) {
            return true;
        }
        let mut waker = self.revocation.waker.lock();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            waker => *waker = Some(cx.waker().clone()),
        }
        drop(waker);
        self.revocation.revoked.load(Ordering::Acquire)
    }
}
