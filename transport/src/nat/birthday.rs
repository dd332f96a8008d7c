//! The birthday attempt: through a symmetric NAT to a host whose NAT lets in only whom it has sent to.
//!
//! The symmetric side sends from many sockets at once, for each of which its NAT opens some port; the other side sends to
//! as many ports as it is paid for, until one of them is open. With 256 sockets each guess is right once in 252, so that
//! 1,500 guesses fail 0.3% of the time (measured in the NAT laboratory: docs/reachability.md).
//!
//! Cores without IO: which ports to guess in which order, and how many a peer has paid for.

use rand::{RngExt, rngs::StdRng};

use super::{NatClass, Ports};

/// Sockets of the symmetric side, and those behind a carrier, whose customers have a few hundred ports each.
pub(crate) const SOCKETS: usize = 256;
pub(crate) const SOCKETS_AT_CARRIER: usize = 64;

/// NATs don't hand out lower ones (RFC 6056, section 3.2).
const PORT_MIN: u16 = 1024;

/// Ports on either side of one that was seen which are guessed first, where a NAT doesn't pick them anywhere. A guess.
const NEIGHBOURS: u16 = 128;

/// The ports to guess, each once.
#[derive(Debug)]
pub(crate) struct Guesses {
    near: Vec<u16>,
    /// A walk through all ports: a prime step visits each of them once.
    next: u32,
    step: u32,
    left: u32,
}

const PORTS: u32 = 65_536 - PORT_MIN as u32;

impl Guesses {
    /// Guesses at a NAT of this class, of which the port `seen` is known.
    pub(crate) fn new(class: Option<NatClass>, seen: u16, rng: &mut StdRng) -> Self {
        let anywhere =
            class.is_none_or(|class| matches!(class.ports, Ports::Random | Ports::Unknown));
        let near = if anywhere {
            Vec::new()
        } else {
            // The farthest first, for they are taken from the end.
            let pair = |d: u16| [seen.checked_sub(d), seen.checked_add(d)];
            let near = (1..=NEIGHBOURS).rev().flat_map(pair).flatten();
            near.filter(|port| *port >= PORT_MIN).collect()
        };
        // PORTS is 2^10 * 3^2 * 7: any of these primes shares no factor with it.
        const STEPS: [u32; 4] = [40_507, 25_717, 10_007, 55_001];
        let step = STEPS[rng.random_range(0..STEPS.len())];
        Self { near, next: rng.random_range(0..PORTS), step, left: PORTS }
    }
}

impl Iterator for Guesses {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if let Some(near) = self.near.pop() {
            return Some(near);
        }
        self.left = self.left.checked_sub(1)?;
        self.next = (self.next + self.step) % PORTS;
        u16::try_from(self.next + u32::from(PORT_MIN)).ok()
    }
}

/// How many guesses a peer has paid for, with what it sent.
#[derive(Debug, Default)]
pub(crate) struct Purse {
    paid: u64,
    spent: u64,
}

impl Purse {
    /// The peer has sent so many bytes.
    pub(crate) fn pay(&mut self, bytes: u64) {
        self.paid = self.paid.saturating_add(bytes);
    }

    /// Takes the price of a datagram of so many bytes: all of them together cost at most three times what was paid.
    pub(crate) fn spend(&mut self, bytes: u64) -> bool {
        let affordable = self.spent + bytes <= self.paid.saturating_mul(3);
        if affordable {
            self.spent += bytes;
        }
        affordable
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_port_is_guessed_once_and_neighbours_first_where_that_helps() {
        let random = NatClass { ports: Ports::Random, ..NatClass::default() };
        let block = NatClass { ports: Ports::Block, ..NatClass::default() };
        for seed in 0..8 {
            let mut rng = StdRng::seed_from_u64(seed);
            let all: Vec<u16> = Guesses::new(Some(random), 5000, &mut rng).collect();
            assert_eq!(all.len(), PORTS as usize);
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
            assert!(all.iter().all(|port| *port >= PORT_MIN));
        }
        let near = Guesses::new(Some(block), 5000, &mut StdRng::seed_from_u64(1)).take(256);
        assert!(near.into_iter().all(|port| port.abs_diff(5000) <= NEIGHBOURS));
        let first = Guesses::new(Some(block), 65_535, &mut StdRng::seed_from_u64(1)).next();
        assert_eq!(first, Some(65_534));
    }

    #[test]
    fn nobody_makes_us_send_more_than_three_times_what_it_sent() {
        let mut purse = Purse::default();
        assert!(!purse.spend(1));
        purse.pay(100);
        assert_eq!((0..100).filter(|_| purse.spend(51)).count(), 5);
    }
}
