//! Where datagrams come from, and the ways by which they go back.

use std::net::{IpAddr, SocketAddr};

use crate::wire::relay_frame::FlowToken;

/// Where a datagram came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    /// Index of the socket.
    pub(crate) wire: usize,
    /// The sender, or its relay; never an IPv4-mapped address.
    pub(crate) remote: SocketAddr,
    /// The flow that it came through, if it was relayed.
    pub(crate) flow: Option<FlowToken>,
}

/// A way to a peer: which socket, and the address at its other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Road {
    /// Index of the socket.
    pub(crate) wire: usize,
    /// Where the peer is; never an IPv4-mapped address.
    pub(crate) remote: SocketAddr,
    /// The address of ours that the peer knows, where that matters (multihomed hosts).
    pub(crate) local: Option<IpAddr>,
    /// The flow that leads to the peer; `remote` is then its relay.
    pub(crate) flow: Option<FlowToken>,
}

impl Road {
    /// The road back to where a datagram came from.
    pub(crate) fn back(source: Source, local: Option<IpAddr>) -> Self {
        Self { wire: source.wire, remote: source.remote, local, flow: source.flow }
    }

    /// Where datagrams that come along it come from.
    pub(crate) fn source(&self) -> Source {
        Source { wire: self.wire, remote: self.remote, flow: self.flow }
    }
}

/// How far a datagram gets that is to arrive nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The router at home drops it. If that has an entry for where it was sent, the entry is new again (docs/decisions/0013).
    Home,
    /// The router at home passes it on, which opens its NAT, and the next one drops it. The peer's can be no nearer unless both
    /// share a wire outside (docs/decisions/0010).
    Near,
}

impl Reach {
    /// Its time to live.
    pub(crate) fn hops(self) -> u32 {
        match self {
            Self::Home => 1,
            Self::Near => 2,
        }
    }
}
