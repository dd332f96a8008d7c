//! What an endpoint does for the hosts that use it as their rendezvous and relay.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use crate::{
    identity::PeerId,
    limits::prefix,
    link::Link,
    meetings::introduction,
    peer_ref::RendezvousPoint,
    relay::forwarder::Spot,
    rendezvous::host::meaningful,
    shared::{Shared, order::Order},
    wire::{
        frame,
        relay_frame::FlowToken,
        rendezvous::{ALTERNATIVES_MAX, Message, Refusal},
        road::Road,
    },
};

/// Where an end of a flow is, if the road to it leads there without another relay.
fn spot(road: Road) -> Option<Spot> {
    let Road { wire, local, remote, flow } = road;
    flow.is_none().then_some(Spot { wire, local, remote })
}

impl Shared {
    /// The answer to what `from`, who is reached along `road`, asks of a rendezvous.
    pub(crate) fn serve(
        self: &Arc<Self>,
        (from, road): (PeerId, Road),
        said: Message,
        now: Instant,
    ) -> Option<Message> {
        let direct = spot(road);
        let seen = road.remote;
        Some(match said {
            Message::Reserve if direct.is_some() => {
                let mut answer = self.host.lock().reserve(from, seen, now);
                if let Message::Reserved { terms, .. } = &mut answer {
                    terms.tls_port = self.tls_port.unwrap_or(0);
                    let observatory = self.socket.observatory().filter(|_| seen.is_ipv4());
                    terms.observation_port = observatory.map_or(0, |(_, port)| port);
                    if let Some(relay) = self.socket.relay() {
                        let limits = relay.limits();
                        terms.flows_max = u16::try_from(limits.flows_per_host).unwrap_or(u16::MAX);
                        terms.relayed_per_second = limits.bytes_per_second_per_host;
                    }
                }
                if let Message::Refused { alternatives, .. } = &mut answer {
                    *alternatives = self.alternatives(&from);
                }
                answer
            }
            Message::Introduce { ask, target, candidates } if direct.is_some() => {
                let there = self.road(&target);
                let at = there.filter(|there| there.flow.is_none()).map(|there| there.remote);
                let introduced =
                    self.host.lock().introduce((from, seen), (target, at), (ask, candidates), now);
                let (mut answer, incoming) = introduced;
                if let Some(mut incoming) = incoming {
                    self.grant((from, road), (target, there), (&mut answer, &mut incoming), now);
                    self.order_here(target, Order::Say(incoming));
                }
                answer
            }
            Message::DialBack { nonce } => {
                if !self.dial_back(from, direct, nonce, now) {
                    return Some(Message::NoDialBack { nonce });
                }
                return None;
            }
            Message::Introduce { ask, .. } => {
                Message::Unavailable { ask, why: Refusal::NotServing }
            }
            Message::Reserve => {
                Message::Refused { why: Refusal::NotServing, alternatives: Vec::new() }
            }
            _ => {
                let observed = direct.and_then(|there| meaningful(there.remote));
                Message::Observed { observed }
            }
        })
    }

    /// Counts and logs it if `answer` refuses something.
    pub(crate) fn tell_refusal(&self, peer: PeerId, road: Road, answer: &Message) {
        let (what, why, count) = match answer {
            Message::Refused { why, .. } => ("a session", why, &self.refused.sessions),
            Message::Unavailable { why, .. } => {
                ("an introduction", why, &self.refused.introductions)
            }
            _ => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let network = prefix(road.remote.ip().to_canonical());
        if let Some(left_out) = self.log_quota.take(network) {
            tracing::debug!(%peer, what, %why, left_out, "refused as a rendezvous");
        }
    }

    /// Has another rendezvous call `from` where it is seen here; whether one is there.
    fn dial_back(
        self: &Arc<Self>,
        from: PeerId,
        seen: Option<Spot>,
        nonce: u64,
        now: Instant,
    ) -> bool {
        let Some(address) = seen.and_then(|there| meaningful(there.remote)) else { return false };
        let ours = |link: &Link| {
            let road = link.lease().road().filter(|road| road.flow.is_none());
            link.serves() && road.is_some_and(|road| road.remote.ip() != address.ip())
        };
        let mut others: Vec<_> =
            self.up.iter().filter(|up| ours(up.value())).map(|up| *up.key()).collect();
        // Else a seeded run wouldn't repeat itself; the host's own number says which one.
        others.sort_unstable();
        let chosen = usize::try_from(nonce).ok().and_then(|n| n.checked_rem(others.len()));
        let Some(other) = chosen.and_then(|chosen| others.get(chosen)) else { return false };
        if !self.host.lock().dial_back(&from, now) {
            return false;
        }
        self.order_here(*other, Order::Say(Message::Call { address, nonce }));
        true
    }

    /// Another rendezvous, who is reached along `road`, has this host call somebody.
    pub(crate) fn call(&self, road: Road, address: SocketAddr, nonce: u64, now: Instant) {
        let there = introduction::roads(self, [address], road.remote);
        // The other rendezvous knows this host by that address: by another one it might be no stranger to the host.
        let local = |wire| road.local.filter(|_| road.flow.is_none() && wire == road.wire);
        let there = there.first().map(|there| Road { local: local(there.wire), ..*there });
        if let Some(there) = there
            && self.host.lock().call(address.ip().to_canonical(), now)
        {
            self.socket.send_frame(there, &frame::call(nonce));
        }
    }

    /// Others that may serve in place of this host: those that it has a session with, and those that it reached by itself.
    fn alternatives(&self, but: &PeerId) -> Vec<RendezvousPoint> {
        let mut points = self.attached_to();
        let serves = |link: &Link| link.serves() && link.dialled();
        let mut others: Vec<_> =
            self.up.iter().filter(|up| serves(up.value())).map(|up| *up.key()).collect();
        // Else a seeded run wouldn't repeat itself.
        others.sort_unstable();
        let relays = |peer: &PeerId| self.up.get(peer).is_some_and(|link| link.relays());
        let point = |peer: PeerId| self.point(peer, None, relays(&peer));
        points.extend(others.into_iter().filter_map(point));
        let mut seen = vec![*but];
        points.retain(|point| {
            let new = !seen.contains(&point.peer);
            seen.push(point.peer);
            new
        });
        points.sort_by_key(|point| !point.relays());
        points.truncate(ALTERNATIVES_MAX);
        points
    }

    /// Tells all hosts with a session here to look for another one. Whether there are any.
    pub(crate) fn send_away(self: &Arc<Self>) -> bool {
        let hosts = self.host.lock().hosts();
        for host in &hosts {
            let alternatives = self.alternatives(host);
            self.order(*host, Order::Say(Message::GoAway { alternatives }));
        }
        !hosts.is_empty()
    }

    /// Lets both sides of an introduction use a flow, if there is one to be had.
    fn grant(
        self: &Arc<Self>,
        (from, here): (PeerId, Road),
        (target, there): (PeerId, Option<Road>),
        (answer, incoming): (&mut Message, &mut Message),
        now: Instant,
    ) {
        let Some(mut relay) = self.socket.relay() else { return };
        let dead = relay.sweep(now);
        let ends = spot(here).zip(there.and_then(spot));
        let opened = ends.and_then(|(here, there)| relay.open((from, here), (target, there), now));
        drop(relay);
        self.say_dead(dead);
        if let (
            Some((mine, theirs)),
            Message::Introduced { grant: to_asker, .. },
            Message::Incoming { grant: to_target, .. },
        ) = (opened, answer, incoming)
        {
            (*to_asker, *to_target) = (Some(mine), Some(theirs));
        }
    }

    fn say_dead(self: &Arc<Self>, dead: Vec<(PeerId, FlowToken)>) {
        for (peer, FlowToken(token)) in dead {
            if self.road(&peer).is_some() {
                self.order_here(peer, Order::Say(Message::FlowsDead { tokens: vec![token] }));
            }
        }
    }

    /// The last connection to `peer` has ended: so has all that it was given here, and that it gave.
    pub(crate) fn host_gone(self: &Arc<Self>, peer: &PeerId) {
        let lost = self.socket.handles().legs.close_all(peer);
        self.flows_lost(*peer, &lost);
        self.host.lock().gone(peer);
        let dead = self.socket.relay().map(|mut relay| relay.gone(peer));
        self.say_dead(dead.unwrap_or_default());
    }

    /// The relay `by` says that nothing passes through these flows any more.
    pub(crate) fn flows_dead(&self, tokens: &[u64], by: PeerId) {
        let mut handles = self.socket.handles();
        let close = |token: &u64| handles.legs.close(FlowToken(*token), &by);
        let lost: Vec<_> = tokens.iter().filter_map(close).collect();
        drop(handles);
        self.flows_lost(by, &lost);
    }
}
