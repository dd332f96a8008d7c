//! How hosts without a public address are met.
//!
//! A private host keeps sessions to a few public ones, its *rendezvous*, and names them in its PeerRef. Whoever wants
//! to reach it asks one of them for an introduction: each side then learns where the other was seen, and both send at
//! once. docs/wire-transport.md has the messages.
//!
//! - `client`: core: the served side
//! - `host`: core: the serving side
//! - `protocol`: the messages, and their one encoding

#[cfg_attr(
    not(test),
    expect(
        dead_code,
        reason = "the shell that keeps sessions comes with dialling through a rendezvous"
    )
)]
pub(crate) mod client;
pub(crate) mod host;
pub(crate) mod protocol;
