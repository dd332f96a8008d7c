//! A message's way in: a lane that a peer opened, up to the inlet of its object; and its reply's way back.
//!
//! - [`credit`]: how much the peer may send on one lane, and what is known of it. No I/O.
//! - [`budget`]: how much memory all lanes of one link may grant together.
//! - `keeping`: whether a lane may keep what it was granted, while others wait.
//! - [`replies`]: the way back, filled from the actors' threads.
//! - [`lane`]: the task between the stream and the inlet.
//! - [`tenure`]: the right by which a lane is open.

pub(crate) mod budget;
pub(crate) mod credit;
mod keeping;
pub(crate) mod lane;
pub(crate) mod replies;
pub(crate) mod succession;
pub(crate) mod tenure;
