//! Core: the served side of rendezvous. Keeps sessions with so many of the rendezvous that are known.
//!
//! Sans-IO: outcomes, time and randomness come in, steps go out. Written contract: *after every call that takes
//! `&mut self`, drain [`Client::poll`], then arm a timer for [`Client::timeout`], at which [`Client::advance`] is called.*
//!
//! As many sessions as are wanted stand at a time, so that the end of one leaves another in its place. The known
//! rendezvous are tried in their order; one that failed waits, twice as long each time, while others get their turn.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{Rng, RngExt};

use crate::identity::PeerId;

/// Before a rendezvous that failed is tried again: the first and the longest wait, spread by up to half. Guesses: a
/// restart is caught soon, and ten thousand hosts that lost one rendezvous don't come back in one second.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(120);

/// A session is reserved anew after this part of its time.
const RENEWALS_PER_LIFETIME: u32 = 3;

/// A question of the core's own that nobody answers is given up after this: as long as a dial takes at most.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// So long after the first session stands, the others are no longer waited for: one that is dead takes a dial's whole time to
/// show it. A guess: what a dial and a question take on a slow road.
const OTHERS_MAX: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Connect to the rendezvous of this number.
    Dial(usize),
    /// Ask it for a session, or for more of it.
    Reserve(PeerId),
    /// The sessions that stand, or where they see this host, have changed: the own PeerRef is to be signed anew.
    Changed,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    Dialling,
    Asking { peer: PeerId, until: Instant },
    Standing { peer: PeerId, observed: Option<SocketAddr>, renew: Instant, ends: Instant },
}

#[derive(Debug)]
struct Rendezvous {
    state: State,
    failures: u32,
}

/// The sessions of a host.
#[derive(Debug)]
pub(crate) struct Client {
    wanted: usize,
    known: Vec<Rendezvous>,
    /// Since when at least one session has stood.
    standing_since: Option<Instant>,
    outbox: VecDeque<Step>,
}

impl Client {
    /// `known` rendezvous, with `wanted` of which a session shall stand.
    pub(crate) fn new(known: usize, wanted: usize, now: Instant) -> Self {
        let fresh = |_| Rendezvous { state: State::Waiting { until: now }, failures: 0 };
        let known = (0..known).map(fresh).collect();
        let mut client = Self { wanted, known, standing_since: None, outbox: VecDeque::new() };
        client.fill(now);
        client
    }

    /// One more rendezvous is known; its number is the next one.
    pub(crate) fn add(&mut self, now: Instant) {
        self.known.push(Rendezvous { state: State::Waiting { until: now }, failures: 0 });
        self.fill(now);
    }

    pub(crate) fn poll(&mut self) -> Option<Step> {
        self.outbox.pop_front()
    }

    /// The rendezvous with a session, by number, and where each sees this host.
    pub(crate) fn standing(&self) -> impl Iterator<Item = (usize, PeerId, Option<SocketAddr>)> {
        self.known.iter().enumerate().filter_map(|(index, known)| match known.state {
            State::Standing { peer, observed, .. } => Some((index, peer, observed)),
            _ => None,
        })
    }

    /// Whether as many sessions stand as are wanted, or as can: one at least, and all that didn't fail. A second after the
    /// first, those that stand are enough.
    pub(crate) fn is_attached(&self, now: Instant) -> bool {
        self.is_complete() || self.others_until().is_some_and(|until| until <= now)
    }

    fn is_complete(&self) -> bool {
        let standing = self.standing().count();
        let untried = |known: &&Rendezvous| {
            known.failures == 0 && !matches!(known.state, State::Standing { .. })
        };
        let possible = standing + self.known.iter().filter(untried).count();
        self.wanted == 0 || self.known.is_empty() || standing >= self.wanted.min(possible).max(1)
    }

    /// Until when further sessions are waited for.
    fn others_until(&self) -> Option<Instant> {
        self.standing_since.map(|since| since + OTHERS_MAX)
    }

    /// Whether `peer` was asked for a session.
    pub(crate) fn asked(&self, peer: PeerId) -> bool {
        self.find(peer).is_some()
    }

    /// When time alone changes something. `now` tells what has passed from what is to come.
    pub(crate) fn timeout(&self, now: Instant) -> Option<Instant> {
        let others = self.others_until().filter(|until| *until > now && !self.is_complete());
        let lacking = self.lacking() > 0;
        let at = |known: &Rendezvous| match known.state {
            State::Waiting { until } => lacking.then_some(until),
            State::Dialling => None,
            State::Asking { until, .. } => Some(until),
            State::Standing { renew, ends, .. } => Some(renew.min(ends)),
        };
        self.known.iter().filter_map(at).chain(others).min()
    }

    /// A dial succeeded, or didn't.
    pub(crate) fn dialled(
        &mut self,
        index: usize,
        peer: Option<PeerId>,
        now: Instant,
        rng: &mut impl Rng,
    ) {
        let Some(known) = self.known.get_mut(index) else { return };
        if !matches!(known.state, State::Dialling) {
            return;
        }
        let Some(peer) = peer else { return self.failed(index, now, rng) };
        known.state = State::Asking { peer, until: now + ANSWER_MAX };
        self.outbox.push_back(Step::Reserve(peer));
    }

    /// `peer` grants a session.
    pub(crate) fn reserved(
        &mut self,
        peer: PeerId,
        seen: Option<SocketAddr>,
        lifetime: Duration,
        now: Instant,
    ) {
        let Some(index) = self.find(peer) else { return };
        let known = &mut self.known[index];
        let before = match known.state {
            State::Standing { observed, .. } => Some(observed),
            _ => None,
        };
        let lifetime = lifetime.max(RETRY_MIN);
        let renew = now + lifetime / RENEWALS_PER_LIFETIME;
        known.state = State::Standing { peer, observed: seen, renew, ends: now + lifetime };
        known.failures = 0;
        self.standing_since.get_or_insert(now);
        if before != Some(seen) {
            self.outbox.push_back(Step::Changed);
        }
    }

    /// `peer` refuses a session, ends it, or its connection has ended.
    pub(crate) fn gone(&mut self, peer: PeerId, now: Instant, rng: &mut impl Rng) {
        if let Some(index) = self.find(peer) {
            self.failed(index, now, rng);
        }
    }

    /// Time has passed.
    pub(crate) fn advance(&mut self, now: Instant, rng: &mut impl Rng) {
        for index in 0..self.known.len() {
            match &mut self.known[index].state {
                State::Standing { ends, .. } if *ends <= now => self.failed(index, now, rng),
                State::Asking { until, .. } if *until <= now => self.failed(index, now, rng),
                State::Standing { peer, renew, ends, .. } if *renew <= now => {
                    *renew = (now + (*ends - now) / 2).max(now + RETRY_MIN);
                    self.outbox.push_back(Step::Reserve(*peer));
                }
                _ => {}
            }
        }
        self.fill(now);
    }

    fn find(&self, wanted: PeerId) -> Option<usize> {
        self.known.iter().position(|known| match known.state {
            State::Asking { peer, .. } | State::Standing { peer, .. } => peer == wanted,
            _ => false,
        })
    }

    fn failed(&mut self, index: usize, now: Instant, rng: &mut impl Rng) {
        let known = &mut self.known[index];
        let stood = matches!(known.state, State::Standing { .. });
        let wait = RETRY_MIN.saturating_mul(1 << known.failures.min(7)).min(RETRY_MAX);
        known.failures = known.failures.saturating_add(1);
        let wait = wait.mul_f64(1.0 + rng.random::<f64>() / 2.0);
        known.state = State::Waiting { until: now + wait };
        if stood {
            self.outbox.push_back(Step::Changed);
        }
        if self.standing().next().is_none() {
            self.standing_since = None;
        }
        self.fill(now);
    }

    fn lacking(&self) -> usize {
        let waiting = |known: &&Rendezvous| matches!(known.state, State::Waiting { .. });
        let busy = self.known.len() - self.known.iter().filter(waiting).count();
        self.wanted.saturating_sub(busy)
    }

    fn fill(&mut self, now: Instant) {
        let mut lacking = self.lacking();
        for (index, known) in self.known.iter_mut().enumerate() {
            let due = matches!(known.state, State::Waiting { until } if until <= now);
            if lacking > 0 && due {
                lacking -= 1;
                known.state = State::Dialling;
                self.outbox.push_back(Step::Dial(index));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::SecretKey;

    const MINUTE: Duration = Duration::from_secs(60);

    fn peer(index: usize) -> PeerId {
        SecretKey::from_bytes([index as u8 + 1; 32]).peer_id()
    }

    fn steps(client: &mut Client) -> Vec<Step> {
        std::iter::from_fn(|| client.poll()).collect()
    }

    /// Has every dial and question succeed.
    fn attach(client: &mut Client, now: Instant, rng: &mut StdRng) {
        while let Some(step) = client.poll() {
            match step {
                Step::Dial(index) => client.dialled(index, Some(peer(index)), now, rng),
                Step::Reserve(peer) => client.reserved(peer, None, MINUTE, now),
                Step::Changed => {}
            }
        }
    }

    #[test]
    fn as_many_sessions_as_wanted_stand_and_a_lost_one_is_replaced_at_once() {
        let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut client = Client::new(3, 2, now);
        assert!(!client.is_attached(now));
        attach(&mut client, now, &mut rng);
        assert!(client.is_attached(now));
        assert_eq!(client.standing().map(|(index, ..)| index).collect::<Vec<_>>(), [0, 1]);
        client.gone(peer(0), now, &mut rng);
        assert_eq!(steps(&mut client), [Step::Changed, Step::Dial(2)]);
        // The other one stands meanwhile.
        assert_eq!(client.standing().count(), 1);
    }

    #[test]
    fn one_that_fails_again_and_again_is_tried_ever_more_seldom() {
        let (start, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut client = Client::new(1, 2, start);
        let (mut now, mut waits) = (start, Vec::new());
        for _ in 0..10 {
            assert_eq!(steps(&mut client), [Step::Dial(0)]);
            client.dialled(0, None, now, &mut rng);
            let next = client.timeout(now).unwrap();
            waits.push(next - now);
            now = next;
            client.advance(now, &mut rng);
        }
        assert!(waits[0] >= RETRY_MIN && waits[0] <= RETRY_MIN * 3 / 2);
        assert!(waits[9] >= RETRY_MAX && waits[9] <= RETRY_MAX * 3 / 2);
        attach(&mut client, now, &mut rng);
        assert!(client.is_attached(now), "one is all there is");
    }

    #[test]
    fn a_session_is_renewed_in_time_and_ends_if_nobody_answers() {
        let (start, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut client = Client::new(1, 1, start);
        attach(&mut client, start, &mut rng);
        let renew = client.timeout(start).unwrap();
        assert_eq!(renew, start + MINUTE / 3);
        client.advance(renew, &mut rng);
        assert_eq!(steps(&mut client), [Step::Reserve(peer(0))]);
        client.reserved(peer(0), None, MINUTE, renew);
        assert_eq!(steps(&mut client), []);
        client.reserved(peer(0), Some("192.0.2.1:5".parse().unwrap()), MINUTE, renew);
        assert_eq!(steps(&mut client), [Step::Changed]);
        client.advance(renew + MINUTE, &mut rng);
        assert_eq!(steps(&mut client), [Step::Changed]);
        assert!(!client.is_attached(renew + MINUTE));
    }

    #[test]
    fn a_dead_rendezvous_is_waited_for_a_second_once_another_one_stands() {
        let (start, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut client = Client::new(2, 2, start);
        assert_eq!(steps(&mut client), [Step::Dial(0), Step::Dial(1)]);
        let later = start + MINUTE;
        assert!(!client.is_attached(later), "nobody stands");
        client.dialled(0, Some(peer(0)), later, &mut rng);
        client.reserved(peer(0), None, 10 * MINUTE, later);
        assert!(!client.is_attached(later), "the other one may yet come");
        assert_eq!(client.timeout(later), Some(later + OTHERS_MAX));
        assert!(client.is_attached(later + OTHERS_MAX));
        assert!(client.timeout(later + OTHERS_MAX) > Some(later + OTHERS_MAX), "woken once for it");
        client.gone(peer(0), later + MINUTE, &mut rng);
        assert!(!client.is_attached(later + MINUTE));
    }
}
