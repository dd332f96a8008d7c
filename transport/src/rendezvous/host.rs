//! Core: the serving side of rendezvous. Which hosts have a session here, and who is introduced to them.
//!
//! Sans-IO: messages and the time come in, messages go out. It keeps nothing about who merely asks but a bucket each,
//! and forwards nothing to a host that did not ask for a session. Whatever is refused is answered with a reason.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use crate::{
    identity::PeerId,
    limits::{bucket::Bucket, prefix},
    peer_ref::{ADDRESSES_MAX, check_address},
    relay::forwarder::Relaying,
    tunnel::is_far_end,
    wire::rendezvous::{Candidates, Message, Refusal, Terms},
};

/// What a rendezvous gives.
#[derive(Debug, Clone)]
pub struct Service {
    /// Sessions at a time. A guess: at the ~35 KB of a connection (docs/measurements.md) 35 MB.
    pub sessions_max: usize,
    /// Sessions from one address prefix (/24 of IPv4, /48 of IPv6). A guess: a carrier's NAT holds many hosts.
    pub sessions_per_prefix: usize,
    /// Introductions to one host in a minute. A guess: a busy service, and below what would tire a phone.
    pub introductions_to_each_per_minute: u16,
    /// Introductions that one host may ask for in a minute. A guess.
    pub introductions_by_each_per_minute: u16,
    /// How long a session lasts that isn't reserved anew. A guess: a few dozen keep-alives.
    pub lifetime: Duration,
    /// What it relays between hosts that it introduced; `None`, which is the default: nothing.
    pub relaying: Option<Relaying>,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            sessions_max: 1000,
            sessions_per_prefix: 100,
            introductions_to_each_per_minute: 120,
            introductions_by_each_per_minute: 60,
            lifetime: Duration::from_secs(600),
            relaying: None,
        }
    }
}

impl Service {
    /// The default, and relaying between those who are introduced and can't reach each other, with its default limits.
    pub fn with_relay() -> Self {
        Self { relaying: Some(Relaying::default()), ..Self::default() }
    }
}

/// Hosts of whose asking something is remembered. A guess, at ~80 bytes each.
const ASKERS_MAX: usize = 4096;

/// In so long, a host has this many calls for the asking, an address gets at most so many, and all together so many. Guesses: a
/// session is renewed three times in it, and no victim notices three small datagrams.
const CALLS_TIME: Duration = Duration::from_secs(600);
const DIAL_BACKS: u16 = 4;
const CALLS_TO_EACH: usize = 3;
const CALLS_MAX: usize = 1024;

/// Takes one of so many in a minute, all of which may come at once.
fn take(bucket: &mut Bucket, per_minute: u16, now: Instant) -> bool {
    bucket.take_one(per_minute.into(), f64::from(per_minute) / 60.0, now)
}

#[derive(Debug)]
struct Session {
    prefix: IpAddr,
    expires: Instant,
    introductions: Bucket,
    dial_backs: Bucket,
}

/// Where a host is seen, if that means anything to another.
pub(crate) fn meaningful(seen: SocketAddr) -> Option<SocketAddr> {
    check_address(seen).ok().filter(|seen| !is_far_end(*seen))
}

/// The sessions of a rendezvous.
#[derive(Debug)]
pub(crate) struct Host {
    /// `None`: it doesn't serve.
    service: Option<Service>,
    sessions: HashMap<PeerId, Session>,
    askers: HashMap<PeerId, Bucket>,
    /// Whom a call was sent to of late.
    called: VecDeque<(IpAddr, Instant)>,
}

impl Host {
    pub(crate) fn new(service: Option<Service>) -> Self {
        let called = VecDeque::new();
        Self { service, sessions: HashMap::new(), askers: HashMap::new(), called }
    }

    /// Whether anybody may ask it for a session.
    pub(crate) fn serves(&self) -> bool {
        self.service.is_some()
    }

    /// `from`, who is seen at `seen`, wants a session or more of it.
    pub(crate) fn reserve(&mut self, from: PeerId, seen: SocketAddr, now: Instant) -> Message {
        let refused = |why| Message::Refused { why, alternatives: Vec::new() };
        let Some(service) = &self.service else { return refused(Refusal::NotServing) };
        self.sessions.retain(|_, session| session.expires > now);
        let network = prefix(seen.ip().to_canonical());
        if !self.sessions.contains_key(&from) {
            let there = self.sessions.values().filter(|session| session.prefix == network).count();
            // Behind one loopback address is one machine.
            let crowded = there >= service.sessions_per_prefix && !seen.ip().is_loopback();
            if self.sessions.len() >= service.sessions_max || crowded {
                return refused(Refusal::Full);
            }
        }
        let per_minute = service.introductions_to_each_per_minute;
        let session = self.sessions.entry(from).or_insert_with(|| Session {
            prefix: network,
            expires: now,
            introductions: Bucket::full(per_minute.into(), now),
            dial_backs: Bucket::full(DIAL_BACKS.into(), now),
        });
        (session.prefix, session.expires) = (network, now + service.lifetime);
        let terms = Terms {
            lifetime: service.lifetime,
            introductions_per_minute: per_minute,
            flows_max: 0,
            relayed_per_second: 0,
            tls_port: 0,
            observation_port: 0,
        };
        Message::Reserved { terms, observed: meaningful(seen) }
    }

    /// `from`, who is seen at `seen`, wants to be introduced to `target`, who is seen at `there` if it is connected. The
    /// answer to the asker, and what the target is told, if anything.
    pub(crate) fn introduce(
        &mut self,
        (from, seen): (PeerId, SocketAddr),
        (target, there): (PeerId, Option<SocketAddr>),
        (ask, told): (u32, Candidates),
        now: Instant,
    ) -> (Message, Option<Message>) {
        let no = |why| (Message::Unavailable { ask, why }, None);
        let Some(service) = &self.service else { return no(Refusal::NotServing) };
        let (by_each, to_each) =
            (service.introductions_by_each_per_minute, service.introductions_to_each_per_minute);
        if !self.askers.contains_key(&from) && self.askers.len() >= ASKERS_MAX {
            self.askers.retain(|_, asker| {
                asker.level(by_each.into(), f64::from(by_each) / 60.0, now) < by_each.into()
            });
            if self.askers.len() >= ASKERS_MAX {
                return no(Refusal::Throttled);
            }
        }
        let asker = self.askers.entry(from).or_insert_with(|| Bucket::full(by_each.into(), now));
        if !take(asker, by_each, now) {
            return no(Refusal::Throttled);
        }
        let session = self.sessions.get_mut(&target).filter(|session| session.expires > now);
        let (Some(session), Some(there)) = (session, there) else { return no(Refusal::NotHere) };
        if !take(&mut session.introductions, to_each, now) {
            return no(Refusal::Throttled);
        }
        // The first is where it is seen, and is believed; of who isn't seen anywhere the target hears from itself.
        let seen = meaningful(seen);
        let mut addresses: Vec<_> = seen.into_iter().collect();
        let others = told.addresses.into_iter().filter(|address| Some(*address) != seen);
        addresses.extend(others.filter(|_| seen.is_some()));
        addresses.truncate(ADDRESSES_MAX);
        let candidates = Candidates { addresses, class: told.class };
        let incoming = Message::Incoming { from, candidates, grant: None };
        let addresses = meaningful(there).into_iter().collect();
        let candidates = Candidates { addresses, class: Vec::new() };
        (Message::Introduced { ask, candidates, grant: None }, Some(incoming))
    }

    /// Whether `from` may have somebody call it: hosts with a session, now and then.
    pub(crate) fn dial_back(&mut self, from: &PeerId, now: Instant) -> bool {
        let session = self.sessions.get_mut(from).filter(|session| session.expires > now);
        let rate = f64::from(DIAL_BACKS) / CALLS_TIME.as_secs_f64();
        session.is_some_and(|s| s.dial_backs.take_one(DIAL_BACKS.into(), rate, now))
    }

    /// Whether a call may go to `ip`, which somebody else named: a few to each, whoever asks.
    pub(crate) fn call(&mut self, ip: IpAddr, now: Instant) -> bool {
        while self.called.front().is_some_and(|(_, at)| now >= *at + CALLS_TIME) {
            self.called.pop_front();
        }
        let there = self.called.iter().filter(|(called, _)| *called == ip).count();
        if !self.serves() || there >= CALLS_TO_EACH || self.called.len() >= CALLS_MAX {
            return false;
        }
        self.called.push_back((ip, now));
        true
    }

    /// Whether `peer` has a session here.
    pub(crate) fn holds(&self, peer: &PeerId) -> bool {
        self.sessions.contains_key(peer)
    }

    /// The connection of `peer` is alive, by its own doing: so is its session.
    pub(crate) fn kept(&mut self, peer: &PeerId, now: Instant) {
        let Some(service) = &self.service else { return };
        if let Some(session) = self.sessions.get_mut(peer).filter(|s| s.expires > now) {
            session.expires = now + service.lifetime;
        }
    }

    /// How many hosts have a session here.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Who has a session here.
    pub(crate) fn hosts(&self) -> Vec<PeerId> {
        let mut hosts: Vec<_> = self.sessions.keys().copied().collect();
        hosts.sort_unstable();
        hosts
    }

    /// The last connection to `peer` has ended.
    pub(crate) fn gone(&mut self, peer: &PeerId) {
        self.sessions.remove(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;

    fn peer(n: u8) -> PeerId {
        SecretKey::from_bytes([n; 32]).peer_id()
    }

    fn seen(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, n, 1], 1000))
    }

    fn small() -> Service {
        Service {
            sessions_max: 3,
            sessions_per_prefix: 2,
            introductions_to_each_per_minute: 3,
            introductions_by_each_per_minute: 2,
            lifetime: Duration::from_secs(60),
            relaying: None,
        }
    }

    fn refusal(message: &Message) -> Option<Refusal> {
        match message {
            Message::Refused { why, .. } | Message::Unavailable { why, .. } => Some(*why),
            _ => None,
        }
    }

    fn introduce(host: &mut Host, from: u8, to: u8, now: Instant) -> (Message, Option<Message>) {
        let told = Candidates::default();
        host.introduce((peer(from), seen(from)), (peer(to), Some(seen(to))), (7, told), now)
    }

    #[test]
    fn a_host_with_a_session_is_introduced_and_both_learn_where_the_other_is_seen() {
        let now = Instant::now();
        let mut host = Host::new(Some(small()));
        assert!(matches!(
            host.reserve(peer(1), seen(1), now),
            Message::Reserved { observed, .. } if observed == Some(seen(1))
        ));
        let told = Candidates { addresses: vec![seen(9), seen(2)], class: vec![4] };
        let (answer, incoming) =
            host.introduce((peer(2), seen(2)), (peer(1), Some(seen(1))), (5, told), now);
        let candidates = Candidates { addresses: vec![seen(1)], class: Vec::new() };
        assert_eq!(answer, Message::Introduced { ask: 5, candidates, grant: None });
        let candidates = Candidates { addresses: vec![seen(2), seen(9)], class: vec![4] };
        assert_eq!(incoming, Some(Message::Incoming { from: peer(2), candidates, grant: None }));
    }

    #[test]
    fn whoever_does_not_serve_says_so() {
        let now = Instant::now();
        let mut host = Host::new(None);
        assert!(!host.serves());
        let answer = host.reserve(peer(1), seen(1), now);
        assert_eq!(refusal(&answer), Some(Refusal::NotServing));
        let (answer, incoming) = introduce(&mut host, 2, 1, now);
        assert_eq!((refusal(&answer), incoming), (Some(Refusal::NotServing), None));
    }

    #[test]
    fn a_session_ends_with_its_time_or_its_connection() {
        let now = Instant::now();
        let mut host = Host::new(Some(small()));
        let here = |host: &mut Host, now| refusal(&introduce(host, 2, 1, now).0).is_none();
        assert!(!here(&mut host, now));
        host.reserve(peer(1), seen(1), now);
        assert!(here(&mut host, now));
        let later = now + Duration::from_secs(60);
        assert!(!here(&mut host, later));
        host.reserve(peer(1), seen(1), later);
        let later = later + Duration::from_secs(59);
        assert!(here(&mut host, later));
        host.gone(&peer(1));
        let later = later + Duration::from_secs(60);
        assert!(!here(&mut host, later));
    }

    #[test]
    fn one_network_and_all_together_have_so_many_sessions_and_no_more() {
        let now = Instant::now();
        let mut host = Host::new(Some(small()));
        let mut reserve = |n, network, now| refusal(&host.reserve(peer(n), seen(network), now));
        assert_eq!(reserve(1, 1, now), None);
        assert_eq!(reserve(2, 1, now), None);
        assert_eq!(reserve(3, 1, now), Some(Refusal::Full));
        assert_eq!(reserve(4, 2, now), None);
        assert_eq!(reserve(5, 3, now), Some(Refusal::Full));
        // Those that are there may stay, and what has expired makes room.
        assert_eq!(reserve(1, 1, now), None);
        assert_eq!(reserve(5, 3, now + Duration::from_secs(60)), None);
    }

    #[test]
    fn introductions_are_rationed_by_who_asks_and_by_who_is_asked_for() {
        let now = Instant::now();
        let mut host = Host::new(Some(small()));
        host.reserve(peer(1), seen(1), now);
        let mut ask = |from, now| refusal(&introduce(&mut host, from, 1, now).0);
        assert_eq!([ask(2, now), ask(2, now)], [None, None]);
        assert_eq!(ask(2, now), Some(Refusal::Throttled));
        assert_eq!(ask(3, now), None);
        // The fourth within the minute to the same host, though the asker is new.
        assert_eq!(ask(4, now), Some(Refusal::Throttled));
        let later = now + Duration::from_secs(31);
        assert_eq!(ask(2, later), None);
    }

    #[test]
    fn a_crowd_of_askers_takes_bounded_memory() {
        let now = Instant::now();
        let mut host = Host::new(Some(small()));
        host.askers = (0..ASKERS_MAX)
            .map(|n| {
                let mut secret = [1; 32];
                secret[..8].copy_from_slice(&n.to_be_bytes());
                let asker = SecretKey::from_bytes(secret).peer_id();
                (asker, Bucket::full(0, now))
            })
            .collect();
        let (answer, _) = introduce(&mut host, 2, 1, now);
        assert_eq!(refusal(&answer), Some(Refusal::Throttled));
        let (answer, _) = introduce(&mut host, 2, 1, now + Duration::from_secs(61));
        assert_eq!(refusal(&answer), Some(Refusal::NotHere));
        assert_eq!(host.askers.len(), 1);
    }

    #[test]
    fn calls_are_for_hosts_with_a_session_and_no_address_gets_many() {
        let now = Instant::now();
        let mut host = Host::new(Some(small()));
        assert!(!host.dial_back(&peer(1), now));
        host.reserve(peer(1), seen(1), now);
        assert_eq!((0..10).filter(|_| host.dial_back(&peer(1), now)).count(), 4);
        let victim = seen(9).ip();
        assert_eq!((0..10).filter(|_| host.call(victim, now)).count(), CALLS_TO_EACH);
        assert!(host.call(seen(8).ip(), now));
        assert!(host.call(victim, now + CALLS_TIME));
        let crowd = |n: usize| IpAddr::from([10, 1, (n / 256) as u8, (n % 256) as u8]);
        assert!(
            (0..2 * CALLS_MAX).filter(|n| host.call(crowd(*n), now + CALLS_TIME)).count()
                < CALLS_MAX
        );
        assert!(!Host::new(None).call(victim, now), "it doesn't serve");
    }
}
