//! What both directions of a lane share: writing a buffer that other threads fill, and bodies beside it.

use crate::body::send_bodies;
use crate::frame::FrameError;
use crate::outbound::core::Output;
use quinn::{ReadError, RecvStream, SendStream, VarInt};
use std::task::{Context, Poll, Waker};
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
    /// So many bytes of bodies were handed to QUIC.
    fn written(&self, body_bytes: usize);
}

/// Writes what the source has, as one chunk each time: quinn walks all unacknowledged chunks for each packet, so many
/// small ones would be its undoing.
pub(crate) async fn write(
    link: Link,
    lane: u64,
    mut send: SendStream,
    source: impl Source + Clone + Send + 'static,
) {
    loop {
        match std::future::poll_fn(|cx| source.poll_output(cx)).await {
            Output::Write { bytes, bodies } => {
                if send.write_chunk(bytes.into()).await.is_err() {
                    return;
                }
                // Not before: they could fill the connection's window, and nobody reads them who doesn't know of them.
                for group in bodies {
                    let (link, source) = (link.clone(), source.clone());
                    drop(tokio::spawn(async move {
                        let bytes: usize = group.bodies.iter().map(bytes::Bytes::len).sum();
                        if let Err(error) = send_bodies(&link, lane, group).await {
                            tracing::debug!(%error, "bodies were not sent");
                        }
                        source.written(bytes);
                    }));
                }
                // Who sends in passing has nothing to add.
                if !is_inline() {
                    tokio::task::yield_now().await;
                }
            }
            Output::Finish => {
                let _ = send.finish();
                return;
            }
            Output::Gone => {
                let _ = send.reset(STREAM_GONE);
                return;
            }
        }
    }
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
    tracing::warn!(peer = %link.peer(), %error, "a peer broke the protocol; its connection is closed");
    link.quic().close(PROTOCOL_ERROR, error.to_string().as_bytes());
}
