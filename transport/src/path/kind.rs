//! The kinds of roads.

use std::fmt;

use serde::Serialize;

/// How a peer is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PathKind {
    /// Datagrams go straight to an address that the peer names.
    Direct,
    /// Datagrams go straight to the peer through a NAT, in which both sides have made a hole.
    Punched,
    /// A relay forwards datagrams, over UDP.
    RelayUdp,
    /// Datagrams go through a tunnel of TLS over TCP, to the peer or to a relay, for UDP is blocked here.
    RelayTls,
}

impl fmt::Display for PathKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Punched => f.write_str("punched"),
            Self::RelayUdp => f.write_str("relay-udp"),
            Self::RelayTls => f.write_str("relay-tls"),
        }
    }
}
