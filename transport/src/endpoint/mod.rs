//! The endpoint: one host on the network, dialling and accepting.
//!
//! - `config`: what it is started with
//! - `start`: how its parts are put together
//! - `accepting`: handshakes from outside
//! - `stats`: what it says of itself

mod accepting;
pub(crate) mod config;
mod start;
mod stats;

pub use stats::{Drops, PeerRefChanges, RefusedByEndpoint, Served};

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};

use tokio::sync::oneshot;

use crate::{
    endpoint::config::{BindError, EndpointConfig},
    identity::PeerId,
    link::{Link, Observer, connect_error::ConnectError},
    nat::birthday::SOCKETS,
    path::{candidates::CANDIDATES_MAX, explain::Explanation},
    peer_ref::{
        ExpiredError, PeerRef, Remembered, SignedRef,
        hints::{Hints, Origin},
    },
    placement::Placement,
    rendezvous::join::{JoinError, Joiner},
    shared::{
        Shared,
        newer::Newer,
        order::{News, Order},
    },
    socket::{BufferSizes, mesh_socket::Wire},
    tunnel::{is_far_end, pump::HALF_OPEN_MAX, wire::TUNNELS_MAX},
    wire::{closing::code, hello::InstanceId},
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
