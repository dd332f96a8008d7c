//! How two Webmesh hosts talk.
//!
//! The modules from the top floor down, which is also the order to read them in: each imports from those below it only.
//!
//! - [`Endpoint`] (`endpoint`): one host on the network; it dials, accepts and tells its [`Observer`] of [`Link`]s
//! - `surroundings`: what changes around the host: its addresses, its way to the internet, its router's port
//! - `connection`: the actor of a peer: duplicates, restarts, liveness, what is done to be rid of a relay
//! - `meetings`: rendezvous at work: sessions with them, introductions by them, service as one
//! - `dial`: handshakes
//! - `shared`: what the parts of an endpoint share, and what its actors are told
//! - `link`: one authenticated connection to a peer
//! - [`path`]: is a peer alive, and along which road is it reached?
//! - `rendezvous`: the cores of how hosts without a public address are met
//! - [`socket`]: the UDP socket under QUIC: handles, roads, batches
//! - `sim`: a simulated network in its place (feature `sim`)
//! - `relay`: datagrams forwarded between two hosts that can't reach each other
//! - `tunnel`: datagrams over TLS where UDP is blocked
//! - [`nat`]: what the NAT in front of this host is
//! - `quic`: how quinn and rustls are set up
//! - `wire`: what goes over the wire, byte by byte; [`hello`] is what both sides say first
//! - [`peer_ref`]: how a host can be reached, signed by itself or not
//! - [`identity`]: the key pair that a host is, its file, and what is derived from it
//! - `interfaces`: the addresses of this machine, and which of them to name first
//! - [`placement`]: where tasks and actors run: threads of their own, or in place
//! - [`limits`]: what strangers may cost
//! - `ground`: addresses, letters, [`shortage`]s of the system

#[doc(hidden)]
pub mod fuzzing;

mod endpoint;

mod surroundings;

mod connection;

mod meetings;

mod dial;

mod shared;

mod link;

pub mod path;

mod rendezvous;

pub mod socket;

#[cfg(feature = "sim")]
pub mod sim;

mod relay;

mod tunnel;

pub mod nat;

mod quic;

mod wire;

pub mod peer_ref;

pub mod identity;

mod interfaces;

pub mod placement;

pub mod limits;

mod ground;

pub use endpoint::{
    Drops, Endpoint, PeerRefChanges, RefusedByEndpoint, Served,
    config::{BindError, EndpointConfig, RelayTls},
};
pub use ground::{
    sanitize::{Excerpt, printable},
    shortage,
};
pub use identity::{KeyFileError, PeerId, PeerIdError, SecretKey, SignatureError};
pub use limits::{Limits, log_quota::LogQuota};
pub use link::{Link, Observer, connect_error::ConnectError};
pub use path::{
    explain::{Candidate, Explanation},
    kind::PathKind,
    liveness::Patience,
    pulse::{Expecting, PingError, Watching},
};
pub use peer_ref::{
    PeerRef,
    hints::{Hints, Origin},
};
pub use placement::{
    InPlace, Placement, PlacementError, Threads,
    inline::{Inline, is_inline},
};
pub use quic::{
    Windows,
    tls::{ALPN, TlsError},
};
pub use relay::forwarder::Relaying;
pub use rendezvous::{host::Service, join::JoinError};
#[cfg(feature = "sim")]
pub use sim::MemoryNetwork;
pub use socket::BufferSizes;
pub use wire::{
    closing::LinkDown,
    hello::{
        self, FEATURE_CANCEL, FEATURE_ENVELOPE, FEATURE_WATCHING, FEATURE_WITHDRAW, InstanceId,
    },
};
