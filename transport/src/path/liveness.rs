//! Core: when to probe a peer, and what its silence means.
//!
//! Sans-IO: time comes in, probes and events come out. Written contract: *after every call that takes
//! `&mut self`, drain [`Liveness::poll_probe`] and [`Liveness::poll_event`], then arm a timer for
//! [`Liveness::timeout`].* docs/architecture.md: with answers pending a probe each 500 ms; 5 s of silence
//! end what waits as `Unreachable`; 60 s end the connection.
//!
//! A session with a rendezvous is kept by one side alone ([`Keeper`]): that shows itself at common moments, and asks at every
//! fourth of them.

use std::time::{Duration, Instant};

/// A timer as late as this means that the process didn't run (stopped, suspended, starved). A guess.
const STALL_MIN: Duration = Duration::from_secs(1);

/// Bounds of every length in [`Patience`], lest a probe storm or an overflow follow from a slip.
const PATIENCE_MIN: Duration = Duration::from_millis(10);
const PATIENCE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Of the signs of life by which a session is kept, one in so many wants an answer.
const KEEPS_PER_PROBE: u32 = 4;

/// The least time between them, however soon a NAT forgets. A guess: carriers are known that keep a mapping for less than a minute,
/// none that keeps it for less than this.
const KEEP_EVERY_MIN: Duration = Duration::from_secs(5);

/// A NAT that has kept its mapping for so long is given more time again. A guess.
const KEEP_TRUST: Duration = Duration::from_secs(3600);

/// Between probes of a peer on which a relayed road depends. A guess: a restarted relay is to be noticed well within the five seconds
/// in which things go on.
const WATCH_EVERY: Duration = Duration::from_secs(2);

/// Who shows signs of life while nothing is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// Each side asks the other.
    Both,
    /// This side, at multiples of the pause between idle probes after this moment: all sessions of a host at once.
    Us(Instant),
    /// The peer: it is asked only if it has stopped.
    Peer,
}

/// How patient to be with a silent peer. Lengths are brought between 10 ms and a year.
#[derive(Debug, Clone)]
pub struct Patience {
    /// Between probes while answers are expected, or while a probe went unanswered.
    pub probe_every: Duration,
    /// Between probes while nothing is expected; NATs forget a mapping after 30 s (docs/measurements.md).
    pub idle_every: Duration,
    /// Silence in the face of probes after which the peer counts as unreachable, counted from the last sign of life.
    pub unreachable_after: Duration,
    /// Silence after which the peer counts as gone.
    pub gone_after: Duration,
}

impl Default for Patience {
    /// The figures of docs/architecture.md and docs/guarantees.md.
    fn default() -> Self {
        Self {
            probe_every: Duration::from_millis(500),
            idle_every: Duration::from_secs(20),
            unreachable_after: Duration::from_secs(5),
            gone_after: Duration::from_secs(60),
        }
    }
}

impl Patience {
    fn bounded(self) -> Self {
        let bounded = |length: Duration| length.clamp(PATIENCE_MIN, PATIENCE_MAX);
        Self {
            probe_every: bounded(self.probe_every),
            idle_every: bounded(self.idle_every),
            unreachable_after: bounded(self.unreachable_after),
            gone_after: bounded(self.gone_after),
        }
    }

    /// Idle probes must notice silence early enough for `gone_after` to hold.
    fn idle_every(&self) -> Duration {
        self.idle_every.min(self.gone_after / 3).max(self.probe_every)
    }
}

/// What became of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It hasn't answered for `unreachable_after`.
    Unreachable,
    /// It answers again.
    Reachable,
    /// It hasn't answered for `gone_after`. Nothing comes after this.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reachable,
    Unreachable,
    Gone,
}

/// The liveness of one connection.
#[derive(Debug)]
pub struct Liveness {
    patience: Patience,
    state: State,
    /// Whether somebody waits for answers.
    expecting: bool,
    /// When the peer last proved to be there.
    heard: Instant,
    /// How long this process stood still since then.
    stalled: Duration,
    /// The first probe since then: the beginning of its silence, if it is one.
    asked: Option<Instant>,
    next_probe: Instant,
    probe_due: bool,
    keeper: Keeper,
    /// Between signs of life of this side, if it is the keeper.
    keep_every: Duration,
    /// Since when the NATs on the way have kept their mappings, as far as is known.
    mapped_since: Instant,
    next_keep: Option<Instant>,
    keep_due: bool,
    /// Until when the peer is watched closely.
    watched: Option<Instant>,
    event: Option<Event>,
}

impl Liveness {
    /// A peer that has just been heard.
    pub fn new(patience: Patience, now: Instant) -> Self {
        let patience = patience.bounded();
        let keep_every = patience.idle_every();
        let next_probe = now + keep_every;
        Self {
            patience,
            keeper: Keeper::Both,
            keep_every,
            mapped_since: now,
            next_keep: None,
            keep_due: false,
            watched: None,
            state: State::Reachable,
            expecting: false,
            heard: now,
            stalled: Duration::ZERO,
            asked: None,
            next_probe,
            probe_due: false,
            event: None,
        }
    }

    /// The peer proved to be there at `at`, by anything authenticated.
    pub fn heard(&mut self, at: Instant, now: Instant) {
        // Told twice, it is still the same sign of life, and says nothing about what was asked since.
        if self.state == State::Gone || at <= self.heard {
            return;
        }
        self.heard = at;
        self.stalled = Duration::ZERO;
        self.asked = self.asked.filter(|asked| *asked > at);
        self.next_probe = self.after(at, now);
        if self.state == State::Unreachable {
            self.state = State::Reachable;
            self.event = Some(Event::Reachable);
        }
        self.advance(now);
    }

    /// Whether somebody waits for answers of the peer.
    pub fn expect(&mut self, expecting: bool, now: Instant) {
        if self.expecting != expecting {
            self.expecting = expecting;
            let last = self.asked.map_or(self.heard, |asked| asked.max(self.heard));
            self.next_probe = self.next_probe.min(self.after(last, now).max(now));
        }
        self.advance(now);
    }

    /// Who shows signs of life while nothing is expected.
    pub fn kept_by(&mut self, keeper: Keeper, now: Instant) {
        if self.keeper != keeper {
            self.keeper = keeper;
            self.next_keep = self.next_keep(now);
            if self.asked.is_none() {
                self.next_probe = self.after(self.heard, now);
            }
        }
        self.advance(now);
    }

    /// A NAT on the way has made a new mapping: the old one was forgotten between two signs of life.
    pub fn remapped(&mut self, now: Instant) {
        self.mapped_since = now;
        if self.keep_every >= 2 * KEEP_EVERY_MIN {
            self.keep_every /= 2;
            self.next_keep = self.next_keep(now);
            self.next_probe = self.next_probe.min(self.after(self.heard, now).max(now));
        }
        self.advance(now);
    }

    /// Something depends on the peer's being there: until then it is probed each two seconds.
    pub fn watch(&mut self, until: Instant, now: Instant) {
        self.watched = self.watched.max(Some(until));
        self.next_probe = self.next_probe.min(self.after(self.heard, now).max(now));
        self.advance(now);
    }

    /// The network changed or the host slept: ask at once.
    pub fn probe_now(&mut self, now: Instant) {
        self.next_probe = now;
        self.advance(now);
    }

    /// Time has passed.
    pub fn advance(&mut self, now: Instant) {
        if self.state == State::Gone {
            return;
        }
        self.excuse_stall(now);
        if let Some(asked) = self.asked {
            let silent_at = self.silent_at(asked);
            let gone_at = self.gone_at(silent_at);
            if now >= gone_at {
                self.state = State::Gone;
                self.event = Some(Event::Gone);
                return;
            }
            if now >= silent_at && self.state == State::Reachable {
                self.state = State::Unreachable;
                self.event = Some(Event::Unreachable);
            }
        }
        if now >= self.next_probe {
            self.asked.get_or_insert(now);
            self.probe_due = true;
            self.next_probe = self.after(now, now);
        }
        if self.next_keep.is_some_and(|next| now >= next) {
            // A probe is a sign of life as well.
            self.keep_due = !self.probe_due && self.asked.is_none() && !self.is_busy(now);
            if now >= self.mapped_since + KEEP_TRUST && self.keep_every < self.patience.idle_every()
            {
                (self.keep_every, self.mapped_since) = (self.keep_every * 2, now);
            }
            self.next_keep = self.next_keep(now);
        }
    }

    /// Time in which this process stood still isn't the peer's silence: answers may wait unread.
    fn excuse_stall(&mut self, now: Instant) {
        let late = self.timeout().map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        if late >= STALL_MIN {
            self.asked = self.asked.map(|asked| asked + late);
            self.stalled = self.stalled.saturating_add(late);
        }
    }

    /// Counted from the last sign of life if the peer was under watch since, else from the first probe: whom nobody asked
    /// wasn't silent.
    fn silent_at(&self, asked: Instant) -> Instant {
        let heard = self.heard + self.stalled;
        let watched = asked <= heard + 2 * self.patience.probe_every;
        (if watched { heard } else { asked }) + self.patience.unreachable_after
    }

    fn gone_at(&self, silent_at: Instant) -> Instant {
        let Patience { unreachable_after, gone_after, .. } = self.patience;
        // Whom this side keeps is asked more seldom, and is given as long to answer as others have at least.
        let least = match self.keeper {
            Keeper::Us(_) => {
                gone_after.saturating_sub(self.patience.idle_every() + unreachable_after)
            }
            Keeper::Both | Keeper::Peer => Duration::ZERO,
        };
        (self.heard + self.stalled + gone_after).max(silent_at + least)
    }

    /// Whether a probe is to be sent now.
    pub fn poll_probe(&mut self) -> bool {
        std::mem::take(&mut self.probe_due)
    }

    /// Whether a sign of life that wants no answer is to be sent now.
    pub fn poll_keep(&mut self) -> bool {
        std::mem::take(&mut self.keep_due)
    }

    /// What became of the peer since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.event.take()
    }

    /// When [`Liveness::advance`] must be called next; `None` once the peer is gone.
    pub fn timeout(&self) -> Option<Instant> {
        if self.state == State::Gone {
            return None;
        }
        let mut next = self.next_keep.map_or(self.next_probe, |keep| keep.min(self.next_probe));
        if let Some(asked) = self.asked {
            let silent_at = self.silent_at(asked);
            let gone_at = self.gone_at(silent_at);
            next = next.min(gone_at);
            if self.state == State::Reachable {
                next = next.min(silent_at);
            }
        }
        Some(next)
    }

    /// Whether a probe is unanswered so far.
    pub fn is_silent(&self) -> bool {
        self.asked.is_some()
    }

    /// How long the first unanswered probe has been waiting; zero if there is none.
    pub fn silence(&self, now: Instant) -> Duration {
        self.asked.map_or(Duration::ZERO, |asked| now.saturating_duration_since(asked))
    }

    /// Whether the peer counts as unreachable.
    pub fn is_unreachable(&self) -> bool {
        self.state != State::Reachable
    }

    /// Whether the peer is probed more often than an idle one.
    fn is_busy(&self, now: Instant) -> bool {
        self.expecting || self.watched.is_some_and(|until| now < until)
    }

    /// When the probe is due that follows a probe or a sign of life at `last`.
    fn after(&self, last: Instant, now: Instant) -> Instant {
        let Patience { probe_every, gone_after, .. } = self.patience;
        let idle = self.patience.idle_every();
        if self.expecting || self.asked.is_some() {
            return last + probe_every;
        }
        if self.is_busy(now) {
            return last + WATCH_EVERY.clamp(probe_every, idle);
        }
        match self.keeper {
            Keeper::Both => last + idle,
            Keeper::Us(from) => multiple(from, self.keep_every * KEEPS_PER_PROBE, last),
            // Two of its signs may be lost; and it has to answer before it counts as gone.
            Keeper::Peer => last + (idle * 5 / 2).min(gone_after * 5 / 6).max(idle),
        }
    }

    fn next_keep(&self, now: Instant) -> Option<Instant> {
        match self.keeper {
            Keeper::Us(from) => Some(multiple(from, self.keep_every, now)),
            Keeper::Both | Keeper::Peer => None,
        }
    }
}

/// The first moment after `now` that is a multiple of `every` after `from`.
fn multiple(from: Instant, every: Duration, now: Instant) -> Instant {
    let passed = now.saturating_duration_since(from).as_nanos();
    let every = every.as_nanos().max(1);
    let until = (passed / every + 1).saturating_mul(every);
    let until = u64::try_from(until).unwrap_or(u64::MAX);
    from.checked_add(Duration::from_nanos(until)).unwrap_or(now + KEEP_TRUST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Runs the core until `until` after `start`; the peer answers at once those probes that `answers`
    /// says. Returns the times of probes and events, in ms after `start`.
    fn run(
        core: &mut Liveness,
        start: Instant,
        until: Duration,
        answers: impl Fn(u128) -> bool,
    ) -> (Vec<u128>, Vec<(u128, Event)>) {
        let (mut probes, mut events) = (Vec::new(), Vec::new());
        let mut now = start;
        loop {
            let at = (now - start).as_millis();
            if core.poll_probe() {
                probes.push(at);
                if answers(at) {
                    core.heard(now, now);
                }
            }
            events.extend(core.poll_event().map(|event| (at, event)));
            match core.timeout() {
                Some(next) if next.saturating_duration_since(start) <= until => now = next.max(now),
                _ => return (probes, events),
            }
            core.advance(now);
        }
    }

    #[test]
    fn an_idle_peer_that_answers_is_asked_seldom() {
        let start = Instant::now();
        let mut core = Liveness::new(Patience::default(), start);
        let (probes, events) = run(&mut core, start, 65 * SECOND, |_| true);
        assert_eq!(probes, [20_000, 40_000, 60_000]);
        assert_eq!(events, []);
    }

    #[test]
    fn with_answers_expected_silence_is_noticed_after_five_seconds_and_final_after_sixty() {
        let start = Instant::now();
        let mut core = Liveness::new(Patience::default(), start);
        core.expect(true, start);
        let (probes, events) = run(&mut core, start, 100 * SECOND, |at| at < 10_000);
        assert_eq!(&probes[..3], [500, 1000, 1500]);
        assert_eq!(events, [(14_500, Event::Unreachable), (69_500, Event::Gone)]);
    }

    #[test]
    fn an_idle_peer_that_dies_is_gone_sixty_seconds_after_it_was_last_heard() {
        let start = Instant::now();
        let mut core = Liveness::new(Patience::default(), start);
        let (probes, events) = run(&mut core, start, 100 * SECOND, |_| false);
        assert_eq!(&probes[..3], [20_000, 20_500, 21_000]);
        assert_eq!(events, [(25_000, Event::Unreachable), (60_000, Event::Gone)]);
    }

    #[test]
    fn a_short_patience_makes_idle_probes_more_frequent() {
        let start = Instant::now();
        let patience = Patience { gone_after: 8 * SECOND, ..Patience::default() };
        let mut core = Liveness::new(patience, start);
        let (_, events) = run(&mut core, start, 100 * SECOND, |at| at < 20_000);
        let (gone, event) = *events.last().unwrap();
        assert_eq!(event, Event::Gone);
        assert!(gone <= 20_000 + 8_000, "gone at {gone} ms");
    }

    #[test]
    fn a_peer_that_answers_again_is_reachable_again() {
        let start = Instant::now();
        let mut core = Liveness::new(Patience::default(), start);
        core.expect(true, start);
        let silent = |at| (10_000..20_000).contains(&at);
        let (_, events) = run(&mut core, start, 40 * SECOND, |at| !silent(at));
        assert_eq!(events, [(14_500, Event::Unreachable), (20_000, Event::Reachable)]);
    }

    #[test]
    fn the_same_sign_of_life_told_again_and_again_does_not_hide_silence() {
        let start = Instant::now();
        let mut core = Liveness::new(Patience::default(), start);
        core.expect(true, start);
        let sign = start + Duration::from_millis(100);
        let mut events = Vec::new();
        for half_seconds in 1..=20 {
            let now = start + half_seconds * SECOND / 2;
            core.heard(sign, now);
            core.advance(now);
            events.extend(core.poll_event());
        }
        assert_eq!(events, [Event::Unreachable]);
    }

    #[test]
    fn a_process_that_stood_still_asks_again_before_it_gives_up() {
        let start = Instant::now();
        let mut core = Liveness::new(Patience::default(), start);
        core.expect(true, start);
        core.advance(start + SECOND / 2);
        assert!(core.poll_probe());
        let woken = start + 3600 * SECOND;
        core.advance(woken);
        assert!(core.poll_probe());
        assert_eq!(core.poll_event(), None);
        let (_, events) = run(&mut core, woken, 100 * SECOND, |_| false);
        let [(unreachable, Event::Unreachable), (gone, Event::Gone)] = events[..] else {
            panic!("{events:?}")
        };
        assert!((4_000..=5_000).contains(&unreachable), "after {unreachable} ms");
        assert!((59_000..=60_000).contains(&gone), "after {gone} ms");
    }

    #[test]
    fn absurd_patience_is_bounded() {
        for length in [Duration::ZERO, Duration::MAX] {
            let patience = Patience {
                probe_every: length,
                idle_every: length,
                unreachable_after: length,
                gone_after: length,
            };
            let start = Instant::now();
            let mut core = Liveness::new(patience, start);
            core.expect(true, start);
            let (probes, _) = run(&mut core, start, SECOND, |_| true);
            assert!(probes.len() <= 101);
        }
    }

    #[test]
    fn beginning_to_expect_asks_soon_and_ceasing_to_does_not_forget_the_silence() {
        let start = Instant::now();
        let mut core = Liveness::new(Patience::default(), start);
        core.advance(start + 10 * SECOND);
        core.expect(true, start + 10 * SECOND);
        assert!(core.poll_probe());
        core.expect(false, start + 10 * SECOND);
        let (_, events) = run(&mut core, start + 10 * SECOND, 6 * SECOND, |_| false);
        assert_eq!(events, [(5_000, Event::Unreachable)]);
    }

    /// The same as [`run`], for keeps: their times, and those of the probes, all of which are answered until `until`.
    fn keeps(core: &mut Liveness, start: Instant, until: Duration) -> (Vec<u128>, Vec<u128>) {
        let (mut keeps, mut probes, mut now) = (Vec::new(), Vec::new(), start);
        while let Some(next) = core.timeout()
            && next.saturating_duration_since(start) <= until
        {
            now = next.max(now);
            core.advance(now);
            if core.poll_keep() {
                keeps.push((now - start).as_millis());
            }
            if core.poll_probe() {
                probes.push((now - start).as_millis());
                core.heard(now, now);
            }
        }
        (keeps, probes)
    }

    #[test]
    fn a_session_is_kept_at_common_moments_and_asked_at_every_fourth() {
        let start = Instant::now();
        for begun in [1, 7, 19] {
            let mut core = Liveness::new(Patience::default(), start);
            core.kept_by(Keeper::Us(start), start + begun * SECOND);
            let (keeps, probes) = keeps(&mut core, start, 3600 * SECOND);
            assert_eq!(keeps[..4], [20_000, 40_000, 60_000, 100_000]);
            assert_eq!(probes[..3], [80_000, 160_000, 240_000]);
            assert_eq!(keeps.len() + probes.len(), 180);
            assert_eq!(keeps.len() + 2 * probes.len(), 225);
        }
    }

    #[test]
    fn a_keeper_notices_within_85_seconds_that_an_idle_peer_is_silent_and_within_5_once_it_is_asked()
     {
        let start = Instant::now();
        let mut core = Liveness::new(Patience::default(), start);
        core.kept_by(Keeper::Us(start), start);
        let (_, events) = run(&mut core, start, 200 * SECOND, |at| at < 160_000);
        // It was last heard at 80 s.
        assert_eq!(events, [(165_000, Event::Unreachable), (200_000, Event::Gone)]);
        let mut core = Liveness::new(Patience::default(), start);
        core.kept_by(Keeper::Us(start), start);
        core.probe_now(start + 30 * SECOND);
        let (_, events) = run(&mut core, start + 30 * SECOND, 60 * SECOND, |_| false);
        assert_eq!(events[0], (5_000, Event::Unreachable));
    }

    #[test]
    fn whom_the_peer_keeps_asks_nothing_while_that_goes_on_and_notices_its_end_within_a_minute() {
        let start = Instant::now();
        let mut core = Liveness::new(Patience::default(), start);
        core.kept_by(Keeper::Peer, start);
        for twenty in 1..30 {
            let now = start + twenty * 20 * SECOND;
            // Each fourth is a probe, which may be a replay; now and then one is lost.
            if twenty % 4 != 0 && twenty != 6 {
                core.heard(now, now);
            }
            core.advance(now);
            assert!(!core.poll_probe(), "at {} s", twenty * 20);
        }
        let last = start + 29 * 20 * SECOND;
        let (probes, events) = run(&mut core, last, 100 * SECOND, |_| false);
        assert_eq!(probes[0], 50_000);
        assert_eq!(events, [(55_000, Event::Unreachable), (60_000, Event::Gone)]);
    }

    #[test]
    fn where_a_nat_forgets_sooner_the_signs_of_life_come_sooner_for_an_hour() {
        let start = Instant::now();
        let mut core = Liveness::new(Patience::default(), start);
        core.kept_by(Keeper::Us(start), start);
        core.remapped(start + SECOND);
        core.remapped(start + 2 * SECOND);
        core.remapped(start + 3 * SECOND);
        let (sooner, probes) = keeps(&mut core, start, 60 * SECOND);
        assert_eq!(sooner[..4], [5_000, 10_000, 15_000, 25_000]);
        assert_eq!(probes, [20_000, 40_000, 60_000]);
        let (later, _) = keeps(&mut core, start, 9000 * SECOND);
        assert_eq!(later[later.len() - 1] - later[later.len() - 2], 20_000);
    }

    #[test]
    fn a_peer_on_which_something_depends_is_asked_each_two_seconds() {
        let start = Instant::now();
        for keeper in [Keeper::Both, Keeper::Us(start), Keeper::Peer] {
            let mut core = Liveness::new(Patience::default(), start);
            core.kept_by(keeper, start);
            core.watch(start + 9 * SECOND, start);
            let (probes, _) = run(&mut core, start, 19 * SECOND, |_| true);
            assert_eq!(probes, [2_000, 4_000, 6_000, 8_000, 10_000]);
        }
    }
}
