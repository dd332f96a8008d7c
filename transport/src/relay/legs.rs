//! The flows through relays that this host uses.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use super::frame::{self, BIND, CHALLENGE, FlowToken};

/// Flows at a time; an older one that nobody uses gives way to a newer. A guess: a busy host's peers before they are
/// reached directly, at ~100 bytes each.
const LEGS_MAX: usize = 4096;

/// Frames that may wait for their flow, at up to 1.5 KB each. A guess: the first packets of a few callers at a time.
const EARLY_MAX: usize = 32;

#[derive(Debug)]
struct Early {
    wire: usize,
    source: SocketAddr,
    frame: Vec<u8>,
}

/// This host's end of a flow.
#[derive(Debug, Clone)]
struct Leg {
    /// Over which socket, and where, the relay is reached.
    wire: usize,
    relay: SocketAddr,
    key: [u8; 32],
    /// Counts up, for the oldest to be known.
    opened: u64,
}

/// The ends of flows at this host.
#[derive(Debug, Default)]
pub(crate) struct Legs {
    legs: HashMap<FlowToken, Leg>,
    opened: u64,
    /// Data that came before its leg was opened: the oldest goes first.
    early: VecDeque<Early>,
}

impl Legs {
    /// Data of a flow that is not known here came from a peer. The word of the flow travels by another way and may be on it.
    pub(crate) fn too_early(&mut self, wire: usize, source: SocketAddr, frame: &[u8]) {
        if self.early.len() >= EARLY_MAX {
            self.early.pop_front();
        }
        self.early.push_back(Early { wire, source, frame: frame.to_vec() });
    }

    /// What came too early for this flow, if it came from its relay.
    pub(crate) fn take_early(&mut self, token: FlowToken) -> Vec<Vec<u8>> {
        let Some((wire, relay)) = self.relay(token) else { return Vec::new() };
        let (mut of_it, mut others) = (Vec::new(), VecDeque::new());
        for early in self.early.drain(..) {
            let from_relay = (early.wire, early.source) == (wire, relay);
            if from_relay && frame::token(&early.frame) == Some(token) {
                of_it.push(early.frame);
            } else {
                others.push_back(early);
            }
        }
        self.early = others;
        of_it
    }

    /// A relay granted a flow.
    pub(crate) fn open(&mut self, token: FlowToken, key: [u8; 32], wire: usize, relay: SocketAddr) {
        if self.legs.len() >= LEGS_MAX
            && let Some(oldest) = self.legs.iter().min_by_key(|(_, leg)| leg.opened)
        {
            let oldest = *oldest.0;
            self.legs.remove(&oldest);
        }
        self.opened += 1;
        self.legs.insert(token, Leg { wire, relay, key, opened: self.opened });
    }

    /// The flow is over.
    pub(crate) fn close(&mut self, token: FlowToken) {
        self.legs.remove(&token);
    }

    /// Over which socket, and where, the relay of this flow is reached.
    pub(crate) fn relay(&self, token: FlowToken) -> Option<(usize, SocketAddr)> {
        self.legs.get(&token).map(|leg| (leg.wire, leg.relay))
    }

    /// Whether a frame that names this leg may come from there.
    pub(crate) fn is_from(&self, token: FlowToken, wire: usize, source: SocketAddr) -> bool {
        self.relay(token) == Some((wire, source))
    }

    /// The relay sees this host at a new address and wants to know whether it is the same host.
    pub(crate) fn challenged(
        &self,
        frame: &[u8],
        wire: usize,
        source: SocketAddr,
    ) -> Option<[u8; frame::BINDING_BYTES]> {
        let token = frame::token(frame)?;
        let leg = self.legs.get(&token).filter(|leg| (leg.wire, leg.relay) == (wire, source))?;
        let challenge = frame::open(CHALLENGE, frame, &leg.key)?;
        Some(frame::seal(BIND, token, challenge, &leg.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [5; 32];

    fn relay(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    #[test]
    fn a_challenge_is_answered_if_it_comes_from_the_relay_of_the_flow() {
        let mut legs = Legs::default();
        legs.open(FlowToken(1), KEY, 0, relay(1));
        let challenge = frame::seal(CHALLENGE, FlowToken(1), 9, &KEY);
        let answer = legs.challenged(&challenge, 0, relay(1)).unwrap();
        assert_eq!(frame::open(BIND, &answer, &KEY), Some(9));
        assert_eq!(legs.challenged(&challenge, 0, relay(2)), None);
        assert_eq!(legs.challenged(&challenge, 1, relay(1)), None);
        let forged = frame::seal(CHALLENGE, FlowToken(1), 9, &[6; 32]);
        assert_eq!(legs.challenged(&forged, 0, relay(1)), None);
    }

    #[test]
    fn data_that_overtook_the_word_of_its_flow_is_kept_for_it() {
        let mut legs = Legs::default();
        let frame = |n: u64| [&frame::header(FlowToken(n))[..], b"data"].concat();
        for n in 0..40 {
            legs.too_early(0, relay(1), &frame(n));
        }
        legs.too_early(0, relay(2), &frame(39));
        legs.open(FlowToken(39), KEY, 0, relay(1));
        assert_eq!(legs.take_early(FlowToken(39)), [frame(39)], "and nothing from elsewhere");
        assert!(legs.take_early(FlowToken(39)).is_empty());
        legs.open(FlowToken(0), KEY, 0, relay(1));
        assert!(legs.take_early(FlowToken(0)).is_empty(), "only so many are kept");
    }

    #[test]
    fn the_oldest_flow_gives_way_when_there_are_too_many() {
        let mut legs = Legs::default();
        for n in 0..=LEGS_MAX as u64 {
            legs.open(FlowToken(n), KEY, 0, relay(1));
        }
        assert_eq!(legs.relay(FlowToken(0)), None);
        assert_eq!(legs.legs.len(), LEGS_MAX);
        legs.close(FlowToken(1));
        assert_eq!(legs.relay(FlowToken(1)), None);
    }
}
