//! What QUIC got acknowledged of what was sent along the road in use, and along no other.
//!
//! Congestion control hears of every acknowledgement; the probes of the connection need to know: a packet that went along
//! one road alone and was acknowledged proves that the road works, by whichever road the acknowledgement came. A packet
//! that was mirrored along a second road proves nothing, nor does one that was sent before the last change of road.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::quic::rtt::Rtt;

/// An acknowledgement that took longer is of something that was sent before an outage, and says nothing of how long a round trip takes: a road
/// would be given half a minute to answer. A guess; roads that are slower still are measured by their probes alone.
const SAMPLE_MAX: Duration = Duration::from_secs(2);

/// Shared by congestion control, the probes and the socket of one connection.
#[derive(Debug)]
pub(crate) struct Acks {
    switches: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the present road was taken.
    taken: Instant,
    /// What was sent before counts for nothing: the same, or when mirroring ended.
    since: Instant,
    /// Since when what is sent may go along two roads.
    mirrored: Option<Instant>,
    proof: Proof,
    /// When the last packet was sent of those that were acknowledged, whatever road they went.
    newest: Option<Instant>,
}

/// What is known to have got through along the road in use.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Proof {
    /// The latest moment at which something was sent that is known to have arrived.
    pub(crate) sent: Option<Instant>,
    /// How long QUIC's acknowledgements took, and when the last of them came.
    pub(crate) rtt: Rtt,
    pub(crate) sampled: Option<Instant>,
}

impl Acks {
    /// Of a road that is taken now.
    pub(crate) fn new(now: Instant) -> Self {
        let state =
            State { taken: now, since: now, mirrored: None, proof: Proof::default(), newest: None };
        Self { switches: AtomicU64::new(0), state: Mutex::new(state) }
    }

    /// How often the road has changed.
    pub(crate) fn switches(&self) -> u64 {
        self.switches.load(Ordering::Acquire)
    }

    /// When the present road was taken.
    pub(crate) fn taken(&self) -> Instant {
        self.state.lock().taken
    }

    /// From now on everything goes along another road.
    pub(crate) fn switched(&self, now: Instant) {
        {
            let mut state = self.state.lock();
            (state.taken, state.since) = (now, now);
            (state.mirrored, state.proof) = (None, Proof::default());
        }
        self.switches.fetch_add(1, Ordering::Release);
    }

    /// What was sent from `begun` on may go along another road too, until [`Acks::alone`].
    pub(crate) fn mirrored(&self, begun: Instant) {
        let mut state = self.state.lock();
        state.mirrored = Some(begun.max(state.since));
    }

    /// From now on, what is sent goes along the road in use alone.
    pub(crate) fn alone(&self, now: Instant) {
        let mut state = self.state.lock();
        if state.mirrored.take().is_some() {
            state.since = state.since.max(now);
        }
    }

    /// A packet that QUIC sent at `sent` was acknowledged.
    pub(crate) fn acked(&self, sent: Instant, now: Instant) {
        let mut state = self.state.lock();
        state.newest = state.newest.max(Some(sent));
        let counts = sent >= state.since && state.mirrored.is_none_or(|begun| sent < begun);
        let proof = &mut state.proof;
        if counts && proof.sent.is_none_or(|before| sent > before) {
            proof.sent = Some(sent);
            let rtt = now.saturating_duration_since(sent);
            if rtt <= SAMPLE_MAX {
                proof.rtt.sample(rtt);
                proof.sampled = Some(now);
            }
        }
    }

    /// When the last packet was sent of those that were acknowledged, whatever road they went.
    pub(crate) fn newest(&self) -> Option<Instant> {
        self.state.lock().newest
    }

    /// A probe that was sent along the road in use at `sent` was answered.
    pub(crate) fn answered(&self, sent: Instant) {
        let proof = &mut self.state.lock().proof;
        proof.sent = Some(proof.sent.map_or(sent, |before| before.max(sent)));
    }

    /// What is known by now.
    pub(crate) fn proof(&self) -> Proof {
        self.state.lock().proof
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn only_what_went_along_the_road_in_use_alone_proves_that_it_works() {
        let start = Instant::now();
        let acks = Acks::new(start);
        assert_eq!(acks.proof().sent, None);
        acks.acked(start + 10 * MS, start + 30 * MS);
        assert_eq!(acks.proof().sent, Some(start + 10 * MS));
        assert_eq!(acks.proof().rtt.smoothed(), Some(20 * MS));
        acks.mirrored(start + 50 * MS);
        acks.acked(start + 60 * MS, start + 90 * MS);
        assert_eq!(acks.proof().sent, Some(start + 10 * MS), "it was mirrored");
        acks.acked(start + 40 * MS, start + 90 * MS);
        assert_eq!(acks.proof().sent, Some(start + 40 * MS), "it wasn't");
        acks.alone(start + 100 * MS);
        acks.acked(start + 70 * MS, start + 110 * MS);
        assert_eq!(
            acks.proof().sent,
            Some(start + 40 * MS),
            "it was mirrored, though that is over"
        );
        acks.acked(start + 100 * MS, start + 120 * MS);
        assert_eq!(acks.proof().sent, Some(start + 100 * MS));
        acks.switched(start + 200 * MS);
        assert_eq!(acks.proof().sent, None, "of the road that was left");
        acks.acked(start + 150 * MS, start + 210 * MS);
        assert_eq!(acks.proof().sent, None);
        acks.answered(start + 205 * MS);
        assert_eq!(acks.proof().sent, Some(start + 205 * MS));
        assert_eq!(acks.switches(), 1);
        assert_eq!(acks.newest(), Some(start + 150 * MS), "by whichever road");
    }

    #[test]
    fn an_acknowledgement_that_an_outage_held_up_does_not_count_as_a_round_trip() {
        let start = Instant::now();
        let acks = Acks::new(start);
        acks.acked(start + 10 * MS, start + 50 * MS);
        acks.acked(start + 20 * MS, start + 30_000 * MS);
        let proof = acks.proof();
        assert_eq!(proof.sent, Some(start + 20 * MS), "it has arrived all the same");
        assert_eq!(proof.rtt.smoothed(), Some(40 * MS));
        assert_eq!(proof.sampled, Some(start + 50 * MS));
    }
}
