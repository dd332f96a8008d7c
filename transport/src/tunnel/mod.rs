//! Datagrams over TLS 1.3 on TCP, for hosts whose network blocks UDP.
//!
//! A tunnel is one more thing that carries datagrams, beside the UDP sockets: at its far end stands a pseudo address,
//! and a road to that address leads into the tunnel. QUIC, probes and the frames of relays ride through it unchanged. It
//! is not a disguise, and it proves nothing: who is at the other end is for QUIC inside to say, which is why TLS here takes
//! any key. It keeps the dialled network from reading which hosts meet, and passes where only port 443 does.
//!
//! - `frame`: core: datagrams in a stream of bytes
//! - `queue`: what waits to be written; the oldest is dropped
//! - `wire`: the tunnels of an endpoint
//! - `pump`: the tasks that move the bytes: dialling, accepting

pub(crate) mod frame;
pub(crate) mod pump;
mod queue;
pub(crate) mod wire;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The first 48 bits of a pseudo address (compare the handles of dialled peers); 16 zero bits and a random number of 64
/// follow. Only this process sees them.
const NETWORK: [u16; 3] = [0xfd77, 0x6562, 0x6d02];

/// The far end of the tunnel with this number.
fn far_end(number: u64) -> SocketAddr {
    let [a, b, c] = NETWORK;
    let network = Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_bits();
    SocketAddr::new(Ipv6Addr::from(network | u128::from(number)).into(), 1)
}

/// Whether this is the far end of a tunnel, and no address on any network.
pub(crate) fn is_far_end(address: SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.segments()[..3] == NETWORK)
}
