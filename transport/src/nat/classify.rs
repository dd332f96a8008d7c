//! From what observers say to a class.
//!
//! Observers count by IPv4 address or IPv6 /64. What is decided, by their number:
//!
//! - one: only that ports of it see different addresses (address- and port-dependent), on its word;
//! - two: independent if they agree, else dependent; either of them can make it dependent by a lie;
//! - three: one that disagrees is outvoted. Only a liar that knows what another one saw could make a
//!   dependent NAT look independent, which costs a peer at most a few probes;
//! - four and more: one liar never flips independent to dependent or back (whether the port matters too
//!   is the word of most of those that looked from two ports). More contradiction than that is
//!   [`Mapping::Unknown`].

use std::{
    collections::{BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{Mapping, NatClass, Ports, Reachability};

/// What is older says nothing about the network of now. A guess: longer than several keep-alives,
/// shorter than most stays in one network.
const OBSERVATION_AGE_MAX: Duration = Duration::from_secs(600);

/// Observations kept; the oldest goes first. A guess: eight observers, two ports and two sockets each.
const OBSERVATIONS_MAX: usize = 32;

/// Of them by one observer: two ports and two sockets of ours, lest one that looks from many ports push the others out.
const OBSERVATIONS_BY_EACH: usize = 4;

/// Ports no further apart are of one block. A guess: carriers commonly hand out 64 to 1,024 at a time.
const BLOCK_PORTS: u16 = 1024;

/// A dial-back that isn't there by then was filtered or lost. A guess: several roundtrips.
const DIAL_BACK_TIME_MAX: Duration = Duration::from_secs(5);

/// Dial-backs kept; the oldest goes first. A guess.
const DIAL_BACKS_MAX: usize = 8;

/// One observer's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// The own socket, with the address of the interface.
    pub local: SocketAddr,
    /// Where the observer listened.
    pub observer: SocketAddr,
    /// What it says to have seen.
    pub observed: SocketAddr,
    /// When.
    pub at: Instant,
}

#[derive(Debug, Clone, Copy)]
struct DialBack {
    helper: IpAddr,
    nonce: u64,
    asked: Instant,
    arrived: bool,
}

/// Collects observations and dial-backs; [`class`](Self::class) says what follows from them.
#[derive(Debug, Default)]
pub struct Classifier {
    observations: VecDeque<Observation>,
    dial_backs: VecDeque<DialBack>,
}

impl Classifier {
    /// Takes an observation; a newer one of the same socket and observer replaces the older. One of
    /// mixed address families, or of no usable address, is ignored.
    pub fn observe(&mut self, seen: Observation) {
        let family = seen.local.is_ipv4();
        let usable = !seen.observed.ip().is_unspecified()
            && !seen.observed.ip().is_multicast()
            && seen.observed.port() != 0;
        if !usable || seen.observer.is_ipv4() != family || seen.observed.is_ipv4() != family {
            return;
        }
        self.observations.retain(|o| (o.local, o.observer) != (seen.local, seen.observer));
        let who = observer_key(seen.observer.ip());
        let same = |o: &Observation| observer_key(o.observer.ip()) == who;
        if self.observations.iter().filter(|o| same(o)).count() >= OBSERVATIONS_BY_EACH
            && let Some(oldest) = self.observations.iter().position(same)
        {
            self.observations.remove(oldest);
        }
        if self.observations.len() == OBSERVATIONS_MAX {
            self.observations.pop_front();
        }
        self.observations.push_back(seen);
    }

    /// `helper` was asked to have `nonce` sent to our observed address, from elsewhere.
    pub fn dial_back_asked(&mut self, helper: IpAddr, nonce: u64, now: Instant) {
        let helper = observer_key(helper);
        self.dial_backs.retain(|d| d.helper != helper);
        if self.dial_backs.len() == DIAL_BACKS_MAX {
            self.dial_backs.pop_front();
        }
        self.dial_backs.push_back(DialBack { helper, nonce, asked: now, arrived: false });
    }

    /// Nobody was there who could do that.
    pub fn dial_back_withdrawn(&mut self, nonce: u64) {
        self.dial_backs.retain(|dial| dial.nonce != nonce || dial.arrived);
    }

    /// Whether a router in front of this host is seen at `ip` from outside.
    pub(crate) fn is_outside(&self, ip: IpAddr) -> bool {
        let at = |o: &Observation| o.observed.ip() == ip && o.local.ip() != ip;
        self.observations.iter().any(at)
    }

    /// Whether a dial-back with this number was asked for.
    pub fn dial_back_awaited(&self, nonce: u64) -> bool {
        self.dial_backs.iter().any(|dial| dial.nonce == nonce)
    }

    /// A dial-back came. It counts only if nothing was ever sent to the address it came from
    /// (`contacted` is false), and only in time.
    pub fn dial_back_arrived(&mut self, nonce: u64, contacted: bool, now: Instant) {
        for dial in &mut self.dial_backs {
            if dial.nonce == nonce
                && !contacted
                && now.duration_since(dial.asked) <= DIAL_BACK_TIME_MAX
            {
                dial.arrived = true;
            }
        }
    }

    /// Forgets everything: the network changed.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// What follows from all that is recent enough; drops the rest.
    pub fn class(&mut self, now: Instant) -> NatClass {
        let recent = |at: Instant| now.duration_since(at) <= OBSERVATION_AGE_MAX;
        self.observations.retain(|o| recent(o.at));
        self.dial_backs.retain(|d| recent(d.asked));
        // The socket that most observers saw.
        let best = self
            .observations
            .iter()
            .map(|o| o.local)
            .max_by_key(|local| observers(&self.of(*local)).len());
        let seen = best.map(|local| self.of(local)).unwrap_or_default();
        NatClass {
            mapping: mapping(&seen),
            ports: ports(&seen),
            reachability: self.reachability(now),
            // RFC 6598: addresses between a carrier's NAT and its customers.
            carrier_grade: self.observations.iter().any(|o| is_shared(o.local.ip())),
        }
    }

    fn of(&self, local: SocketAddr) -> Vec<Observation> {
        self.observations.iter().filter(|o| o.local == local).copied().collect()
    }

    /// One that arrived proves it; silence is believed only of two helpers, since one may never have
    /// sent anything.
    fn reachability(&self, now: Instant) -> Reachability {
        let silent = |d: &&DialBack| now.duration_since(d.asked) > DIAL_BACK_TIME_MAX;
        if self.dial_backs.iter().any(|d| d.arrived) {
            Reachability::Reachable
        } else if self.dial_backs.iter().filter(silent).count() >= 2 {
            Reachability::Filtered
        } else {
            Reachability::Unknown
        }
    }
}

/// Who counts as one observer: whoever has one IPv6 address has its /64.
fn observer_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => std::net::Ipv6Addr::from(u128::from(ip) >> 64 << 64).into(),
    }
}

fn is_shared(ip: IpAddr) -> bool {
    matches!(ip.to_canonical(), IpAddr::V4(ip) if ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64)
}

fn observers(seen: &[Observation]) -> BTreeSet<IpAddr> {
    seen.iter().map(|o| observer_key(o.observer.ip())).collect()
}

fn by(seen: &[Observation], who: IpAddr) -> impl Iterator<Item = &Observation> {
    seen.iter().filter(move |o| observer_key(o.observer.ip()) == who)
}

fn mapping(seen: &[Observation]) -> Mapping {
    let all = observers(seen);
    let agreeing = |address: SocketAddr| {
        all.iter().filter(|who| by(seen, **who).all(|o| o.observed == address)).count()
    };
    let most = seen.iter().map(|o| (agreeing(o.observed), o)).max_by_key(|(count, _)| *count);
    let Some((count, sample)) = most else {
        return Mapping::Unknown;
    };
    let needed = if all.len() <= 2 { all.len() } else { all.len() - 1 };
    if all.len() >= 2 && count >= needed {
        return if sample.observed == sample.local {
            Mapping::None
        } else {
            Mapping::EndpointIndependent
        };
    }
    // One liar can repeat what one other observer saw, no more.
    if count > 2 {
        return Mapping::Unknown;
    }
    // Those that looked from two ports say whether the port matters.
    let looked_twice = all.iter().filter(|who| by(seen, **who).count() >= 2).count();
    let differing = all
        .iter()
        .filter(|who| by(seen, **who).map(|o| o.observed).collect::<BTreeSet<_>>().len() >= 2)
        .count();
    match all.len() {
        1 if differing == 1 => Mapping::AddressAndPortDependent,
        1 => Mapping::Unknown,
        _ if differing * 2 > looked_twice => Mapping::AddressAndPortDependent,
        _ => Mapping::AddressDependent,
    }
}

fn ports(seen: &[Observation]) -> Ports {
    let all = observers(seen);
    let preserved = all
        .iter()
        .filter(|who| by(seen, **who).all(|o| o.observed.port() == o.local.port()))
        .count();
    let needed = if all.len() <= 2 { all.len() } else { all.len() - 1 };
    if preserved > 0 && preserved >= needed {
        return Ports::Preserving;
    }
    let mut in_order: Vec<_> = seen.to_vec();
    in_order.sort_by_key(|o| o.at);
    let whole = pattern(in_order.iter());
    if whole != Ports::Random {
        return whole;
    }
    // One liar among several must not hide the pattern of the others.
    all.iter()
        .map(|liar| pattern(in_order.iter().filter(|o| observer_key(o.observer.ip()) != *liar)))
        .find(|without| *without == Ports::Block)
        .unwrap_or(Ports::Random)
}

/// Of mappings in the order of their making; fewer than three say nothing.
fn pattern<'a>(seen: impl Iterator<Item = &'a Observation>) -> Ports {
    let mut ports: Vec<u16> = Vec::new();
    for seen in seen {
        if !ports.contains(&seen.observed.port()) {
            ports.push(seen.observed.port());
        }
    }
    let (Some(low), Some(high)) = (ports.iter().min(), ports.iter().max()) else {
        return Ports::Unknown;
    };
    if ports.len() < 3 {
        return Ports::Unknown;
    }
    let mut steps = ports.windows(2).map(|two| i32::from(two[1]) - i32::from(two[0]));
    let first = steps.next().and_then(|step| i8::try_from(step).ok());
    match first {
        Some(step) if steps.all(|other| other == i32::from(step)) => Ports::Sequential(step),
        _ if high - low < BLOCK_PORTS => Ports::Block,
        _ => Ports::Random,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The class after observers 1, 2, … named these addresses, a millisecond apart.
    fn class_of(observed: &[&str]) -> NatClass {
        let now = Instant::now();
        let mut classifier = Classifier::default();
        for (n, observed) in observed.iter().enumerate() {
            classifier.observe(Observation {
                local: "192.168.1.2:4000".parse().unwrap(),
                observer: SocketAddr::new([198, 51, 100, n as u8].into(), 443),
                observed: observed.parse().unwrap(),
                at: now + Duration::from_millis(n as u64),
            });
        }
        classifier.class(now + Duration::from_secs(1))
    }

    const TRUE: &str = "203.0.113.5:6000";
    const LIE: &str = "203.0.113.99:1";

    #[test]
    fn agreement_is_independence_and_one_observer_is_not_enough() {
        assert_eq!(class_of(&[]), NatClass::default());
        assert_eq!(class_of(&[TRUE]).mapping, Mapping::Unknown);
        assert_eq!(class_of(&[TRUE, TRUE]).mapping, Mapping::EndpointIndependent);
        assert_eq!(class_of(&["192.168.1.2:4000", "192.168.1.2:4000"]).mapping, Mapping::None);
    }

    #[test]
    fn one_liar_among_three_or_more_does_not_flip_the_class() {
        for honest in 2..8 {
            let mut seen = vec![TRUE; honest];
            seen.push(LIE);
            assert_eq!(class_of(&seen).mapping, Mapping::EndpointIndependent, "{honest}");
        }
        let seen =
            ["203.0.113.5:1000", "203.0.113.5:9000", "203.0.113.5:40000", "203.0.113.5:1000"];
        assert_eq!(class_of(&seen).mapping, Mapping::AddressDependent);
        assert_eq!(class_of(&[TRUE, TRUE, TRUE, LIE, "203.0.113.98:2"]).mapping, Mapping::Unknown);
    }

    #[test]
    fn a_liar_that_tells_something_else_each_time_from_ever_more_ports_spoils_nothing_for_good() {
        let start = Instant::now();
        let mut classifier = Classifier::default();
        let look = |classifier: &mut Classifier, observer: ([u8; 4], u16), observed, after| {
            classifier.observe(Observation {
                local: "192.168.1.2:4000".parse().unwrap(),
                observer: observer.into(),
                observed,
                at: start + Duration::from_secs(after),
            });
        };
        let truth: SocketAddr = TRUE.parse().unwrap();
        let lies = |n: u16| match n % 4 {
            0 => "127.0.0.1:4000".parse().unwrap(),
            1 => SocketAddr::from(([0, 0, 0, 0], n)),
            2 => SocketAddr::from(([224, 0, 0, 1], n)),
            _ => SocketAddr::from(([203, 0, 113, 99], n)),
        };
        let liar = [198, 51, 100, 66];
        look(&mut classifier, ([198, 51, 100, 1], 443), truth, 0);
        for n in 1..1000 {
            look(&mut classifier, (liar, n), lies(n), 1);
        }
        // Of two one lies: nobody can know which.
        assert!(classifier.class(start + Duration::from_secs(1)).is_symmetric());
        assert!(classifier.observations.len() <= 1 + OBSERVATIONS_BY_EACH);
        // A third, as any peer is that is reached directly, settles it at once.
        look(&mut classifier, ([198, 51, 100, 2], 443), truth, 2);
        let class = classifier.class(start + Duration::from_secs(2));
        assert_eq!(class.mapping, Mapping::EndpointIndependent);
        // Or else time does, once the liar is gone.
        let mut classifier = Classifier::default();
        look(&mut classifier, (liar, 1), lies(3), 0);
        for after in [0, 300, 601] {
            look(&mut classifier, ([198, 51, 100, 1], 443), truth, after);
            look(&mut classifier, ([198, 51, 100, 1], 444), truth, after);
        }
        let class = classifier.class(start + Duration::from_secs(601));
        assert_eq!(class.mapping, Mapping::Unknown);
        look(&mut classifier, ([198, 51, 100, 3], 443), truth, 602);
        let class = classifier.class(start + Duration::from_secs(602));
        assert_eq!(class.mapping, Mapping::EndpointIndependent);
    }

    #[test]
    fn port_allocation_is_recognised() {
        let seen = |ports: &[u16]| {
            let all: Vec<_> = ports.iter().map(|port| format!("203.0.113.5:{port}")).collect();
            class_of(&all.iter().map(String::as_str).collect::<Vec<_>>()).ports
        };
        assert_eq!(seen(&[4000, 4000]), Ports::Preserving);
        assert_eq!(seen(&[6000, 6000]), Ports::Unknown);
        assert_eq!(seen(&[6000, 6002, 6004]), Ports::Sequential(2));
        assert_eq!(seen(&[6000, 6700, 6100]), Ports::Block);
        assert_eq!(seen(&[6000, 6700, 6100, 60000]), Ports::Block);
        assert_eq!(seen(&[6000, 46700, 16100, 60000]), Ports::Random);
    }

    #[test]
    fn two_ports_of_one_observer_tell_whether_the_port_matters() {
        let now = Instant::now();
        let mut classifier = Classifier::default();
        for (port, observed) in [(443, TRUE), (444, LIE)] {
            classifier.observe(Observation {
                local: "100.64.0.2:4000".parse().unwrap(),
                observer: SocketAddr::new([198, 51, 100, 1].into(), port),
                observed: observed.parse().unwrap(),
                at: now,
            });
        }
        let class = classifier.class(now);
        assert_eq!(class.mapping, Mapping::AddressAndPortDependent);
        assert!(class.carrier_grade);
        let later = now + OBSERVATION_AGE_MAX + Duration::from_secs(1);
        assert_eq!(classifier.class(later), NatClass::default());
    }

    #[test]
    fn a_dial_back_counts_from_a_stranger_only_and_silence_needs_two_helpers() {
        let now = Instant::now();
        let late = now + DIAL_BACK_TIME_MAX + Duration::from_secs(1);
        let mut classifier = Classifier::default();
        classifier.dial_back_asked([198, 51, 100, 1].into(), 7, now);
        classifier.dial_back_arrived(7, true, now);
        classifier.dial_back_arrived(8, false, now);
        classifier.dial_back_arrived(7, false, late);
        assert_eq!(classifier.class(late).reachability, Reachability::Unknown);
        classifier.dial_back_asked([198, 51, 100, 2].into(), 9, now);
        assert_eq!(classifier.class(late).reachability, Reachability::Filtered);
        classifier.dial_back_arrived(9, false, now);
        assert_eq!(classifier.class(late).reachability, Reachability::Reachable);
    }

    #[test]
    fn observations_are_bounded_and_of_one_family() {
        let seen = [TRUE; 100];
        assert_eq!(class_of(&seen).mapping, Mapping::EndpointIndependent);
        assert_eq!(class_of(&["[2001:db8::1]:5", "0.0.0.0:5"]), NatClass::default());
    }
}
