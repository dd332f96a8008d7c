//! What a stream's writer is given to write.

use bytes::Bytes;

/// What the stream's writer has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Write these bytes to the stream, and each group of bodies to a stream of its own.
    Write { bytes: Vec<u8>, bodies: Vec<Bodies> },
    /// End the stream; nothing more will come.
    Finish,
    /// The stream is no longer the lane's.
    Gone,
}

/// The bodies of one message; `group` numbers the messages of a stream that have bodies, from 0.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bodies {
    pub(crate) group: u64,
    pub(crate) bodies: Vec<Bytes>,
}
