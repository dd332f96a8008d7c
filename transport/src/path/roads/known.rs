//! What is known about one road to a peer.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{socket::handles::Road, tunnel::is_far_end, wire::FRAME_BYTES};

/// Bytes that an unproven source may draw for each that came from it (RFC 9000, section 8.1).
pub(super) const AMPLIFICATION_MAX: usize = 3;

/// An unanswered probe means silence after three round trips, but not before this (docs/architecture.md).
pub(super) const SILENCE_MIN: Duration = Duration::from_millis(300);

/// After this while no round trip was measured: the first time-out of RFC 6298.
pub(super) const SILENCE_UNMEASURED: Duration = Duration::from_secs(1);

/// Measurements after which a round-trip time is compared with another. A guess.
pub(super) const SAMPLES_MIN: u32 = 3;

/// Who speaks for a road.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The peer itself, by its reference, or the handshake.
    Named,
    /// The source address of a valid probe, which may be a replay.
    Observed,
}

/// One road, and what came of it so far.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) road: Road,
    pub(super) origin: Origin,
    pub(super) since: Instant,
    pub(super) proven: bool,
    /// Our nonces that wait for an answer along this road, and when each was sent.
    pub(super) open: VecDeque<(u64, Instant)>,
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
    /// Smoothed as RFC 6298 does it.
    pub(super) rtt: Option<Duration>,
    pub(super) samples: u32,
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
            rtt: None,
            samples: 0,
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

    /// When its silence is one.
    pub(super) fn silent_at(&self) -> Option<Instant> {
        let patience = self.rtt.map_or(SILENCE_UNMEASURED, |rtt| SILENCE_MIN.max(rtt * 3));
        self.asked.map(|asked| asked + patience)
    }

    pub(super) fn measured(&self) -> Option<Duration> {
        self.rtt.filter(|_| self.samples >= SAMPLES_MIN)
    }
}
