//! A message's way in: a lane that a peer opened, up to the inlet of its object; and its reply's way back.
//!
//! - [`credit`]: how much the peer may send on one lane, and what is known of it. No I/O.
//! - [`budget`]: how much memory all lanes of one link may grant together.
//! - `keeping`: whether a lane may keep what it was granted, while others wait.
//! - [`abandoned`]: how many asks actors still have whose askers gave up.
//! - `held`: messages that wait in the lane; `outstanding`: its asks that wait for an answer. No I/O.
//! - [`replies`]: the way back, filled from the actors' threads.
//! - [`lane`]: the task between the stream and the inlet.
//! - [`tenure`]: the right by which a lane is open.

pub(crate) mod abandoned;
pub(crate) mod budget;
pub(crate) mod credit;
mod held;
mod keeping;
pub(crate) mod lane;
mod outstanding;
pub(crate) mod replies;
pub(crate) mod succession;
pub(crate) mod tenure;
