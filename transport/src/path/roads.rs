//! Core: which road leads to a peer, and which addresses were proven to be its own (docs/architecture.md).
//!
//! Sans-IO: time and frames come in, frames and switches come out. Written contract: *after every call that takes
//! `&mut self`, drain [`Roads::poll`], then arm a timer for [`Roads::timeout`], at which [`Roads::advance`] is called.*
//!
//! A road is used only after it answered a fresh nonce that was sent along it. A valid probe from elsewhere merely
//! starts that check: its MAC can't cover a source address that NATs rewrite, and anyone on the way may replay it.
//! Until then it gets at most [`CHECKS_MAX`] probes, all ports of one host together (and one more for each [`Roads::retest`] and
//! [`Roads::once_more`]), and one that nobody but a probe's source
//! address speaks for gets at most three times the bytes that came from it. Where both sides have NATs, the first probe goes only so
//! far that it opens the own one (docs/decisions/0010-the-first-probe-stays-near.md). When the road in use falls silent, every proven
//! one is asked, and the fastest that answers takes over; while it works, only a much faster one does. A road through a relay gives way to any
//! other, and is kept beside it.

use std::{
    cmp::Ordering,
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

mod known;
mod silent;

use known::{Known, Origin, SILENCE_MIN, SILENCE_UNMEASURED};
use silent::{CHECKS_MAX, SilentHosts};

use super::nonces::Nonces;
use crate::{
    socket::handles::{Road, Source},
    wire::FRAME_BYTES,
};

/// When the peer sends along another road, and the one in use last answered longer ago than this, it is asked. A guess: less than
/// what makes the peer doubt.
const QUIET_MIN: Duration = Duration::from_millis(200);

/// Between two times that the peer's choice is followed: should it follow this side's at the same time, that ends. A guess.
const FOLLOW_EVERY: Duration = Duration::from_secs(10);

/// Roads of one peer. A guess: both families, a few interfaces and NATs on both sides.
pub(crate) const ROADS_MAX: usize = 16;

/// Unproven roads among them that only a source address speaks for. A guess; a moving peer has one or two.
const OBSERVED_MAX: usize = 4;

/// An observed road is given this long to answer before another may take its place. A guess, beyond most round trips.
const CHECK_TIME: Duration = Duration::from_secs(1);

/// Between the first two checks of a road; doubled after each. A guess.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Between probes of a proven road that isn't in use; NATs forget a mapping after 30 s (docs/measurements.md).
const STANDBY_EVERY: Duration = Duration::from_secs(20);

/// Our nonces per road whose answers are still welcome; one each 500 ms makes 16 s.
const OPEN_MAX: usize = 32;

/// Nonces of the peer that are remembered, so that a replayed probe starts nothing.
const SEEN_MAX: usize = 64;

/// Long probes in a row before a road counts as narrow, and until it is tried again. Guesses: with one datagram in ten lost,
/// one in a thousand wide roads is taken for a narrow one, for a minute.
const SIZE_TRIES: usize = 3;
const SIZE_AGAIN: Duration = Duration::from_secs(60);

/// An unanswered probe means silence after [`SILENCE_MIN`]; after QUIC had heard nothing for a while, after two round trips and this. A guess: a spike on a Wi-Fi is shorter.
const SUSPICION_MIN: Duration = Duration::from_millis(100);

/// A road that works is left for another only if that takes less than 3/4 of the time and 5 ms less, by at least
/// `SAMPLES_MIN` measurements of each. A guess: beyond the noise of a Wi-Fi, below what a user would notice.
const FASTER_BY_MIN: Duration = Duration::from_millis(5);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Send a probe with this nonce along this road.
    Probe(Road, u64),
    /// The same, but only so far that it opens the own NAT.
    Open(Road, u64),
    /// Answer the probe with this nonce along this road.
    Answer(Road, u64),
    /// The peer has shown that this road leads to it: what it sends may come along it as well.
    Proven(Road),
    /// Send everything along this road from now on.
    Switch(Road),
    /// Send a probe as long as QUIC's datagrams get, with this nonce, along this road.
    Size(Road, u64),
    /// Whether the road in use takes datagrams as long as QUIC's get.
    Whole(bool),
    /// The road in use may be dead: what is sent along it is to be sent along this one as well, as far as that is prudent.
    Mirror {
        /// The most likely one of the others.
        road: Road,
        /// Whether it takes datagrams as long as QUIC's get.
        whole: bool,
        /// Its round-trip time.
        rtt: Duration,
    },
    /// That is over.
    Sure,
}

/// What is known about a road.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Described {
    pub(crate) road: Road,
    /// It is in use.
    pub(crate) active: bool,
    /// It has answered before.
    pub(crate) proven: bool,
    pub(crate) rtt: Option<Duration>,
    /// Probes since the last answer.
    pub(crate) unanswered: u32,
}

/// The roads to one peer.
#[derive(Debug)]
pub(crate) struct Roads {
    nonces: Nonces,
    known: Vec<Known>,
    /// Index of the road in use.
    active: usize,
    /// The beginning of the silence of the road in use for which the others were asked.
    rescued: Option<Instant>,
    /// The road in use had been silent for a while before it was asked.
    suspected: bool,
    /// The peer has opened its NAT for us.
    invited: bool,
    /// When the peer's choice of a road was followed.
    followed: Option<Instant>,
    /// What is sent goes along this road as well.
    mirror: Option<Road>,
    seen: VecDeque<u64>,
    /// Probes to each host at which nothing ever answered; it may be somebody else's.
    silent: SilentHosts,
    outbox: VecDeque<Output>,
}

impl Roads {
    /// A peer whose handshake came along `active`.
    pub(crate) fn new(active: Road, nonces: Nonces, now: Instant) -> Self {
        let mut first = Known::new(active, Origin::Named, now);
        (first.proven, first.heard, first.next) = (true, Some(now), None);
        // QUIC itself finds out how long they may be there.
        first.whole = true;
        Self {
            nonces,
            known: vec![first],
            active: 0,
            rescued: None,
            suspected: false,
            invited: false,
            followed: None,
            mirror: None,
            seen: VecDeque::new(),
            silent: SilentHosts::default(),
            outbox: VecDeque::new(),
        }
    }

    /// The road in use.
    pub(crate) fn active(&self) -> Road {
        self.known[self.active].road
    }

    /// What is to be done next.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }

    /// What is known about each road.
    pub(crate) fn describe(&self) -> Vec<Described> {
        let describe = |(index, known): (usize, &Known)| Described {
            road: known.road,
            active: index == self.active,
            proven: known.proven,
            rtt: known.rtt,
            unanswered: known.unanswered,
        };
        self.known.iter().enumerate().map(describe).collect()
    }

    /// A number that nobody can guess.
    pub(crate) fn nonce(&mut self) -> u64 {
        self.nonces.next()
    }

    /// When [`Roads::advance`] must be called next.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        let rescue = self.silent_at().filter(|_| self.known.len() > 1 && !self.is_rescued());
        let next = |known: &Known| [known.next, known.size_next];
        self.known.iter().flat_map(next).flatten().chain(rescue).min()
    }

    /// The peer says that it is also at the end of `road`, which is checked if there is room for it.
    pub(crate) fn add(&mut self, road: Road, now: Instant) {
        if let Some(index) = self.find(road) {
            let known = &mut self.known[index];
            if known.origin == Origin::Observed && !known.proven {
                (known.origin, known.next) = (Origin::Named, Some(now));
            }
        } else {
            self.insert(Known::new(road, Origin::Named, now), now);
        }
        self.advance(now);
    }

    /// The peer is also at the end of `road`, most likely behind a NAT which takes amiss what arrives before the peer has sent
    /// something: the own NAT is opened for it now, and the road is checked once the peer has done the same
    /// ([`Roads::invited`]), or after the time that a check is given.
    pub(crate) fn open(&mut self, road: Road, now: Instant) {
        if self.invited || self.find(road).is_some() {
            return self.add(road, now);
        }
        if let Some(index) = self.insert(Known::new(road, Origin::Named, now), now) {
            self.known[index].opening = true;
        }
        self.advance(now);
    }

    /// The peer has sent something to every address of ours that it knows.
    pub(crate) fn invited(&mut self, now: Instant) {
        self.invited = true;
        for known in &mut self.known {
            if std::mem::take(&mut known.opening) {
                known.next = Some(now);
            }
        }
        self.advance(now);
    }

    /// Asks the road in use, and every proven one if that is silent. Returns the nonce of the former.
    pub(crate) fn probe(&mut self, now: Instant) -> u64 {
        let nonce = self.ask(self.active, now);
        if self.is_silent(now) {
            self.ask_others(now);
        }
        self.advance(now);
        nonce
    }

    /// QUIC sends along the road in use and nothing comes back: every proven road is asked, and that one has to answer
    /// soon.
    pub(crate) fn suspect(&mut self, now: Instant) {
        if !self.is_silent(now) {
            self.ask(self.active, now);
            self.suspected = true;
            self.ask_others(now);
        }
        self.advance(now);
    }

    /// The peer is at `ip` by other means, so that one more probe may go to its roads there which never answered.
    pub(crate) fn retest(&mut self, ip: IpAddr, now: Instant) {
        self.silent.allow_one(ip);
        for known in &mut self.known {
            let there = known.road.flow.is_none() && known.road.remote.ip() == ip;
            if there && !known.proven && known.origin == Origin::Named {
                known.unanswered = known.unanswered.min(CHECKS_MAX - 1);
                known.next = Some(now);
            }
        }
        self.advance(now);
    }

    /// There is a reason to try `remote`, which the peer named and which never answered, once more: one probe may go there, at once or
    /// when the peer's has come from there.
    pub(crate) fn once_more(&mut self, remote: SocketAddr, at_once: bool, now: Instant) {
        self.silent.allow_one(remote.ip());
        for known in &mut self.known {
            let there = known.road.flow.is_none() && known.road.remote == remote;
            if there && !known.proven && known.origin == Origin::Named {
                known.unanswered = known.unanswered.min(CHECKS_MAX - 1);
                if at_once {
                    known.next = Some(now);
                }
            }
        }
        self.advance(now);
    }

    /// Whether there is more than one road that has answered.
    pub(crate) fn has_choice(&self) -> bool {
        self.known.iter().filter(|known| known.proven).count() > 1
    }

    /// A probe of the peer, its MAC right, came along `road` in a datagram of `bytes`.
    pub(crate) fn probed(&mut self, road: Road, nonce: u64, bytes: usize, now: Instant) {
        let replayed = self.seen.contains(&nonce);
        if !replayed {
            if self.seen.len() == SEEN_MAX {
                self.seen.pop_front();
            }
            self.seen.push_back(nonce);
        }
        match self.find(road) {
            Some(index) if self.known[index].proven => {
                self.outbox.push_back(Output::Answer(road, nonce));
                if index != self.active {
                    self.compare(Some(index), now);
                }
            }
            _ if replayed => {}
            index => {
                let newcomer = || Known::new(road, Origin::Observed, now);
                let Some(index) = index.or_else(|| self.insert(newcomer(), now)) else { return };
                let known = &mut self.known[index];
                known.given = known.given.saturating_add(bytes);
                if known.affordable() {
                    known.drawn += FRAME_BYTES;
                    self.outbox.push_back(Output::Answer(road, nonce));
                }
                // It may afford a check again; and a check before may have come too early for the NATs on the way.
                if !std::mem::replace(&mut known.prompted, true) {
                    (known.opening, known.next) = (false, Some(now));
                }
                known.next.get_or_insert(now);
                self.compare(None, now);
            }
        }
        self.advance(now);
    }

    /// An answer of the peer, its MAC right, came along `road`. Returns the round-trip time if it is the first answer to
    /// a nonce that was sent along that road; all others mean nothing.
    pub(crate) fn answered(&mut self, road: Road, nonce: u64, now: Instant) -> Option<Duration> {
        let index = self.find(road)?;
        let known = &mut self.known[index];
        if known.sizing.contains(&nonce) {
            known.sizing.clear();
            (known.whole, known.size_next) = (true, None);
            if index == self.active {
                self.outbox.push_back(Output::Whole(true));
            }
            return None;
        }
        let position = known.open.iter().position(|(open, _)| *open == nonce)?;
        let (_, sent) = known.open.remove(position)?;
        let rtt = now.saturating_duration_since(sent);
        known.rtt = Some(known.rtt.map_or(rtt, |smoothed| (smoothed * 7 + rtt) / 8));
        known.samples += 1;
        if !known.proven {
            self.outbox.push_back(Output::Proven(known.road));
            known.size_next = Some(now);
            if known.tier() == 0 {
                self.silent.forget(road.remote.ip());
            }
        }
        (known.proven, known.asked, known.unanswered) = (true, None, 0);
        if index == self.active {
            self.suspected = false;
            self.be_sure();
        } else if self.mirror.is_some() && !self.mirror_answers() {
            self.doubt(Some(index));
        }
        let known = &mut self.known[index];
        known.heard = Some(now);
        known.road.local = road.local.or(known.road.local);
        known.next = (index != self.active).then(|| now + STANDBY_EVERY);
        if index != self.active && self.known[self.active].rtt.is_none() {
            // Only now does it matter how long it takes.
            self.ask(self.active, now);
        }
        self.advance(now);
        Some(rtt)
    }

    /// Time has passed.
    pub(crate) fn advance(&mut self, now: Instant) {
        for index in 0..self.known.len() {
            if self.known[index].next.is_some_and(|next| next <= now) {
                self.ask(index, now);
            }
        }
        for index in 0..self.known.len() {
            if self.known[index].size_next.is_some_and(|next| next <= now) {
                self.size(index, now);
            }
        }
        if self.is_silent(now) && !self.is_rescued() {
            self.rescued = self.known[self.active].asked;
            self.ask_others(now);
        }
        if let Some(better) = self.better(now) {
            self.switch(better, now);
        }
    }

    fn switch(&mut self, better: usize, now: Instant) {
        self.known[self.active].next = Some(now + STANDBY_EVERY);
        self.known[better].next = None;
        self.active = better;
        (self.rescued, self.suspected) = (None, false);
        self.outbox.push_back(Output::Switch(self.active()));
        self.outbox.push_back(Output::Whole(self.known[better].whole));
        self.be_sure();
    }

    /// What the peer sends comes from `source` and not along the road in use. Of two roads that are as good as each other both
    /// sides should use one, or each would take the other's for silent. Whether that road is taken.
    pub(crate) fn follow(&mut self, source: Source, now: Instant) -> bool {
        let tier = self.known[self.active].tier();
        let there = self.known.iter().position(|known| known.road.source() == source);
        let works = |index: &usize| {
            let known = &self.known[*index];
            known.proven && known.asked.is_none() && known.tier() == tier
        };
        let rested = self.followed.is_none_or(|before| now >= before + FOLLOW_EVERY);
        match there.filter(works) {
            Some(index) if index != self.active && rested => {
                self.followed = Some(now);
                self.switch(index, now);
                true
            }
            _ => false,
        }
    }

    /// What is sent goes along this other road too, or along the best one, until one of them answers.
    fn doubt(&mut self, likely: Option<usize>) {
        let others = self.known.iter().enumerate();
        let others = others.filter(|(index, known)| *index != self.active && known.proven);
        let best = others.min_by_key(|(_, known)| (known.asked.is_some(), known.tier(), known.rtt));
        let Some(index) = likely.or(best.map(|(index, _)| index)) else { return };
        let known = &self.known[index];
        let rtt = known.rtt.unwrap_or(SILENCE_UNMEASURED);
        if self.mirror.is_none() || likely.is_some() && !self.mirror.is_some_and(|to| known.is(to))
        {
            self.mirror = Some(known.road);
            self.outbox.push_back(Output::Mirror { road: known.road, whole: known.whole, rtt });
        }
    }

    fn be_sure(&mut self) {
        if self.mirror.take().is_some() {
            self.outbox.push_back(Output::Sure);
        }
    }

    /// Whether the road that what is sent also goes along has answered all that it was asked.
    fn mirror_answers(&self) -> bool {
        let index = self.mirror.and_then(|road| self.find(road));
        index.is_some_and(|index| self.known[index].asked.is_none())
    }

    fn find(&self, road: Road) -> Option<usize> {
        self.known.iter().position(|known| known.is(road))
    }

    /// Makes room for a road and takes it in, if there is any room to make.
    fn insert(&mut self, newcomer: Known, now: Instant) -> Option<usize> {
        let waiting = |known: &Known| !known.proven && known.origin == Origin::Observed;
        let observed = self.known.iter().filter(|known| waiting(known)).count();
        let crowded = waiting(&newcomer) && observed >= OBSERVED_MAX;
        if crowded || self.known.len() >= ROADS_MAX {
            // First one that had its chance and didn't answer, then, unless the observed ones are to blame, the one that
            // has been dead for longest.
            let others = || self.known.iter().enumerate().filter(|(i, _)| *i != self.active);
            let stale = others()
                .filter(|(_, known)| waiting(known) && now >= known.since + CHECK_TIME)
                .min_by_key(|(_, known)| known.since);
            let dead = others()
                .filter(|(_, known)| !crowded && known.proven && known.unanswered >= CHECKS_MAX)
                .min_by_key(|(_, known)| known.heard);
            let (index, _) = stale.or(dead)?;
            self.known.remove(index);
            if index < self.active {
                self.active -= 1;
            }
        }
        self.known.push(newcomer);
        Some(self.known.len() - 1)
    }

    /// Whether one more probe may go to the host at the other end, which is then counted.
    fn spare(&mut self, index: usize) -> bool {
        let known = &self.known[index];
        let ip = known.road.remote.ip();
        let direct = |known: &Known| known.tier() == 0;
        let answers = |known: &Known| known.proven && direct(known) && known.road.remote.ip() == ip;
        // What an observed source is sent, it paid for; and who answers is no victim.
        !direct(known)
            || known.origin == Origin::Observed
            || self.known.iter().any(answers)
            || self.silent.ask(ip)
    }

    /// Sends a fresh nonce along a road, unless that road has had its share.
    fn ask(&mut self, index: usize, now: Instant) -> u64 {
        let nonce = self.nonces.next();
        let active = index == self.active;
        let known = &mut self.known[index];
        let exhausted = !known.proven && known.unanswered >= CHECKS_MAX;
        if exhausted || !known.affordable() || !self.spare(index) {
            self.known[index].next = None;
            return nonce;
        }
        let known = &mut self.known[index];
        if known.open.len() == OPEN_MAX {
            known.open.pop_front();
        }
        known.open.push_back((nonce, now));
        known.asked.get_or_insert(now);
        known.unanswered = known.unanswered.saturating_add(1);
        known.drawn = known.drawn.saturating_add(FRAME_BYTES);
        let opens = known.opening && !std::mem::replace(&mut known.opened, true);
        // From the second on they go all the way, whether the peer is ready or not.
        known.opening &= opens;
        let checks = known.unanswered.saturating_sub(u32::from(known.opened));
        known.next = match known.proven {
            _ if active || known.unanswered >= CHECKS_MAX => None,
            true => Some(now + STANDBY_EVERY),
            false => Some(now + CHECK_EVERY * (1 << checks.saturating_sub(1))),
        };
        let output = if opens { Output::Open } else { Output::Probe };
        self.outbox.push_back(output(known.road, nonce));
        nonce
    }

    /// Sends a long probe along a proven road: a few in a row, for one may be lost, and then seldom.
    fn size(&mut self, index: usize, now: Instant) {
        let nonce = self.nonces.next();
        let known = &mut self.known[index];
        if known.sizing.len() == SIZE_TRIES {
            known.sizing.clear();
        }
        known.sizing.push(nonce);
        let wait = match known.sizing.len() {
            SIZE_TRIES => SIZE_AGAIN,
            _ => SILENCE_MIN.max(known.rtt.unwrap_or_default() * 3),
        };
        known.size_next = Some(now + wait);
        self.outbox.push_back(Output::Size(known.road, nonce));
    }

    /// Asks every proven road but the one in use, whose silence makes it doubtful.
    fn ask_others(&mut self, now: Instant) {
        self.doubt(None);
        for index in 0..self.known.len() {
            if index != self.active && self.known[index].proven {
                self.ask(index, now);
            }
        }
    }

    /// The peer sends along another road than the one in use, which may be `by`: does that still work?
    fn compare(&mut self, by: Option<usize>, now: Instant) {
        let active = &self.known[self.active];
        let quiet = active.heard.is_none_or(|heard| now >= heard + QUIET_MIN);
        if quiet {
            if active.asked.is_none() {
                self.ask(self.active, now);
            }
            // What it sends may be in vain along that, as may what is sent here: its acknowledgments, for instance.
            self.doubt(by);
        }
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.silent_at().is_some_and(|at| now >= at)
    }

    /// When the silence of the road in use is one.
    fn silent_at(&self) -> Option<Instant> {
        let active = &self.known[self.active];
        match (self.suspected, active.rtt) {
            (true, Some(rtt)) => active.asked.map(|asked| asked + SUSPICION_MIN.max(rtt * 2)),
            _ => active.silent_at(),
        }
    }

    fn is_rescued(&self) -> bool {
        self.rescued.is_some() && self.rescued == self.known[self.active].asked
    }

    /// The road that should be in use in place of the one that is.
    fn better(&self, now: Instant) -> Option<usize> {
        let active = &self.known[self.active];
        let silent = self.is_silent(now);
        let takes_over = |known: &Known| {
            if silent {
                return known.heard >= active.asked;
            }
            match known.tier().cmp(&active.tier()) {
                // A relay is for as long as there is nothing better.
                Ordering::Less => return known.asked.is_none(),
                Ordering::Greater => return false,
                Ordering::Equal => {}
            }
            match (known.measured(), active.measured()) {
                (Some(rtt), Some(now)) => {
                    known.asked.is_none() && rtt < now * 3 / 4 && rtt + FASTER_BY_MIN <= now
                }
                _ => false,
            }
        };
        let others = self.known.iter().enumerate();
        let others = others.filter(|(index, known)| *index != self.active && known.proven);
        let best = others
            .filter(|(_, known)| takes_over(known))
            .min_by_key(|(_, known)| (known.tier(), known.rtt));
        best.map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests;
