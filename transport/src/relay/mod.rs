//! Relaying: datagrams between two hosts that can't reach each other, forwarded by a third.
//!
//! A *flow* has two *legs*, one to each host; a random token names each, another on either side lest an observer link
//! the two ends. Whoever serves forwards what comes from the address that a leg is bound to, and nothing else, to where
//! the other leg is bound to. It sees only what QUIC encrypted. docs/wire-transport.md has the frames, `wire::relay_frame` reads them.
//!
//! - `forwarder`: core: the serving side
//! - `fairness`: core: who gets how much of a relay that everybody wants
//! - `legs`: the served side: the flows that this host sends through

pub(crate) mod fairness;
pub(crate) mod forwarder;
pub(crate) mod legs;
