//! What an endpoint knows of the rendezvous that it is attached to.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use crate::{
    ground::address::canonical,
    identity::PeerId,
    nat::NatClass,
    peer_ref::{ADDRESSES_MAX, RENDEZVOUS_ADDRESSES_MAX, RendezvousPoint, check_address},
    shared::{
        Shared,
        order::{News, Order},
    },
    tunnel::is_far_end,
    wire::{rendezvous::Candidates, road::Road},
};

impl Shared {
    /// Asks a connected peer where it sees this host from its port `remote`.
    pub(crate) fn observe(&self, peer: PeerId, remote: SocketAddr) {
        if let Some(link) = self.up.get(&peer)
            && let Some(road) = link.lease().road()
            && road.flow.is_none()
            && !is_far_end(road.remote)
        {
            // From both of its ports: if it sees two addresses, the NAT here gives each destination another.
            link.pulse().probe();
            link.pulse().observe(road, remote);
        }
    }

    /// Tells the actor that keeps this host's sessions, if there is one.
    pub(crate) fn tell_sessions(&self, news: News) {
        if let Some(sessions) = self.sessions.get() {
            sessions.do_send(news);
        }
    }

    pub(crate) fn order_sessions(self: &Arc<Self>, news: News) {
        let shared = self.clone();
        self.placement.spawn_network(Box::new(move || {
            shared.to_sessions(news);
            Box::pin(std::future::ready(()))
        }));
    }

    /// The same, on the network thread, where the actor is started if need be.
    pub(crate) fn to_sessions(self: &Arc<Self>, news: News) {
        self.sessions.get_or_init(|| (self.start.sessions)(self)).do_send(news);
    }

    /// How this host names a rendezvous that it is connected to, and which relays or doesn't.
    pub(crate) fn point(
        &self,
        peer: PeerId,
        tls_port: Option<u16>,
        relays: bool,
    ) -> Option<RendezvousPoint> {
        let road = self.road(&peer).filter(|road| road.flow.is_none())?;
        let via = if is_far_end(road.remote) {
            let (_, tunnels) = self.socket.tunnels()?;
            Ok(self.original(tunnels.remote(road.remote)?))
        } else {
            Err(self.original(road.remote))
        };
        let book = self.book.lock();
        let named =
            book.signed(&peer, SystemTime::now()).map(|(signed, _)| signed.addresses().to_vec());
        let named = named.unwrap_or_default();
        let point = point(peer, via, named, tls_port)?;
        Some(if relays { point } else { point.without_relay() })
    }

    /// Whether this host has a session with `peer`.
    pub(crate) fn is_attached_to(&self, peer: &PeerId) -> bool {
        self.attached.lock().0.iter().any(|point| point.peer == *peer)
    }

    /// A session with `by` stands that didn't before: flows that it lost can be had again. On the network thread.
    pub(crate) fn attached_anew(&self, by: PeerId) {
        self.order_all_here(|| Order::Attached { by });
    }

    /// Nothing passes any more through flows that the relay `by` granted, which these roads lead through.
    pub(crate) fn flows_lost(&self, by: PeerId, roads: &[Road]) {
        for road in roads {
            let owners = self.socket.handles().at(road.source()).to_vec();
            owners
                .iter()
                .filter_map(|handle| self.pulses.at(handle))
                .for_each(|p| p.lost(by, *road));
        }
    }

    /// The rendezvous with which a session stands.
    pub(crate) fn attached_to(&self) -> Vec<RendezvousPoint> {
        self.attached.lock().0.clone()
    }

    /// Other sessions stand than before.
    pub(crate) fn set_attached(&self, points: Vec<RendezvousPoint>, seen_at: Vec<SocketAddr>) {
        self.own_ref.lock().set_rendezvous(points.clone());
        *self.attached.lock() = (points, seen_at);
    }

    /// Where this host may be found without help: where rendezvous see it, and its own addresses.
    pub(crate) fn candidates(&self) -> Candidates {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        let own = self.own_ref.lock().addresses().to_vec();
        for address in self.attached.lock().1.iter().copied().chain(own) {
            let address = canonical(address);
            if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
                addresses.push(address);
            }
        }
        let class = self.socket.nat().class(tokio::time::Instant::now().into_std());
        let class = if class == NatClass::default() { Vec::new() } else { class.encode().to_vec() };
        Candidates { addresses, class }
    }
}

/// The rendezvous as this host's PeerRef names it, before it is said whether it relays: first the address at which it answered, over UDP
/// (`Err`) or through a tunnel (`Ok`).
fn point(
    peer: PeerId,
    via: Result<SocketAddr, SocketAddr>,
    named: Vec<SocketAddr>,
    tls_port: Option<u16>,
) -> Option<RendezvousPoint> {
    let (tunnel, udp) = (via.ok(), via.err());
    let local = udp.or(tunnel).is_some_and(|via| via.ip().to_canonical().is_loopback());
    let usable = |address: &SocketAddr| local || !address.ip().is_loopback();
    let plain = |addresses: &mut dyn Iterator<Item = SocketAddr>| {
        let mut plain = Vec::new();
        for address in addresses.filter_map(|address| check_address(address).ok()).filter(usable) {
            if !plain.contains(&address) && plain.len() < RENDEZVOUS_ADDRESSES_MAX {
                plain.push(address);
            }
        }
        plain
    };
    let addresses = plain(&mut udp.into_iter().chain(named));
    let at_port = |address: &SocketAddr| Some(SocketAddr::new(address.ip(), tls_port?));
    let tls = plain(&mut tunnel.into_iter().chain(addresses.iter().filter_map(at_port)));
    let reachable = !addresses.is_empty() || !tls.is_empty();
    reachable.then_some(RendezvousPoint { peer, addresses, tls })
}
