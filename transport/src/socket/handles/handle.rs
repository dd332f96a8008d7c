//! What is known of a handle that stands for more than its literal address, and what sending to it entails.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use quinn::udp::Transmit;

use super::road::{Road, Source};
use crate::socket::{
    cid::Cid,
    sift::{Kind, kind},
};

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
    /// Connections that use it.
    pub(super) users: usize,
    /// The connection id of the peer's that QUIC used last.
    pub(super) peer_cid: Option<Cid>,
    /// The last datagrams sent, kept while the peer is silent, and whether each went along `mirror` too.
    pub(super) echo: Option<VecDeque<(Vec<u8>, bool)>>,
    /// Whether they are kept for more than the mirroring.
    pub(super) echo_kept: bool,
    /// Where else datagrams go while the road in use is in doubt.
    pub(super) mirror: Option<Box<Mirror>>,
    /// Whether the road in use takes datagrams as long as QUIC's get.
    pub(super) whole: bool,
    /// Whether its silence is of interest: there are other roads.
    pub(super) watched: bool,
    /// When something was sent along the road in use that nothing has come back for.
    pub(super) unanswered: Option<Instant>,
    /// Where something came from since then that didn't come along the road in use.
    pub(super) elsewhere: Option<Source>,
}

impl Handle {
    pub(super) fn new(roads: Vec<Road>, stage: Stage) -> Self {
        Self {
            roads,
            stage,
            users: 0,
            peer_cid: None,
            echo: None,
            echo_kept: false,
            mirror: None,
            whole: true,
            watched: false,
            unanswered: None,
            elsewhere: None,
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

    /// Notes what is being sent along its road; `waiting` are the handles that nothing has come back for.
    pub(super) fn sending(
        &mut self,
        waiting: &mut Vec<SocketAddr>,
        transmit: &Transmit<'_>,
    ) -> Sending {
        let handle = transmit.destination;
        let begins = self.watched && self.unanswered.is_none();
        let first = begins && waiting.is_empty();
        if begins {
            self.unanswered = Some(tokio::time::Instant::now().into_std());
            self.elsewhere = None;
            if !waiting.contains(&handle) {
                waiting.push(handle);
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
            if echo.len() >= ECHO_MAX {
                echo.pop_front();
            }
            echo.push_back((datagram.to_vec(), sending.mirror.is_some()));
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
