//! What an endpoint is started with, and the sockets that follow from it.

use std::{io, net::SocketAddr, sync::Arc};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

#[cfg(feature = "port-mapping")]
use crate::nat::Router;
use crate::{
    ground::shortage::{is_shortage, with_remedy},
    identity::{SecretKey, VersionCounter, VersionError},
    limits::Limits,
    nat::Resolver,
    path::liveness::Patience,
    peer_ref::{ContentError, PeerRef, local_ref::OwnRefError},
    quic::{Windows, tls::TlsError},
    rendezvous::{host::Service, join::JoinError},
    socket::{mesh_socket::Wire, udp::UdpWire},
};

/// A network that an endpoint may use in place of the kernel's.
#[cfg(feature = "sim")]
pub(crate) use crate::sim::MemoryNetwork as Simulated;

/// There is none.
#[cfg(not(feature = "sim"))]
pub(crate) enum Simulated {}

/// Sessions that a host keeps which was told its rendezvous (docs/architecture.md).
const SESSIONS: usize = 2;

/// Connections that wait to be accepted, the usual number.
const TLS_BACKLOG: i32 = 128;

/// What an endpoint is started with.
pub struct EndpointConfig {
    /// Who this host is.
    pub secret: SecretKey,
    /// Where the versions of this host's own PeerRef come from.
    pub versions: VersionCounter,
    /// Where to listen; port 0 takes a free one. Empty: one socket on all IPv4 addresses, and one on all
    /// IPv6 addresses if there is IPv6.
    pub listen: Vec<SocketAddr>,
    /// Addresses under which others reach this host, put first into its PeerRef.
    pub advertise: Vec<SocketAddr>,
    /// What this side understands of what is said above links, as bits of HELLO.
    pub features: u64,
    /// Windows and stream numbers of authenticated connections.
    pub windows: Windows,
    /// When a silent peer is probed, unreachable and gone.
    pub patience: Patience,
    /// What strangers may cost.
    pub limits: Limits,
    /// What others get from this host as their rendezvous; `None`: nothing. By default it introduces them, and doesn't relay.
    pub service: Option<Service>,
    /// Rendezvous to attach to, in the order in which they are tried, so that strangers can reach this host wherever it
    /// is. Empty: none.
    pub join: Vec<PeerRef>,
    /// With how many of them a session is kept at a time: one ends, the other goes on. Each costs a probe and its answer
    /// of 51 bytes in 20 s each way.
    pub sessions: usize,
    /// Where to take tunnels of TLS over TCP, through which hosts come whose network blocks UDP.
    pub relay_tls: RelayTls,
    /// An HTTP proxy by way of which tunnels are dialled (CONNECT).
    pub proxy: Option<SocketAddr>,
    /// The router that shall forward a port to the first address of IPv4 that is listened on (feature `port-mapping`);
    /// `None`: none is asked.
    #[cfg(feature = "port-mapping")]
    pub map_port: Option<Router>,
    /// Asked, where this host has no IPv4, under which prefix the network's NAT64 shows hosts that have nothing else (RFC 7050);
    /// `None`: the system's, and nobody on a simulated network.
    pub resolver: Option<Arc<dyn Resolver>>,
    /// A simulated network in place of the kernel's, for tests in place (feature `sim`).
    #[cfg(feature = "sim")]
    pub network: Option<Simulated>,
}

impl EndpointConfig {
    /// The defaults for a host with this key.
    pub fn new(secret: SecretKey) -> Self {
        Self {
            secret,
            versions: VersionCounter::in_memory(),
            listen: Vec::new(),
            advertise: Vec::new(),
            features: 0,
            windows: Windows::default(),
            patience: Patience::default(),
            limits: Limits::default(),
            service: Some(Service::default()),
            join: Vec::new(),
            sessions: SESSIONS,
            relay_tls: RelayTls::Nowhere,
            proxy: None,
            #[cfg(feature = "port-mapping")]
            map_port: None,
            resolver: None,
            #[cfg(feature = "sim")]
            network: None,
        }
    }
}

/// Where tunnels are taken. Port 443 passes most firewalls, and is tried by whoever dials; another port is told to hosts
/// that have a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayTls {
    /// Nowhere.
    Nowhere,
    /// There, or the endpoint doesn't start.
    At(SocketAddr),
    /// There, if nobody else listens there and the system allows it.
    IfFree(SocketAddr),
}

/// Why an endpoint could not be started; nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// An address can't be bound: it is taken, or not this host's, or the system lacks something, and the text says what to raise.
    #[error("cannot listen on {address}: {}", with_remedy(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// QUIC could not be started.
    #[error("cannot start QUIC: {}", with_remedy(.0))]
    Quic(#[source] io::Error),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No version for this host's PeerRef.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// This host's PeerRef can't be signed: an advertised address is no address, or there are too many.
    #[error("the own PeerRef can't be signed: {0}")]
    Reference(#[from] ContentError),
    /// A rendezvous of [`EndpointConfig::join`] can't be one.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The placement was shut down.
    #[error("the network thread has ended")]
    PlacementEnded,
}

impl From<OwnRefError> for BindError {
    fn from(error: OwnRefError) -> Self {
        match error {
            OwnRefError::Version(error) => error.into(),
            OwnRefError::Content(error) => error.into(),
        }
    }
}

impl RelayTls {
    /// Must be called inside the network runtime.
    pub(crate) fn listen(self) -> Result<Option<TcpListener>, BindError> {
        match self {
            Self::Nowhere => Ok(None),
            Self::At(address) => listen_tls(address).map(Some),
            Self::IfFree(address) => match listen_tls(address) {
                Ok(listener) => Ok(Some(listener)),
                Err(e) => {
                    tracing::warn!(
                        "hosts whose network blocks UDP can't come in here (choose another address for TLS): {e}"
                    );
                    Ok(None)
                }
            },
        }
    }
}

/// Listens for tunnels. Must be called inside the network runtime.
fn listen_tls(address: SocketAddr) -> Result<TcpListener, BindError> {
    let listen = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Connections of the process before may still be closing.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(TLS_BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().map_err(|source| BindError::Listen { address, source })
}

/// Binds one address.
pub(crate) fn bind(address: SocketAddr, network: Option<&Simulated>) -> Result<Wire, BindError> {
    let wire = match network {
        #[cfg(feature = "sim")]
        Some(network) => network.attach(address).map(Wire::Memory),
        _ => UdpWire::bind(address).map(Wire::Udp),
    };
    wire.map_err(|source| BindError::Listen { address, source })
}

/// Binds every address to listen on.
pub(crate) fn bind_all(
    listen: &[SocketAddr],
    network: Option<&Simulated>,
) -> Result<Vec<Wire>, BindError> {
    let bind = |address| bind(address, network);
    if !listen.is_empty() {
        return listen.iter().copied().map(bind).collect();
    }
    let first = bind(SocketAddr::from(([0, 0, 0, 0], 0)))?;
    // The same port on IPv6 if it is free, any other if not, and none where there is no IPv6.
    let any = std::net::Ipv6Addr::UNSPECIFIED;
    let second = bind(SocketAddr::from((any, first.local_addr().port())))
        .or_else(|_| bind(SocketAddr::from((any, 0))));
    match second {
        Err(BindError::Listen { source, .. }) if !is_shortage(&source) => Ok(vec![first]),
        second => Ok(vec![first, second?]),
    }
}
