//! Which of the addresses known for a peer are worth a dial, and over which socket.

use std::net::{IpAddr, SocketAddr};

use super::places::is_public;
use crate::socket::handles::{Handles, Road};

/// Addresses raced at a time; the next follow when these have been silent for a while. A guess against being used to send
/// handshakes to a list of victims.
pub(crate) const CANDIDATES_MAX: usize = 8;

/// Addresses that one dial tries, and no more than these however many are named: all of a PeerRef, and as many as others may name
/// beside it. Each costs whoever lives there a handful of first packets.
pub(crate) const TRIED_MAX: usize = 24;

/// The roads to try for `addresses`, in their order, each once; those that cannot be anyone's, and
/// those of a family without a socket, are left out.
pub(crate) fn roads(
    handles: &Handles,
    addresses: impl IntoIterator<Item = SocketAddr>,
) -> Vec<Road> {
    let mut roads: Vec<Road> = Vec::new();
    for address in addresses {
        let remote = canonical(address);
        if roads.len() == TRIED_MAX
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

/// Whether `observer` can have seen this host at `observed`: who is out in the internet sees nobody at an address of some
/// inner network, and who isn't on this host sees nobody at its loopback.
pub(crate) fn plausible(observed: SocketAddr, observer: SocketAddr) -> bool {
    let (observed, observer) = (canonical(observed), canonical(observer));
    let family = observed.is_ipv4() == observer.is_ipv4();
    let loopback = !observed.ip().is_loopback() || observer.ip().is_loopback();
    let inner = is_public(observed.ip()) || !is_public(observer.ip());
    family && loopback && inner && dialable(observed)
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
    fn nobody_sees_a_host_where_he_cannot_have_seen_it() {
        let sees = |observer: &str, observed: &str| {
            plausible(observed.parse().unwrap(), observer.parse().unwrap())
        };
        assert!(sees("192.0.2.1:1", "203.0.113.1:5"));
        assert!(sees("[2001:db8::1]:1", "[2001:db8::2]:5"));
        assert!(sees("192.168.0.1:1", "192.168.0.7:5"));
        assert!(sees("127.0.0.1:1", "127.0.0.1:5"));
        for lie in ["127.0.0.1:5", "10.0.0.1:5", "169.254.1.1:5", "100.64.0.1:5", "224.0.0.1:5"] {
            assert!(!sees("192.0.2.1:1", lie), "{lie}");
        }
        for lie in ["0.0.0.0:5", "203.0.113.1:0", "255.255.255.255:5", "[2001:db8::1]:5"] {
            assert!(!sees("192.0.2.1:1", lie), "{lie}");
        }
        assert!(!sees("192.168.0.1:1", "127.0.0.1:5"));
        assert!(!sees("[2001:db8::1]:1", "[::ffff:203.0.113.1]:5"));
    }

    #[test]
    fn what_cannot_be_dialled_is_left_out_and_each_address_is_tried_once() {
        let handles = Handles::new(vec!["0.0.0.0:1".parse().unwrap()], Some(1));
        let known =
            ["0.0.0.0:1", "224.0.0.1:1", "255.255.255.255:1", "10.0.0.1:0", "[2001:db8::1]:1"];
        let known = known.into_iter().chain(["10.0.0.1:5", "[::ffff:10.0.0.1]:5", "10.0.0.2:5"]);
        let roads = roads(&handles, known.map(|a| a.parse().unwrap()));
        let remotes: Vec<_> = roads.iter().map(|road| road.remote.to_string()).collect();
        assert_eq!(remotes, ["10.0.0.1:5", "10.0.0.2:5"]);
        let crowd = (1..=250).map(|n| SocketAddr::from(([10, 0, 1, n], 5)));
        assert_eq!(super::roads(&handles, crowd).len(), TRIED_MAX);
    }
}
