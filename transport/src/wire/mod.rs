//! What goes over the wire, byte by byte, as docs/wire-transport.md and docs/wire.md have it.
//!
//! - `frame`: our own frames on the UDP socket, beside QUIC
//! - `relay_frame`: those of relays
//! - `road`: where datagrams come from, and the ways by which they go back
//! - `rendezvous`: the messages about rendezvous, and their one encoding
//! - [`hello`]: what both sides say first on a connection, and their notes about it
//! - `closing`: how a link ends, and how that is told

pub(crate) mod closing;
pub(crate) mod frame;
pub mod hello;
pub(crate) mod relay_frame;
pub(crate) mod rendezvous;
pub(crate) mod road;
