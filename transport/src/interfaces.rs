//! The addresses of this machine: which there are, which of them others are most likely to reach it at, and which way it
//! sends.
//!
//! - `ranking`: core: the order in which they are named
//! - `routes`: whether another route than the default one leads somewhere

pub(crate) mod ranking;
mod routes;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use if_addrs::{IfAddr, IfOperStatus};

use ranking::{Described, ranked};
pub(crate) use routes::leads_inside;

/// Addresses of documentation: nobody's, so that only the default route leads there. Nothing is sent to them.
const FAR: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// The port of nothing (RFC 863, discard), for the same questions.
const ANY_PORT: u16 = 9;

/// The addresses of this machine that mean something to another, in the kernel's order: link-local ones don't without a
/// scope.
pub(crate) fn addresses() -> Vec<IpAddr> {
    usable().map(|interface| interface.ip()).collect()
}

/// The same, the most useful one first.
pub(crate) fn addresses_by_use() -> Vec<IpAddr> {
    ranked(describe())
}

/// Whether this machine has this address.
pub(crate) fn has(ip: IpAddr) -> bool {
    // Asked first, for it takes the same time however many addresses there are.
    may_be_own(ip) && addresses().contains(&ip)
}

/// Whether a socket can be bound to this address: only if this machine has it, unless it was set up to bind any.
pub(crate) fn may_be_own(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// From which of this machine's addresses packets to `ip` leave; `None`: no route leads there. Nothing is sent to find out.
pub(crate) fn source(ip: IpAddr) -> Option<IpAddr> {
    let any: IpAddr =
        if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A socket of its own for each: one that was connected before keeps the address that it got then.
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(SocketAddr::new(ip, ANY_PORT)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn usable() -> impl Iterator<Item = if_addrs::Interface> {
    let usable = |interface: &if_addrs::Interface| match interface.ip() {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    if_addrs::get_if_addrs().unwrap_or_default().into_iter().filter(usable)
}

fn describe() -> Vec<Described> {
    let out = FAR.map(source);
    let fading = fading();
    let described = usable().map(|interface| {
        let ip = interface.ip();
        let prefix = match &interface.addr {
            IfAddr::V4(addr) => addr.prefixlen,
            IfAddr::V6(addr) => addr.prefixlen,
        };
        Described {
            ip,
            prefix,
            way_out: out.contains(&Some(ip)),
            idle: !matches!(interface.oper_status, IfOperStatus::Up | IfOperStatus::Unknown),
            fading: fading.contains(&ip),
        }
    });
    described.collect()
}

/// Addresses of IPv6 that will be gone within a day or so: temporary ones (RFC 8981), and those that are deprecated.
#[cfg(target_os = "linux")]
fn fading() -> Vec<IpAddr> {
    let table = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
    fading_in(&table)
}

/// Not known elsewhere.
#[cfg(not(target_os = "linux"))]
fn fading() -> Vec<IpAddr> {
    Vec::new()
}

/// The same in what Linux shows, a line an address: the address, index, length of the prefix, scope, flags, name.
#[cfg(any(target_os = "linux", test))]
fn fading_in(table: &str) -> Vec<IpAddr> {
    // linux/if_addr.h: IFA_F_TEMPORARY, IFA_F_DEPRECATED.
    const FADING: u32 = 0x01 | 0x20;
    let parse = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let ip = u128::from_str_radix(fields.next()?, 16).ok()?;
        let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
        (flags & FADING != 0).then_some(IpAddr::V6(Ipv6Addr::from_bits(ip)))
    };
    table.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_and_deprecated_addresses_are_read_from_the_systems_table() {
        let table = "\
            00000000000000000000000000000001 01 80 10 80       lo\n\
            20010db8000000000000000000000005 02 40 00 00     eth0\n\
            20010db8000000000000000000000006 02 40 00 01     eth0\n\
            20010db8000000000000000000000007 02 40 00 a0     eth0\n\
            rubbish\n\
            20010db8000000000000000000000008 02\n";
        let expected = ["2001:db8::6", "2001:db8::7"].map(|ip| ip.parse::<IpAddr>().unwrap());
        assert_eq!(fading_in(table), expected);
    }

    #[test]
    fn this_machine_has_loopback_and_not_an_address_of_documentation() {
        assert!(has(Ipv4Addr::LOCALHOST.into()));
        assert!(!has(FAR[0]));
        assert_eq!(source(Ipv4Addr::LOCALHOST.into()), Some(Ipv4Addr::LOCALHOST.into()));
    }
}
