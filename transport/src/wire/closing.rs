//! How a link ends, and how that is told: the codes and reasons with which QUIC connections are closed.

use std::fmt;

use quinn::{ConnectionError, VarInt};

use crate::ground::sanitize::printable;

/// Why a link ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkDown {
    /// The peer closed this link on purpose and said why.
    Closed {
        /// Its words, at most as long as fits a packet.
        reason: String,
    },
    /// The peer's endpoint is shutting down.
    Shutdown {
        /// Its words.
        reason: String,
    },
    /// A duplicate of another link to the same peer ended after it was drained: nothing was lost.
    Duplicate,
    /// The peer restarted: it no longer knows this link, or its new instance connected.
    Restarted,
    /// Another host, or another process on this one, uses *this* host's key too, and was connected to the peer after it. Give
    /// each its own key.
    KeyInUse,
    /// The peer didn't answer for as long as `peer_gone_after` says.
    Gone,
    /// This side closed it.
    Local {
        /// The words given to [`Link::close`](crate::Link::close) or `Endpoint::close`.
        reason: String,
    },
    /// One side broke the protocol; the connection was ended with this text.
    Broken(String),
}

impl fmt::Display for LinkDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { reason } => write!(f, "the peer closed the link: {reason}"),
            Self::Shutdown { reason } => write!(f, "the peer shut down: {reason}"),
            Self::Duplicate => f.write_str("a duplicate link was drained and closed"),
            Self::Restarted => f.write_str("the peer restarted"),
            Self::KeyInUse => f.write_str("this host's key is in use elsewhere"),
            Self::Gone => f.write_str("the peer didn't answer any more"),
            Self::Local { reason } => write!(f, "closed by this side: {reason}"),
            Self::Broken(text) => write!(f, "the connection broke: {text}"),
        }
    }
}

/// Codes with which a connection is closed, as docs/wire.md lists them.
pub(crate) mod code {
    use quinn::VarInt;

    pub(crate) const CLOSED: VarInt = VarInt::from_u32(1);
    pub(crate) const SHUTDOWN: VarInt = VarInt::from_u32(2);
    pub(crate) const DUPLICATE: VarInt = VarInt::from_u32(3);
    pub(crate) const REPLACED: VarInt = VarInt::from_u32(4);
    pub(crate) const GONE: VarInt = VarInt::from_u32(5);
    pub(crate) const PROTOCOL: VarInt = VarInt::from_u32(6);
    pub(crate) const UNWANTED: VarInt = VarInt::from_u32(7);
}

impl LinkDown {
    /// What the end of a QUIC connection means for its link.
    pub(crate) fn of(error: &ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let reason = printable(&String::from_utf8_lossy(&close.reason));
                match close.error_code {
                    code::SHUTDOWN => Self::Shutdown { reason },
                    code::DUPLICATE => Self::Duplicate,
                    // Said to the older instance. That of a restart is dead and doesn't hear it.
                    code::REPLACED => Self::KeyInUse,
                    code::GONE => Self::Gone,
                    code::PROTOCOL => Self::Broken(reason),
                    _ => Self::Closed { reason },
                }
            }
            ConnectionError::Reset => Self::Restarted,
            ConnectionError::LocallyClosed => Self::Local { reason: String::new() },
            error => Self::Broken(printable(&error.to_string())),
        }
    }

    /// How this end is told to the other side.
    pub(crate) fn code(&self) -> VarInt {
        match self {
            Self::Closed { .. } | Self::Local { .. } => code::CLOSED,
            Self::Shutdown { .. } => code::SHUTDOWN,
            Self::Duplicate => code::DUPLICATE,
            Self::Restarted | Self::KeyInUse => code::REPLACED,
            Self::Gone => code::GONE,
            Self::Broken(_) => code::PROTOCOL,
        }
    }

    /// What the other side is told in words.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Local { reason } | Self::Closed { reason } | Self::Shutdown { reason } => {
                reason.clone()
            }
            other => other.to_string(),
        }
    }
}
