//! Holds back wake-ups until an actor's turn is over.
//!
//! An actor that answers 64 asks in a row would wake the network's thread with the first, which then sends 64 small
//! packets beside it. Corked, it wakes it once, and the answers leave together. An actor that takes its time isn't held
//! back: as soon as one handler took longer than [`BRISK`], wake-ups go out at once for the rest of the turn.

use crate::net::stream::Express;
use std::cell::RefCell;
use std::task::Waker;
use std::time::Duration;
use tokio::time::Instant;

/// A handler that takes longer makes others wait for what is corked. A guess: well below a round trip between hosts.
const BRISK: Duration = Duration::from_micros(50);

thread_local! {
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

struct Held {
    wakers: Vec<Waker>,
    /// Writers of streams, and how to send in their place.
    writers: Vec<(Waker, Option<Express>)>,
    since: Option<Instant>,
}

impl Held {
    fn new() -> Self {
        Self { wakers: Vec::new(), writers: Vec::new(), since: None }
    }

    fn is_empty(&self) -> bool {
        self.wakers.is_empty() && self.writers.is_empty()
    }

    fn release(mut self) {
        self.wakers.into_iter().for_each(Waker::wake);
        // A single answer is sent here, which takes no longer than to wake the network's thread. That has several sent while this
        // thread goes on. Whose actor panics has no mind for it.
        if let [(_, Some(_))] = self.writers[..]
            && !std::thread::panicking()
            && let Some((writer, Some(express))) = self.writers.pop()
        {
            express.send(writer);
        }
        self.writers.into_iter().for_each(|(writer, _)| writer.wake());
    }
}

/// While it lives, [`wake`] on this thread waits.
pub(crate) struct Cork {
    outermost: bool,
}

impl Cork {
    pub(crate) fn enter() -> Self {
        HELD.with_borrow_mut(|held| {
            let outermost = held.is_none();
            if outermost {
                *held = Some(Held::new());
            }
            Self { outermost }
        })
    }

    /// To be called between two messages: lets go if the last one took long.
    pub(crate) fn breathe(&mut self) {
        if !self.outermost {
            return;
        }
        let slow = HELD.with_borrow_mut(|held| {
            let since = held.as_mut()?.since.as_mut()?;
            let now = Instant::now();
            let slow = now.duration_since(*since) > BRISK;
            *since = now;
            slow.then_some(())
        });
        if slow.is_some() {
            self.pull();
        }
    }

    /// Whether somebody waits for it to let go.
    pub(crate) fn holds(&self) -> bool {
        self.outermost
            && HELD.with_borrow(|held| held.as_ref().is_some_and(|held| !held.is_empty()))
    }

    /// Lets go, for the rest of the turn.
    pub(crate) fn pull(&mut self) {
        if std::mem::take(&mut self.outermost) {
            HELD.take().into_iter().for_each(Held::release);
        }
    }
}

impl Drop for Cork {
    fn drop(&mut self) {
        self.pull();
    }
}

/// Wakes, now or at the end of the turn.
pub(crate) fn wake(waker: Waker) {
    let now = HELD.with_borrow_mut(|held| match held {
        Some(held) => {
            held.since.get_or_insert_with(Instant::now);
            held.wakers.push(waker);
            None
        }
        None => Some(waker),
    });
    if let Some(waker) = now {
        waker.wake();
    }
}

/// Has the writer of a stream sent what was put into its buffer, now or at the end of the turn; by `express`, if given, on this
/// thread.
pub(crate) fn send(writer: Waker, express: Option<Express>) {
    let now = HELD.with_borrow_mut(|held| match held {
        Some(held) => {
            held.since.get_or_insert_with(Instant::now);
            held.writers.push((writer, express));
            None
        }
        None => Some((writer, express)),
    });
    match now {
        Some((writer, Some(express))) => express.send(writer),
        Some((writer, None)) => writer.wake(),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Count(AtomicUsize);
    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn wake_ups_wait_for_the_end_of_a_brisk_turn_and_for_nothing_in_a_slow_one() {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let woken = || count.0.load(Ordering::Relaxed);
        wake(count.clone().into());
        assert_eq!(woken(), 1);
        {
            let mut cork = Cork::enter();
            drop(Cork::enter());
            wake(count.clone().into());
            cork.breathe();
            assert_eq!(woken(), 1);
        }
        assert_eq!(woken(), 2);
        let mut cork = Cork::enter();
        wake(count.clone().into());
        std::thread::sleep(20 * BRISK);
        cork.breathe();
        assert_eq!(woken(), 3);
        wake(count.clone().into());
        assert_eq!(woken(), 4);
    }
}
