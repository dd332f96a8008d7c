//! Core: where the word of others may lead this host.
//!
//! A hint comes with a key that must answer, so a lie connects this host to nobody. But first packets are sent all the same, from inside of
//! its networks, to addresses that somebody far away may have chosen: they must not reach what only a neighbour could reach anyway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::{ground::address::is_public, peer_ref::RendezvousPoint};

/// Where a peer may be found, besides what it says itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// Whose word that is.
    pub origin: Origin,
    /// Addresses at which it may answer.
    pub addresses: Vec<SocketAddr>,
    /// Rendezvous through which it may be met.
    pub rendezvous: Vec<RendezvousPoint>,
}

impl Hints {
    /// Whether they name nothing.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.rendezvous.is_empty()
    }
}

/// Who said where a peer may be found, as far as it decides where that may lead: the later ones may say more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A peer somewhere on the internet, or one that is reached through a relay, or one that is connected no more. Addresses of private
    /// networks are dialled on its word only if another route than the default one leads there, loopback never.
    #[default]
    Internet,
    /// A peer at an address of a private network: it may name others there. Loopback is this host's alone.
    PrivateNetwork,
    /// A peer on this host.
    Loopback,
    /// The application or its user: whatever is said is tried.
    User,
}

/// What an address stands for, to this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// A host of the internet.
    Public,
    /// A host of some inner network, another one wherever it is read.
    Private,
    /// This host.
    Own,
    /// No host, or one that only a scope would tell from others.
    Nobody,
}

impl Origin {
    /// Whether this host may be led to `address`. `inside`: whether packets to an address leave by another route than the default one;
    /// asked only if it matters. `translated`: the address of IPv4 that one of IPv6 stands for, by the NAT64 that this host's network is
    /// known to have.
    pub(crate) fn may_name(
        self,
        address: SocketAddr,
        translated: Option<IpAddr>,
        inside: impl FnOnce(IpAddr) -> bool,
    ) -> bool {
        if self == Self::User {
            return true;
        }
        let ip = address.ip().to_canonical();
        match translated.map_or_else(|| reach(ip), reach) {
            Reach::Public => true,
            Reach::Private => self >= Self::PrivateNetwork || inside(ip),
            Reach::Own => self == Self::Loopback,
            Reach::Nobody => false,
        }
    }

    /// The same rendezvous without the addresses that may not be named.
    pub(crate) fn restrict(
        self,
        point: &RendezvousPoint,
        may: impl Fn(Self, SocketAddr) -> bool,
    ) -> RendezvousPoint {
        let allowed = |all: &[SocketAddr]| {
            all.iter().copied().filter(|address| may(self, *address)).collect::<Vec<_>>()
        };
        let (addresses, tls) = (allowed(&point.addresses), allowed(&point.tls));
        RendezvousPoint { peer: point.peer, addresses, tls }
    }
}

/// IANA's registries of special-purpose addresses (RFC 6890) decide what isn't public.
fn reach(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(ip) => reach_v4(ip),
        IpAddr::V6(ip) => match embedded(ip) {
            Some(inner) => reach_v4(inner),
            None => reach_v6(ip),
        },
    }
}

fn reach_v4(ip: Ipv4Addr) -> Reach {
    let [a, b, c, _] = ip.octets();
    match (a, b, c) {
        _ if ip.is_loopback() => Reach::Own,
        // "This network", which Linux takes for this host; groups; what is reserved.
        (0 | 224..=255, ..) => Reach::Nobody,
        // Protocol assignments (RFC 6890, section 2.2.2) and benchmarks (RFC 2544): nothing that the internet routes.
        (192, 0, 0) | (198, 18 | 19, _) => Reach::Private,
        _ if is_public(ip.into()) => Reach::Public,
        _ => Reach::Private,
    }
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    let [a, b, c, ..] = ip.segments();
    match (a, b, c) {
        _ if ip.is_loopback() => Reach::Own,
        _ if ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() => {
            Reach::Nobody
        }
        // Site-local addresses (RFC 3879), and the prefix of NAT64s within a network (RFC 8215), at whatever length.
        (0xfec0..=0xfeff, ..) | (0x64, 0xff9b, 1) => Reach::Private,
        _ if is_public(ip.into()) => Reach::Public,
        _ => Reach::Private,
    }
}

/// The address of IPv4 to which packets for one of IPv6 go on, by what it looks like: NAT64 under the well-known prefix (RFC 6052), 6to4
/// (RFC 3056), IPv4-compatible (RFC 4291, section 2.5.5.1).
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match (a, b, [c, d, e, f]) {
        (0x64, 0xff9b, [0, 0, 0, 0]) => Some(join(g, h)),
        (0x2002, ..) => Some(join(b, c)),
        (0, 0, [0, 0, 0, 0]) if g != 0 => Some(join(g, h)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), 5)
    }

    fn may(origin: Origin, ip: &str, inside: bool) -> bool {
        origin.may_name(address(ip), None, |_| inside)
    }

    const PRIVATE: [&str; 17] = [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.0.8",
        "198.18.0.1",
        "fc00::1",
        "fd12::1",
        "fec0::1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::10.0.0.1",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::808:808",
        "2002:a00:1::1",
        "::10.0.0.1",
    ];
    const OWN: [&str; 7] = [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "2002:7f00:1::1",
        "::127.0.0.1",
    ];
    const NOBODY: [&str; 10] = [
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "fe80::1",
        "ff02::1",
        "::",
        "::ffff:0.0.0.0",
        "64:ff9b::224.0.0.1",
    ];
    const PUBLIC: [&str; 5] =
        ["8.8.8.8", "2001:db8::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"];

    #[test]
    fn who_is_on_the_internet_leads_nobody_into_inner_networks() {
        for ip in PRIVATE.iter().chain(&OWN).chain(&NOBODY) {
            assert!(!may(Origin::Internet, ip, false), "{ip}");
        }
        for ip in PUBLIC {
            assert!(may(Origin::Internet, ip, false), "{ip}");
        }
    }

    #[test]
    fn a_route_of_its_own_opens_a_private_network_and_nothing_else() {
        for ip in PRIVATE {
            assert!(may(Origin::Internet, ip, true), "{ip}");
        }
        for ip in OWN.iter().chain(&NOBODY) {
            assert!(!may(Origin::Internet, ip, true), "{ip}");
        }
    }

    #[test]
    fn a_neighbour_names_neighbours_and_only_this_host_its_own_loopback() {
        for origin in [Origin::PrivateNetwork, Origin::Loopback] {
            for ip in PRIVATE.iter().chain(&PUBLIC) {
                assert!(may(origin, ip, false), "{ip}");
            }
            for ip in OWN {
                assert_eq!(may(origin, ip, true), origin == Origin::Loopback, "{ip}");
            }
            for ip in NOBODY {
                assert!(!may(origin, ip, true), "{ip}");
            }
        }
    }

    #[test]
    fn the_user_may_name_any_address() {
        for ip in PRIVATE.iter().chain(&OWN).chain(&NOBODY).chain(&PUBLIC) {
            assert!(may(Origin::User, ip, false), "{ip}");
        }
    }

    #[test]
    fn what_a_nat64_of_this_network_leads_to_counts_as_that() {
        let shown = address("2001:db8:64::a00:1");
        let inner = Some("10.0.0.1".parse().unwrap());
        assert!(!Origin::Internet.may_name(shown, inner, |_| false));
        // The route is asked for where the packets go first.
        assert!(Origin::Internet.may_name(shown, inner, |ip| ip == shown.ip()));
        let own = Some("127.0.0.1".parse().unwrap());
        assert!(!Origin::PrivateNetwork.may_name(shown, own, |_| true));
    }
}
