//! Control frames on their way out.

use crate::frame::control::{Control, put_control};
use crate::outbound::core::Output;
use crate::stream::Source;
use parking_lot::Mutex;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Bytes of control frames that wait for a peer to read them before it is given up. It has all its answers and notices in
/// there, so only a peer that doesn't read gets this far.
const CONTROL_BACKLOG_MAX: usize = 1 << 20;

/// Control frames on their way out. Written before there is a stream, they wait for it.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<OutboxState>,
}

#[derive(Debug, Default)]
struct OutboxState {
    out: Vec<u8>,
    writer: Option<Waker>,
    closed: bool,
}

impl Outbox {
    /// `false`: too much waits already.
    pub(super) fn push(&self, frame: &Control<'_>) -> bool {
        let waker = {
            let mut state = self.state.lock();
            if state.closed {
                return true;
            }
            if state.out.len() > CONTROL_BACKLOG_MAX {
                return false;
            }
            put_control(&mut state.out, frame);
            state.writer.take()
        };
        waker.into_iter().for_each(Waker::wake);
        true
    }

    pub(super) fn close(&self) {
        let waker = {
            let mut state = self.state.lock();
            state.closed = true;
            state.out = Vec::new();
            state.writer.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Source for Arc<Outbox> {
    fn poll_output(&self, cx: &mut Context<'_>) -> Poll<Output> {
        let mut state = self.state.lock();
        if state.closed {
            return Poll::Ready(Output::Gone);
        }
        if !state.out.is_empty() {
            return Poll::Ready(Output::Write {
                bytes: std::mem::take(&mut state.out),
                bodies: Vec::new(),
            });
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }
    fn written(&self, _: usize) {}
}
