//! The frames of the runtime's streams, as bytes: docs/wire.md is their specification, this is its only implementation.
//!
//! A stream carries frames one behind the other: a length (of everything behind it), a kind byte, then fields in a fixed
//! order. Numbers are the variable-length integers of RFC 9000 section 16, always in their shortest form; texts are a length
//! and UTF-8. Every length has a bound that is checked before anything is allocated, and a frame must be used up to its last
//! byte. Whoever sends anything else loses the connection, with a reason in words ([`FrameError`]).
//!
//! - [`varint`]: the integers
//! - [`cursor`]: reading fields out of one frame, writing them into a buffer
//! - [`splitter`]: cutting received chunks into whole frames without copying those that lie in one chunk
//! - [`lane`]: frames of a lane, both directions
//! - [`control`]: frames of the control stream
//! - [`fault`]: faults as they travel

pub(crate) mod control;
pub(crate) mod cursor;
pub(crate) mod fault;
pub(crate) mod lane;
pub(crate) mod splitter;
pub(crate) mod varint;

/// First byte of a stream that the runtime opens. 0 is the transport's HELLO; those above are not given out yet.
pub(crate) mod stream_kind {
    /// Bidirectional, one per connection, opened by its dialer.
    pub(crate) const CONTROL: u8 = 1;
    /// Bidirectional, opened by whoever has messages for an object.
    pub(crate) const LANE: u8 = 2;
    /// Unidirectional: the bodies of one message or reply of a lane.
    pub(crate) const BODY: u8 = 3;
}

/// Longest message id or protocol id, in bytes. They are written by hand in source code.
pub(crate) const ID_MAX: usize = 255;

/// Longest published name and longest version requirement, in bytes.
pub(crate) const NAME_MAX: usize = 255;

/// Largest payload that travels in a lane; a larger one goes beside it, like a body.
pub(crate) const PAYLOAD_INLINE_MAX: usize = crate::codec::limits::INLINE_MAX;

/// Largest frame of a lane: payload, lengths of all bodies, ids.
pub(crate) const LANE_FRAME_MAX: usize = PAYLOAD_INLINE_MAX + 1024;

/// Largest frame of a control stream: names, a ref, a reason.
pub(crate) const CONTROL_FRAME_MAX: usize = 4096;

/// Distinct messages one lane may use. A protocol has a few dozen.
pub(crate) const NUMBERS_MAX: usize = 1024;

/// What a peer sent is not a frame. Its connection is closed with this text; other peers are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame ends within its {0}")]
    Truncated(&'static str),
    #[error("a number is not in its shortest form")]
    LongNumber,
    #[error("{what} of {len} exceeds {max}")]
    TooLong { what: &'static str, len: u64, max: u64 },
    #[error("{0} is not UTF-8")]
    NotText(&'static str),
    #[error("a frame has {0} bytes too many")]
    Trailing(usize),
    #[error("a body of {0} bytes beside its message, which is for larger ones")]
    SmallBody(u64),
    #[error("{0:#04x} is not a frame of this stream")]
    UnknownKind(u8),
    #[error("{0:#04x} is not a kind of stream")]
    UnknownStream(u8),
    #[error("{0} is out of order or unasked for")]
    Unexpected(&'static str),
    #[error("more was sent than credit was given for")]
    Overdrawn,
    #[error("the stream ends within a frame")]
    EndsWithinFrame,
}
