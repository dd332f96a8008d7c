//! The socket under QUIC: docs/architecture.md.
//!
//! - `mesh_socket`: what quinn sees; puts the parts below together
//! - `incoming`, `outgoing`: what becomes of what comes in, and how things are sent
//! - `handles`: which addresses quinn sees, and where datagrams really go
//! - `table`: the maps that are asked for every datagram
//! - `demux`: sorts received batches
//! - `forward`: passes on what is for others
//! - `narrow`: where this host cannot send what QUIC needs
//! - `pieces`: datagrams that are too long for a road
//! - `unknown`: what is said of flows and connections of before a restart
//! - `udp`: a kernel socket
//! - `adopted`: those that found a way through a symmetric NAT
//! - `filter`: what the kernel drops for us

mod adopted;
pub(crate) mod demux;
pub(crate) mod filter;
mod forward;
pub(crate) mod handles;
mod incoming;
pub(crate) mod mesh_socket;
pub(crate) mod narrow;
mod outgoing;
pub(crate) mod pieces;
mod table;
pub(crate) mod udp;
pub(crate) mod unknown;

pub use udp::BufferSizes;
