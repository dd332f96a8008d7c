//! What both directions of a lane share: writing a buffer that other threads fill, and bodies beside it.

use crate::codec::frame::FrameError;
use crate::net::bodies::send_bodies;
use crate::net::output::Output;
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use tokio::task::JoinSet;
use webmesh_transport::{Inline, Link, is_inline};

/// A stream that the other side gave up, in QUIC's terms.
pub(crate) const STREAM_GONE: VarInt = VarInt::from_u32(1);

/// With which code a connection is closed when its peer sent what no frame is; docs/wire.md lists them.
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(6);

/// Chunks taken off a stream at once: enough for the 64 KiB or so that one wake-up finds.
pub(crate) const CHUNKS: usize = 32;

/// Where a writer gets what it writes.
pub(crate) trait Source {
    /// What to do next.
    fn poll_output(&self, cx: &mut Context<'_>) -> Poll<Output>;
    /// Ready when what the other side hasn't taken yet is of no use any more. Asked while it takes nothing.
    fn poll_gone(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
    /// So many bytes of bodies were handed to QUIC.
    fn written(&self, body_bytes: usize);
    /// The other side takes no more of the stream, or the link has ended: nothing more is asked for.
    fn refused(&self, _: &WriteError) {}
}

/// Writes what the source has, as one chunk each time: quinn walks all unacknowledged chunks for each packet, so many
/// small ones would be its undoing. The stream ends after its bodies were handed to QUIC, and they end with it: none is
/// kept beyond what the source counts.
pub(crate) async fn write(
    link: Link,
    lane: u64,
    mut send: SendStream,
    source: impl Source + Clone + Send + 'static,
) {
    let mut sending = JoinSet::new();
    let mut in_passing = false;
    loop {
        let output = poll_fn(|cx| {
            let output = source.poll_output(cx);
            in_passing &= output.is_ready();
            output
        });
        match output.await {
            Output::Write { bytes, bodies } => {
                let written = tokio::select! {
                    biased;
                    written = send.write_chunk(bytes.into()) => Some(written),
                    () = poll_fn(|cx| source.poll_gone(cx)) => None,
                };
                match written {
                    Some(Ok(())) => {}
                    Some(Err(why)) => return source.refused(&why),
                    None => break,
                }
                while !sending.is_empty() && sending.try_join_next().is_some() {}
                // Not before: they could fill the connection's window, and nobody reads them who doesn't know of them.
                for group in bodies {
                    let (link, source) = (link.clone(), source.clone());
                    sending.spawn(async move {
                        let bytes: usize = group.bodies.iter().map(bytes::Bytes::len).sum();
                        if let Err(error) = send_bodies(&link, lane, group).await {
                            tracing::debug!(%error, "bodies were not sent");
                        }
                        source.written(bytes);
                    });
                }
                if !is_inline() {
                    tokio::task::yield_now().await;
                } else if std::mem::replace(&mut in_passing, true) {
                    // Who sends in passing has nothing to add, and what others add meanwhile must not keep it here.
                    leave_to_network_thread().await;
                }
            }
            Output::Finish => {
                let sent = tokio::select! {
                    biased;
                    () = async { while sending.join_next().await.is_some() {} } => true,
                    _ = poll_fn(|cx| source.poll_output(cx)) => false,
                };
                if sent {
                    let _ = send.finish();
                    return;
                }
                break;
            }
            Output::Gone => break,
        }
    }
    let _ = send.reset(STREAM_GONE);
}

/// Goes on on the network's thread. tokio's own way to give way would wait until the thread that sends in passing does.
async fn leave_to_network_thread() {
    let mut left = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut left, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The writer of a stream, for who has just put something small into its buffer that is waited for.
#[derive(Clone, Debug)]
pub(crate) struct Express {
    link: Link,
    writer: Inline,
}

impl Express {
    pub(crate) fn new(link: Link, writer: Inline) -> Self {
        Self { link, writer }
    }

    /// Writes and sends it on this thread, instead of waking the writer. If the network's thread is at work for the link
    /// already, it is told. Nothing may be locked that a writer or a source locks.
    pub(crate) fn send(&self, writer: Waker) {
        let mut written = false;
        self.link.send_here(|| written = self.writer.run_here());
        if !written {
            writer.wake();
        }
    }
}

/// Reads as many chunks as fit, in order. `Ok(0)`: the stream has ended.
pub(crate) fn poll_read(
    recv: &mut RecvStream,
    chunks: &mut [bytes::Bytes],
    cx: &mut Context<'_>,
) -> Poll<Result<usize, ReadError>> {
    let read = std::pin::pin!(recv.read_chunks(chunks));
    read.poll(cx).map_ok(|count| count.unwrap_or(0))
}

/// Closes the connection of a peer that sent what no frame is. Others are not affected.
pub(crate) fn refuse(link: &Link, error: &FrameError) {
    link.quic().close(PROTOCOL_ERROR, error.to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;
    use std::thread::ThreadId;
    use webmesh_transport::{
        Endpoint, EndpointConfig, LinkDown, Observer, PeerId, Placement, SecretKey, Threads,
    };

    struct Nobody;

    impl Observer for Nobody {
        fn link_up(&self, _: Link) {}
        fn link_draining(&self, _: Link) {}
        fn link_down(&self, _: Link, _: LinkDown) {}
        fn unreachable(&self, _: PeerId) {}
        fn reachable(&self, _: PeerId) {}
    }

    async fn endpoint() -> (Endpoint, Arc<Threads>) {
        let placement = Arc::new(Threads::start().unwrap());
        let config = EndpointConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            ..EndpointConfig::new(SecretKey::generate())
        };
        (Endpoint::bind(config, placement.clone(), Arc::new(Nobody)).await.unwrap(), placement)
    }

    /// Others add to it faster than it is written.
    #[derive(Default)]
    struct Flood {
        left: u32,
        writer: Option<Waker>,
        written_on: Vec<ThreadId>,
    }

    impl Source for Arc<Mutex<Flood>> {
        fn poll_output(&self, cx: &mut Context<'_>) -> Poll<Output> {
            let mut flood = self.lock();
            if flood.left == 0 {
                flood.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            flood.left -= 1;
            flood.written_on.push(std::thread::current().id());
            Poll::Ready(Output::Write { bytes: vec![1], bodies: Vec::new() })
        }

        fn written(&self, _: usize) {}
    }

    #[tokio::test]
    async fn who_sends_in_passing_is_not_kept_by_what_others_add() {
        const ADDED: u32 = 1000;
        let ((one, placement), (other, _other)) = (endpoint().await, endpoint().await);
        let link = one.connect(&other.peer_ref()).await.unwrap();
        let (send, _recv) = link.quic().open_bi().await.unwrap();
        let flood = Arc::new(Mutex::new(Flood::default()));
        let writer =
            Inline::spawn(placement.network(), write(link.clone(), 0, send, flood.clone()));
        let express = Express::new(link, writer);
        let waker = loop {
            if let Some(waker) = flood.lock().writer.take() {
                break waker;
            }
            tokio::task::yield_now().await;
        };
        flood.lock().left = ADDED;
        express.send(waker);
        while flood.lock().writer.is_none() {
            tokio::task::yield_now().await;
        }
        let here = std::thread::current().id();
        let written_on = std::mem::take(&mut flood.lock().written_on);
        assert_eq!(written_on.len(), ADDED as usize);
        let by_us = written_on.iter().filter(|thread| **thread == here).count();
        assert!(by_us <= 2, "{by_us} were written in passing");
    }
}
