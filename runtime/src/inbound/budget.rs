//! What the lanes of one link may grant beyond what every stream starts with, in bytes.
//!
//! Lanes are always read, so what a peer can make us hold is what was granted to it and not yet taken by a handler. A
//! lane's window grows out of this budget as long as there is some; a message larger than its lane's window takes what it
//! needs, and waits in turn for it.

use parking_lot::Mutex;
use std::sync::Arc;
use std::task::{Context, Waker};

/// The memory that one link's lanes may grant.
#[derive(Debug)]
pub(crate) struct Budget {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    left: u64,
    waiting: Vec<Waker>,
}

impl Budget {
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new(Inner { left: bytes, waiting: Vec::new() }) })
    }

    /// Takes `bytes`, if there are as many.
    pub(crate) fn take(&self, bytes: u64) -> bool {
        let mut inner = self.inner.lock();
        let enough = inner.left >= bytes;
        if enough {
            inner.left -= bytes;
        }
        enough
    }

    /// Wakes this task when something is given back.
    pub(crate) fn wait(&self, cx: &Context<'_>) {
        let mut inner = self.inner.lock();
        if !inner.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            inner.waiting.push(cx.waker().clone());
        }
    }

    /// Gives bytes back.
    pub(crate) fn give_back(&self, bytes: u64) {
        if bytes > 0 {
            let waiting = {
                let mut inner = self.inner.lock();
                inner.left += bytes;
                std::mem::take(&mut inner.waiting)
            };
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}
