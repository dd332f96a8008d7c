//! How the parts of an endpoint are put together.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64},
    },
};

use actix::Actor;
use dashmap::DashMap;
use parking_lot::Mutex;
use rand::RngExt;

#[cfg(feature = "port-mapping")]
use crate::surroundings::port_mapping;
use crate::{
    connection::Connection,
    endpoint::{
        accepting::accept_all,
        config::{BindError, EndpointConfig, bind, bind_all},
    },
    interfaces,
    limits::{Admissions, InitialGate, bucket::Bucket, log_quota::LogQuota},
    link::Observer,
    meetings::{introduction::UNASKED_MAX, opening::OPENED_MAX, session::Sessions},
    nat::SystemResolver,
    path::pulse::Pulses,
    peer_ref::{PeerRefStore, local_ref::OwnRef},
    placement::Placement,
    quic::{
        self, Quic,
        cid::Cids,
        tls::{Tls, TunnelTls},
    },
    relay::forwarder::Forwarder,
    rendezvous::{host::Host, join::Joiner},
    shared::{RefusedCounters, Settings, Shared, Start, order::News},
    socket::mesh_socket::{ForOthers, MeshSocket, Wire},
    surroundings::{nat64, roaming},
    tunnel::{pump, wire::Tunnels},
    wire::hello::InstanceId,
};

/// Peers whose addresses are remembered, at up to ~3 KB each. A guess.
const KNOWN_PEERS_MAX: usize = 4096;

/// How the actors of an endpoint are started.
const START: Start = Start {
    connection: |peer, shared, pending| {
        Connection::new(peer, shared.clone(), pending.clone()).start().recipient()
    },
    sessions: |shared| Sessions::new(shared).start().recipient(),
};

impl Shared {
    /// Runs on the network thread.
    pub(super) fn start(
        config: EndpointConfig,
        placement: Arc<dyn Placement>,
        observer: Arc<dyn Observer>,
    ) -> Result<Arc<Self>, BindError> {
        let EndpointConfig {
            secret,
            versions,
            listen,
            advertise,
            features,
            windows,
            patience,
            limits,
            service,
            join,
            sessions,
            relay_tls,
            proxy,
            #[cfg(feature = "port-mapping")]
            map_port,
            resolver,
            #[cfg(feature = "sim")]
            network,
        } = config;
        #[cfg(not(feature = "sim"))]
        let network: Option<crate::endpoint::config::Simulated> = None;
        let peer = secret.peer_id();
        // Endpoints of one seeded run must differ from each other.
        let seed = placement.seed().map(|seed| {
            let [a, b, c, d, e, f, g, h, ..] = *peer.as_bytes();
            seed ^ u64::from_le_bytes([a, b, c, d, e, f, g, h])
        });
        let mut wires = bind_all(&listen, network.as_ref())?;
        let locals: Vec<_> = wires.iter().map(Wire::local_addr).collect();
        let joiner = Joiner { peer, locals: &locals, named: &advertise };
        join.iter().try_for_each(|target| joiner.check(target))?;
        let is_real = network.is_none();
        let listener = relay_tls.listen()?;
        // Beside the first socket of IPv4, lest a host with one rendezvous never learn what its NAT is like.
        let first_ipv4 = locals.iter().copied().find(SocketAddr::is_ipv4);
        let first = first_ipv4.filter(|_| service.is_some());
        let observatory = match first {
            Some(local) => match bind(SocketAddr::new(local.ip(), 0), network.as_ref()) {
                Ok(wire) => {
                    wires.push(wire);
                    Some(wires.len() - 1)
                }
                Err(e) => {
                    tracing::warn!("no second port from which to observe others: {e}");
                    None
                }
            },
            None => None,
        };
        if is_real {
            wires.push(Wire::Tunnels(Tunnels::new(quic::rng(seed.map(|seed| seed ^ 5)))));
        }
        let cids = Arc::new(Cids::new(secret.derive("cid"), seed));
        let pulses = Pulses::default();
        let gate = InitialGate::new(&limits);
        let relaying = service.as_ref().and_then(|service| service.relaying.clone());
        let now = tokio::time::Instant::now().into_std();
        let relay = relaying.map(|relaying| {
            let rng = quic::rng(seed.map(|seed| seed ^ 3));
            Forwarder::new(relaying, rng, now)
        });
        let frames = Box::new(pulses.clone());
        let for_others = ForOthers { relay, observatory };
        let socket =
            MeshSocket::new(wires, cids.clone(), gate, frames, for_others, &*placement, seed);
        let socket = Arc::new_cyclic(|this| socket.with(this));
        let tls = Tls::new(&secret)?;
        let tunnel_tls = Arc::new(TunnelTls::new(&secret)?);
        let tls_port = listener.as_ref().and_then(|listener| listener.local_addr().ok());
        let quic = Quic::start(
            &secret,
            &tls,
            &windows,
            &limits,
            cids.clone(),
            socket.clone(),
            &*placement,
            seed,
        )
        .map_err(BindError::Quic)?;
        // Sockets on all addresses stand for those of the machine.
        let mut trouble = roaming::Trouble::default();
        let everywhere = locals.iter().any(|local| local.ip().is_unspecified());
        let machine = if is_real && everywhere && advertise.is_empty() {
            trouble.of(interfaces::addresses_by_use()).unwrap_or_default()
        } else {
            Vec::new()
        };
        let own_ref = OwnRef::new(secret, versions, &advertise, (&locals, &machine))?;
        let shared = Arc::new(Self {
            admissions: Admissions::new(&limits),
            features,
            config: Settings { windows, patience, limits, sessions, proxy, kernel: is_real },
            tunnel_tls: tunnel_tls.clone(),
            scouting: AtomicBool::new(false),
            tls_port: tls_port.map(|address| address.port()),
            observer,
            socket,
            cids,
            quic,
            pulses,
            host: Mutex::new(Host::new(service)),
            placement,
            peer,
            instance: InstanceId(quic::rng(seed).random()),
            peers: Mutex::new(HashMap::new()),
            at_addresses: Mutex::default(),
            up: DashMap::new(),
            book: Mutex::new(PeerRefStore::new(KNOWN_PEERS_MAX)),
            own_ref: Mutex::new(own_ref),
            #[cfg(feature = "port-mapping")]
            mapped: Mutex::default(),
            start: START,
            sessions: OnceLock::new(),
            attached: Mutex::default(),
            nat64: Mutex::default(),
            links: AtomicU64::new(1),
            unasked: Mutex::new(Bucket::full(UNASKED_MAX, now)),
            measuring: tokio::sync::Mutex::default(),
            opened: Mutex::new(Bucket::full(OPENED_MAX, now)),
            started: now,
            seed,
            log_quota: LogQuota::default(),
            refused: RefusedCounters::default(),
            closing: OnceLock::new(),
        });
        tracing::info!(%peer, listen = ?locals, serves = shared.host.lock().serves(), "started");
        actix_rt::spawn(accept_all(shared.clone()));
        #[cfg(feature = "port-mapping")]
        if let (Some(router), Some(local)) = (map_port.filter(|_| is_real), first_ipv4)
            && let Some(port) = std::num::NonZeroU16::new(local.port())
        {
            actix_rt::spawn(port_mapping::keep(Arc::downgrade(&shared), router, port));
        }
        let resolver = resolver.or_else(|| is_real.then(|| Arc::new(SystemResolver) as _));
        if let Some(resolver) = resolver {
            let weak = Arc::downgrade(&shared);
            actix_rt::spawn(nat64::watch(weak, locals.clone(), resolver));
        }
        if is_real {
            let weak = Arc::downgrade(&shared);
            actix_rt::spawn(roaming::watch(weak, locals, trouble));
        }
        if let (Some(listener), Some((_, tunnels))) = (listener, shared.socket.tunnels()) {
            let tunnels = Arc::downgrade(tunnels);
            actix_rt::spawn(pump::accept_all(tunnels, tunnel_tls, listener));
        }
        for target in join {
            shared.to_sessions(News::Join(target));
        }
        Ok(shared)
    }
}
