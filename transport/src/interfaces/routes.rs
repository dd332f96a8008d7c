//! Whether another route than the default one leads to an address: whoever is there is of a network that this host is part of, or was
//! connected with on purpose.
//!
//! The kernel says from which address packets would leave, which tells interfaces apart. Of those that leave by the interface of the default
//! route, the networks of that interface and the tables of routes that Linux shows say more. Where nothing says so, it is the default route.

use std::net::IpAddr;

use if_addrs::{IfAddr, Interface};

use super::{FAR, ranking::common_bits, source};

/// Routes that are for less than so many leading bits count as the default one, of IPv4 and of IPv6: tunnels for everything are often set
/// up as two halves, and no private network is larger than these (10/8, fc00::/7).
const DEFAULT_BELOW: [u32; 2] = [8, 7];

/// Whether packets to `ip` leave by another route than the default one. Where the system can't be asked, they don't.
pub(crate) fn leads_inside(ip: IpAddr) -> bool {
    let Ok(Some(from)) = source(ip) else { return false };
    let out = match source(FAR[usize::from(ip.is_ipv6())]) {
        Ok(Some(out)) => out,
        // There is no default route.
        Ok(None) => return true,
        Err(_) => return false,
    };
    let Ok(interfaces) = if_addrs::get_if_addrs() else { return false };
    is_apart(&interfaces, from, out)
        || interfaces.iter().any(|one| on_network(one, ip))
        || has_route(ip)
}

/// Whether these are addresses of different interfaces.
fn is_apart(interfaces: &[Interface], one: IpAddr, other: IpAddr) -> bool {
    let of = |ip: IpAddr| interfaces.iter().filter(move |i| i.ip() == ip).map(|i| &i.name);
    let known = of(one).next().is_some() && of(other).next().is_some();
    known && !of(one).any(|name| of(other).any(|of_other| of_other == name))
}

/// Whether `ip` is on the network of this interface.
fn on_network(interface: &Interface, ip: IpAddr) -> bool {
    let prefix = match &interface.addr {
        IfAddr::V4(addr) => addr.prefixlen,
        IfAddr::V6(addr) => addr.prefixlen,
    };
    let bits = u32::from(prefix);
    bits >= DEFAULT_BELOW[usize::from(ip.is_ipv6())] && common_bits(interface.ip(), ip) >= bits
}

/// Whether the system's table names a route to `ip`.
#[cfg(target_os = "linux")]
fn has_route(ip: IpAddr) -> bool {
    // What can't be read names none.
    let read = |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
    let table = if ip.is_ipv4() { read("route") } else { read("ipv6_route") };
    table.is_ok_and(|table| table.lines().filter_map(parse).any(|route| route.leads_to(ip)))
}

/// Not known elsewhere.
#[cfg(not(target_os = "linux"))]
fn has_route(_: IpAddr) -> bool {
    false
}

/// A route of the system's table.
#[cfg(any(target_os = "linux", test))]
#[derive(Debug, PartialEq, Eq)]
struct Route {
    network: IpAddr,
    bits: u32,
}

#[cfg(any(target_os = "linux", test))]
impl Route {
    fn leads_to(&self, ip: IpAddr) -> bool {
        let long = self.bits >= DEFAULT_BELOW[usize::from(ip.is_ipv6())];
        long && self.network.is_ipv4() == ip.is_ipv4() && common_bits(self.network, ip) >= self.bits
    }
}

/// One line of `/proc/net/route` or `/proc/net/ipv6_route`. `None`: the heading, a route that is down or refuses, or rubbish.
#[cfg(any(target_os = "linux", test))]
fn parse(line: &str) -> Option<Route> {
    // linux/route.h: RTF_UP, RTF_REJECT.
    const UP: u32 = 0x1;
    const REJECT: u32 = 0x200;
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
    // IPv6: the destination of 32 digits first, its length, …, the flags, the interface. IPv4: the interface first, the
    // destination and the mask in the order of bytes of this machine.
    let (route, flags) = if fields.first()?.len() == 32 && fields.len() == 10 {
        let network = u128::from_str_radix(fields[0], 16).ok()?;
        let network = IpAddr::V6(std::net::Ipv6Addr::from_bits(network));
        (Route { network, bits: number(1)? }, number(8)?)
    } else {
        let octets = |at: usize| Some(number(at)?.to_ne_bytes());
        let bits = u32::from_be_bytes(octets(7)?).leading_ones();
        (Route { network: octets(1)?.into(), bits }, number(3)?)
    };
    (flags & UP != 0 && flags & REJECT == 0).then_some(route)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use if_addrs::{IfOperStatus, Ifv4Addr, Ifv6Addr};

    use super::*;

    fn interface(name: &str, ip: &str, prefixlen: u8) -> Interface {
        let addr = match ip.parse().unwrap() {
            IpAddr::V4(ip) => {
                let netmask = Ipv4Addr::from_bits(u32::MAX << (32 - prefixlen));
                IfAddr::V4(Ifv4Addr { ip, netmask, prefixlen, broadcast: None })
            }
            IpAddr::V6(ip) => {
                let netmask = Ipv6Addr::from_bits(u128::MAX << (128 - prefixlen));
                IfAddr::V6(Ifv6Addr { ip, netmask, prefixlen, broadcast: None })
            }
        };
        let oper_status = IfOperStatus::Up;
        Interface { name: name.into(), addr, index: None, oper_status, is_p2p: false }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn another_address_of_one_interface_is_no_other_route() {
        let all = [
            interface("eth0", "192.168.1.7", 24),
            interface("eth0", "2001:db8::7", 64),
            interface("eth0", "fd00::7", 64),
            interface("tun0", "10.8.0.2", 24),
        ];
        assert!(!is_apart(&all, ip("2001:db8::7"), ip("fd00::7")));
        assert!(is_apart(&all, ip("10.8.0.2"), ip("192.168.1.7")));
        // An address that went meanwhile says nothing.
        assert!(!is_apart(&all, ip("10.9.0.2"), ip("192.168.1.7")));
    }

    #[test]
    fn whoever_is_on_the_network_of_an_interface_is_a_neighbour() {
        let lan = interface("eth0", "192.168.1.7", 24);
        assert!(on_network(&lan, ip("192.168.1.200")));
        assert!(!on_network(&lan, ip("192.168.2.1")) && !on_network(&lan, ip("fd00::1")));
        assert!(on_network(&interface("eth0", "fd00:1::7", 64), ip("fd00:1::9")));
        assert!(!on_network(&interface("tun0", "10.8.0.2", 1), ip("10.9.0.1")));
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn routes_are_read_from_the_systems_tables() {
        let table = "\
            Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            tun0\t00000080\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n\
            eth0\t0000000A\tFE01A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0\n\
            *\t000010AC\t00000000\t0200\t0\t0\t0\t0000F0FF\t0\t0\t0\n\
            rubbish\n\n";
        let leads = |to: &str| table.lines().filter_map(parse).any(|route| route.leads_to(ip(to)));
        assert!(leads("10.200.0.1"));
        for to in ["172.16.0.1", "192.168.9.1", "203.0.113.1", "fd00::1"] {
            assert!(!leads(to), "{to}");
        }
        let table = "\
            fd000005000000000000000000000000 30 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000002 00000000 00000001     eth0\n\
            00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n\
            fd000006000000000000000000000000 30 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000002 00000000 00200200       lo\n";
        let leads = |to: &str| table.lines().filter_map(parse).any(|route| route.leads_to(ip(to)));
        assert!(leads("fd00:5::1"));
        assert!(!leads("fd00:6::1") && !leads("fd00:7::1") && !leads("10.0.0.1"));
    }
}
