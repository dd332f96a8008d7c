//! What everything stands on: what can go wrong, and what an application names.

pub(crate) mod encoding;
pub mod error;
pub mod message;
