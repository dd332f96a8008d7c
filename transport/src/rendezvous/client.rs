//! Core: the served side of rendezvous. Keeps sessions with so many of the rendezvous that are known.
//!
//! Sans-IO: outcomes, time and randomness come in, steps go out. Written contract: *after every call that takes
//! `&mut self`, drain [`Client::poll`], then arm a timer for [`Client::timeout`], at which [`Client::advance`] is called.*
//!
//! As many sessions as are wanted stand at a time, two of them, or one if no more are wanted, with rendezvous that relay, if there are such; so that the end of one leaves another in its place. The known
//! rendezvous are tried in their order; one that failed waits a few seconds, after a minute ever longer, while others get their turn.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{Rng, RngExt};

use crate::identity::PeerId;

/// Before a rendezvous that failed is tried again, for the first minute: within five seconds of a restart, which leaves time for a dial and an
/// introduction, and not so that ten thousand hosts that lost one rendezvous come back in one second.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_SOON_MAX: Duration = Duration::from_secs(3);
const RETRY_SOON_FOR: Duration = Duration::from_secs(60);

/// Afterwards each wait is twice as long as the one before, up to this; spread by half of it. A guess.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// A session is reserved anew after this part of its time.
const RENEWALS_PER_LIFETIME: u32 = 3;

/// A question of the core's own that nobody answers is given up after this: as long as a dial takes at most.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// So long after the first session stands, the others are no longer waited for: one that is dead takes a dial's whole time to
/// show it. A guess: what a dial and a question take on a slow road.
const OTHERS_MAX: Duration = Duration::from_secs(1);

/// Sessions among the wanted ones that are to be with rendezvous which relay: who can't be reached directly is reached through those alone,
/// and one stands by for the other.
const RELAYS_MIN: usize = 2;

/// A rendezvous that doesn't relay, where only such a one is lacking, is asked again after this: it may have been set up anew. A guess.
const PASSED_OVER: Duration = Duration::from_secs(300);

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

#[derive(Debug, Clone, Copy)]
enum State {
    Waiting {
        until: Instant,
    },
    Dialling,
    Asking {
        peer: PeerId,
        until: Instant,
    },
    Standing {
        peer: PeerId,
        observed: Option<SocketAddr>,
        relays: bool,
        lifetime: Duration,
        renew: Instant,
        ends: Instant,
    },
}

#[derive(Debug)]
struct Rendezvous {
    state: State,
    /// Failures in a row, those of them after the first minute, and when the first one was.
    failures: u32,
    late_failures: u32,
    failing_since: Option<Instant>,
    /// Whether a session ever stood.
    stood: bool,
}

impl Rendezvous {
    fn new(now: Instant) -> Self {
        let state = State::Waiting { until: now };
        Self { state, failures: 0, late_failures: 0, failing_since: None, stood: false }
    }
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
        let known = (0..known).map(|_| Rendezvous::new(now)).collect();
        let mut client = Self { wanted, known, standing_since: None, outbox: VecDeque::new() };
        client.fill(now);
        client
    }

    /// One more rendezvous is known; its number is the next one.
    pub(crate) fn add(&mut self, now: Instant) {
        self.known.push(Rendezvous::new(now));
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

    /// Whether a session stands with `peer`, which relays.
    pub(crate) fn relays(&self, peer: PeerId) -> bool {
        self.known.iter().any(|known| {
            matches!(known.state, State::Standing { peer: there, relays: true, .. } if there == peer)
        })
    }

    fn relays_standing(&self) -> usize {
        let relays =
            |known: &&Rendezvous| matches!(known.state, State::Standing { relays: true, .. });
        self.known.iter().filter(relays).count()
    }

    fn relays_wanted(&self) -> usize {
        self.wanted.min(RELAYS_MIN)
    }

    /// Whether as many sessions stand as are wanted, or as can: one at least, and all that didn't fail; and as many of them with relays.
    /// A second after the first, those that stand are enough.
    pub(crate) fn is_attached(&self, now: Instant) -> bool {
        self.is_complete() || self.others_until().is_some_and(|until| until <= now)
    }

    fn is_complete(&self) -> bool {
        let standing = self.standing().count();
        let untried = |known: &&Rendezvous| {
            known.failures == 0 && !matches!(known.state, State::Standing { .. })
        };
        let untried = self.known.iter().filter(untried).count();
        let enough = |standing: usize, wanted: usize| standing >= wanted.min(standing + untried);
        self.wanted == 0
            || self.known.is_empty()
            || standing > 0
                && enough(standing, self.wanted)
                && enough(self.relays_standing(), self.relays_wanted())
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

    /// `peer` grants a session; whether it relays, and where it sees this host.
    pub(crate) fn reserved(
        &mut self,
        peer: PeerId,
        (relays, seen): (bool, Option<SocketAddr>),
        lifetime: Duration,
        now: Instant,
    ) {
        let Some(index) = self.find(peer) else { return };
        let before = match self.known[index].state {
            State::Standing { observed, relays, .. } => Some((relays, observed)),
            _ => None,
        };
        if before.is_none() && !relays && self.standing().count() >= self.wanted {
            // It was asked for the sake of a relay.
            let known = &mut self.known[index];
            known.failures = known.failures.max(1);
            known.state = State::Waiting { until: now + PASSED_OVER };
            return self.fill(now);
        }
        let known = &mut self.known[index];
        let lifetime = lifetime.max(RETRY_MIN);
        let renew = now + lifetime / RENEWALS_PER_LIFETIME;
        let ends = now + lifetime;
        known.state = State::Standing { peer, observed: seen, relays, lifetime, renew, ends };
        *known = Rendezvous { stood: true, state: known.state, ..Rendezvous::new(now) };
        self.standing_since.get_or_insert(now);
        if before != Some((relays, seen)) {
            self.outbox.push_back(Step::Changed);
        }
        // If it doesn't relay, another one may.
        self.fill(now);
    }

    /// A connection to the rendezvous of this number is up, whoever dialled it.
    pub(crate) fn connected(&mut self, index: usize, peer: PeerId, now: Instant) {
        let lacking = self.lacking() > 0;
        if let Some(known) = self.known.get_mut(index)
            && matches!(known.state, State::Waiting { .. })
            && lacking
        {
            known.state = State::Asking { peer, until: now + ANSWER_MAX };
            self.outbox.push_back(Step::Reserve(peer));
        }
    }

    /// The connection to `peer` is alive, which keeps the session; where it sees this host now, if it said so.
    pub(crate) fn kept(&mut self, peer: PeerId, seen: Option<SocketAddr>, now: Instant) {
        let Some(index) = self.find(peer) else { return };
        if let State::Standing { observed, lifetime, renew, ends, .. } =
            &mut self.known[index].state
        {
            (*renew, *ends) = (now + *lifetime / RENEWALS_PER_LIFETIME, now + *lifetime);
            if seen.is_some() && observed.is_some() && *observed != seen {
                // It is asked to say so, and others are told.
                self.outbox.push_back(Step::Reserve(peer));
            }
        }
    }

    /// Whether a session with the rendezvous of this number ever stood.
    pub(crate) fn stood(&self, index: usize) -> bool {
        self.known.get(index).is_some_and(|known| known.stood)
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
        known.failures = known.failures.saturating_add(1);
        let since = *known.failing_since.get_or_insert(now);
        let spread = rng.random::<f64>();
        let wait = if now < since + RETRY_SOON_FOR {
            RETRY_MIN + (RETRY_SOON_MAX - RETRY_MIN).mul_f64(spread)
        } else {
            known.late_failures = known.late_failures.saturating_add(1);
            let longest = RETRY_SOON_MAX * (1 << known.late_failures.min(5));
            longest.min(RETRY_MAX).mul_f64(0.5 + spread / 2.0)
        };
        known.state = State::Waiting { until: now + wait };
        if stood {
            self.outbox.push_back(Step::Changed);
        }
        if self.standing().next().is_none() {
            self.standing_since = None;
        }
        self.fill(now);
    }

    /// How many more are to be tried, if there are any: for the number of sessions, or for that of relays among them.
    fn lacking(&self) -> usize {
        let waiting = |known: &&Rendezvous| matches!(known.state, State::Waiting { .. });
        let busy = self.known.len() - self.known.iter().filter(waiting).count();
        let under_way = busy - self.standing().count();
        let relays = self.relays_standing() + under_way;
        self.wanted.saturating_sub(busy).max(self.relays_wanted().saturating_sub(relays))
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
    use crate::identity::SecretKey;

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
                Step::Reserve(peer) => client.reserved(peer, (true, None), MINUTE, now),
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
    fn one_that_fails_is_tried_each_few_seconds_for_a_minute_and_then_ever_more_seldom() {
        let (start, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut client = Client::new(1, 2, start);
        let (mut now, mut waits) = (start, Vec::new());
        while now < start + 5 * MINUTE {
            assert_eq!(steps(&mut client), [Step::Dial(0)]);
            client.dialled(0, None, now, &mut rng);
            let next = client.timeout(now).unwrap();
            waits.push((now - start, next - now));
            now = next;
            client.advance(now, &mut rng);
        }
        let (soon, late): (Vec<_>, Vec<_>) = waits.into_iter().partition(|(at, _)| *at < MINUTE);
        assert!(soon.iter().all(|(_, wait)| (RETRY_MIN..=RETRY_SOON_MAX).contains(wait)));
        assert!((15..=60).contains(&soon.len()), "{soon:?}");
        assert!(late.iter().all(|(_, wait)| (RETRY_SOON_MAX..=RETRY_MAX).contains(wait)));
        assert!(late[late.len() - 1].1 >= RETRY_MAX / 2, "{late:?}");
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
        client.reserved(peer(0), (true, None), MINUTE, renew);
        assert_eq!(steps(&mut client), []);
        let seen = Some("192.0.2.1:5".parse().unwrap());
        client.reserved(peer(0), (true, seen), MINUTE, renew);
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
        client.reserved(peer(0), (true, None), 10 * MINUTE, later);
        assert!(!client.is_attached(later), "the other one may yet come");
        assert_eq!(client.timeout(later), Some(later + OTHERS_MAX));
        assert!(client.is_attached(later + OTHERS_MAX));
        assert!(client.timeout(later + OTHERS_MAX) > Some(later + OTHERS_MAX), "woken once for it");
        client.gone(peer(0), later + MINUTE, &mut rng);
        assert!(!client.is_attached(later + MINUTE));
    }

    #[test]
    fn a_connection_that_lives_keeps_its_session_and_says_where_this_host_is_seen() {
        let (start, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut client = Client::new(1, 1, start);
        let seen = |port: u16| Some(SocketAddr::from(([192, 0, 2, 1], port)));
        client.dialled(0, Some(peer(0)), start, &mut rng);
        client.reserved(peer(0), (true, seen(1)), 10 * MINUTE, start);
        steps(&mut client);
        let mut now = start;
        for _ in 0..60 {
            now += MINUTE;
            client.kept(peer(0), seen(1), now);
            client.advance(now, &mut rng);
            assert_eq!(steps(&mut client), [], "nothing need be said");
        }
        client.kept(peer(0), seen(2), now);
        assert_eq!(steps(&mut client), [Step::Reserve(peer(0))]);
    }

    #[test]
    fn a_rendezvous_that_is_connected_meanwhile_is_asked_at_once() {
        let (start, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut client = Client::new(1, 1, start);
        attach(&mut client, start, &mut rng);
        client.connected(0, peer(0), start);
        assert_eq!(steps(&mut client), [], "it stands");
        client.gone(peer(0), start, &mut rng);
        assert_eq!(steps(&mut client), [Step::Changed]);
        client.connected(0, peer(0), start);
        assert_eq!(steps(&mut client), [Step::Reserve(peer(0))]);
        assert!(client.stood(0));
    }

    #[test]
    fn two_of_the_sessions_are_with_relays_if_there_are_two_and_others_beyond_the_wanted_ones_are_passed_over()
     {
        let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        // The fourth and the sixth of them relay.
        let relays = |index: usize| index == 3 || index == 5;
        let mut client = Client::new(7, 2, now);
        let mut dialled = Vec::new();
        while let Some(step) = client.poll() {
            match step {
                Step::Dial(index) => {
                    dialled.push(index);
                    client.dialled(index, Some(peer(index)), now, &mut rng);
                }
                Step::Reserve(to) => {
                    let index = (0..7).find(|index| peer(*index) == to).unwrap();
                    client.reserved(to, (relays(index), None), MINUTE, now);
                }
                Step::Changed => {}
            }
        }
        let standing: Vec<_> = client.standing().map(|(index, ..)| index).collect();
        assert_eq!(standing, [0, 1, 3, 5]);
        assert_eq!(dialled, [0, 1, 2, 3, 4, 5], "the last one isn't needed");
        assert!(client.is_attached(now) && client.relays(peer(3)) && !client.relays(peer(0)));
        // One of the relays goes: those that were passed over get another look, and the last one is tried.
        client.gone(peer(3), now, &mut rng);
        assert_eq!(steps(&mut client), [Step::Changed, Step::Dial(6)]);
    }

    #[test]
    fn where_nobody_relays_the_sessions_stand_all_the_same_and_one_that_is_wanted_stays_one() {
        let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        for (known, wanted, expected) in [(3, 2, 2), (1, 2, 1), (3, 1, 1), (3, 0, 0)] {
            let mut client = Client::new(known, wanted, now);
            while let Some(step) = client.poll() {
                match step {
                    Step::Dial(index) => client.dialled(index, Some(peer(index)), now, &mut rng),
                    Step::Reserve(peer) => client.reserved(peer, (false, None), MINUTE, now),
                    Step::Changed => {}
                }
            }
            assert_eq!(client.standing().count(), expected, "{known} known, {wanted} wanted");
            assert!(client.is_attached(now));
        }
    }
}
