//! What is known about one road to a peer.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::doubt::{Losses, Pace};
use crate::{
    quic::rtt::Rtt,
    tunnel::is_far_end,
    wire::{frame::FRAME_BYTES, road::Road},
};

/// Bytes that an unproven source may draw for each that came from it (RFC 9000, section 8.1).
pub(super) const AMPLIFICATION_MAX: usize = 3;

/// Measurements after which a round-trip time is compared with another. A guess.
pub(super) const SAMPLES_MIN: u32 = 3;

/// A road that was left as dead, though it works again, is taken again only after so many answers in a row, asked for this far apart.
/// Guesses: a road that loses half of everything doesn't come back by luck.
const RETURN_ANSWERS: u32 = 3;
pub(super) const RETURN_ASK_EVERY: Duration = Duration::from_millis(300);

/// And not before so much time has passed, doubled each time that it is left, unless it held for [`HOLD_MAX`]. Guesses.
const HOLD_MIN: Duration = Duration::from_secs(1);
const HOLD_MAX: Duration = Duration::from_secs(60);

/// An answer is welcome for so long: as long as a ping is waited for.
const OPEN_TIME_MAX: Duration = Duration::from_secs(5);

/// Who speaks for a road.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The peer itself, by its reference, or the handshake.
    Named,
    /// The source address of a valid probe, which may be a replay.
    Observed,
}

/// A nonce of ours that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) nonce: u64,
    pub(super) sent: Instant,
    /// Whether it counts as lost, or says nothing about losses.
    pub(super) counted: bool,
}

/// One road, and what came of it so far.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) road: Road,
    pub(super) origin: Origin,
    pub(super) since: Instant,
    pub(super) proven: bool,
    /// Our nonces that wait for an answer along this road, and when each was sent.
    pub(super) open: VecDeque<Open>,
    /// The first probe since the last answer.
    pub(super) asked: Option<Instant>,
    /// Probes since the last answer.
    pub(super) unanswered: u32,
    pub(super) heard: Option<Instant>,
    /// Whether only the own NAT was opened for it so far: no probe was to arrive.
    pub(super) opening: bool,
    /// Whether the first of the unanswered probes was such a one.
    pub(super) opened: bool,
    /// Whether a probe of the peer's came along it, and it was checked for that.
    pub(super) prompted: bool,
    /// When to ask next; the road in use is asked by its user.
    pub(super) next: Option<Instant>,
    pub(super) rtt: Rtt,
    pub(super) losses: Losses,
    /// When the latest of its probes that were answered was sent.
    pub(super) proof: Option<Instant>,
    /// When it was last left as dead, how often of late, and how many answers in a row have come since.
    left: Option<Instant>,
    times_left: u32,
    regained: u32,
    /// When it was last taken.
    taken: Instant,
    /// Whether datagrams as long as QUIC's get arrive.
    pub(super) whole: bool,
    /// Long probes that wait for an answer, and when to send the next.
    pub(super) sizing: Vec<u64>,
    pub(super) size_next: Option<Instant>,
    /// Bytes received from it and sent to it while unproven.
    pub(super) given: usize,
    pub(super) drawn: usize,
}

impl Known {
    pub(super) fn new(road: Road, origin: Origin, now: Instant) -> Self {
        Self {
            road,
            origin,
            since: now,
            proven: false,
            open: VecDeque::new(),
            asked: None,
            unanswered: 0,
            heard: None,
            opening: false,
            opened: false,
            prompted: false,
            next: Some(now),
            rtt: Rtt::default(),
            losses: Losses::default(),
            proof: None,
            left: None,
            times_left: 0,
            regained: 0,
            taken: now,
            whole: false,
            sizing: Vec::new(),
            size_next: None,
            given: 0,
            drawn: 0,
        }
    }

    pub(super) fn is(&self, road: Road) -> bool {
        self.road.source() == road.source()
    }

    /// How far behind it is of a direct road: a relay is second, a tunnel to one last.
    pub(super) fn tier(&self) -> u8 {
        match self.road.flow {
            _ if is_far_end(self.road.remote) => 2,
            Some(_) => 1,
            None => 0,
        }
    }

    /// Whether one more frame may go to it.
    pub(super) fn affordable(&self) -> bool {
        let allowance = self.given.saturating_mul(AMPLIFICATION_MAX);
        self.proven || self.origin == Origin::Named || self.drawn + FRAME_BYTES <= allowance
    }

    /// Which is better: the kind of road counts first, then its round trip.
    pub(super) fn rank(&self) -> (u8, Duration) {
        (self.tier(), self.rtt.smoothed().unwrap_or(Duration::MAX))
    }

    /// Forgets nonces that are too old to say anything about the road: an answer that somebody held back is no sign of life.
    pub(super) fn forget_old(&mut self, now: Instant) {
        while self.open.front().is_some_and(|open| now > open.sent + OPEN_TIME_MAX) {
            self.open.pop_front();
        }
    }

    /// Probes that are lost by now: their answers are as late as twice the usual. Each is counted once.
    pub(super) fn count_lost(&mut self, now: Instant) -> u32 {
        let late = Pace::of(self.rtt).overdue() * 2;
        let mut lost = 0;
        for open in self.open.iter_mut().filter(|open| now >= open.sent + late) {
            lost += u32::from(!std::mem::replace(&mut open.counted, true));
        }
        lost
    }

    /// Its round trip, once that is measured well enough to be compared with another road's.
    pub(super) fn measured(&self) -> Option<Duration> {
        self.rtt.smoothed().filter(|_| self.rtt.samples() >= SAMPLES_MIN)
    }

    /// It is in use from now on.
    pub(super) fn take(&mut self, now: Instant) {
        (self.taken, self.next) = (now, None);
    }

    /// It is dead, and another is in use from now on.
    pub(super) fn leave(&mut self, now: Instant) {
        if now >= self.taken + HOLD_MAX {
            self.times_left = 0;
        }
        (self.left, self.regained) = (Some(now), 0);
        self.times_left = self.times_left.saturating_add(1);
    }

    /// One more probe was answered, after so many that weren't.
    pub(super) fn regain(&mut self, lost: u32) {
        self.regained = if lost > 1 { 1 } else { self.regained.saturating_add(1) };
    }

    /// Whether it was left as dead, and has not shown yet that it works again.
    pub(super) fn is_on_probation(&self) -> bool {
        self.left.is_some() && self.regained < RETURN_ANSWERS
    }

    /// Whether it may be taken again, if it was left.
    pub(super) fn is_trusted(&self, now: Instant) -> bool {
        let hold = HOLD_MIN.saturating_mul(1 << self.times_left.saturating_sub(1).min(6));
        let over = |left| now >= left + hold.min(HOLD_MAX);
        !self.is_on_probation() && self.left.is_none_or(over)
    }

    /// When that is, if it depends on nothing else.
    pub(super) fn trusted_at(&self) -> Option<Instant> {
        let hold = HOLD_MIN.saturating_mul(1 << self.times_left.saturating_sub(1).min(6));
        self.left.filter(|_| !self.is_on_probation()).map(|left| left + hold.min(HOLD_MAX))
    }
}
