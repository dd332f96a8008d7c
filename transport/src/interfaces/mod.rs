//! The addresses of this machine: which there are, which of them others are most likely to reach it at, and which way it
//! sends.
//!
//! - `ranking`: core: the order in which they are named
//! - `routes`: whether another route than the default one leads somewhere

pub(crate) mod ranking;
mod routes;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use if_addrs::{IfAddr, IfOperStatus};

use crate::ground::shortage::is_shortage;
use ranking::{Described, ranked};
pub(crate) use routes::leads_inside;

/// Addresses of documentation: nobody's, so that only the default route leads there. Nothing is sent to them.
const FAR: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// The port of nothing (RFC 863, discard), for the same questions.
const ANY_PORT: u16 = 9;

/// The addresses of this machine that mean something to another: link-local ones don't without a scope.
#[derive(Debug)]
pub(crate) struct Addresses {
    pub(crate) all: Vec<IpAddr>,
    /// Why these aren't all: the system doesn't let this process list them, and they are those from which packets leave for the internet.
    pub(crate) partial: Option<io::Error>,
}

/// The addresses of this machine, in the kernel's order.
///
/// # Errors
/// What the system says, where they aren't known: that is something else than that there are none.
pub(crate) fn addresses() -> io::Result<Addresses> {
    let listed = if_addrs::get_if_addrs();
    listed_or_sources(listed, source, |all| Ok(all.iter().map(if_addrs::Interface::ip).collect()))
}

/// The same, the most useful one first.
///
/// # Errors
/// As [`addresses`], and where their order isn't known.
pub(crate) fn addresses_by_use() -> io::Result<Addresses> {
    listed_or_sources(if_addrs::get_if_addrs(), source, |all| Ok(ranked(describe(all)?)))
}

/// Whether this machine has this address, as far as the system tells.
pub(crate) fn has(ip: IpAddr) -> bool {
    // Asked first, for it takes the same time however many addresses there are.
    may_be_own(ip)
        && addresses().is_ok_and(|found| found.partial.is_some() || found.all.contains(&ip))
}

/// Whether a socket can be bound to this address: only if this machine has it, unless it was set up to bind any. Where the system has no socket
/// to spare, it isn't known, and taken for possible.
pub(crate) fn may_be_own(ip: IpAddr) -> bool {
    let bound = UdpSocket::bind((ip, 0));
    bound.err().is_none_or(|e| is_shortage(&e))
}

/// From which of this machine's addresses packets to `ip` leave; `None`: no route leads there. Nothing is sent to find out.
///
/// # Errors
/// Where the system has no socket, or no port, to spare.
pub(crate) fn source(ip: IpAddr) -> io::Result<Option<IpAddr>> {
    let any: IpAddr =
        if ip.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A socket of its own for each: one that was connected before keeps the address that it got then.
    let socket = match UdpSocket::bind((any, 0)) {
        Ok(socket) => socket,
        // The family isn't there.
        Err(e) if is_forbidden(&e) || e.kind() == io::ErrorKind::AddrNotAvailable => {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    match socket.connect(SocketAddr::new(ip, ANY_PORT)) {
        Ok(()) => Ok(Some(socket.local_addr()?.ip())),
        Err(e) if is_shortage(&e) => Err(e),
        Err(_) => Ok(None),
    }
}

/// Whether the system will never tell this process: Linux without netlink for it, as systemd's `RestrictAddressFamilies` leaves it.
fn is_forbidden(error: &io::Error) -> bool {
    // EAFNOSUPPORT of Linux, which is what such filters answer unless they are told another code.
    let unsupported = cfg!(target_os = "linux") && error.raw_os_error() == Some(97);
    unsupported
        || matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported)
}

/// Those that are listed, as `of` has them; or else, where no list is ever to be had, those from which packets leave for the internet.
fn listed_or_sources(
    listed: io::Result<Vec<if_addrs::Interface>>,
    source: impl Fn(IpAddr) -> io::Result<Option<IpAddr>>,
    of: impl FnOnce(&[if_addrs::Interface]) -> io::Result<Vec<IpAddr>>,
) -> io::Result<Addresses> {
    let usable = |interface: &if_addrs::Interface| match interface.ip() {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    match listed {
        Ok(mut all) => {
            all.retain(usable);
            Ok(Addresses { all: of(&all)?, partial: None })
        }
        Err(e) if is_forbidden(&e) => {
            let sources = FAR.into_iter().map(source).collect::<io::Result<Vec<_>>>()?;
            let all: Vec<_> = sources.into_iter().flatten().collect();
            // None at all is more likely an error than a machine without a network.
            if all.is_empty() { Err(e) } else { Ok(Addresses { all, partial: Some(e) }) }
        }
        Err(e) => Err(e),
    }
}

fn describe(all: &[if_addrs::Interface]) -> io::Result<Vec<Described>> {
    let out = FAR.into_iter().map(source).collect::<io::Result<Vec<_>>>()?;
    let fading = fading()?;
    let described = all.iter().map(|interface| {
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
    Ok(described.collect())
}

/// Addresses of IPv6 that will be gone within a day or so: temporary ones (RFC 8981), and those that are deprecated.
#[cfg(target_os = "linux")]
fn fading() -> io::Result<Vec<IpAddr>> {
    match std::fs::read_to_string("/proc/thread-self/net/if_inet6") {
        Ok(table) => Ok(fading_in(&table)),
        Err(e) if is_shortage(&e) => Err(e),
        // There is no IPv6, or no such file for this process, today as tomorrow.
        Err(_) => Ok(Vec::new()),
    }
}

/// Not known elsewhere.
#[cfg(not(target_os = "linux"))]
fn fading() -> io::Result<Vec<IpAddr>> {
    Ok(Vec::new())
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
        let source = source(Ipv4Addr::LOCALHOST.into()).unwrap();
        assert_eq!(source, Some(Ipv4Addr::LOCALHOST.into()));
    }

    fn error(code: i32) -> io::Error {
        io::Error::from_raw_os_error(code)
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn where_no_list_is_to_be_had_the_ways_out_are_known_and_a_shortage_is_an_error() {
        let (here, far) = (IpAddr::from([10, 0, 0, 5]), |ip: IpAddr| ip.is_ipv4());
        let ask = |code, source: &dyn Fn(IpAddr) -> io::Result<Option<IpAddr>>| {
            listed_or_sources(Err(error(code)), source, |_| unreachable!())
        };
        let way_out = |ip| Ok(far(ip).then_some(here));
        for forbidden in [97, 1, 13] {
            let found = ask(forbidden, &way_out).unwrap();
            assert_eq!(found.all, [here]);
            assert!(found.partial.is_some());
            assert!(ask(forbidden, &|_| Ok(None)).is_err(), "nothing is known");
            assert!(ask(forbidden, &|_| Err(error(24))).is_err());
        }
        for short in [24, 23, 12, 105] {
            assert!(is_shortage(&ask(short, &way_out).unwrap_err()), "{short}");
        }
        let none = listed_or_sources(Ok(Vec::new()), way_out, |_| Ok(Vec::new())).unwrap();
        assert!(none.all.is_empty() && none.partial.is_none(), "there are none");
    }
}
