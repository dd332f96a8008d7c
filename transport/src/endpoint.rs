//! The endpoint: one host on the network, dialling and accepting.

mod dialling;
mod start;
mod stats;

pub use stats::{Drops, PeerRefChanges, RefusedByEndpoint, Served};

use std::{
    collections::HashMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use actix::{Actor, Addr};
use dashmap::DashMap;
use parking_lot::Mutex;
use rand::RngExt;
use tokio::sync::{mpsc, oneshot, watch};

use crate::nat::birthday::SOCKETS;
#[cfg(feature = "port-mapping")]
use crate::nat::port_mapping;
use crate::{
    bucket::Bucket,
    config::{BindError, EndpointConfig, bind, bind_all},
    connection::{Connection, Newer, Order, Waiter},
    dial::{Authenticated, ConnectError, accept, dial},
    hello::{FEATURE_RELAY, FEATURE_RENDEZVOUS, Hello, InstanceId},
    identity::PeerId,
    interfaces::{self, ranking},
    limits::{Admission, Admissions, InitialGate, Limits, prefix},
    link::{Link, Observer, code},
    log_quota::LogQuota,
    nat::nat64::Nat64,
    own_ref::OwnRef,
    path::{
        candidates::CANDIDATES_MAX,
        explain::Explanation,
        hints::{Hints, Origin},
        liveness::Patience,
        nonces::Nonces,
        places::{self, Places},
        pulse::Pulses,
    },
    peer_ref::{ExpiredError, PeerRef, PeerRefStore, Remembered, RendezvousPoint, SignedRef},
    placement::Placement,
    printable::Excerpt,
    quic::{self, Quic, Windows},
    relay::forwarder::Forwarder,
    rendezvous::{
        host::Host,
        join::{JoinError, Joiner},
        session::{News, Sessions},
    },
    roaming,
    socket::{
        BufferSizes,
        cid::Cids,
        handles::{Road, is_beside},
        mesh_socket::{ForOthers, MeshSocket, Wire},
    },
    tls::{Tls, TunnelTls},
    tunnel::{
        is_far_end,
        pump::{self, HALF_OPEN_MAX},
        wire::{TUNNELS_MAX, Tunnels},
    },
};

/// How long [`Endpoint::close`] waits for peers to acknowledge.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);

/// How often [`Endpoint::leave`] lets all other tasks of the network's thread have their turn, in which the drivers of its connections
/// write their last packet. A guess: tokio runs 61 tasks a turn, so it is enough for some hundred connections. Not a timer, which
/// takes a busy machine tens of milliseconds.
const LEAVE_TURNS: usize = 16;

/// How long it waits after that for tunnels to write theirs. A guess: on a busy machine each of them has been written to by then.
const LEAVE_TUNNELS_TIME: Duration = Duration::from_millis(10);

/// How long before that hosts with a session here are told to go elsewhere. A guess: it leaves this host at once, and
/// whoever misses it learns the same from the end of the connection.
const FAREWELL: Duration = Duration::from_millis(50);

/// Peers whose addresses are remembered, at up to ~3 KB each. A guess.
const KNOWN_PEERS_MAX: usize = 4096;

/// For [`Endpoint::descriptors_max`]: tunnels that a host dials which takes none, and what it takes to look at its interfaces and routes, to hear of
/// changes, to keep a version, and to ask what one way takes. Guesses.
const TUNNELS_DIALLED: usize = 64;
const LOOKS: u64 = 8 + CANDIDATES_MAX as u64;

/// A running endpoint. Clones are the same; the last one dropped closes it.
#[derive(Clone)]
pub struct Endpoint {
    owner: Arc<Owner>,
}

/// Closes the endpoint when the last handle goes.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.quic.endpoint.close(code::SHUTDOWN, b"the endpoint was dropped");
    }
}

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
    peer: PeerId,
    instance: InstanceId,
    /// What is understood here of what is said above links, as bits of HELLO.
    features: u64,
    admissions: Admissions,
    peers: Mutex<HashMap<PeerId, Member>>,
    /// The dials under way to addresses alone, and who waits for each.
    at_addresses: Mutex<HashMap<Vec<SocketAddr>, Vec<Waiter>>>,
    pub(crate) up: DashMap<PeerId, Link>,
    pub(crate) book: Mutex<PeerRefStore>,
    pub(crate) own_ref: Mutex<OwnRef>,
    /// The port that the router forwards here.
    #[cfg(feature = "port-mapping")]
    pub(crate) mapped: Mutex<Option<port_mapping::Mapped>>,
    pub(crate) sessions: OnceLock<Addr<Sessions>>,
    /// The rendezvous with a session, and where they see this host.
    pub(crate) attached: Mutex<(Vec<RendezvousPoint>, Vec<SocketAddr>)>,
    /// How hosts of IPv4 are reached where this one has none.
    pub(crate) nat64: Mutex<Nat64>,
    links: AtomicU64,
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
    pub(crate) refused: stats::RefusedCounters,
    /// Why this endpoint is being closed.
    closing: OnceLock<String>,
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
struct Member {
    actor: Addr<Connection>,
    pending: Arc<AtomicUsize>,
}

impl Endpoint {
    /// Starts listening. `observer` hears about links from then on.
    pub async fn bind(
        config: EndpointConfig,
        placement: Arc<dyn Placement>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, BindError> {
        let (done, bound) = oneshot::channel();
        let network = placement.clone();
        placement.spawn_network(Box::new(move || {
            Box::pin(async move {
                let _ = done.send(Shared::start(config, network, observer));
            })
        }));
        let shared = bound.await.map_err(|_| BindError::PlacementEnded)??;
        Ok(Self { owner: Arc::new(Owner(shared)) })
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.0
    }

    /// This host's key.
    pub fn peer_id(&self) -> PeerId {
        self.shared().peer
    }

    /// Which start of this host this is.
    pub fn instance(&self) -> InstanceId {
        self.shared().instance
    }

    /// The bound addresses, with concrete ports.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        let socket = &self.shared().socket;
        let observatory = socket.observatory().map(|(wire, _)| wire);
        let wires = socket.wires().iter().enumerate();
        let listening = wires.filter(|(wire, _)| Some(*wire) != observatory);
        let locals = listening.map(|(_, wire)| wire.local_addr());
        locals.filter(|local| !is_far_end(*local)).collect()
    }

    /// Bytes that this host has relayed for others.
    pub fn relayed(&self) -> u64 {
        self.shared().socket.counters.forwarded.load(Ordering::Relaxed)
    }

    /// The TCP port at which tunnels are taken, if they are.
    pub fn tls_port(&self) -> Option<u16> {
        self.shared().tls_port
    }

    /// Descriptors that this endpoint may have open at a time, its threads' not counted: its sockets, tunnels of others if it takes them,
    /// and what one birthday attempt and looks at this host take.
    pub fn descriptors_max(&self) -> u64 {
        let tunnels = match self.shared().tls_port {
            Some(_) => 1 + TUNNELS_MAX + HALF_OPEN_MAX,
            // Those that it dials. A guess: two for each of the rendezvous and peers of a small host.
            None => TUNNELS_DIALLED,
        };
        (self.shared().socket.wires().len() + tunnels + SOCKETS) as u64 + LOOKS
    }

    /// Buffer sizes that the system granted to each UDP socket.
    pub fn socket_buffers(&self) -> Vec<BufferSizes> {
        let buffers = |wire: &Wire| match wire {
            Wire::Udp(wire) => Some(wire.buffers()),
            _ => None,
        };
        self.shared().socket.wires().iter().filter_map(buffers).collect()
    }

    /// How others reach this host, signed and current.
    pub fn peer_ref(&self) -> PeerRef {
        self.shared().own_ref.lock().current()
    }

    /// Remembers how a peer can be reached, for later dials to its key, and says what became of that. What
    /// is expired, or older than what is known, changes nothing.
    pub fn remember(&self, reference: &PeerRef) -> Remembered {
        self.shared().remember(reference, Origin::User)
    }

    /// The link to `peer` that takes new work, if there is one.
    pub fn link(&self, peer: &PeerId) -> Option<Link> {
        self.shared().up.get(peer).map(|link| link.clone())
    }

    /// How `peer` is reached, and why not better. `None` if it isn't connected.
    pub async fn explain(&self, peer: &PeerId) -> Option<Explanation> {
        self.link(peer)?;
        let (answer, explained) = oneshot::channel();
        self.shared().order(*peer, Order::Explain(answer));
        explained.await.ok()
    }

    /// The link to the peer that `target` names, dialled if need be; joins a dial under way. Whoever
    /// answers at a PeerRef of addresses only is accepted: ask [`Link::peer`] who it is.
    ///
    /// A link that is there is used. But if the peer signed `target` after what the link knows it by, and names other places there,
    /// it is dialled at those too, and the link is asked whether it still works; whichever is there first is
    /// returned.
    ///
    /// One that has expired is used as well, after what else is known of the peer: its key must answer anyway, and then says itself where it is
    /// today. The log says so.
    pub async fn connect(&self, target: &PeerRef) -> Result<Link, ConnectError> {
        match target {
            PeerRef::Signed(signed) => {
                if let Err(expired) = signed.check_valid(SystemTime::now()) {
                    return self.connect_by_expired(signed, expired).await;
                }
                self.remember(target);
                // Though the book should be full, or know better.
                let addresses = signed.addresses().to_vec();
                let rendezvous = signed.rendezvous().to_vec();
                let hints = Hints { origin: Origin::User, addresses, rendezvous };
                self.connect_to(signed.peer(), &[hints], Some(signed)).await
            }
            PeerRef::Addresses(addresses) => {
                self.shared().connect_address(addresses.addresses().to_vec(), false).await
            }
        }
    }

    async fn connect_by_expired(
        &self,
        signed: &SignedRef,
        expired: ExpiredError,
    ) -> Result<Link, ConnectError> {
        let (shared, peer) = (self.shared(), signed.peer());
        if peer == shared.peer {
            return Err(ConnectError::Myself);
        }
        if let Some(link) = self.link(&peer) {
            return Ok(link);
        }
        tracing::warn!(%peer, "{expired}: until then it serves as a hint to where its host may be");
        let outcome = shared.connect(peer, shared.places_by(signed)).await;
        outcome.map_err(|failed| match failed {
            ConnectError::Closed | ConnectError::Hello(_) => failed,
            failed => ConnectError::Expired { expired, failed: Arc::new(failed) },
        })
    }

    /// The link to `peer`, dialled if need be at `hints` and what is remembered of it. A newer reference that is remembered counts
    /// as one that [`Endpoint::connect`] is given. Of the hints, the first ones are tried first, and only where they may lead
    /// ([`Origin`]).
    pub async fn connect_peer(&self, peer: PeerId, hints: &[Hints]) -> Result<Link, ConnectError> {
        self.connect_to(peer, hints, None).await
    }

    async fn connect_to(
        &self,
        peer: PeerId,
        hints: &[Hints],
        given: Option<&SignedRef>,
    ) -> Result<Link, ConnectError> {
        let shared = self.shared();
        if peer == shared.peer {
            return Err(ConnectError::Myself);
        }
        if let Some(link) = self.link(&peer) {
            return match shared.newer(&link, given) {
                Some(newer) => shared.renewed(peer, newer).await,
                None => Ok(link),
            };
        }
        shared.connect(peer, shared.places(peer, hints)).await
    }

    /// `peer` is silent: it is looked for at the newest reference that is remembered, or else at `hints`, beside its link. If it is
    /// found there, [`Observer::link_up`] says so. How often that is done is bounded.
    pub fn look_for(&self, peer: PeerId, hints: &[Hints]) {
        let shared = self.shared();
        let Some(link) = self.link(&peer) else { return };
        let any = hints.iter().any(|hints| !hints.is_empty());
        let hinted = || any.then(|| Newer::hinted(shared.places(peer, hints)));
        if let Some(newer) = shared.newer(&link, None).or_else(hinted) {
            shared.order(peer, Order::Renew { newer, waiter: None });
        }
    }

    /// Ends every link to `peer`, which is told `reason` as [`LinkDown::Closed`]; the next use of it dials anew. What wasn't acknowledged
    /// may be lost. A dial under way goes on, and so does what else keeps a connection: a rendezvous is attached to again.
    /// Whether there was a link.
    ///
    /// [`LinkDown::Closed`]: crate::LinkDown::Closed
    pub async fn disconnect(&self, peer: &PeerId, reason: &str) -> bool {
        let (done, outcome) = oneshot::channel();
        let reason = reason.to_owned();
        self.shared().order(*peer, Order::Disconnect { reason, done });
        outcome.await.unwrap_or(false)
    }

    /// Waits until sessions with as many rendezvous stand as were asked for, or as are known; a second after the first one
    /// stands, the others are no longer waited for. From then on [`Endpoint::peer_ref`] leads strangers to this host. Returns at once if there is none to attach to; tries
    /// for ever if they can't be reached: bound it by a time-out.
    pub async fn attached(&self) {
        let (waiter, attached) = oneshot::channel();
        self.shared().order_sessions(News::Await(waiter));
        let _ = attached.await;
    }

    /// Attaches to one more rendezvous, if fewer sessions stand than are wanted, and keeps it in mind for when one ends.
    ///
    /// # Errors
    /// [`JoinError`] if it can't be one; nothing has changed then.
    pub fn join(&self, rendezvous: PeerRef) -> Result<(), JoinError> {
        let (peer, locals) = (self.peer_id(), self.local_addrs());
        let named = self.shared().own_ref.lock().addresses().to_vec();
        let joiner = Joiner { peer, locals: &locals, named: &named };
        joiner.check(&rendezvous)?;
        self.shared().order_sessions(News::Join(rendezvous));
        Ok(())
    }

    /// The rendezvous with which a session stands.
    pub fn attached_to(&self) -> Vec<PeerId> {
        self.shared().attached_to().into_iter().map(|point| point.peer).collect()
    }

    /// Ends all links, telling peers `reason` as `LinkDown::Shutdown`, and stops accepting. Hosts that have a session here
    /// are told first which rendezvous else there are. Waits up to a second for that to arrive.
    pub async fn close(&self, reason: &str) {
        self.say_goodbye(reason).await;
        let shared = self.shared();
        let sleep = shared.socket.sleep(CLOSE_TIME_MAX);
        tokio::select! {
            biased;
            () = shared.quic.endpoint.wait_idle() => {}
            () = sleep => {}
        }
    }

    /// The same, but waits no longer than it takes to hand the last words to the system, whether or not they arrive. To be
    /// awaited on the network's thread.
    pub async fn leave(&self, reason: &str) {
        self.say_goodbye(reason).await;
        for _ in 0..LEAVE_TURNS {
            tokio::task::yield_now().await;
        }
        let socket = &self.shared().socket;
        if socket.tunnels().is_some_and(|(_, tunnels)| !tunnels.is_empty()) {
            socket.sleep(LEAVE_TUNNELS_TIME).await;
        }
    }

    /// Ends all links at once and tells nobody, as if the process had been killed: from now on nothing is sent.
    pub fn abort(&self) {
        let shared = self.shared();
        let _ = shared.closing.set("aborted".to_owned());
        shared.socket.fall_silent();
        shared.quic.endpoint.close(code::SHUTDOWN, b"");
    }

    /// Has the goodbye written, with its last act.
    async fn say_goodbye(&self, reason: &str) {
        let shared = self.shared();
        let _ = shared.closing.set(reason.to_owned());
        #[cfg(feature = "port-mapping")]
        shared.unmap().await;
        if shared.send_away() {
            shared.socket.sleep(FAREWELL).await;
        }
        shared.quic.endpoint.close(code::SHUTDOWN, reason.as_bytes());
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("peer", &self.peer_id()).finish_non_exhaustive()
    }
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

    fn remember(&self, reference: &PeerRef, origin: Origin) -> Remembered {
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
            let actor = Connection::new(peer, self.clone(), pending.clone()).start();
            Member { actor, pending }
        });
        member.pending.fetch_add(1, Ordering::SeqCst);
        member.actor.do_send(order);
    }

    /// A handshake from outside, or to an address alone, is complete. On the network thread.
    fn established(self: &Arc<Self>, authenticated: Authenticated, waiters: Vec<Waiter>) {
        let peer = authenticated.peer;
        let authenticated = Box::new(authenticated);
        self.order_here(peer, Order::Established { authenticated, waiters });
    }
}

/// Admits handshakes from outside until the endpoint closes.
async fn accept_all(shared: Arc<Shared>) {
    while let Some(incoming) = shared.quic.endpoint.accept().await {
        if shared.quic.endpoint.open_connections() >= shared.config.limits.connections_max {
            shared.refused.connections.fetch_add(1, Ordering::Relaxed);
            let from = incoming.remote_address();
            if let Some(left_out) = shared.log_quota.take(prefix(from.ip().to_canonical())) {
                tracing::debug!(%from, left_out, "a handshake is refused: there are as many connections as may be");
            }
            incoming.refuse();
            continue;
        }
        let source = incoming.remote_address();
        // The flow label of a handle isn't part of a Retry token, so such a token would never be right.
        let retriable = incoming.may_retry()
            && matches!(source, SocketAddr::V6(handle) if handle.flowinfo() == 0);
        let proven = incoming.remote_address_validated();
        let admission = match shared.admissions.admit(source.ip(), proven) {
            Admission::Retry if is_beside(source) => {
                shared.admissions.admit_beside().map_or(Admission::Ignore, Admission::Accept)
            }
            admission => admission,
        };
        match admission {
            Admission::Accept(slot) => {
                let shared = shared.clone();
                actix_rt::spawn(async move {
                    if let Some(authenticated) = accept(&shared, incoming, slot).await {
                        shared.established(authenticated, Vec::new());
                    }
                });
            }
            Admission::Retry if retriable => drop(incoming.retry()),
            Admission::Retry | Admission::Ignore => incoming.ignore(),
        }
    }
}
