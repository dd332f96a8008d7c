//! Control frames on their way out.

use crate::codec::frame::control::{Control, put_control};
use crate::net::output::Output;
use crate::net::stream::Source;
use parking_lot::Mutex;
use std::collections::BTreeMap;
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
    /// Restarts that are still to be told: the latest incarnation by the number of the watch. As many as the peer has watches.
    restarted: BTreeMap<u64, u64>,
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
            match *frame {
                // However often an actor restarts between two writes, its watcher is told once.
                Control::Restarted { watch, incarnation } => {
                    state.restarted.insert(watch, incarnation);
                }
                _ if state.out.len() > CONTROL_BACKLOG_MAX => return false,
                // The last word comes after all others.
                Control::Down { watch, .. } => {
                    let restarted = state.restarted.remove(&watch);
                    if let Some(incarnation) = restarted {
                        put_control(&mut state.out, &Control::Restarted { watch, incarnation });
                    }
                    put_control(&mut state.out, frame);
                }
                _ => put_control(&mut state.out, frame),
            }
            state.writer.take()
        };
        waker.into_iter().for_each(Waker::wake);
        true
    }

    /// The peer watches no more under this number.
    pub(super) fn forget_watch(&self, watch: u64) {
        self.state.lock().restarted.remove(&watch);
    }

    pub(super) fn close(&self) {
        let waker = {
            let mut state = self.state.lock();
            state.closed = true;
            state.out = Vec::new();
            state.restarted = BTreeMap::new();
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
        let OutboxState { out, restarted, .. } = &mut *state;
        while let Some((watch, incarnation)) = restarted.pop_first() {
            put_control(out, &Control::Restarted { watch, incarnation });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::frame::control::{DownCode, control};
    use crate::codec::frame::splitter::{Frames, Splitter};

    /// What the writer gets now, as frames.
    fn written(outbox: &Arc<Outbox>) -> Vec<String> {
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Output::Write { bytes, .. }) = outbox.poll_output(&mut cx) else {
            return Vec::new();
        };
        let (mut splitter, mut frames) = (Splitter::new(1 << 20), Frames::default());
        splitter.push(bytes.into(), &mut frames).unwrap();
        let spans = frames.spans().to_vec();
        spans.iter().map(|&span| format!("{:?}", control(frames.get(span)).unwrap())).collect()
    }

    #[test]
    fn restarts_between_two_writes_are_told_as_one_and_before_the_last_word() {
        let outbox = Arc::new(Outbox::default());
        for incarnation in 1..=1_000_000 {
            assert!(outbox.push(&Control::Restarted { watch: 7, incarnation }));
            if incarnation % 500_000 == 0 {
                assert!(outbox.push(&Control::Restarted { watch: 8, incarnation: 1 }));
            }
        }
        assert_eq!(
            written(&outbox),
            [
                "Restarted { watch: 7, incarnation: 1000000 }",
                "Restarted { watch: 8, incarnation: 1 }"
            ]
        );
        assert!(written(&outbox).is_empty());
        outbox.push(&Control::Restarted { watch: 7, incarnation: 1_000_001 });
        outbox.push(&Control::Restarted { watch: 8, incarnation: 2 });
        outbox.push(&Control::Down { watch: 7, reason: DownCode::Panicked });
        outbox.forget_watch(8);
        assert_eq!(
            written(&outbox),
            ["Restarted { watch: 7, incarnation: 1000001 }", "Down { watch: 7, reason: Panicked }"]
        );
    }
}
