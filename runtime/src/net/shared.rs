//! What all connections of a mesh share, and what they ask of the mesh.

use crate::codec::frame::LANE_FRAME_MAX;
use crate::codec::payload::ENVELOPE_MAX;
use crate::codec::wire_ref::WireRef;
use crate::net::inbound::abandoned::Abandoned;
use crate::net::inbound::budget::Budget;
use crate::net::inbound::succession::Succession;
use crate::net::names::Own;
use crate::net::objects::Objects;
use crate::net::outbound::room::{Limits, Room};
use crate::net::query::ResolveError;
use crate::net::refusals::{Reason, Refusals};
use crate::net::remote_watches::Watches;
use crate::refs::watch::DownReason;
use std::sync::{Arc, OnceLock, Weak};
use webmesh_transport::PeerId;

/// What the windows of all links may grant together, in bytes; single large messages come on top. A guess.
const WINDOWS_MAX: u64 = 256 << 20;

/// Messages of the largest size that may be arriving at a time, over all links. A guess.
const LARGEST_AT_ONCE: u64 = 8;

/// Replies that wait for their askers to read them, over all links and beyond what each lane may have, in messages of the
/// largest size. A guess.
const REPLIES_MAX: u64 = 16;

/// What a message or reply of the largest content takes of memory: its envelope and its frame come on top.
pub(crate) const fn largest(message_max: usize) -> u64 {
    message_max as u64 + (ENVELOPE_MAX + LANE_FRAME_MAX) as u64
}

/// How large things may be, in bytes, and how many.
pub(crate) struct Sizes {
    /// A message or reply, bodies included.
    pub(crate) message_max: usize,
    /// Large replies that are held for askers.
    pub(crate) replies_max: Limits,
    /// Lanes, in number, that this side opens on one link.
    pub(crate) lanes_max: usize,
}

/// The mesh, as its connections know it.
pub(crate) trait Host: Send + Sync {
    /// What peers may reach.
    fn objects(&self) -> &Objects;
    /// A peer asks for a name.
    ///
    /// # Errors
    /// [`ResolveError`], which the peer is told, and the true reason, which it isn't.
    fn answer_query(
        &self,
        name: &str,
        requirement: &str,
        protocol: &str,
        caller: PeerId,
    ) -> Result<WireRef, (ResolveError, Reason)>;
    /// What stands for an actor towards those who watch it by a name.
    fn actor_number(&self, own: &Own) -> u64;
    /// Why there is no object that a ref of this epoch names.
    fn absent(&self, epoch: u64) -> DownReason;
}

/// What all connections of one mesh share.
pub(crate) struct Shared {
    host: OnceLock<Weak<dyn Host>>,
    /// The largest message, in bytes.
    pub(crate) message_max: usize,
    /// Lanes, in number, that this side opens on one link.
    pub(crate) lanes_max: usize,
    /// This mesh's watches on actors of others.
    pub(crate) watches: Watches,
    pub(crate) budget: Arc<Budget>,
    pub(crate) replies_budget: Arc<Budget>,
    pub(crate) reply_room: Arc<Room>,
    pub(crate) succession: Arc<Succession>,
    /// Asks that were given up while actors have them.
    pub(crate) abandoned: Abandoned,
    pub(crate) refusals: Arc<Refusals>,
}

impl Shared {
    pub(crate) fn new(sizes: Sizes) -> Arc<Self> {
        let Sizes { message_max, replies_max, lanes_max } = sizes;
        Arc::new(Self {
            host: OnceLock::new(),
            message_max,
            lanes_max,
            watches: Watches::default(),
            budget: Budget::new(WINDOWS_MAX, LARGEST_AT_ONCE * largest(message_max), None),
            replies_budget: Budget::new(REPLIES_MAX * largest(message_max), 0, None),
            reply_room: Room::new(replies_max),
            succession: Arc::default(),
            abandoned: Abandoned::default(),
            refusals: Arc::default(),
        })
    }

    /// The mesh is there.
    pub(crate) fn set_host(&self, host: Weak<dyn Host>) {
        let _ = self.host.set(host);
    }

    /// `None`: it isn't there yet, or no more.
    pub(crate) fn host(&self) -> Option<Arc<dyn Host>> {
        self.host.get()?.upgrade()
    }
}
