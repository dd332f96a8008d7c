//! What a link and its probes tell the connection actor of their peer.

use actix::Message;

use crate::{
    identity::PeerId,
    wire::{closing::LinkDown, road::Road},
};

/// What has happened to the link `link`.
pub(crate) struct LinkOrder {
    pub(crate) link: u64,
    pub(crate) what: Happened,
}

/// What may happen to a link.
pub(crate) enum Happened {
    /// Answers are expected from now on, or the peer is watched.
    Expect,
    /// Somebody in the peer's name says that it isn't known there any more: the peer is to be asked.
    Doubted,
    /// Something was sent along its relayed road, and nothing came back for a while.
    Silent,
    /// The relay `by` has lost the flow that one of its roads leads through.
    Lost { by: PeerId, road: Road },
    /// The user of the link, which is draining, is done with it.
    Drained,
    /// This side is about to close it.
    Ending { why: LinkDown },
}

impl Message for LinkOrder {
    type Result = ();
}
