//! How hosts without a public address are met.
//!
//! A private host keeps sessions to a few public ones, its *rendezvous*, and names them in its PeerRef. Whoever wants
//! to reach it asks one of them for an introduction: each side then learns where the other was seen, and both send at
//! once. docs/wire-transport.md has the messages.
//!
//! - `attached`: what an endpoint knows of its own
//! - `join`: whether what is named as one can be one
//! - `client`: core: the served side
//! - `session`: the actor that keeps this host's sessions
//! - `host`: core: the serving side
//! - `serve`: what an endpoint does for others with it
//! - `meeting`: how a peer that has sessions is met
//! - `opening`: how a host that is about to be called lets the caller in
//! - `protocol`: the messages, and their one encoding

mod attached;
pub(crate) mod client;
pub(crate) mod host;
pub(crate) mod join;
pub(crate) mod meeting;
pub(crate) mod opening;
pub(crate) mod protocol;
pub(crate) mod serve;
pub(crate) mod session;
