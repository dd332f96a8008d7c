//! Who asks: the authenticated sender of the message that a handler has in hand.

use actix::{Actor, Context};
use std::cell::Cell;
use webmesh_transport::PeerId;

/// The authenticated sender of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    peer: PeerId,
}

impl Caller {
    pub(crate) fn new(peer: PeerId) -> Self {
        Self { peer }
    }

    /// The peer whose key authenticated the connection on which the message came. For a message from the same mesh it is
    /// the mesh's own id.
    pub fn peer(&self) -> PeerId {
        self.peer
    }
}

thread_local! {
    static CALLER: Cell<Option<Caller>> = const { Cell::new(None) };
}

/// Who sent the message in hand.
///
/// `Some` only in the synchronous part of `handle`, and only for messages that came through an
/// [`ActorRef`](crate::ActorRef). Copy it before going asynchronous: inside the futures that a handler returns, in
/// timers, and for messages sent through a plain actix `Addr` it is `None` (never another message's caller), which an
/// access check must treat as refusal.
pub fn caller<A: Actor<Context = Context<A>>>(_ctx: &Context<A>) -> Option<Caller> {
    CALLER.get()
}

/// While it lives, [`caller`] answers with the given one on this thread. Handlers don't nest, so there's no outer one.
pub(crate) struct CallerScope(());

impl CallerScope {
    pub(crate) fn enter(caller: Caller) -> Self {
        CALLER.set(Some(caller));
        Self(())
    }
}

impl Drop for CallerScope {
    fn drop(&mut self) {
        CALLER.set(None);
    }
}
