//! Distributed actors on the public internet.

pub mod bytes;
pub mod payload;

pub use bytes::Bytes;
