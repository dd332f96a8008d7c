//! Sizes that several formats share.

/// Bodies up to this many bytes stay inside the message. A guess that matches the largest lane frame: below it one copy
/// costs less than a stream of its own.
pub const INLINE_MAX: usize = 64 * 1024;

/// What a stream may carry before the receiver has granted anything, in messages and bytes, so that a first ask takes one
/// round trip. Part of the wire format. Guesses: a burst of small messages, or one payload of the largest size in the lane.
pub(crate) const INITIAL_MESSAGES: u64 = 64;
/// See [`INITIAL_MESSAGES`].
pub(crate) const INITIAL_BYTES: u64 = 128 * 1024;
