//! Core: the serving side of a relay. Which flows there are, who may use them, and how much.
//!
//! Sans-IO: frames, their sources and the time come in; where to forward comes out. A leg is bound to the address at
//! which its host was seen by an authenticated connection. A frame from elsewhere, with the right token, draws a
//! challenge; whoever answers that under the key of the leg is bound there from then on. Nothing is ever sent to an
//! address that didn't prove itself but that challenge, which is no longer than what drew it, ten a second for each leg.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{RngExt, rngs::StdRng};

use super::{
    fairness::Fairness,
    frame::{self, BIND, BINDING_BYTES, CHALLENGE, FlowToken},
};
use crate::{bucket::Bucket, identity::PeerId, rendezvous::protocol::Grant};

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

/// A socket, and an address at its other end.
pub(crate) type Spot = (usize, SocketAddr);

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
    flows: usize,
    sent: Bucket,
}

/// The flows of a relay.
#[derive(Debug)]
pub(crate) struct Forwarder {
    limits: Relaying,
    rng: StdRng,
    legs: HashMap<FlowToken, Leg>,
    hosts: HashMap<PeerId, Host>,
    /// The leg of the first of two hosts; a second flow takes the place of the first.
    pairs: HashMap<(PeerId, PeerId), FlowToken>,
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
        if let Some(before) = self.pairs.get(&(one, two)).copied() {
            let leg = self.legs.get(&before)?;
            let (other, mine) = (leg.other, Grant { token: before.0, key: leg.key });
            let theirs = Grant { token: other.0, key: self.legs.get(&other)?.key };
            // The hosts may have lost what they knew of it, or moved since.
            for (token, spot) in [(before, here), (other, there)] {
                if let Some(leg) = self.legs.get_mut(&token) {
                    (leg.bound, leg.used) = (spot, now);
                }
            }
            return Some((mine, theirs));
        }
        let full = |host: &PeerId| {
            self.hosts.get(host).is_some_and(|host| host.flows >= self.limits.flows_per_host)
        };
        if one == two || self.flows() >= self.limits.flows_max || full(&one) || full(&two) {
            return None;
        }
        let (mine, theirs) = (FlowToken(self.rng.random()), FlowToken(self.rng.random()));
        let keys: [[u8; 32]; 2] = [self.rng.random(), self.rng.random()];
        let burst = self.limits.bytes_per_second_per_flow;
        let leg = |host, other, key, bound| Leg {
            host,
            other,
            key,
            bound,
            challenged: None,
            sent: Bucket::full(burst, now),
            used: now,
        };
        self.legs.insert(mine, leg(one, theirs, keys[0], here));
        self.legs.insert(theirs, leg(two, mine, keys[1], there));
        for host in [one, two] {
            let rate = self.limits.bytes_per_second_per_host;
            let fresh = || Host { flows: 0, sent: Bucket::full(rate, now) };
            self.hosts.entry(host).or_insert_with(fresh).flows += 1;
        }
        self.pairs.insert((one, two), mine);
        let grant = |token: FlowToken, key| Grant { token: token.0, key };
        Some((grant(mine, keys[0]), grant(theirs, keys[1])))
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
        if leg.bound != source {
            let recent = |(_, _, at): &(Spot, u64, Instant)| now < *at + CHALLENGE_EVERY;
            if bytes < BINDING_BYTES || leg.challenged.as_ref().is_some_and(recent) {
                return Forward::Unbound(None);
            }
            let challenge = self.rng.random();
            leg.challenged = Some((source, challenge, now));
            return Forward::Unbound(Some(frame::seal(CHALLENGE, token, challenge, &leg.key)));
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
        let Some(leg) = frame::token(bytes).and_then(|token| self.legs.get_mut(&token)) else {
            return false;
        };
        let Some((spot, challenge, _)) = leg.challenged else { return false };
        if spot != source || frame::open(BIND, bytes, &leg.key) != Some(challenge) {
            return false;
        }
        (leg.bound, leg.challenged) = (source, None);
        true
    }

    /// The last connection to `host` has ended: so have its flows. Who is to be told that which leg is dead.
    pub(crate) fn gone(&mut self, host: &PeerId) -> Vec<(PeerId, FlowToken)> {
        let of = |(one, two): &(PeerId, PeerId)| one == host || two == host;
        let ended: Vec<_> =
            self.pairs.iter().filter(|(pair, _)| of(pair)).map(|(_, t)| *t).collect();
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
        let ended: Vec<_> = self.pairs.values().filter(|token| dead(token)).copied().collect();
        ended.into_iter().flat_map(|token| self.close(token)).collect()
    }

    fn close(&mut self, token: FlowToken) -> Vec<(PeerId, FlowToken)> {
        let Some(mine) = self.legs.remove(&token) else { return Vec::new() };
        let mut ended = vec![(mine.host, token)];
        if let Some(theirs) = self.legs.remove(&mine.other) {
            self.pairs.remove(&(mine.host, theirs.host));
            self.pairs.remove(&(theirs.host, mine.host));
            ended.push((theirs.host, mine.other));
        }
        for (host, _) in &ended {
            if let Some(known) = self.hosts.get_mut(host) {
                known.flows -= 1;
                if known.flows == 0 {
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
    use crate::SecretKey;

    fn peer(n: u8) -> PeerId {
        SecretKey::from_bytes([n; 32]).peer_id()
    }

    fn spot(n: u8) -> Spot {
        (0, SocketAddr::from(([192, 0, 2, n], 1000)))
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
        let value = frame::open(CHALLENGE, &challenge, &one.key).unwrap();
        let answer = frame::seal(BIND, token, value, &one.key);
        let forged = frame::seal(BIND, token, value, &two.key);
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
