//! A message that waits in line: what its sender holds, and what the lane holds of it.

use crate::ground::error::Fault;
use parking_lot::Mutex;
use std::task::{Context, Poll, Waker};

/// Shared between a waiting sender and the lane.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// Its place: unique and rising within the lane.
    pub(super) place: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Waiting(Option<Waker>),
    Done(Result<(), Fault>),
}

impl Ticket {
    pub(super) fn new(place: u64) -> Self {
        Self { place, state: Mutex::new(State::Waiting(None)) }
    }

    /// Decides it; returns whom to wake. Only the first decision counts.
    pub(super) fn decide(&self, outcome: Result<(), Fault>) -> Option<Waker> {
        let mut state = self.state.lock();
        match &mut *state {
            State::Waiting(waker) => {
                let waker = waker.take();
                *state = State::Done(outcome);
                waker
            }
            State::Done(_) => None,
        }
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match &mut *self.state.lock() {
            State::Done(outcome) => Poll::Ready(outcome.clone()),
            State::Waiting(waker) => {
                match waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
        }
    }

    pub(crate) fn is_waiting(&self) -> bool {
        matches!(&*self.state.lock(), State::Waiting(_))
    }
}
