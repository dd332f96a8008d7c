//! What can be said of an address by its bytes alone.

use std::net::{IpAddr, SocketAddr};

/// Whether nobody could mean a machine of this host's own network by it.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            let shared = a == 100 && (64..128).contains(&b);
            !(ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared)
        }
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}

/// The same address, with IPv4 as IPv4.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
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

/// Whether some host may be there: not what stands for no host, for many, or for something of this process alone.
pub(crate) fn dialable(address: SocketAddr) -> bool {
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
}
