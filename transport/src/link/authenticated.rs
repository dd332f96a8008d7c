//! What a handshake leaves, of which a link is made.

use crate::{
    identity::PeerId,
    link::cid_guard::Lease,
    path::pulse::Secrets,
    placement::inline::Inline,
    wire::hello::{Hello, LinkStream},
};

/// A connection whose peer proved its key and said HELLO.
pub(crate) struct Authenticated {
    pub(crate) connection: quinn::Connection,
    pub(crate) driver: Inline,
    pub(crate) lease: Lease,
    pub(crate) secrets: Secrets,
    pub(crate) peer: PeerId,
    pub(crate) hello: Hello,
    pub(crate) stream: LinkStream,
    pub(crate) dialled: bool,
}
