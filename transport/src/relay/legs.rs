//! The flows through relays that this host uses.

use std::{
    cmp::Reverse,
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
};

use crate::{
    identity::PeerId,
    wire::{
        relay_frame::{self, BIND, CHALLENGE, FlowToken},
        road::Road,
    },
};

/// Flows at a time that one relay granted; the one that carried something longest ago gives way to a newer one. Twice what a
/// relay gives a host by default ([`Relaying`](super::forwarder::Relaying)).
const LEGS_PER_RELAY: usize = 512;

/// Flows at a time; then the relay that granted most of them loses one. A guess: as many as eight relays may grant, at ~120 bytes
/// each.
const LEGS_MAX: usize = 8 * LEGS_PER_RELAY;

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
    /// Who granted it.
    by: PeerId,
    /// Over which socket, and where, the relay is reached, and the address by which it knows this host.
    wire: usize,
    relay: SocketAddr,
    local: Option<IpAddr>,
    key: [u8; 32],
    /// When it was granted or last carried something, in steps of a clock of its own: a hostile relay that uses its flows keeps
    /// nothing from others.
    used: u64,
}

/// The ends of flows at this host.
#[derive(Debug, Default)]
pub(crate) struct Legs {
    legs: HashMap<FlowToken, Leg>,
    /// Counts grants and uses.
    clock: u64,
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
        let Some(Road { wire, remote, .. }) = self.relay(token) else { return Vec::new() };
        let (mut of_it, mut others) = (Vec::new(), VecDeque::new());
        for early in self.early.drain(..) {
            let from_relay = (early.wire, early.source) == (wire, remote);
            if from_relay && relay_frame::token(&early.frame) == Some(token) {
                of_it.push(early.frame);
            } else {
                others.push_back(early);
            }
        }
        self.early = others;
        of_it
    }

    /// The relay `by`, which is reached along `road`, granted a flow. `false`: it bears the name of another relay's, which stays.
    pub(crate) fn open(&mut self, token: FlowToken, key: [u8; 32], by: PeerId, road: Road) -> bool {
        match self.legs.get(&token) {
            Some(known) if known.by != by => return false,
            Some(_) => {}
            None => self.make_room(by),
        }
        self.clock += 1;
        let Road { wire, remote: relay, local, .. } = road;
        self.legs.insert(token, Leg { by, wire, relay, local, key, used: self.clock });
        true
    }

    /// What one relay grants takes nothing from another, unless that has granted more.
    fn make_room(&mut self, by: PeerId) {
        let granted = self.legs.values().filter(|leg| leg.by == by).count();
        let loser = if granted >= LEGS_PER_RELAY {
            by
        } else if self.legs.len() >= LEGS_MAX {
            let mut counts: HashMap<PeerId, usize> = HashMap::new();
            self.legs.values().for_each(|leg| *counts.entry(leg.by).or_default() += 1);
            // Of several the one with the lowest key, lest the order of a map decide.
            let most = counts.into_iter().max_by_key(|(by, count)| (*count, Reverse(*by)));
            most.map_or(by, |(by, _)| by)
        } else {
            return;
        };
        let of_it = self.legs.iter().filter(|(_, leg)| leg.by == loser);
        let idlest = of_it.min_by_key(|(_, leg)| leg.used).map(|(token, _)| *token);
        if let Some(idlest) = idlest {
            self.legs.remove(&idlest);
        }
    }

    /// The relay `by` says that the flow is over: the road through it, if it is one of its.
    pub(crate) fn close(&mut self, token: FlowToken, by: &PeerId) -> Option<Road> {
        self.legs.get(&token).filter(|leg| leg.by == *by)?;
        let road = self.road(token);
        self.legs.remove(&token);
        road
    }

    /// The connection to the relay `by` has ended, and all of its flows with it: the roads through them.
    pub(crate) fn close_all(&mut self, by: &PeerId) -> Vec<Road> {
        let of_it = self.legs.iter().filter(|(_, leg)| leg.by == *by);
        let mut ended: Vec<_> = of_it.map(|(token, leg)| (leg.used, *token)).collect();
        // Else a seeded run wouldn't repeat itself.
        ended.sort_unstable_by_key(|(used, _)| *used);
        let roads = ended.iter().filter_map(|(_, token)| self.road(*token)).collect();
        self.legs.retain(|_, leg| leg.by != *by);
        roads
    }

    /// Who granted this flow.
    pub(crate) fn granted_by(&self, token: FlowToken) -> Option<PeerId> {
        self.legs.get(&token).map(|leg| leg.by)
    }

    /// The road to the relay of this flow.
    pub(crate) fn relay(&self, token: FlowToken) -> Option<Road> {
        let Leg { wire, relay: remote, local, .. } = *self.legs.get(&token)?;
        Some(Road { wire, remote, local, flow: None })
    }

    /// The road through this flow.
    pub(crate) fn road(&self, token: FlowToken) -> Option<Road> {
        self.relay(token).map(|relay| Road { flow: Some(token), ..relay })
    }

    /// Whether a frame that names this leg may come from there.
    pub(crate) fn is_from(&self, token: FlowToken, wire: usize, source: SocketAddr) -> bool {
        self.legs.get(&token).is_some_and(|leg| (leg.wire, leg.relay) == (wire, source))
    }

    /// The same for data, which makes it a flow in use.
    pub(crate) fn carries(&mut self, token: FlowToken, wire: usize, source: SocketAddr) -> bool {
        let leg = self.legs.get_mut(&token).filter(|leg| (leg.wire, leg.relay) == (wire, source));
        let Some(leg) = leg else { return false };
        self.clock += 1;
        leg.used = self.clock;
        true
    }

    /// The relay sees this host at a new address and wants to know whether it is the same host.
    pub(crate) fn challenged(
        &self,
        frame: &[u8],
        wire: usize,
        source: SocketAddr,
    ) -> Option<[u8; relay_frame::BINDING_BYTES]> {
        let token = relay_frame::token(frame)?;
        let leg = self.legs.get(&token).filter(|leg| (leg.wire, leg.relay) == (wire, source))?;
        let challenge = relay_frame::open(CHALLENGE, frame, &leg.key)?;
        Some(relay_frame::seal(BIND, token, challenge, &leg.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;

    const KEY: [u8; 32] = [5; 32];

    fn relay(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn peer(n: u8) -> PeerId {
        SecretKey::from_bytes([n; 32]).peer_id()
    }

    /// The relay `by` grants the flow `n`.
    fn open(legs: &mut Legs, n: u64, by: u8) -> bool {
        let road = Road { wire: 0, remote: relay(by.into()), local: None, flow: None };
        legs.open(FlowToken(n), KEY, peer(by), road)
    }

    #[test]
    fn a_challenge_is_answered_if_it_comes_from_the_relay_of_the_flow() {
        let mut legs = Legs::default();
        open(&mut legs, 1, 1);
        let challenge = relay_frame::seal(CHALLENGE, FlowToken(1), 9, &KEY);
        let answer = legs.challenged(&challenge, 0, relay(1)).unwrap();
        assert_eq!(relay_frame::open(BIND, &answer, &KEY), Some(9));
        assert_eq!(legs.challenged(&challenge, 0, relay(2)), None);
        assert_eq!(legs.challenged(&challenge, 1, relay(1)), None);
        let forged = relay_frame::seal(CHALLENGE, FlowToken(1), 9, &[6; 32]);
        assert_eq!(legs.challenged(&forged, 0, relay(1)), None);
    }

    #[test]
    fn data_that_overtook_the_word_of_its_flow_is_kept_for_it() {
        let mut legs = Legs::default();
        let frame = |n: u64| [&relay_frame::header(FlowToken(n))[..], b"data"].concat();
        for n in 0..40 {
            legs.too_early(0, relay(1), &frame(n));
        }
        legs.too_early(0, relay(2), &frame(39));
        open(&mut legs, 39, 1);
        assert_eq!(legs.take_early(FlowToken(39)), [frame(39)], "and nothing from elsewhere");
        assert!(legs.take_early(FlowToken(39)).is_empty());
        open(&mut legs, 0, 1);
        assert!(legs.take_early(FlowToken(0)).is_empty(), "only so many are kept");
    }

    #[test]
    fn of_one_relays_flows_the_one_that_was_used_longest_ago_gives_way() {
        let mut legs = Legs::default();
        let bound = LEGS_PER_RELAY as u64;
        for n in 0..bound {
            open(&mut legs, n, 1);
        }
        assert!(legs.carries(FlowToken(0), 0, relay(1)));
        assert!(!legs.carries(FlowToken(1), 0, relay(2)), "its relay is elsewhere");
        open(&mut legs, bound, 1);
        assert!(legs.relay(FlowToken(0)).is_some(), "the oldest, and in use");
        assert_eq!(legs.relay(FlowToken(1)), None);
        assert_eq!(legs.legs.len(), LEGS_PER_RELAY);
        assert_eq!(legs.close(FlowToken(2), &peer(2)), None, "not the other's to close");
        assert!(legs.close(FlowToken(2), &peer(1)).is_some());
        assert_eq!(legs.relay(FlowToken(2)), None);
    }

    #[test]
    fn what_one_relay_grants_displaces_nothing_of_anothers() {
        let mut legs = Legs::default();
        assert!(open(&mut legs, u64::MAX, 1), "a standby that carries nothing");
        // 20 grants a second for a minute.
        for n in 0..1200 {
            open(&mut legs, n, 2);
        }
        assert!(legs.relay(FlowToken(u64::MAX)).is_some());
        assert_eq!(legs.legs.len(), 1 + LEGS_PER_RELAY);
        assert!(!open(&mut legs, u64::MAX, 2), "nor does it take over its name");
        assert_eq!(legs.granted_by(FlowToken(u64::MAX)), Some(peer(1)));
    }

    #[test]
    fn a_crowd_of_hostile_relays_displaces_flows_of_those_that_granted_most() {
        let mut legs = Legs::default();
        for n in 0..100 {
            open(&mut legs, n, 1);
        }
        for by in 2..12 {
            for n in 0..500 {
                open(&mut legs, u64::from(by) * 1000 + n, by);
            }
        }
        assert_eq!(legs.legs.len(), LEGS_MAX);
        assert_eq!(legs.close_all(&peer(1)).len(), 100, "it is the one with the fewest");
        assert_eq!(legs.legs.len(), LEGS_MAX - 100);
    }
}
