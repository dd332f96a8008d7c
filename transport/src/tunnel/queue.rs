//! What waits to be written into a tunnel. A queue that is full drops its oldest: QUIC repairs that, and what is new is of
//! more use than what is stale.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::frame;

/// Datagrams that wait; 350 KB at most. A guess: what a slow road carries in a second.
pub(super) const QUEUED_MAX: usize = 256;

/// Bytes that are written at a time. A guess: a few records of TLS.
const WRITE_BYTES: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<VecDeque<Vec<u8>>>,
    news: Notify,
    closed: AtomicBool,
}

impl Queue {
    /// Adds a datagram. Returns whether an older one was dropped for it.
    pub(super) fn push(&self, datagram: &[u8]) -> bool {
        let mut waiting = self.waiting.lock();
        let full = waiting.len() >= QUEUED_MAX;
        if full {
            waiting.pop_front();
        }
        waiting.push_back(datagram.to_vec());
        drop(waiting);
        self.news.notify_one();
        full
    }

    /// The next bytes for the stream; `None` once the tunnel is closed.
    pub(super) async fn next(&self) -> Option<Vec<u8>> {
        loop {
            if self.closed.load(Ordering::SeqCst) {
                return None;
            }
            let mut bytes = Vec::new();
            {
                let mut waiting = self.waiting.lock();
                while bytes.len() < WRITE_BYTES
                    && let Some(datagram) = waiting.pop_front()
                {
                    frame::put(&mut bytes, &datagram);
                }
            }
            if !bytes.is_empty() {
                return Some(bytes);
            }
            self.news.notified().await;
        }
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.news.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_drops_its_oldest() {
        let queue = Queue::default();
        let dropped = (0..QUEUED_MAX + 3).filter(|n| queue.push(&n.to_be_bytes())).count();
        assert_eq!(dropped, 3);
        let (mut splitter, mut first) = (frame::Splitter::default(), None);
        let bytes = queue.next().await.unwrap();
        let keep_first = |datagram: &[u8]| {
            first.get_or_insert(datagram.to_vec());
        };
        splitter.feed(&bytes, keep_first).unwrap();
        assert_eq!(first.unwrap(), 3usize.to_be_bytes());
        queue.close();
        assert_eq!(queue.next().await, None);
    }
}
