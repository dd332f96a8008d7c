//! Why no link came to be.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{identity::PeerId, peer_ref::ExpiredError, wire::hello::HelloError};

/// Why no link to a peer came to be. Nothing is left behind; dialling again is always allowed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Another key answered at the address of the peer. Get a newer PeerRef.
    #[error("{found} answered in place of {expected}")]
    WrongPeer {
        /// The dialled key.
        expected: PeerId,
        /// The key that answered.
        found: PeerId,
    },
    /// No address is known for the peer, or none that this host can send to.
    #[error("no usable address of the peer is known, none that this host can send to")]
    NoAddress,
    /// The peer can only be met through a rendezvous, and none would or could introduce this host to it: it is offline, or
    /// its PeerRef is out of date.
    #[error("no rendezvous of the peer introduced this host to it: {0}")]
    NotIntroduced(String),
    /// The peer is there, and rendezvous introduced this host to it, but the NATs on the way let nothing through, and none of these rendezvous
    /// relays. Have one of the two hosts join a rendezvous that does (`webmesh node` does by default), or forward a port.
    #[error(
        "the peer is there, but nothing gets through to it directly, and no rendezvous relays between the two"
    )]
    NoRelay,
    /// The address is this host's own, and its system says that nobody listens there.
    #[error("nobody listens at {0}, as the system says")]
    Refused(SocketAddr),
    /// Nobody answered in time at any address. As with each of these errors, nothing of what was to be said to the peer was sent.
    #[error("no answer from the peer within {0:?}; nothing was sent")]
    Timeout(Duration),
    /// Nobody answered over UDP, and this host's proxy let no tunnel through; the text says what it did.
    #[error("no answer over UDP, and {0}")]
    Proxy(String),
    /// The way to the peer takes less than the 1,200 bytes that QUIC's first packets have (RFC 9000, section 14.1): this host's system
    /// says so, or a router on the way, or the peer answers short datagrams and none of that length. Raise the MTU of the interface, tunnel or
    /// router that it leads through. Where only the way back takes too little, this is a [`Timeout`](Self::Timeout).
    #[error(
        "the way to {0} takes no datagram of 1,200 bytes; raise the MTU of the interface, tunnel or router that it leads through"
    )]
    TooNarrow(SocketAddr),
    /// Somebody answered and ended the handshake.
    #[error("the handshake failed: {0}")]
    Handshake(String),
    /// The peer proved its key and then broke the protocol, or speaks another version of it.
    #[error(transparent)]
    Hello(Arc<HelloError>),
    /// The PeerRef has expired, and where it says nobody was reached either. Get a newer one.
    #[error("{failed}; {expired}")]
    Expired {
        /// Since when.
        expired: ExpiredError,
        /// Why it led to nobody.
        failed: Arc<ConnectError>,
    },
    /// The PeerRef leads to this host itself.
    #[error("that is this host itself")]
    Myself,
    /// This endpoint has been closed.
    #[error("the endpoint is closed")]
    Closed,
}

impl ConnectError {
    /// Whether another failure of the same dial says more.
    pub(crate) fn yields_to(&self, other: &Self) -> bool {
        match self {
            Self::WrongPeer { .. } => false,
            Self::Proxy(_) => matches!(other, Self::WrongPeer { .. }),
            _ => true,
        }
    }

    /// Whether it says more than that nobody was reached.
    pub(crate) fn is_telling(&self) -> bool {
        !matches!(self, Self::NoAddress | Self::Timeout(_) | Self::Refused(_))
    }
}
