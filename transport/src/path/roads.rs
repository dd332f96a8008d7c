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
//! far that it opens the own one (docs/decisions/0010-the-first-probe-stays-near.md).
//!
//! The road in use is left on evidence only (docs/decisions/0012-a-road-is-left-on-evidence.md): so many probes in a row without an
//! answer that chance can't be to blame, and nothing acknowledged by QUIC meanwhile that went along it alone. Then the best road that
//! answered in the same time takes over. While it works, only a much faster one does. A road through a relay gives way to any
//! other, and is kept beside it.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

mod asking;
mod choice;
mod doubt;
mod known;
mod room;
mod silent;

use doubt::{Doubt, Step};
use known::{Known, Origin};
use silent::{CHECKS_MAX, SilentHosts};

use super::nonces::Nonces;
use crate::{
    quic::{acks::Proof, rtt::Rtt},
    wire::{frame::FRAME_BYTES, road::Road},
};

/// Between probes of a proven road that isn't in use; NATs forget a mapping after 30 s (docs/measurements.md).
const STANDBY_EVERY: Duration = Duration::from_secs(20);

/// Pings under way on one link; an older one is given up for a newer. One a millisecond, the most that `webmesh ping` sends, over
/// the five seconds that an answer to one is waited for.
pub(crate) const PINGS_MAX: usize = 5_000;

/// Our nonces per road whose answers are still welcome: all pings that may be under way. One each 500 ms makes more than the
/// minute after which a silent peer is gone.
const OPEN_MAX: usize = PINGS_MAX;

/// Nonces of the peer that are remembered, so that a replayed probe starts nothing.
const SEEN_MAX: usize = 64;

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

/// What an answer to a probe says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answered {
    pub(crate) rtt: Duration,
    /// When the probe was sent.
    pub(crate) sent: Instant,
    /// Whether it went along the road in use.
    pub(crate) active: bool,
}

/// The roads to one peer.
#[derive(Debug)]
pub(crate) struct Roads {
    nonces: Nonces,
    known: Vec<Known>,
    /// Index of the road in use.
    active: usize,
    /// Whether an answer along the road in use is so long overdue that it may be dead.
    doubt: Option<Doubt>,
    /// Where the peer may have moved to, and when it showed.
    hint: Option<(Road, Instant)>,
    /// When the peer last asked along another road than the one in use, and when that last made this side doubt.
    compared: Option<Instant>,
    induced: Option<Instant>,
    /// How long QUIC's acknowledgements take along the road in use, and when the last of them came.
    quic: (Rtt, Option<Instant>),
    /// The peer has opened its NAT for us.
    invited: bool,
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
        (first.proven, first.heard, first.proof, first.next) = (true, Some(now), Some(now), None);
        // QUIC itself finds out how long they may be there.
        first.whole = true;
        Self {
            nonces,
            known: vec![first],
            active: 0,
            doubt: None,
            hint: None,
            compared: None,
            induced: None,
            quic: (Rtt::default(), None),
            invited: false,
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
            rtt: known.rtt.smoothed(),
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
        let doubt = match &self.doubt {
            Some(doubt) => doubt.timeout(),
            None => self.overdue_at(),
        };
        let next = |known: &Known| [known.next, known.size_next];
        let timers = self.known.iter().flat_map(next).flatten();
        timers.chain(doubt).chain(self.return_at()).min()
    }

    /// How long what is sent along the road in use may go without an acknowledgement, before [`Roads::unacknowledged`] is
    /// called.
    pub(crate) fn patience(&self) -> Duration {
        self.pace().patience()
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

    /// Asks the road in use, and every proven one if that is dead. Returns the nonce of the former.
    pub(crate) fn probe(&mut self, now: Instant) -> u64 {
        let nonce = self.ask(self.active, now);
        if self.doubt.as_ref().is_some_and(Doubt::is_hopeless) {
            self.ask_others(now);
        }
        self.advance(now);
        nonce
    }

    /// Something was sent along the road in use that may never be acknowledged, as acknowledgements aren't: is the road alive?
    pub(crate) fn question(&mut self, now: Instant) {
        self.question_active(now);
        self.advance(now);
    }

    /// What QUIC sent along the road in use at `sent` should be acknowledged by now, and isn't: that is as good as a probe without
    /// an answer.
    pub(crate) fn unacknowledged(&mut self, sent: Instant, now: Instant) {
        if self.doubt.is_none() {
            self.doubt_active(now);
            if self.doubt.is_some() {
                let active = &mut self.known[self.active];
                active.asked = Some(active.asked.map_or(sent, |asked| asked.min(sent)));
            }
        }
        self.advance(now);
    }

    /// There is a reason to believe that the road in use is dead, as when this host has moved: it is asked as often as it takes, and
    /// all others once, at once.
    pub(crate) fn suspect(&mut self, now: Instant) {
        if self.doubt.is_none() {
            self.doubt_active(now);
            self.ask_others(now);
        }
        self.advance(now);
    }

    /// What QUIC got acknowledged of what went along the road in use alone.
    pub(crate) fn acked(&mut self, proof: Proof, now: Instant) {
        self.quic = (proof.rtt, proof.sampled);
        let Some(sent) = proof.sent else { return };
        let active = &mut self.known[self.active];
        active.heard = active.heard.max(proof.sampled);
        if active.asked.is_some_and(|asked| sent >= asked) {
            self.settled(sent, now);
        }
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

    /// An answer of the peer, its MAC right, came along `road`: what it says, if it is the first answer to
    /// a nonce that was sent along that road; all others mean nothing.
    pub(crate) fn answered(&mut self, road: Road, nonce: u64, now: Instant) -> Option<Answered> {
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
        known.forget_old(now);
        let position = known.open.iter().position(|open| open.nonce == nonce)?;
        let sent = known.open.remove(position)?.sent;
        let rtt = now.saturating_duration_since(sent);
        known.rtt.sample(rtt);
        let lost = known.count_lost(now);
        known.losses.answered(lost);
        known.regain(known.unanswered.saturating_sub(1));
        let moved = known.road.local != road.local && road.local.is_some();
        known.road.local = road.local.or(known.road.local);
        if !known.proven || moved {
            self.outbox.push_back(Output::Proven(known.road));
        }
        let first = !std::mem::replace(&mut known.proven, true);
        (known.heard, known.proof) = (Some(now), known.proof.max(Some(sent)));
        if first {
            known.size_next = Some(now);
            if known.tier() == 0 {
                self.silent.forget(road.remote.ip());
            }
        }
        let active = index == self.active;
        if active {
            self.settled(sent, now);
        } else {
            self.standby_answered(index, first, now);
        }
        self.advance(now);
        Some(Answered { rtt, sent, active })
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
        if self.doubt.is_none() && self.overdue_at().is_some_and(|at| at <= now) {
            self.doubt_active(now);
            if let Some(index) = self.hinted(now) {
                self.mirror_to(index);
            }
        }
        let pace = self.pace();
        self.doubt.iter_mut().for_each(|doubt| doubt.pace_is(pace));
        while let Some(step) = self.doubt.as_mut().and_then(|doubt| doubt.step(now)) {
            match step {
                Step::Ask => {
                    self.ask(self.active, now);
                }
                Step::AskOthers => self.ask_others(now),
                Step::Mirror => self.mirror_likeliest(),
                Step::Judge => match self.successor() {
                    Some(index) => self.leave(index, now),
                    None => self.doubt.iter_mut().for_each(|doubt| doubt.despair(now)),
                },
            }
        }
        if self.doubt.as_ref().is_some_and(Doubt::is_hopeless)
            && let Some(index) = self.successor()
        {
            self.leave(index, now);
        }
        if let Some(better) = self.better(now) {
            self.switch(better, now);
        }
    }

    fn find(&self, road: Road) -> Option<usize> {
        self.known.iter().position(|known| known.is(road))
    }
}

#[cfg(test)]
mod tests;
