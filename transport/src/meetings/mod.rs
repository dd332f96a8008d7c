//! Rendezvous at work: this host is attached to its own, meets peers through theirs, and serves others as one.
//!
//! - `session`: the actor that keeps this host's sessions
//! - `introduction`: how a peer that has sessions is met
//! - `opening`: how a host that is about to be called lets the caller in
//! - `serve`: what an endpoint does for others

pub(crate) mod introduction;
pub(crate) mod opening;
mod serve;
pub(crate) mod session;
