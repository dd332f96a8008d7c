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

/// Between probes of a peer on which a relayed road depends, and of one whose actor is watched unless set otherwise. A guess: a restarted relay
/// is to be noticed well within the five seconds in which things go on.
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
    /// Between probes while an actor of the peer's is watched, no more than `idle_every`.
    pub watch_every: Duration,
    /// Silence in the face of probes after which the peer counts as unreachable, counted from the last sign of life, or from the first
    /// probe after that if it came later than two of `probe_every`.
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
            watch_every: WATCH_EVERY,
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
            watch_every: bounded(self.watch_every),
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
    /// Until when a relayed road depends on the peer.
    depended: Option<Instant>,
    /// Whether an actor of the peer's is watched.
    watched: bool,
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
            depended: None,
            watched: false,
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

    /// A relayed road depends on the peer's being there: until then it is probed each two seconds.
    pub fn depend(&mut self, until: Instant, now: Instant) {
        self.depended = self.depended.max(Some(until));
        self.next_probe = self.next_probe.min(self.after(self.heard, now).max(now));
        self.advance(now);
    }

    /// Whether an actor of the peer's is watched, whose watcher wants to know soon when the peer is silent.
    pub fn watch(&mut self, watched: bool, now: Instant) {
        if !std::mem::replace(&mut self.watched, watched) && watched {
            self.next_probe = self.next_probe.min(self.after(self.heard, now).max(now));
        }
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
            // Every fourth is a probe instead. While the peer is probed for other reasons it goes on, for the peer counts keeps alone: a probe
            // may be a replay.
            self.keep_due = self.is_busy(now) || self.asked.is_none();
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
        self.expecting || self.close(now).is_some()
    }

    /// Between two probes of a peer on which something depends.
    fn close(&self, now: Instant) -> Option<Duration> {
        let depended = self.depended.filter(|until| now < *until).map(|_| WATCH_EVERY);
        let watched = self.watched.then_some(self.patience.watch_every);
        depended.into_iter().chain(watched).min()
    }

    /// When the probe is due that follows a probe or a sign of life at `last`.
    fn after(&self, last: Instant, now: Instant) -> Instant {
        let Patience { probe_every, gone_after, .. } = self.patience;
        let idle = self.patience.idle_every();
        if self.expecting || self.asked.is_some() {
            return last + probe_every;
        }
        if let Some(every) = self.close(now) {
            return last + every.clamp(probe_every, idle);
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
mod tests;
