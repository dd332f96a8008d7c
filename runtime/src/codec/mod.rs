//! Values as bytes, and back. No I/O.
//!
//! - [`payload`], [`bytes`]: messages, and large bodies in them; `encoder_pool`: an encoder for each thread.
//! - `wire_ref`: refs.
//! - `frame`: the frames of all streams.
//! - `limits`: sizes that several of these share.

pub mod bytes;
pub(crate) mod encoder_pool;
pub(crate) mod frame;
pub(crate) mod limits;
pub mod payload;
pub(crate) mod wire_ref;
