//! How two Webmesh hosts talk.
//!
//! - [`identity`]: the key pair that a host is, its file, and what is derived from it.
//! - [`peer_ref`]: how a host can be reached, signed by itself or not.
//! - [`placement`]: where tasks and actors run: threads of their own, or in place.
//! - [`Endpoint`]: one host on the network; it dials, accepts and tells its [`Observer`] of [`Link`]s.
//!   - `config`: what it is started with
//!   - `connection`: the actor of a peer; duplicates, restarts, liveness
//!   - `dial`: handshakes
//!   - `refused`: what the system says of addresses of its own where nobody listens
//!   - `path_mtu`: whether the way to who doesn't answer takes what QUIC needs
//!   - `own_ref`: how this host says it can be reached
//!   - [`hello`]: what both sides say first
//!   - `quic`, `tls`, [`limits`]: how quinn and rustls are set up, and what strangers may cost
//! - `rendezvous`: how hosts without a public address are met
//! - `relay`: datagrams forwarded between two hosts that can't reach each other
//! - `interfaces`: the addresses of this machine, and which of them to name first
//! - [`shortage`]: what the system lacks, and what helps
//! - `roaming`: notices that this host has moved, has another way to the internet, or has slept
//! - `tunnel`: datagrams over TLS where UDP is blocked
//! - [`path`]: is a peer alive, and where is it?
//! - [`nat`]: what the NAT in front of this host is
//! - `log_quota`, `printable`: what others bring about in a log: how much, and how it looks
//! - [`socket`]: the UDP socket under QUIC: handles, roads, our own frames (`wire`)

mod base32;
mod bucket;
mod config;
mod connection;
mod dial;
mod endpoint;
#[doc(hidden)]
pub mod fuzzing;
pub mod hello;
pub mod identity;
mod inline;
mod interfaces;
mod lease;
pub mod limits;
mod link;
mod log_quota;
pub mod nat;
mod own_ref;
pub mod path;
mod path_mtu;
pub mod peer_ref;
pub mod placement;
mod printable;
mod quic;
mod refused;
mod relay;
mod rendezvous;
mod roaming;
pub mod shortage;
#[cfg(feature = "sim")]
pub mod sim;
pub mod socket;
mod tls;
mod tunnel;
mod wire;

pub use config::{BindError, EndpointConfig, RelayTls};
pub use dial::ConnectError;
pub use endpoint::{Drops, Endpoint, PeerRefChanges, RefusedByEndpoint, Served};
pub use hello::{FEATURE_CANCEL, FEATURE_ENVELOPE, FEATURE_WATCHING, FEATURE_WITHDRAW, InstanceId};
pub use identity::{KeyFileError, PeerId, PeerIdError, SecretKey, SignatureError};
pub use inline::{Inline, is_inline};
pub use limits::Limits;
pub use link::{Link, LinkDown, Observer, PathKind};
pub use log_quota::LogQuota;
pub use path::{
    explain::{Candidate, Explanation},
    hints::{Hints, Origin},
    liveness::Patience,
    pulse::{Expecting, PingError, Watching},
};
pub use peer_ref::PeerRef;
pub use placement::{InPlace, Placement, PlacementError, Threads};
pub use printable::{Excerpt, printable};
pub use quic::Windows;
pub use relay::forwarder::Relaying;
pub use rendezvous::{host::Service, join::JoinError};
#[cfg(feature = "sim")]
pub use sim::MemoryNetwork;
pub use socket::BufferSizes;
pub use tls::{ALPN, TlsError};
