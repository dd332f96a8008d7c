//! How hosts without a public address are met: the cores (`meetings` acts on them).
//!
//! A private host keeps sessions to a few public ones, its *rendezvous*, and names them in its PeerRef. Whoever wants
//! to reach it asks one of them for an introduction: each side then learns where the other was seen, and both send at
//! once. docs/wire-transport.md has the messages.
//!
//! - `join`: whether what is named as one can be one
//! - `client`: the served side
//! - `host`: the serving side

pub(crate) mod client;
pub(crate) mod host;
pub(crate) mod join;
