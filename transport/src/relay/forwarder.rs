//! Core: the serving side of a relay. Which flows there are, who may use them, and how much.
//!
//! Sans-IO: frames, their sources and the time come in; where to forward comes out. A leg is bound to the address at
//! which its host was seen by an authenticated connection. A frame from elsewhere, with the right token, draws a
//! challenge; whoever answers that under the key of the leg is bound there from then on. Nothing is ever sent to an
//! address that didn't prove itself but that challenge, which is no longer than what drew it, ten a second for each leg.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use rand::{RngExt, rngs::StdRng};

use super::fairness::Fairness;
use crate::{
    identity::PeerId,
    limits::bucket::Bucket,
    wire::{
        relay_frame::{self, BIND, BINDING_BYTES, CHALLENGE, FlowToken},
        rendezvous::Grant,
        road::Source,
    },
};

/// What a host relays for others.
#[derive(Debug, Clone)]
pub struct Relaying {
    /// Flows at a time. A guess, at ~600 bytes each.
    pub flows_max: usize,
    /// Flows at a time in which one host has a part.
    pub flows_per_host: usize,
    /// Bytes per second that one host may send through all of its flows. A guess: video in good quality; whatever needs
    /// more is worth a direct road.
    pub bytes_per_second_per_host: u64,
    /// Bytes per second that pass through one flow in one direction.
    pub bytes_per_second_per_flow: u64,
    /// Bytes per second that are forwarded in all; when that isn't enough, hosts share it equally.
    pub bytes_per_second: u64,
    /// A flow that carried nothing for so long is closed.
    pub idle_max: Duration,
}

impl Default for Relaying {
    fn default() -> Self {
        Self {
            flows_max: 4096,
            flows_per_host: 256,
            bytes_per_second_per_host: 4 << 20,
            bytes_per_second_per_flow: 2 << 20,
            bytes_per_second: 64 << 20,
            idle_max: Duration::from_secs(90),
        }
    }
}

/// Between two challenges for one leg.
const CHALLENGE_EVERY: Duration = Duration::from_millis(100);

/// Where a host is, as the relay sees it: a socket, the address of the relay's own by which the host knows it, and the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) wire: usize,
    /// `None`: whichever the system takes.
    pub(crate) local: Option<IpAddr>,
    pub(crate) remote: SocketAddr,
}

impl Spot {
    /// Whether what came from `source` came from here.
    fn is(&self, source: &Self) -> bool {
        let local = self.local.is_none() || self.local == source.local;
        local && (self.wire, self.remote) == (source.wire, source.remote)
    }
}

impl From<Source> for Spot {
    fn from(Source { wire, remote, .. }: Source) -> Self {
        Self { wire, local: None, remote }
    }
}

/// What to do with a data frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Forward {
    /// Send it there, addressed to this leg.
    To(Spot, FlowToken),
    /// Its token names no flow of this relay.
    Unknown,
    /// Drop it; if there is one, send this challenge back to where it came from.
    Unbound(Option<[u8; BINDING_BYTES]>),
    /// Drop it: its host sends more than it may.
    Throttled,
}

#[derive(Debug)]
struct Leg {
    host: PeerId,
    other: FlowToken,
    key: [u8; 32],
    bound: Spot,
    /// Where the last challenge was sent, and when.
    challenged: Option<(Spot, u64, Instant)>,
    sent: Bucket,
    used: Instant,
}

#[derive(Debug)]
struct Host {
    /// Its ends of flows; never none.
    legs: HashSet<FlowToken>,
    sent: Bucket,
}

/// Two hosts, whichever of them asked: the lower key first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Pair(PeerId, PeerId);

impl Pair {
    fn of(one: PeerId, two: PeerId) -> Self {
        Self(one.min(two), one.max(two))
    }
}

/// The flows of a relay. A flow is two legs that name each other; there is one between two hosts at a time, found under their
/// [`Pair`], and each host has its legs. All three come and go together, in `open` and `close` alone.
#[derive(Debug)]
pub(crate) struct Forwarder {
    limits: Relaying,
    rng: StdRng,
    legs: HashMap<FlowToken, Leg>,
    hosts: HashMap<PeerId, Host>,
    /// The leg of the first of two hosts.
    pairs: HashMap<Pair, FlowToken>,
    fairness: Fairness<PeerId>,
    swept: Instant,
}

impl Forwarder {
    pub(crate) fn new(limits: Relaying, rng: StdRng, now: Instant) -> Self {
        let fairness = Fairness::new(limits.bytes_per_second, now);
        Self {
            limits,
            rng,
            legs: HashMap::new(),
            hosts: HashMap::new(),
            pairs: HashMap::new(),
            fairness,
            swept: now,
        }
    }

    pub(crate) fn limits(&self) -> &Relaying {
        &self.limits
    }

    /// A flow between two hosts, each of which is seen at its spot; what each of them is to be told. `None`: one of them
    /// has too many, or there are too many.
    pub(crate) fn open(
        &mut self,
        (one, here): (PeerId, Spot),
        (two, there): (PeerId, Spot),
        now: Instant,
    ) -> Option<(Grant, Grant)> {
        if let Some((mine, theirs)) = self.between(one, two) {
            // The hosts may have lost what they knew of it, or moved since.
            for (token, spot) in [(mine, here), (theirs, there)] {
                if let Some(leg) = self.legs.get_mut(&token) {
                    (leg.bound, leg.challenged, leg.used) = (spot, None, now);
                }
            }
            return self.grant(mine).zip(self.grant(theirs));
        }
        let full = |host: &PeerId| {
            self.hosts.get(host).is_some_and(|host| host.legs.len() >= self.limits.flows_per_host)
        };
        if one == two || self.flows() >= self.limits.flows_max || full(&one) || full(&two) {
            return None;
        }
        let (mine, theirs) = (FlowToken(self.rng.random()), FlowToken(self.rng.random()));
        let burst = self.limits.bytes_per_second_per_flow;
        let rate = self.limits.bytes_per_second_per_host;
        for (host, bound, token, other) in [(one, here, mine, theirs), (two, there, theirs, mine)] {
            let leg = Leg {
                host,
                other,
                key: self.rng.random(),
                bound,
                challenged: None,
                sent: Bucket::full(burst, now),
                used: now,
            };
            self.legs.insert(token, leg);
            let fresh = || Host { legs: HashSet::new(), sent: Bucket::full(rate, now) };
            self.hosts.entry(host).or_insert_with(fresh).legs.insert(token);
        }
        self.pairs.insert(Pair::of(one, two), if one < two { mine } else { theirs });
        self.grant(mine).zip(self.grant(theirs))
    }

    /// The legs of two hosts, in this order, if there is a flow between them.
    fn between(&self, one: PeerId, two: PeerId) -> Option<(FlowToken, FlowToken)> {
        let first = *self.pairs.get(&Pair::of(one, two))?;
        let second = self.legs.get(&first)?.other;
        Some(if one < two { (first, second) } else { (second, first) })
    }

    /// What the host at this leg is to be told.
    fn grant(&self, token: FlowToken) -> Option<Grant> {
        self.legs.get(&token).map(|leg| Grant { token: token.0, key: leg.key })
    }

    /// Flows at the moment.
    pub(crate) fn flows(&self) -> usize {
        self.pairs.len()
    }

    /// A data frame of so many bytes, or a run of them, came from `source`.
    pub(crate) fn forward(
        &mut self,
        token: FlowToken,
        source: Spot,
        bytes: usize,
        now: Instant,
    ) -> Forward {
        let Some(leg) = self.legs.get_mut(&token) else { return Forward::Unknown };
        if !leg.bound.is(&source) {
            let recent = |(_, _, at): &(Spot, u64, Instant)| now < *at + CHALLENGE_EVERY;
            if bytes < BINDING_BYTES || leg.challenged.as_ref().is_some_and(recent) {
                return Forward::Unbound(None);
            }
            let challenge = self.rng.random();
            leg.challenged = Some((source, challenge, now));
            return Forward::Unbound(Some(relay_frame::seal(
                CHALLENGE, token, challenge, &leg.key,
            )));
        }
        let size = bytes as u64;
        let Some(host) = self.hosts.get_mut(&leg.host) else { return Forward::Unknown };
        let (per_flow, per_host) =
            (self.limits.bytes_per_second_per_flow, self.limits.bytes_per_second_per_host);
        let passes = leg.sent.has(size, per_flow, per_flow, now)
            && host.sent.has(size, per_host, per_host, now)
            && self.fairness.take(leg.host, size, now);
        if !passes {
            return Forward::Throttled;
        }
        leg.sent.take(size, per_flow, per_flow, now);
        host.sent.take(size, per_host, per_host, now);
        leg.used = now;
        let other = leg.other;
        match self.legs.get(&other) {
            Some(there) => Forward::To(there.bound, other),
            None => Forward::Unknown,
        }
    }

    /// A bind frame came from `source`. Whether a leg is bound there now.
    pub(crate) fn bind(&mut self, bytes: &[u8], source: Spot) -> bool {
        let Some(leg) = relay_frame::token(bytes).and_then(|token| self.legs.get_mut(&token))
        else {
            return false;
        };
        let Some((spot, challenge, _)) = leg.challenged else { return false };
        if spot != source || relay_frame::open(BIND, bytes, &leg.key) != Some(challenge) {
            return false;
        }
        (leg.bound, leg.challenged) = (source, None);
        true
    }

    /// The last connection to `host` has ended: so have its flows. Who is to be told that which leg is dead.
    pub(crate) fn gone(&mut self, host: &PeerId) -> Vec<(PeerId, FlowToken)> {
        let legs = self.hosts.get(host).map(|known| &known.legs);
        let mut ended: Vec<_> = legs.into_iter().flatten().copied().collect();
        // Else a seeded run wouldn't repeat itself.
        ended.sort_unstable_by_key(|token| token.0);
        let ended = ended.into_iter().flat_map(|token| self.close(token));
        ended.filter(|(other, _)| other != host).collect()
    }

    /// Closes flows that nobody uses. Who is to be told that which leg is dead.
    pub(crate) fn sweep(&mut self, now: Instant) -> Vec<(PeerId, FlowToken)> {
        if now < self.swept + self.limits.idle_max / 3 {
            return Vec::new();
        }
        self.swept = now;
        let idle = |token: &FlowToken| {
            self.legs.get(token).is_none_or(|leg| now >= leg.used + self.limits.idle_max)
        };
        let dead = |token: &FlowToken| {
            idle(token) && self.legs.get(token).is_none_or(|leg| idle(&leg.other))
        };
        let mut ended: Vec<_> = self.pairs.values().filter(|token| dead(token)).copied().collect();
        ended.sort_unstable_by_key(|token| token.0);
        ended.into_iter().flat_map(|token| self.close(token)).collect()
    }

    /// Ends the flow of a leg: whose legs have ended.
    fn close(&mut self, token: FlowToken) -> Vec<(PeerId, FlowToken)> {
        let Some(mine) = self.legs.remove(&token) else { return Vec::new() };
        let mut ended = vec![(mine.host, token)];
        if let Some(theirs) = self.legs.remove(&mine.other) {
            self.pairs.remove(&Pair::of(mine.host, theirs.host));
            ended.push((theirs.host, mine.other));
        }
        for (host, token) in &ended {
            if let Some(known) = self.hosts.get_mut(host) {
                known.legs.remove(token);
                if known.legs.is_empty() {
                    self.hosts.remove(host);
                }
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::identity::SecretKey;

    fn peer(n: u8) -> PeerId {
        SecretKey::from_bytes([n; 32]).peer_id()
    }

    fn spot(n: u8) -> Spot {
        let remote = SocketAddr::from(([192, 0, 2, n], 1000));
        Spot { wire: 0, local: Some([198, 51, 100, 1].into()), remote }
    }

    fn relay(limits: Relaying, now: Instant) -> Forwarder {
        Forwarder::new(limits, StdRng::seed_from_u64(1), now)
    }

    fn open(relay: &mut Forwarder, one: u8, two: u8, now: Instant) -> Option<(Grant, Grant)> {
        relay.open((peer(one), spot(one)), (peer(two), spot(two)), now)
    }

    #[test]
    fn what_comes_from_one_end_goes_to_the_other_under_another_token() {
        let now = Instant::now();
        let mut relay = relay(Relaying::default(), now);
        let (one, two) = open(&mut relay, 1, 2, now).unwrap();
        assert_ne!(one.token, two.token);
        let (one, two) = (FlowToken(one.token), FlowToken(two.token));
        assert_eq!(relay.forward(one, spot(1), 1000, now), Forward::To(spot(2), two));
        assert_eq!(relay.forward(two, spot(2), 1000, now), Forward::To(spot(1), one));
        assert_eq!(relay.forward(FlowToken(9), spot(1), 1000, now), Forward::Unknown);
    }

    #[test]
    fn a_stranger_with_the_token_gets_one_challenge_and_only_the_key_moves_the_leg() {
        let now = Instant::now();
        let mut relay = relay(Relaying::default(), now);
        let (one, two) = open(&mut relay, 1, 2, now).unwrap();
        let token = FlowToken(one.token);
        let Forward::Unbound(Some(challenge)) = relay.forward(token, spot(3), 1000, now) else {
            panic!()
        };
        assert_eq!(relay.forward(token, spot(4), 1000, now), Forward::Unbound(None));
        let value = relay_frame::open(CHALLENGE, &challenge, &one.key).unwrap();
        let answer = relay_frame::seal(BIND, token, value, &one.key);
        let forged = relay_frame::seal(BIND, token, value, &two.key);
        assert!(!relay.bind(&forged, spot(3)));
        assert!(!relay.bind(&answer, spot(4)), "the answer proves the challenged address only");
        assert!(relay.bind(&answer, spot(3)));
        assert!(!relay.bind(&answer, spot(3)), "each challenge is good once");
        let there = Forward::To(spot(3), token);
        assert_eq!(relay.forward(FlowToken(two.token), spot(2), 1000, now), there);
        assert_eq!(relay.forward(token, spot(1), 10, now), Forward::Unbound(None), "too short");
    }

    #[test]
    fn a_second_introduction_of_a_pair_is_the_same_flow() {
        let now = Instant::now();
        let mut relay = relay(Relaying::default(), now);
        let (one, _) = open(&mut relay, 1, 2, now).unwrap();
        let (again, _) = relay.open((peer(1), spot(7)), (peer(2), spot(2)), now).unwrap();
        assert_eq!(one, again);
        assert_eq!(relay.flows(), 1);
        let token = FlowToken(one.token);
        assert!(matches!(relay.forward(token, spot(7), 1000, now), Forward::To(..)));
    }

    #[test]
    fn an_address_of_the_relays_own_is_part_of_where_a_host_is() {
        let now = Instant::now();
        let mut relay = relay(Relaying::default(), now);
        let elsewhere = Spot { local: Some([198, 51, 100, 2].into()), ..spot(1) };
        let anywhere = Spot { local: None, ..spot(2) };
        let (one, two) = relay.open((peer(1), spot(1)), (peer(2), anywhere), now).unwrap();
        let (token, other) = (FlowToken(one.token), FlowToken(two.token));
        assert_eq!(relay.forward(token, spot(1), 1000, now), Forward::To(anywhere, other));
        // Whose address isn't known is known by whichever the system takes.
        assert_eq!(relay.forward(other, spot(2), 1000, now), Forward::To(spot(1), token));
        let Forward::Unbound(Some(challenge)) = relay.forward(token, elsewhere, 1000, now) else {
            panic!()
        };
        let value = relay_frame::open(CHALLENGE, &challenge, &one.key).unwrap();
        let answer = relay_frame::seal(BIND, token, value, &one.key);
        assert!(!relay.bind(&answer, spot(1)), "answered to another address");
        assert!(relay.bind(&answer, elsewhere));
        assert_eq!(relay.forward(other, spot(2), 1000, now), Forward::To(elsewhere, token));
    }

    /// What holds between calls, whatever was asked.
    fn check(relay: &Forwarder) {
        assert_eq!(relay.legs.len(), 2 * relay.flows());
        assert_eq!(
            relay.hosts.values().map(|host| host.legs.len()).sum::<usize>(),
            relay.legs.len()
        );
        assert!(relay.flows() <= relay.limits.flows_max);
        for (token, leg) in &relay.legs {
            let other = &relay.legs[&leg.other];
            assert_eq!(other.other, *token);
            assert!(relay.hosts[&leg.host].legs.contains(token));
            let first = if leg.host < other.host { *token } else { leg.other };
            assert_eq!(relay.pairs[&Pair::of(leg.host, other.host)], first);
        }
        for host in relay.hosts.values() {
            assert!((1..=relay.limits.flows_per_host).contains(&host.legs.len()));
        }
    }

    #[test]
    fn legs_pairs_and_hosts_agree_whatever_happens_and_nothing_is_left_of_those_who_left() {
        for seed in 0..50 {
            let mut dice = StdRng::seed_from_u64(seed);
            let mut now = Instant::now();
            let limits = Relaying { flows_per_host: 4, flows_max: 10, ..Relaying::default() };
            let (mut relay, mut granted) = (relay(limits, now), Vec::new());
            for _ in 0..400 {
                let (one, two) = (dice.random_range(1..8), dice.random_range(1..8));
                match dice.random_range(0..6) {
                    0..3 => {
                        let before = relay.between(peer(one), peer(two));
                        if let Some((mine, theirs)) = open(&mut relay, one, two, now) {
                            let tokens = (FlowToken(mine.token), FlowToken(theirs.token));
                            assert!(
                                before.is_none_or(|before| before == tokens),
                                "one flow a pair"
                            );
                            granted.push((tokens.0, one));
                        }
                    }
                    3 => {
                        let dead = relay.gone(&peer(one));
                        assert!(dead.iter().all(|(told, _)| *told != peer(one)));
                        assert!(!relay.hosts.contains_key(&peer(one)));
                        // Whoever isn't told goes on as before.
                        let known = |(token, of): &(FlowToken, u8)| {
                            *of == one
                                || relay.legs.contains_key(token)
                                || dead.iter().any(|d| d.1 == *token)
                        };
                        assert!(granted.iter().all(known));
                        granted.retain(|(token, _)| relay.legs.contains_key(token));
                    }
                    4 => {
                        now += Duration::from_secs(dice.random_range(0..60));
                        let dead = relay.sweep(now);
                        assert!(dead.len().is_multiple_of(2), "both ends are told");
                        granted.retain(|(token, _)| relay.legs.contains_key(token));
                    }
                    _ => {
                        if let Some((token, of)) = granted.last() {
                            let forward = relay.forward(*token, spot(*of), 100, now);
                            assert!(matches!(forward, Forward::To(..)));
                        }
                    }
                }
                check(&relay);
            }
            for n in 1..8 {
                relay.gone(&peer(n));
                check(&relay);
            }
            assert!(relay.legs.is_empty() && relay.hosts.is_empty() && relay.pairs.is_empty());
        }
    }

    #[test]
    fn hosts_that_dial_each_other_share_one_flow_and_leave_nothing_behind() {
        let now = Instant::now();
        let mut relay = relay(Relaying::default(), now);
        for _ in 0..255 {
            let (mine, theirs) = open(&mut relay, 1, 2, now).unwrap();
            assert_eq!(open(&mut relay, 2, 1, now).unwrap(), (theirs, mine));
            check(&relay);
            relay.gone(&peer(1));
            assert_eq!((relay.legs.len(), relay.flows()), (0, 0));
        }
    }

    #[test]
    fn flows_are_counted_and_end_with_their_hosts_or_when_idle() {
        let now = Instant::now();
        let mut relay =
            relay(Relaying { flows_per_host: 2, flows_max: 3, ..Relaying::default() }, now);
        assert!(open(&mut relay, 1, 2, now).is_some());
        assert!(open(&mut relay, 1, 3, now).is_some());
        assert!(open(&mut relay, 1, 4, now).is_none(), "the host has as many as it may");
        assert!(open(&mut relay, 5, 6, now).is_some());
        assert!(open(&mut relay, 7, 8, now).is_none(), "the relay is full");
        assert!(open(&mut relay, 7, 7, now).is_none());
        let told: Vec<_> = relay.gone(&peer(1)).into_iter().map(|(peer, _)| peer).collect();
        assert_eq!(told.len(), 2);
        assert!(told.contains(&peer(2)) && told.contains(&peer(3)));
        let later = now + relay.limits.idle_max;
        assert_eq!(relay.sweep(later).len(), 2);
        assert!(relay.legs.is_empty() && relay.hosts.is_empty() && relay.pairs.is_empty());
    }

    #[test]
    fn whoever_exceeds_its_rate_is_throttled_and_others_are_not() {
        let now = Instant::now();
        let limits = Relaying {
            bytes_per_second_per_host: 10_000,
            bytes_per_second_per_flow: 10_000,
            ..Relaying::default()
        };
        let mut relay = relay(limits, now);
        let (one, two) = open(&mut relay, 1, 2, now).unwrap();
        let passes = |relay: &mut Forwarder, token, n, now| {
            relay.forward(FlowToken(token), spot(n), 1000, now) != Forward::Throttled
        };
        assert_eq!((0..50).filter(|_| passes(&mut relay, one.token, 1, now)).count(), 10);
        assert!(passes(&mut relay, two.token, 2, now));
        assert!(passes(&mut relay, one.token, 1, now + Duration::from_secs(1)));
    }
}
