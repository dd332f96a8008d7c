//! Routers that translate addresses, in the terms of RFC 4787, and firewalls that remember.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use foldhash::HashMap;
use rand::{RngExt, rngs::StdRng};
use tokio::time::Instant;

/// On what part of the other end something depends (RFC 4787, sections 4.1 and 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dependence {
    /// On none of it.
    Independent,
    /// On its address.
    Address,
    /// On its address and port.
    AddressAndPort,
}

/// How outside ports are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// The inside port, if it is free, or the next one.
    Preserved,
    /// One after the other.
    Sequential,
    /// By chance.
    Random,
}

/// A router, or several hosts' firewall.
#[derive(Debug, Clone)]
pub struct Nat {
    /// Whether inside addresses become its own.
    pub translates: bool,
    /// For which other ends an inside port has the same outside port.
    pub mapping: Dependence,
    /// From where something may come in.
    pub filtering: Dependence,
    /// How outside ports are chosen.
    pub ports: Ports,
    /// Whether inside hosts reach each other at their outside addresses.
    pub hairpin: bool,
    /// Whether it takes for its own what comes in for nobody behind it. The port then counts as taken for whoever sent that,
    /// and who sends there from behind it gets another one.
    pub accepts: bool,
    /// What nothing was sent through for so long is forgotten.
    pub forgets: Duration,
}

/// After so long conntrack forgets a UDP flow that only one side has used (docs/measurements.md).
const FORGETS: Duration = Duration::from_secs(30);

impl Nat {
    fn new(mapping: Dependence, filtering: Dependence, ports: Ports) -> Self {
        let (hairpin, accepts, forgets) = (false, false, FORGETS);
        Self { translates: true, mapping, filtering, ports, hairpin, accepts, forgets }
    }

    /// One outside port per inside port, open to all.
    pub fn full_cone() -> Self {
        Self::new(Dependence::Independent, Dependence::Independent, Ports::Preserved)
    }

    /// One outside port per inside port, open to addresses that something was sent to.
    pub fn address_restricted() -> Self {
        Self::new(Dependence::Independent, Dependence::Address, Ports::Preserved)
    }

    /// One outside port per inside port, open to addresses and ports that something was sent to.
    pub fn port_restricted() -> Self {
        Self::new(Dependence::Independent, Dependence::AddressAndPort, Ports::Preserved)
    }

    /// Another outside port for each other end, by chance.
    pub fn symmetric() -> Self {
        Self::new(Dependence::AddressAndPort, Dependence::AddressAndPort, Ports::Random)
    }

    /// No translation; only answers come in.
    pub fn firewall() -> Self {
        Self { translates: false, ..Self::port_restricted() }
    }
}

#[derive(Debug)]
struct Mapping {
    inside: SocketAddr,
    key: (SocketAddr, Option<IpAddr>, Option<u16>),
    /// Whom something was sent to, and when last.
    sent: BTreeMap<SocketAddr, Instant>,
    used: Instant,
}

/// A [`Nat`] at work.
#[derive(Debug)]
pub(super) struct Translator {
    nat: Nat,
    outside: IpAddr,
    /// By outside address.
    mappings: BTreeMap<SocketAddr, Mapping>,
    by_key: HashMap<(SocketAddr, Option<IpAddr>, Option<u16>), SocketAddr>,
    /// What it took for its own: at which address of its, from whom, and when last.
    taken: BTreeMap<(SocketAddr, SocketAddr), Instant>,
    next_port: u16,
}

/// Where sequential ports begin.
const FIRST_PORT: u16 = 20_000;

impl Translator {
    pub(super) fn new(nat: Nat, outside: IpAddr) -> Self {
        let next_port = FIRST_PORT;
        let (mappings, by_key, taken) = Default::default();
        Self { nat, outside, mappings, by_key, taken, next_port }
    }

    pub(super) fn translates(&self) -> bool {
        self.nat.translates
    }

    pub(super) fn hairpin(&self) -> bool {
        self.nat.hairpin
    }

    /// Forgets everything, as after a restart.
    pub(super) fn forget(&mut self) {
        self.mappings.clear();
        self.by_key.clear();
        self.taken.clear();
    }

    fn is_taken(&self, outside: SocketAddr, by: SocketAddr, now: Instant) -> bool {
        self.taken.get(&(outside, by)).is_some_and(|at| self.is_live(*at, now))
    }

    fn is_live(&self, used: Instant, now: Instant) -> bool {
        now < used + self.nat.forgets
    }

    fn choose(
        &mut self,
        inside: SocketAddr,
        taken: Option<SocketAddr>,
        rng: &mut StdRng,
    ) -> SocketAddr {
        if !self.nat.translates {
            return inside;
        }
        let mut port = match self.nat.ports {
            Ports::Preserved => inside.port(),
            Ports::Sequential => self.next_port,
            Ports::Random => rng.random_range(1024..=u16::MAX),
        };
        let free = |outside| !self.mappings.contains_key(&outside) && taken != Some(outside);
        while !free(SocketAddr::new(self.outside, port)) {
            port = port.checked_add(1).unwrap_or(1024);
        }
        self.next_port = port.checked_add(1).unwrap_or(1024);
        SocketAddr::new(self.outside, port)
    }

    /// A datagram goes out; where it comes from for those outside.
    pub(super) fn outbound(
        &mut self,
        inside: SocketAddr,
        to: SocketAddr,
        now: Instant,
        rng: &mut StdRng,
    ) -> SocketAddr {
        let exact = (inside, Some(to.ip()), Some(to.port()));
        let mut key = match self.nat.mapping {
            Dependence::Independent => (inside, None, None),
            Dependence::Address => (inside, Some(to.ip()), None),
            Dependence::AddressAndPort => exact,
        };
        let usual = SocketAddr::new(self.outside, inside.port());
        let usual = self.by_key.get(&key).copied().unwrap_or(usual);
        // What was sent there before goes on as it was.
        let going = [exact, key].into_iter().find(|key| self.goes_on(key, to, now));
        let displaced = going.is_none() && self.is_taken(usual, to, now);
        key = going.unwrap_or(if displaced { exact } else { key });
        let known = self.by_key.get(&key).copied().filter(|outside| {
            self.mappings.get(outside).is_some_and(|mapping| self.is_live(mapping.used, now))
        });
        let outside = known.unwrap_or_else(|| {
            let forgets = self.nat.forgets;
            self.mappings.retain(|_, mapping| now < mapping.used + forgets);
            let mappings = &self.mappings;
            self.by_key.retain(|_, outside| mappings.contains_key(outside));
            let outside = self.choose(inside, displaced.then_some(usual), rng);
            let mapping = Mapping { inside, key, sent: BTreeMap::new(), used: now };
            self.by_key.insert(mapping.key, outside);
            self.mappings.insert(outside, mapping);
            outside
        });
        if let Some(mapping) = self.mappings.get_mut(&outside) {
            mapping.used = now;
            mapping.sent.insert(to, now);
        }
        outside
    }

    /// A datagram for `to` came from inside and goes no further: what was sent there before is as if it had been sent now.
    pub(super) fn refresh(&mut self, inside: SocketAddr, to: SocketAddr, now: Instant) {
        let mut known: Vec<SocketAddr> = self.mappings.keys().copied().collect();
        known.retain(|outside| {
            let mapping = &self.mappings[outside];
            mapping.inside == inside && self.goes_on(&mapping.key, to, now)
        });
        for outside in known {
            if let Some(mapping) = self.mappings.get_mut(&outside) {
                mapping.used = now;
                mapping.sent.insert(to, now);
            }
        }
    }

    /// Whether something was sent to `to` by this mapping, and not forgotten since.
    fn goes_on(
        &self,
        key: &(SocketAddr, Option<IpAddr>, Option<u16>),
        to: SocketAddr,
        now: Instant,
    ) -> bool {
        let mapping = self.by_key.get(key).and_then(|outside| self.mappings.get(outside));
        let sent = mapping.and_then(|mapping| mapping.sent.get(&to));
        sent.is_some_and(|at| self.is_live(*at, now))
    }

    /// A datagram wants in; where it goes.
    pub(super) fn inbound(
        &mut self,
        outside: SocketAddr,
        from: SocketAddr,
        now: Instant,
    ) -> Option<SocketAddr> {
        let inside = self.passes(outside, from, now);
        if inside.is_none() && self.nat.accepts {
            let forgets = self.nat.forgets;
            self.taken.retain(|_, at| now < *at + forgets);
            self.taken.insert((outside, from), now);
        }
        inside
    }

    fn passes(&self, outside: SocketAddr, from: SocketAddr, now: Instant) -> Option<SocketAddr> {
        let mapping = self.mappings.get(&outside)?;
        let sent = |matches: &dyn Fn(&SocketAddr) -> bool| {
            let mut sent = mapping.sent.iter();
            sent.any(|(to, at)| matches(to) && self.is_live(*at, now))
        };
        let passes = self.is_live(mapping.used, now)
            && match self.nat.filtering {
                Dependence::Independent => true,
                Dependence::Address => sent(&|to| to.ip() == from.ip()),
                Dependence::AddressAndPort => sent(&|to| *to == from),
            };
        passes.then_some(mapping.inside)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// For each kind: whether a second other end sees the same port; who gets in after something was sent to 1.1.1.1:1: that,
    /// another port of the same host, a stranger.
    fn behaviour(nat: Nat) -> (bool, [bool; 3]) {
        let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut translator = Translator::new(nat, "9.9.9.9".parse().unwrap());
        let inside = at("10.0.0.1:1000");
        let one = translator.outbound(inside, at("1.1.1.1:1"), now, &mut rng);
        let enters = ["1.1.1.1:1", "1.1.1.1:2", "3.3.3.3:3"]
            .map(|from| translator.inbound(one, at(from), now) == Some(inside));
        let two = translator.outbound(inside, at("2.2.2.2:2"), now, &mut rng);
        (one == two, enters)
    }

    #[test]
    fn each_kind_maps_and_filters_as_rfc_4787_has_it() {
        assert_eq!(behaviour(Nat::full_cone()), (true, [true; 3]));
        assert_eq!(behaviour(Nat::address_restricted()), (true, [true, true, false]));
        assert_eq!(behaviour(Nat::port_restricted()), (true, [true, false, false]));
        assert_eq!(behaviour(Nat::symmetric()), (false, [true, false, false]));
        assert_eq!(behaviour(Nat::firewall()), (true, [true, false, false]));
    }

    #[test]
    fn a_router_that_accepts_what_is_for_nobody_gives_that_port_away() {
        for accepts in [false, true] {
            let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
            let nat = Nat { accepts, ..Nat::port_restricted() };
            let mut router = Translator::new(nat, "9.9.9.9".parse().unwrap());
            let (inside, early, other) = (at("10.0.0.1:1000"), at("1.1.1.1:1"), at("2.2.2.2:2"));
            assert_eq!(router.inbound(at("9.9.9.9:1000"), early, now), None);
            let port = |router: &mut Translator, to, now, rng: &mut StdRng| {
                router.outbound(inside, to, now, rng).port()
            };
            let towards_early = if accepts { 1001 } else { 1000 };
            assert_eq!(port(&mut router, early, now, &mut rng), towards_early);
            assert_eq!(port(&mut router, other, now, &mut rng), 1000);
            // Whom something was sent to takes no port away.
            assert_eq!(router.inbound(at("9.9.9.9:1000"), other, now), Some(inside));
            assert_eq!(port(&mut router, other, now, &mut rng), 1000);
            let late = now + FORGETS;
            assert_eq!(port(&mut router, early, late, &mut rng), 1000);
        }
    }

    #[test]
    fn what_was_displaced_has_its_usual_port_again_when_both_entries_are_forgotten() {
        let (start, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let nat = Nat { accepts: true, ..Nat::port_restricted() };
        let mut router = Translator::new(nat, "9.9.9.9".parse().unwrap());
        let (inside, early, relay) = (at("10.0.0.1:1000"), at("1.1.1.1:1"), at("2.2.2.2:2"));
        router.inbound(at("9.9.9.9:1000"), early, start);
        let mut port = |to, seconds| {
            router.outbound(inside, to, start + Duration::from_secs(seconds), &mut rng).port()
        };
        // Which is in use meanwhile.
        let used: Vec<_> = [0, 20, 40, 60].map(|seconds| port(relay, seconds)).into();
        assert_eq!(used, [1000; 4]);
        // The entry that took it is forgotten after 30 s, its own only when it isn't used any more.
        assert_eq!([0, 20, 40].map(|seconds| port(early, seconds)), [1001; 3]);
        assert_eq!(port(early, 40 + FORGETS.as_secs()), 1000);
    }

    #[test]
    fn what_goes_no_further_than_the_router_refreshes_what_is_known_and_opens_nothing() {
        let (start, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut nat = Translator::new(Nat::port_restricted(), "9.9.9.9".parse().unwrap());
        let (inside, to) = (at("10.0.0.1:1000"), at("1.1.1.1:1"));
        let outside = at("9.9.9.9:1000");
        nat.refresh(inside, to, start);
        assert_eq!(nat.inbound(outside, to, start), None);
        nat.outbound(inside, to, start, &mut rng);
        let after = |seconds| start + Duration::from_secs(seconds);
        for seconds in [20, 40, 60] {
            nat.refresh(inside, to, after(seconds));
        }
        assert_eq!(nat.inbound(outside, to, after(89)), Some(inside));
        assert_eq!(nat.inbound(outside, to, after(90)), None);
        nat.refresh(inside, to, after(91));
        assert_eq!(nat.inbound(outside, to, after(91)), None, "it was forgotten");
    }

    #[test]
    fn what_is_unused_is_forgotten_and_its_port_is_free_again() {
        let (start, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut nat = Translator::new(Nat::port_restricted(), "9.9.9.9".parse().unwrap());
        let (inside, other, to) = (at("10.0.0.1:1000"), at("10.0.0.2:1000"), at("1.1.1.1:1"));
        let outside = nat.outbound(inside, to, start, &mut rng);
        let displaced = nat.outbound(other, to, start, &mut rng);
        assert_eq!((outside.port(), displaced.port()), (1000, 1001));
        let late = start + FORGETS;
        assert_eq!(nat.inbound(outside, to, late), None);
        assert_eq!(nat.outbound(other, to, late, &mut rng), outside);
    }
}
