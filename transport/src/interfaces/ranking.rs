//! Core: in which order addresses are named, or tried, when there isn't room or time for all of them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use crate::ground::address::is_public;

/// An address of this machine, and what is known about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Described {
    pub(crate) ip: IpAddr,
    /// How many bits its network has in common.
    pub(crate) prefix: u8,
    /// Packets to the internet leave from it.
    pub(crate) way_out: bool,
    /// Nothing is at the other end: a bridge that nobody is on, a cable that isn't plugged in.
    pub(crate) idle: bool,
    /// It will be gone soon.
    pub(crate) fading: bool,
}

/// Which of two groups of addresses is the more useful; the lower one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    /// Where packets to the internet leave, for each family: what answers them comes there.
    WayOut,
    Public,
    /// On a network of this host's own, or a carrier's.
    Private,
    /// It works today, and a reference is read for weeks.
    Fading,
    Idle,
    Loopback,
}

impl Described {
    fn group(&self) -> Group {
        match self {
            _ if self.ip.is_loopback() => Group::Loopback,
            _ if self.way_out => Group::WayOut,
            _ if self.idle => Group::Idle,
            _ if self.fading => Group::Fading,
            _ if is_public(self.ip) => Group::Public,
            _ => Group::Private,
        }
    }

    /// Whether both are on one network.
    fn is_beside(&self, other: &Self) -> bool {
        self.prefix == other.prefix && common_bits(self.ip, other.ip) >= self.prefix.into()
    }
}

/// Each address once, the most useful one first. Of equally useful ones the families take turns (RFC 8305, section 4), so that a crowd of
/// one doesn't hide the other.
pub(crate) fn ranked(mut described: Vec<Described>) -> Vec<IpAddr> {
    prefer_lasting(&mut described);
    let mut grouped: Vec<(Group, Described)> =
        described.into_iter().map(|one| (one.group(), one)).collect();
    grouped.sort_by_key(|(group, one)| (*group, !is_public(one.ip)));
    let mut ranked: Vec<IpAddr> = Vec::with_capacity(grouped.len());
    for group in grouped.chunk_by(|(one, _), (other, _)| one == other) {
        // The family of the first one is the first.
        let first = group.first().is_some_and(|(_, one)| one.ip.is_ipv4());
        let family = |mine: bool| group.iter().filter(move |(_, one)| one.ip.is_ipv4() == mine);
        let (mut these, mut others) = (family(first), family(!first));
        loop {
            let pair = [these.next(), others.next()];
            if pair.iter().all(Option::is_none) {
                break;
            }
            ranked.extend(pair.into_iter().flatten().map(|(_, one)| one.ip));
        }
    }
    let mut seen = std::collections::HashSet::new();
    ranked.retain(|ip| seen.insert(*ip));
    ranked
}

/// Systems send from temporary addresses to the internet where they have some: a lasting one of the same network is as good a way in.
fn prefer_lasting(described: &mut [Described]) {
    for index in 0..described.len() {
        let way_out = described[index];
        if way_out.way_out && way_out.fading {
            let lasting = |one: &&mut Described| {
                !one.fading && !one.idle && one.ip != way_out.ip && one.is_beside(&way_out)
            };
            if let Some(lasting) = described.iter_mut().find(lasting) {
                lasting.way_out = true;
                described[index].way_out = false;
            }
        }
    }
}

/// How many bits two addresses have in common from the first on; 0 for those of different families.
pub(super) fn common_bits(one: IpAddr, other: IpAddr) -> u32 {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => 0,
    }
}

/// Bits that an address has in common with the source of packets to it if both are on one network, most likely: the usual lengths
/// of a network of IPv4 and of IPv6.
const NEIGHBOUR_BITS: [u32; 2] = [24, 64];

/// Whether `ip` is on the network of one of `locals`, most likely.
pub(crate) fn is_neighbour_of_any(ip: IpAddr, mut locals: impl Iterator<Item = IpAddr>) -> bool {
    let bits = NEIGHBOUR_BITS[usize::from(ip.is_ipv6())];
    locals.any(|local| common_bits(local, ip) >= bits)
}

/// Which addresses of a peer to try first, `source` being where packets to each leave this machine: a peer on the same network, then the
/// peer's own order, and last where no route leads (RFC 6724, section 6, rules 1 and 9).
pub(crate) fn by_way(
    mut addresses: Vec<SocketAddr>,
    source: impl Fn(IpAddr) -> io::Result<Option<IpAddr>>,
) -> Vec<SocketAddr> {
    addresses.sort_by_cached_key(|address| {
        let ip = address.ip().to_canonical();
        match source(ip) {
            Ok(None) => 2,
            Ok(Some(source)) => {
                let bits = NEIGHBOUR_BITS[usize::from(ip.is_ipv6())];
                u8::from(common_bits(ip, source) < bits)
            }
            // Nothing is known of it.
            Err(_) => 1,
        }
    });
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(ip: &str) -> Described {
        let ip: IpAddr = ip.parse().unwrap();
        let prefix = if ip.is_ipv4() { 24 } else { 64 };
        Described { ip, prefix, way_out: false, idle: false, fading: false }
    }

    fn way_out(ip: &str) -> Described {
        Described { way_out: true, ..plain(ip) }
    }

    fn idle(ip: &str) -> Described {
        Described { idle: true, ..plain(ip) }
    }

    fn fading(ip: &str) -> Described {
        Described { fading: true, ..plain(ip) }
    }

    fn names(described: &[Described]) -> Vec<String> {
        ranked(described.to_vec()).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn seven_bridges_hide_neither_the_way_out_nor_a_public_address() {
        let mut all = vec![plain("127.0.0.1")];
        all.extend((17..24).map(|n| idle(&format!("172.{n}.0.1"))));
        all.extend([way_out("192.168.1.7"), plain("::1"), way_out("2001:db8::7")]);
        let names = names(&all);
        assert_eq!(names[..3], ["2001:db8::7", "192.168.1.7", "172.17.0.1"]);
        assert_eq!((names.len(), &names[9..]), (11, &["127.0.0.1".into(), "::1".into()][..]));
        // The same with containers on all of them.
        for one in &mut all {
            one.idle = false;
        }
        assert_eq!(self::names(&all)[..3], ["2001:db8::7", "192.168.1.7", "172.17.0.1"]);
    }

    #[test]
    fn of_two_thousand_addresses_the_one_that_leads_out_is_the_first() {
        let mut all: Vec<_> =
            (0..2000).map(|n| plain(&format!("10.9.{}.{}", n / 250, n % 250 + 1))).collect();
        all.push(way_out("203.0.113.7"));
        all.push(plain("198.51.100.7"));
        let names = names(&all);
        assert_eq!(names[..3], ["203.0.113.7", "198.51.100.7", "10.9.0.1"]);
        assert_eq!(names.len(), 2002);
    }

    #[test]
    fn the_families_take_turns_within_a_group() {
        let mut all: Vec<_> = (1..6).map(|n| plain(&format!("10.0.{n}.1"))).collect();
        all.extend((1..3).map(|n| plain(&format!("fd00:{n}::1"))));
        let expected =
            ["10.0.1.1", "fd00:1::1", "10.0.2.1", "fd00:2::1", "10.0.3.1", "10.0.4.1", "10.0.5.1"];
        assert_eq!(names(&all), expected);
        // What is public goes first, though the other family was listed before.
        assert_eq!(names(&[way_out("10.0.0.1"), way_out("2001:db8::1")])[0], "2001:db8::1");
        assert_eq!(names(&[way_out("203.0.113.1"), way_out("2001:db8::1")])[0], "203.0.113.1");
    }

    #[test]
    fn where_there_is_nothing_else_the_least_useful_is_named() {
        assert_eq!(names(&[plain("::1"), plain("127.0.0.1")]), ["::1", "127.0.0.1"]);
        assert_eq!(names(&[idle("172.17.0.1"), plain("127.0.0.1")])[0], "172.17.0.1");
        assert_eq!(names(&[plain("10.0.0.1"), plain("10.0.0.1")]), ["10.0.0.1"]);
        assert!(names(&[]).is_empty());
    }

    #[test]
    fn a_lasting_address_goes_before_the_temporary_one_that_the_system_sends_from() {
        let temporary = Described { way_out: true, ..fading("2001:db8::bad") };
        let all = [temporary, plain("2001:db8::1"), plain("2001:db8:1::1"), plain("10.0.0.1")];
        assert_eq!(names(&all), ["2001:db8::1", "2001:db8:1::1", "10.0.0.1", "2001:db8::bad"]);
        // Alone it is what there is.
        assert_eq!(names(&[temporary, plain("10.0.0.1")]), ["2001:db8::bad", "10.0.0.1"]);
    }

    #[test]
    fn a_peer_on_the_same_network_is_tried_there_first_and_last_where_no_route_leads() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let named = ["203.0.113.7:5", "[2001:db8::7]:5", "172.17.0.1:5", "192.168.1.9:5"];
        let source = |ip: IpAddr| match ip {
            IpAddr::V4(_) => Ok(Some([192, 168, 1, 7].into())),
            IpAddr::V6(_) => Ok(None),
        };
        let expected = ["192.168.1.9:5", "203.0.113.7:5", "172.17.0.1:5", "[2001:db8::7]:5"];
        assert_eq!(by_way(addresses(&named), source), addresses(&expected));
    }
}
