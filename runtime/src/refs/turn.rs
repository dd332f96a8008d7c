//! On which task's behalf this thread runs an actor.
//!
//! A handler that blocks its thread until an answer comes (`block_on` of some executor) keeps the runtime of that thread from
//! turning, and with it its timers. It shows by the waker: what is polled in a turn of the actor's own has that of the actor's task.

use std::cell::Cell;
use std::task::Waker;

thread_local! {
    /// What the waker of the actor's task points to; 0: no actor has a turn.
    static TASK: Cell<usize> = const { Cell::new(0) };
}

/// While it lives, an actor has its turn on this thread.
pub(crate) struct Turn {
    outer: usize,
}

impl Turn {
    pub(crate) fn enter(waker: &Waker) -> Self {
        Self { outer: TASK.replace(waker.data().addr()) }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        TASK.set(self.outer);
    }
}

/// Whether an actor has its turn and who waits here isn't its task: the thread may be blocked until it is woken. Combinators that
/// make wakers of their own look the same.
pub(crate) fn may_block(waker: &Waker) -> bool {
    let task = TASK.get();
    task != 0 && task != waker.data().addr()
}
