//! Which of the addresses known for a peer are worth a dial, and over which socket.

use std::net::{IpAddr, SocketAddr};

use crate::socket::handles::{Handles, Road};

/// Addresses raced at a time. A PeerRef holds a few more at most; a guess against being used to send
/// handshakes to a list of victims.
pub(crate) const CANDIDATES_MAX: usize = 8;

/// The roads to try for `addresses`, in their order, each once; those that cannot be anyone's, and
/// those of a family without a socket, are left out.
pub(crate) fn roads(
    handles: &Handles,
    addresses: impl IntoIterator<Item = SocketAddr>,
) -> Vec<Road> {
    let mut roads: Vec<Road> = Vec::new();
    for address in addresses {
        let remote = canonical(address);
        if roads.len() == CANDIDATES_MAX
            || !dialable(remote)
            || roads.iter().any(|road| road.remote == remote)
        {
            continue;
        }
        if let Some(wire) = handles.wire_to(remote) {
            roads.push(Road { wire, remote, local: None, flow: None });
        }
    }
    roads
}

/// The same address, with IPv4 as IPv4.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

fn dialable(address: SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    // Nobody but this process means anything by them.
    let own = matches!(ip, IpAddr::V6(ip) if ip.segments()[..2] == [0xfd77, 0x6562] && ip.segments()[2] & 0xfff0 == 0x6d00);
    address.port() != 0 && !own && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_dialled_is_left_out_and_each_address_is_tried_once() {
        let handles = Handles::new(vec!["0.0.0.0:1".parse().unwrap()], Some(1));
        let known =
            ["0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "10.0.0.1:0", "[2001:db8::1]:1"];
        let known = known.into_iter().chain(["10.0.0.1:5", "[::ffff:10.0.0.1]:5", "10.0.0.2:5"]);
        let roads = roads(&handles, known.map(|a| a.parse().unwrap()));
        let remotes: Vec<_> = roads.iter().map(|road| road.remote.to_string()).collect();
        assert_eq!(remotes, ["10.0.0.1:5", "10.0.0.2:5"]);
    }
}
