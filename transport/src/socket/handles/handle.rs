//! What is known of a handle that stands for more than its literal address, and what sending to it entails.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::udp::Transmit;

use super::unproven::Unproven;
use crate::{
    quic::{acks::Acks, cid::Cid},
    socket::demux::{Kind, kind},
    wire::road::Road,
};

/// What isn't acknowledged for so long draws a question, until the connection says how long a round trip takes.
const PATIENCE_AT_FIRST: Duration = Duration::from_millis(500);

/// Datagrams repeated to a peer that was silent (docs/architecture.md). Few, for the acknowledgment of an old one makes QUIC
/// believe in a long round trip.
pub(super) const ECHO_MAX: usize = 10;

/// Datagrams per round trip that go along two roads while the one in use is in doubt (docs/architecture.md): a relay, or a narrow
/// road, isn't flooded with what a fast one carried.
pub(super) const MIRRORED_MAX: usize = 64;

/// A handle that stands for more than its literal address.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) roads: Vec<Road>,
    pub(super) stage: Stage,
    /// Connections that use it: one, unless two handshakes were begun from one source at the same time.
    pub(super) users: usize,
    /// Whether a handshake with it is complete.
    pub(super) authenticated: bool,
    /// The connection id of the peer's that QUIC used last.
    pub(super) peer_cid: Option<Cid>,
    /// The last datagrams sent, kept while the peer is silent, and whether each went along `mirror` too.
    pub(super) echo: Option<VecDeque<(Vec<u8>, bool)>>,
    /// Since when.
    pub(super) echo_since: Option<Instant>,
    /// Whether they are kept for more than the mirroring.
    pub(super) echo_kept: bool,
    /// Where else datagrams go while the road in use is in doubt.
    pub(super) mirror: Option<Box<Mirror>>,
    /// Whether the road in use takes datagrams as long as QUIC's get.
    pub(super) whole: bool,
    /// Whether its silence is of interest: there are other roads.
    pub(super) watched: bool,
    /// What was sent along the road in use and isn't known to have arrived.
    pub(super) unproven: Unproven,
    /// Whether it is among those that are looked after for that.
    pub(super) waiting: bool,
    /// When a question was last asked about it.
    pub(super) questioned: Option<Instant>,
    /// How long it may go without.
    pub(super) patience: Duration,
    /// What is known to have arrived.
    pub(super) acks: Option<Arc<Acks>>,
}

impl Handle {
    pub(super) fn new(roads: Vec<Road>, stage: Stage) -> Self {
        Self {
            roads,
            stage,
            users: 0,
            authenticated: false,
            peer_cid: None,
            echo: None,
            echo_since: None,
            echo_kept: false,
            mirror: None,
            whole: true,
            watched: false,
            unproven: Unproven::default(),
            waiting: false,
            questioned: None,
            patience: PATIENCE_AT_FIRST,
            acks: None,
        }
    }

    /// Where to send what QUIC addresses to it.
    pub(super) fn way(&self) -> Way<'_> {
        match self.stage {
            Stage::Racing => Way::Each(&self.roads),
            Stage::Pinned { road, .. } | Stage::Settled { road } => {
                self.roads.get(road).copied().map_or(Way::Nowhere, Way::One)
            }
        }
    }

    /// Until when what went along the road in use is known to have arrived.
    pub(super) fn proven(&self) -> Option<Instant> {
        self.acks.as_ref().and_then(|acks| acks.proof().sent)
    }

    /// Keeps the last datagrams from now on.
    pub(super) fn keep(&mut self, now: Instant) {
        if self.echo.is_none() {
            (self.echo, self.echo_since) = (Some(VecDeque::new()), Some(now));
        }
    }

    /// Keeps them no longer, unless somebody wants them.
    pub(super) fn keep_no_longer(&mut self) {
        if !self.echo_kept && self.mirror.is_none() {
            (self.echo, self.echo_since) = (None, None);
        }
    }

    /// Notes what is being sent along its road; `waiting` are the handles of which something isn't known to have arrived.
    pub(super) fn sending(
        &mut self,
        waiting: &mut Vec<SocketAddr>,
        transmit: &Transmit<'_>,
    ) -> Sending {
        let mut first = false;
        if self.watched {
            let now = tokio::time::Instant::now().into_std();
            let acks = self.acks.as_ref();
            let proven = || acks.and_then(|acks| acks.proof().sent);
            let begins = self.unproven.sent(transmit.contents.len(), self.patience, now, proven);
            if begins && !std::mem::replace(&mut self.waiting, true) {
                first = waiting.is_empty();
                waiting.push(transmit.destination);
            }
        }
        if let Kind::Short(cid) = kind(transmit.contents) {
            // Peers are endpoints like this one: their ids have the same length.
            self.peer_cid = Some(*cid);
        }
        let mut sending = Sending { whole: self.whole, look: first, mirror: None };
        // Wherever there is a mirror, there is an echo.
        let Some(echo) = &mut self.echo else { return sending };
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        if let Some(mirror) = &mut self.mirror {
            let datagrams = transmit.contents.len().div_ceil(segment);
            let takes = mirror.takes(datagrams, tokio::time::Instant::now().into_std());
            sending.mirror = takes.then_some((mirror.road, mirror.whole));
        }
        for datagram in transmit.contents.chunks(segment) {
            let oldest = if echo.len() >= ECHO_MAX { echo.pop_front() } else { None };
            let mut room = oldest.map(|(bytes, _)| bytes).unwrap_or_default();
            room.clear();
            room.extend_from_slice(datagram);
            echo.push_back((room, sending.mirror.is_some()));
        }
        sending
    }
}

/// A second road for what is sent, within bounds.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub(super) road: Road,
    whole: bool,
    /// [`MIRRORED_MAX`] datagrams in so much time; when that began, and how many are left of it.
    per: Duration,
    since: Instant,
    left: usize,
}

impl Mirror {
    /// A road of which it is known whether it takes datagrams as long as QUIC's get, and its round-trip time.
    pub(crate) fn new(road: Road, whole: bool, rtt: Duration, now: Instant) -> Self {
        Self { road, whole, per: rtt, since: now, left: MIRRORED_MAX }
    }

    /// Whether so many more datagrams may go along it.
    pub(super) fn takes(&mut self, datagrams: usize, now: Instant) -> bool {
        if now >= self.since + self.per {
            (self.since, self.left) = (now, MIRRORED_MAX);
        }
        let takes = datagrams <= self.left;
        if takes {
            self.left -= datagrams;
        }
        takes
    }
}

/// What sending something to a handle entails.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Sending {
    /// Whether the road takes datagrams as long as QUIC's get; of a stranger's nothing is known.
    pub(crate) whole: bool,
    /// Somebody has to look for silence from now on.
    pub(crate) look: bool,
    /// It goes along this road too, which takes datagrams as long as QUIC's get, or doesn't.
    pub(crate) mirror: Option<(Road, bool)>,
}

impl Default for Sending {
    fn default() -> Self {
        Self { whole: true, look: false, mirror: None }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    /// Its handshake runs on every road until one answers.
    Racing,
    /// It goes on along one road: one answered, or demanded a Retry.
    Pinned { road: usize, by_retry: bool },
    /// The handshake is done.
    Settled { road: usize },
}

/// Where a transmit goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Way<'a> {
    /// Along one road.
    One(Road),
    /// The same datagram along each of these.
    Each(&'a [Road]),
    /// Nowhere: its connection is gone.
    Nowhere,
}
