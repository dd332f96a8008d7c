//! What the lanes of one link may grant beyond what every stream starts with, in bytes.
//!
//! Lanes are always read, so what a peer can make us hold is what was granted to it and not yet taken by a handler. A
//! lane's window grows out of this budget as long as there is some; a message larger than its lane's window takes what it
//! needs, and waits in turn for it.

use parking_lot::Mutex;
use std::sync::Arc;
use std::task::{Context, Waker};

/// Memory that lanes may grant: one link's, out of what the whole mesh may.
#[derive(Debug)]
pub(crate) struct Budget {
    inner: Mutex<Inner>,
    /// What windows leave for single large messages, in bytes.
    reserve: u64,
    whole: Option<Arc<Budget>>,
}

#[derive(Debug)]
struct Inner {
    left: u64,
    waiting: Vec<Waker>,
}

impl Budget {
    /// `windows` bytes for all windows together, and `reserve` more for messages larger than their lane's window.
    pub(crate) fn new(windows: u64, reserve: u64, whole: Option<Arc<Self>>) -> Arc<Self> {
        let inner = Inner { left: windows + reserve, waiting: Vec::new() };
        Arc::new(Self { inner: Mutex::new(inner), reserve, whole })
    }

    /// Takes `bytes` for a window, if that leaves the reserve untouched.
    pub(crate) fn take_for_window(&self, bytes: u64) -> bool {
        bytes == 0 || self.take(bytes, true)
    }

    /// Takes `bytes` for a message that needs them, if there are as many.
    pub(crate) fn take_for_need(&self, bytes: u64) -> bool {
        bytes == 0 || self.take(bytes, false)
    }

    fn take(&self, bytes: u64, spare: bool) -> bool {
        let reserve = if spare { self.reserve } else { 0 };
        let mut inner = self.inner.lock();
        let enough = inner.left >= bytes + reserve
            && self.whole.as_ref().is_none_or(|whole| whole.take(bytes, spare));
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
        drop(inner);
        if let Some(whole) = &self.whole {
            whole.wait(cx);
        }
    }

    /// Whether anybody waits for what others have.
    pub(crate) fn is_waited_for(&self) -> bool {
        !self.inner.lock().waiting.is_empty()
            || self.whole.as_ref().is_some_and(|whole| whole.is_waited_for())
    }

    /// Gives bytes back.
    pub(crate) fn give_back(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let waiting = {
            let mut inner = self.inner.lock();
            inner.left += bytes;
            std::mem::take(&mut inner.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
        if let Some(whole) = &self.whole {
            whole.give_back(bytes);
        }
    }
}
