//! An encoder per thread, for messages and replies that are copied into a lane's buffer right after.
//!
//! A value is encoded outside of the lane's lock and then copied into its buffer: at most 64 KiB, a few nanoseconds for
//! a small message. That way no code of a user's runs under a lock, a failing or panicking `Serialize` leaves no half
//! frame, and the frame's length is known when it is written.

use crate::codec::payload::Encoder;
use std::cell::RefCell;

/// A buffer that grew beyond this is not kept.
const KEEP_MAX: usize = 128 * 1024;

thread_local! {
    static SCRATCH: RefCell<Encoder> = const { RefCell::new(Encoder::new(0)) };
}

/// Runs `f` with an empty encoder for values of at most `limit` bytes.
#[inline]
pub(crate) fn with_encoder<R>(limit: usize, f: impl FnOnce(&mut Encoder) -> R) -> R {
    SCRATCH.with(|scratch| {
        let (mut kept, mut own);
        let encoder = match scratch.try_borrow_mut() {
            Ok(encoder) => {
                kept = encoder;
                kept.reset(limit, KEEP_MAX);
                &mut *kept
            }
            // A `Serialize` that itself sends a message.
            Err(_) => {
                own = Encoder::new(limit);
                &mut own
            }
        };
        f(encoder)
    })
}
