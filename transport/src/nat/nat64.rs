//! Core: the IPv6 addresses under which a network's NAT64 shows the hosts of IPv4 (RFC 6052, RFC 7050).
//!
//! The network's name server is asked for the IPv6 addresses of a name that has none: an address that it makes up all the
//! same shows the prefix. It is asked only by a host without IPv4. What it answers is bounded, and believed only where the
//! two addresses that RFC 7050 set aside show in the places that RFC 6052 has for them; a lie brings no more than a dial
//! to nobody, as any wrong address does, since whoever answers has to prove its key.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use crate::ground::address::{canonical, is_public};

/// The name that has no IPv6 address, and all that it has (RFC 7050, section 8.2).
pub(crate) const NAME: &str = "ipv4only.arpa";
const WELL_KNOWN: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

/// Lengths of prefixes (RFC 6052, section 2.2).
const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];

/// Bits 64 to 71 are zero, and no part of the IPv4 address (RFC 6052, section 2.2).
const RESERVED_OCTET: usize = 8;

/// Addresses of an answer that are looked at, and prefixes that are believed. Guesses: a network has one, and two addresses
/// of it.
const ANSWERS_MAX: usize = 16;
const PREFIXES_MAX: usize = 2;

/// An answer, though it shows no prefix, is good for so long, and without one the next question waits for so long. Guesses: a network that changes its
/// prefix announces that by less, and a laptop that just woke gets its name server soon.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(1800);
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// The prefix of a NAT64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// With zeros where an IPv4 address goes.
    bits: Ipv6Addr,
    length: u8,
}

impl Prefix {
    /// The octets in which it has an IPv4 address.
    fn places(self) -> impl Iterator<Item = usize> {
        (usize::from(self.length) / 8..16).filter(|place| *place != RESERVED_OCTET).take(4)
    }

    /// The address under which `ip` is reached.
    pub(crate) fn embed(self, ip: Ipv4Addr) -> Ipv6Addr {
        let mut octets = self.bits.octets();
        for (place, octet) in self.places().zip(ip.octets()) {
            octets[place] = octet;
        }
        octets.into()
    }

    /// The host of IPv4 that `ip` stands for, if it is under this prefix.
    pub(crate) fn extract(self, ip: Ipv6Addr) -> Option<Ipv4Addr> {
        let octets = ip.octets();
        let mut inner = [0; 4];
        for (place, octet) in self.places().zip(&mut inner) {
            *octet = octets[place];
        }
        let inner = inner.into();
        (self.embed(inner) == ip).then_some(inner)
    }

    /// The prefix of this length of `ip`, whatever follows.
    fn of(ip: Ipv6Addr, length: u8) -> Self {
        let mask = u128::MAX << (128 - u32::from(length));
        Self { bits: Ipv6Addr::from_bits(ip.to_bits() & mask), length }
    }

    /// What `ip` shows, if it stands for one of the two well-known addresses. With zeros behind, it does so in one place only.
    fn shown_by(ip: Ipv6Addr) -> Option<Self> {
        let shows = |length: &u8| {
            let prefix = Self::of(ip, *length);
            let known = prefix.extract(ip).is_some_and(|inner| WELL_KNOWN.contains(&inner));
            // The reserved octet is zero in a long prefix as well.
            (known && ip.octets()[RESERVED_OCTET] == 0 && prefix.is_usable()).then_some(prefix)
        };
        let mut shown = LENGTHS.iter().filter_map(shows);
        shown.next().filter(|_| shown.next().is_none())
    }

    /// Whether hosts may be there: not this host, a group, a link, or IPv4 written as IPv6.
    fn is_usable(self) -> bool {
        let first = self.bits.segments()[0];
        // Of ::/8 only the well-known prefix is a NAT64's (RFC 6052, section 2.1).
        let reserved = first & 0xff00 == 0 && first != 0x0064;
        !(reserved || self.bits.is_multicast() || self.bits.is_unicast_link_local())
    }
}

/// What is known of the network's NAT64.
#[derive(Debug, Default)]
pub(crate) struct Nat64 {
    prefixes: Vec<Prefix>,
    /// When the name server was asked last.
    asked: Option<Instant>,
    /// It hasn't answered yet.
    waiting: bool,
    /// It didn't answer.
    failed: bool,
}

impl Nat64 {
    /// Whether to ask now, which is then noted. `has_ipv4`: this host reaches IPv4 by itself, and nobody is ever asked.
    pub(crate) fn ask(&mut self, has_ipv4: bool, now: Instant) -> bool {
        if has_ipv4 {
            *self = Self::default();
            return false;
        }
        let age = if self.failed { ASK_AGAIN } else { ANSWER_AGE_MAX };
        let due = !self.waiting && self.asked.is_none_or(|asked| now >= asked + age);
        if due {
            (self.asked, self.waiting) = (Some(now), true);
        }
        due
    }

    /// The answer; `None` if there was none: then what was known stands, until the host moves or another answer comes.
    pub(crate) fn answered(&mut self, addresses: Option<&[Ipv6Addr]>) {
        (self.waiting, self.failed) = (false, addresses.is_none());
        let Some(addresses) = addresses else { return };
        let mut prefixes = Vec::new();
        for ip in addresses.iter().take(ANSWERS_MAX) {
            if let Some(prefix) = Prefix::shown_by(*ip)
                && !prefixes.contains(&prefix)
                && prefixes.len() < PREFIXES_MAX
            {
                prefixes.push(prefix);
            }
        }
        self.prefixes = prefixes;
    }

    /// This host may be in another network: what is known is forgotten, and asked anew.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether an answer is still to come.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// The same addresses, those of public IPv4 as they are reached through the NAT64, if there is one.
    pub(crate) fn translate(
        &self,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Vec<SocketAddr> {
        let translate = |address: SocketAddr| match canonical(address).ip() {
            // Beyond it nobody is at an address of an inner network (RFC 6052, section 3.1).
            IpAddr::V4(ip) if is_public(ip.into()) && !self.prefixes.is_empty() => {
                let embed = |prefix: &Prefix| (prefix.embed(ip), address.port()).into();
                self.prefixes.iter().map(embed).collect()
            }
            _ => vec![address],
        };
        addresses.into_iter().flat_map(translate).collect()
    }

    /// The address that `address` stands for, if it stands for one of IPv4.
    pub(crate) fn original(&self, address: SocketAddr) -> Option<SocketAddr> {
        let IpAddr::V6(ip) = address.ip() else { return None };
        let inner = self.prefixes.iter().find_map(|prefix| prefix.extract(ip))?;
        Some((inner, address.port()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6052, section 2.4: 192.0.2.33 under prefixes of each length.
    const VECTORS: [(&str, u8, &str); 7] = [
        ("2001:db8::", 32, "2001:db8:c000:221::"),
        ("2001:db8:100::", 40, "2001:db8:1c0:2:21::"),
        ("2001:db8:122::", 48, "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::", 56, "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::", 64, "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::", 96, "2001:db8:122:344::192.0.2.33"),
        ("64:ff9b::", 96, "64:ff9b::192.0.2.33"),
    ];

    fn ip(text: &str) -> Ipv6Addr {
        text.parse().unwrap()
    }

    fn prefix(text: &str, length: u8) -> Prefix {
        Prefix { bits: ip(text), length }
    }

    fn after(answer: &[Ipv6Addr]) -> Nat64 {
        let mut nat64 = Nat64::default();
        assert!(nat64.ask(false, Instant::now()));
        nat64.answered(Some(answer));
        nat64
    }

    #[test]
    fn addresses_are_made_as_the_vectors_have_them_and_read_again() {
        let inner = Ipv4Addr::new(192, 0, 2, 33);
        for (bits, length, whole) in VECTORS {
            let prefix = prefix(bits, length);
            assert_eq!(prefix.embed(inner), ip(whole), "{length}");
            assert_eq!(prefix.extract(ip(whole)), Some(inner), "{length}");
            assert_eq!(Prefix::of(ip(whole), length), prefix);
            // Another prefix, or something behind the address.
            assert_eq!(prefix.extract(ip("2001:db9::1")), None);
            if length < 96 {
                let more = Ipv6Addr::from_bits(ip(whole).to_bits() | 1);
                assert_eq!(prefix.extract(more), None);
            }
        }
    }

    #[test]
    fn each_length_is_found_by_the_well_known_addresses_and_used_for_public_ones() {
        for (bits, length, whole) in VECTORS {
            let prefix = prefix(bits, length);
            let nat64 = after(&WELL_KNOWN.map(|known| prefix.embed(known)));
            assert_eq!(nat64.prefixes, [prefix]);
            let addresses = ["192.0.2.33:5", "[::ffff:192.0.2.33]:6", "[2001:db8:9::1]:7"];
            let inner = ["10.0.0.1:8", "127.0.0.1:9", "100.64.0.1:9", "169.254.0.1:9"];
            let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
            let addresses = addresses.map(parse);
            let expected =
                [SocketAddr::from((ip(whole), 5)), SocketAddr::from((ip(whole), 6)), addresses[2]];
            assert_eq!(nat64.translate(addresses), expected);
            assert_eq!(nat64.translate(inner.map(parse)), inner.map(parse));
            assert_eq!(nat64.original(expected[0]), Some(addresses[0]));
            assert_eq!(nat64.original(addresses[2]), None);
        }
    }

    #[test]
    fn what_a_hostile_name_server_answers_is_bounded_and_mostly_ignored() {
        let lies = [
            // Another address inside, another place, something behind it, the reserved octet.
            "64:ff9b::192.0.2.33",
            "2001:db8::c000:aa:1",
            "2001:db8:122:344:c0:0:aa00:1",
            "2001:db8:122:344:100::192.0.0.170",
            // This host, a group, a link, IPv4 as IPv6, nobody.
            "::192.0.0.170",
            "::ffff:192.0.0.170",
            "ff0e::192.0.0.170",
            "fe80::192.0.0.170",
            "::1",
            "::",
        ];
        assert!(after(&lies.map(ip)).prefixes.is_empty());
        let crowd: Vec<_> = (0..10_000_u128)
            .map(|n| Ipv6Addr::from_bits(ip("2001:db8::192.0.0.170").to_bits() | n << 72))
            .collect();
        assert_eq!(after(&crowd).prefixes.len(), PREFIXES_MAX);
    }

    #[test]
    fn it_is_asked_without_ipv4_only_again_after_a_move_and_else_seldom() {
        let start = Instant::now();
        let mut nat64 = Nat64::default();
        assert!(!nat64.ask(true, start));
        assert!(nat64.ask(false, start) && nat64.is_waiting());
        assert!(!nat64.ask(false, start + ANSWER_AGE_MAX), "it is being asked");
        nat64.answered(None);
        assert!(!nat64.ask(false, start + ASK_AGAIN / 2));
        let later = start + ASK_AGAIN;
        assert!(nat64.ask(false, later));
        nat64.answered(Some(&[]));
        assert!(!nat64.ask(false, later + ASK_AGAIN), "there is none");
        let later = later + ANSWER_AGE_MAX;
        assert!(nat64.ask(false, later));
        let answer = [prefix("64:ff9b::", 96).embed(WELL_KNOWN[0])];
        nat64.answered(Some(&answer));
        assert!(!nat64.ask(false, later + ANSWER_AGE_MAX / 2));
        // A name server that doesn't answer has taken nothing back.
        assert!(nat64.ask(false, later + ANSWER_AGE_MAX));
        nat64.answered(None);
        assert!(!nat64.prefixes.is_empty());
        nat64.clear();
        assert!(nat64.prefixes.is_empty() && nat64.ask(false, later));
        nat64.answered(Some(&answer));
        // IPv4 is there again.
        assert!(!nat64.ask(true, later));
        assert!(nat64.prefixes.is_empty());
    }
}
