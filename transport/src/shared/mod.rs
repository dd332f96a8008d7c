//! What the parts of an endpoint share.
//!
//! - `order`: what its actors are told
//! - `dial_targets`, `newer`: where a peer may be, and where else
//! - `attached`: the rendezvous that it is attached to, as far as others ask
//! - `translation`: addresses on this side of a NAT64, and beyond

pub(crate) mod attached;
pub(crate) mod dial_targets;
pub(crate) mod newer;
pub(crate) mod order;
pub(crate) mod translation;

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use actix::Recipient;
use dashmap::DashMap;
use parking_lot::Mutex;
use rand::RngExt;

#[cfg(feature = "port-mapping")]
use crate::nat::port_mapping;
use crate::{
    identity::PeerId,
    limits::{Admissions, Limits, bucket::Bucket, log_quota::LogQuota},
    link::{Link, Observer, authenticated::Authenticated},
    nat::nat64::Nat64,
    path::{explain::Candidate, liveness::Patience, nonces::Nonces, pulse::Pulses},
    peer_ref::{
        PeerRef, PeerRefStore, Remembered, RendezvousPoint, hints::Origin, local_ref::OwnRef,
    },
    placement::Placement,
    quic::{self, Quic, Windows, cid::Cids, tls::TunnelTls},
    rendezvous::host::Host,
    shared::order::{News, Order, Waiter},
    socket::mesh_socket::MeshSocket,
    wire::{
        hello::{FEATURE_RELAY, FEATURE_RENDEZVOUS, Hello, InstanceId},
        road::Road,
    },
};

/// What the parts of an endpoint share.
pub(crate) struct Shared {
    pub(crate) config: Settings,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) socket: Arc<MeshSocket>,
    pub(crate) cids: Arc<Cids>,
    pub(crate) quic: Quic,
    pub(crate) pulses: Pulses,
    pub(crate) tunnel_tls: Arc<TunnelTls>,
    /// Whether a birthday attempt is being made: one at a time.
    pub(crate) scouting: AtomicBool,
    /// Where this host takes tunnels, if it does.
    pub(crate) tls_port: Option<u16>,
    pub(crate) host: Mutex<Host>,
    pub(crate) placement: Arc<dyn Placement>,
    pub(crate) peer: PeerId,
    pub(crate) instance: InstanceId,
    /// What is understood here of what is said above links, as bits of HELLO.
    pub(crate) features: u64,
    pub(crate) admissions: Admissions,
    pub(crate) peers: Mutex<HashMap<PeerId, Member>>,
    /// The dials under way to addresses alone, and who waits for each.
    pub(crate) at_addresses: Mutex<HashMap<Vec<SocketAddr>, Vec<Waiter>>>,
    pub(crate) up: DashMap<PeerId, Link>,
    pub(crate) book: Mutex<PeerRefStore>,
    pub(crate) own_ref: Mutex<OwnRef>,
    /// The port that the router forwards here.
    #[cfg(feature = "port-mapping")]
    pub(crate) mapped: Mutex<Option<port_mapping::Mapped>>,
    /// How its actors are started.
    pub(crate) start: Start,
    pub(crate) sessions: OnceLock<Recipient<News>>,
    /// The rendezvous with a session, and where they see this host.
    pub(crate) attached: Mutex<(Vec<RendezvousPoint>, Vec<SocketAddr>)>,
    /// How hosts of IPv4 are reached where this one has none.
    pub(crate) nat64: Mutex<Nat64>,
    pub(crate) links: AtomicU64,
    /// All sessions of this host are kept at multiples of one pause after this.
    pub(crate) started: std::time::Instant,
    /// Dials that only a peer gives a reason for.
    pub(crate) unasked: Mutex<Bucket>,
    /// Held while a dial without an answer finds out what the way takes.
    pub(crate) measuring: tokio::sync::Mutex<()>,
    /// Datagrams that open this host's NAT for callers, as a rendezvous says where they are.
    pub(crate) opened: Mutex<Bucket>,
    pub(crate) seed: Option<u64>,
    /// Lines about strangers, by the prefixes of their addresses.
    pub(crate) log_quota: LogQuota<IpAddr>,
    pub(crate) refused: RefusedCounters,
    /// Why this endpoint is being closed.
    pub(crate) closing: OnceLock<String>,
}

/// The part of the configuration that is needed later.
pub(crate) struct Settings {
    pub(crate) windows: Windows,
    pub(crate) patience: Patience,
    pub(crate) limits: Limits,
    pub(crate) sessions: usize,
    /// By way of which tunnels are dialled.
    pub(crate) proxy: Option<SocketAddr>,
    /// Whether it runs on the kernel's network, rather than on a simulated one, of which the kernel knows nothing.
    pub(crate) kernel: bool,
}

/// A connection actor, and how many orders are on the way to it.
pub(crate) struct Member {
    actor: Recipient<Order>,
    pending: Arc<AtomicUsize>,
}

/// How the actors of an endpoint are started, on the network thread; they know what they share, and that knows them by what they are told only.
pub(crate) struct Start {
    /// That of a peer. It counts the orders that it has handled.
    pub(crate) connection: fn(PeerId, &Arc<Shared>, &Arc<AtomicUsize>) -> Recipient<Order>,
    /// The one that keeps the sessions with rendezvous.
    pub(crate) sessions: fn(&Arc<Shared>) -> Recipient<News>,
}

/// What an endpoint refused since the start.
#[derive(Debug, Default)]
pub(crate) struct RefusedCounters {
    pub(crate) connections: AtomicU64,
    pub(crate) handshakes: AtomicU64,
    pub(crate) sessions: AtomicU64,
    pub(crate) introductions: AtomicU64,
}

impl Shared {
    pub(crate) fn peer_id(&self) -> PeerId {
        self.peer
    }

    /// What this host says about itself.
    pub(crate) fn hello(&self) -> Hello {
        let (serves, relays) = (self.host.lock().serves(), self.socket.relay().is_some());
        Hello {
            instance: self.instance,
            features: self.features
                | match (serves, relays) {
                    (false, _) => 0,
                    (true, false) => FEATURE_RENDEZVOUS,
                    (true, true) => FEATURE_RENDEZVOUS | FEATURE_RELAY,
                },
            reference: Some(self.own_ref.lock().current()),
        }
    }

    pub(crate) fn next_link(&self) -> u64 {
        self.links.fetch_add(1, Ordering::Relaxed)
    }

    /// A generator that repeats itself if this endpoint is seeded.
    pub(crate) fn rng(&self) -> rand::rngs::StdRng {
        quic::rng(self.seed)
    }

    /// The nonces of one link.
    pub(crate) fn nonces(&self, link: u64) -> Nonces {
        Nonces::new(quic::rng(self.seed.map(|seed| seed.wrapping_add(link))).random())
    }

    /// A peer said HELLO: what it says about itself is remembered, and where it answered.
    pub(crate) fn met(&self, link: &Link, reference: Option<&PeerRef>) {
        if let Some(reference) = reference
            && reference.peer() == Some(link.peer())
        {
            self.remember(reference, link.origin());
        }
        if link.dialled() && link.lease().road().is_some_and(|road| road.flow.is_none()) {
            let via = self.original(link.via());
            self.book.lock().learn(link.peer(), via, SystemTime::now());
        }
    }

    pub(crate) fn remember(&self, reference: &PeerRef, origin: Origin) -> Remembered {
        let outcome = self.book.lock().remember(reference, origin, SystemTime::now());
        if let (Remembered::Conflict(fault), Some(peer)) = (&outcome, reference.peer()) {
            tracing::warn!(%peer, %fault, "a peer signed two references of one version");
        }
        outcome
    }

    /// Why this side ends links that nobody ended one by one.
    pub(crate) fn closing(&self) -> String {
        self.closing.get().cloned().unwrap_or_default()
    }

    /// The road to a connected peer.
    pub(crate) fn road(&self, peer: &PeerId) -> Option<Road> {
        self.up.get(peer).and_then(|link| link.lease().road())
    }

    pub(crate) fn set_up(&self, link: &Link) {
        self.up.insert(link.peer(), link.clone());
    }

    pub(crate) fn unset_up(&self, link: &Link) {
        self.up.remove_if(&link.peer(), |_, up| up == link);
    }

    /// The connection actor of `peer` stops.
    pub(crate) fn forget(&self, peer: &PeerId) {
        self.peers.lock().remove(peer);
    }

    /// Sends an order to the connection actor of `peer`, which is started if need be.
    pub(crate) fn order(self: &Arc<Self>, peer: PeerId, order: Order) {
        let shared = self.clone();
        self.placement.spawn_network(Box::new(move || {
            shared.order_here(peer, order);
            Box::pin(std::future::ready(()))
        }));
    }

    /// Sends an order to each connection actor. On the network thread.
    pub(crate) fn order_all_here(&self, order: impl Fn() -> Order) {
        let peers = self.peers.lock();
        // Else a seeded run wouldn't repeat itself.
        let mut members: Vec<_> = peers.iter().collect();
        members.sort_unstable_by_key(|(peer, _)| **peer);
        for (_, member) in members {
            member.pending.fetch_add(1, Ordering::SeqCst);
            member.actor.do_send(order());
        }
    }

    /// The same, on the network thread: there an actor can't stop between being found and being told.
    pub(crate) fn order_here(self: &Arc<Self>, peer: PeerId, order: Order) {
        let mut peers = self.peers.lock();
        let member = peers.entry(peer).or_insert_with(|| {
            let pending = Arc::new(AtomicUsize::new(0));
            let actor = (self.start.connection)(peer, self, &pending);
            Member { actor, pending }
        });
        member.pending.fetch_add(1, Ordering::SeqCst);
        member.actor.do_send(order);
    }

    /// A handshake from outside, or to an address alone, is complete. On the network thread.
    pub(crate) fn established(
        self: &Arc<Self>,
        authenticated: Authenticated,
        waiters: Vec<Waiter>,
    ) {
        let peer = authenticated.peer;
        let authenticated = Box::new(authenticated);
        self.order_here(peer, Order::Established { authenticated, waiters });
    }

    /// What is known of each road to the peer of a link.
    pub(crate) fn roads(&self, link: &Link) -> Vec<Candidate> {
        let known = link.pulse().describe();
        known
            .iter()
            .map(|known| {
                let (path, address) = (link.kind(&known.road), self.shown(known.road.remote));
                let original = self.nat64.lock().original(address);
                Candidate::new(known, address, path, original)
            })
            .collect()
    }

    /// A tunnel is where it leads, not what stands for it here.
    pub(crate) fn shown(&self, address: SocketAddr) -> SocketAddr {
        let tunnels = self.socket.tunnels().map(|(_, tunnels)| tunnels);
        tunnels.and_then(|tunnels| tunnels.remote(address)).unwrap_or(address)
    }
}
