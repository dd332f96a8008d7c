//! A message's way out: one *lane* per object of another mesh, an ordered QUIC stream that is opened when first needed.
//!
//! - [`core`]: what a lane is allowed to send when, in what order, and what is known of what it sent. No clock, no task,
//!   no socket.
//! - [`unconfirmed`]: which messages the handler is not known to have taken.
//! - [`ticket`]: a message that waits in line.
//! - [`pump`]: the two tasks between a core and its stream.
//! - [`arrival`]: a reply whose bodies are on their way beside it.
//! - [`room`]: memory for large replies, and who waits for it.
//! - [`lane`]: a core behind a lock, with what carries out its effects.

mod arrival;
pub(crate) mod core;
pub(crate) mod lane;
pub(crate) mod pump;
pub(crate) mod room;
pub(crate) mod ticket;
mod unconfirmed;

#[cfg(test)]
mod tests;
