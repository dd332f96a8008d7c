//! What the actors of an endpoint are told: [`Order`]s those of its peers, [`News`] the one that keeps its sessions with rendezvous.

use std::net::SocketAddr;

use actix::Message;
use tokio::sync::oneshot;

use crate::{
    identity::PeerId,
    link::{Link, authenticated::Authenticated, connect_error::ConnectError},
    path::explain::Explanation,
    peer_ref::PeerRef,
    shared::{dial_targets::Places, newer::Newer},
    wire::{
        closing::LinkDown,
        hello::Note,
        rendezvous::{Candidates, Message as Said, Refusal},
        road::Road,
    },
};

/// Who waits for a link.
pub(crate) type Waiter = oneshot::Sender<Result<Link, ConnectError>>;

/// What a connection actor is told.
pub(crate) enum Order {
    /// Somebody wants a link; these addresses may help.
    Dial { places: Places, waiter: Waiter },
    /// The peer may be elsewhere than its link leads.
    Renew { newer: Newer, waiter: Option<Waiter> },
    /// The link beside which the peer is dialled has answered.
    Works { link: u64 },
    /// The links to the peer are no longer wanted; says whether there were any.
    Disconnect { reason: String, done: oneshot::Sender<bool> },
    /// A handshake with this peer is complete, HELLO included. Those wait for it who dialled an address alone.
    Established { authenticated: Box<Authenticated>, waiters: Vec<Waiter> },
    /// The dial under way failed.
    DialFailed(ConnectError),
    /// The link that is up is to be asked whether it is still known to the peer: a road that leads through the peer is silent.
    Knock,
    /// A road in use leads through the peer, and has carried something.
    Depended,
    /// A session with the rendezvous `by` stands again.
    Attached { by: PeerId },
    /// The peer said something about a link.
    Noted { link: u64, note: Note },
    /// Something to be said to the peer.
    Say(Said),
    /// The peer is to introduce this host to another.
    Ask { target: PeerId, candidates: Candidates, waiter: oneshot::Sender<Answer> },
    /// A rendezvous of the peer has introduced this host to it.
    Met(Meeting),
    /// A rendezvous says that the peer is about to call, and where it is seen.
    Expected { by: PeerId, road: Option<Road>, candidates: Candidates },
    /// How is the peer reached, and why not better?
    Explain(oneshot::Sender<Explanation>),
    /// No further rendezvous will introduce this host to the peer.
    MeetingsOver {
        /// Why one of them didn't introduce this host to the peer.
        refusal: Option<Refusal>,
        /// Whether all of them say that it isn't there.
        absent: bool,
        /// Whether some did introduce it, and none of them relays.
        unrelayed: bool,
    },
    /// The connection of a link ended.
    Closed { link: u64, why: LinkDown },
}

impl Message for Order {
    type Result = ();
}

/// What a rendezvous answered to an [`Order::Ask`], and the road to it.
pub(crate) type Answer = (Said, Road);

/// A rendezvous introduced this host to a peer.
pub(crate) struct Meeting {
    /// Which.
    pub(crate) by: PeerId,
    /// The road through the rendezvous, if it relays.
    pub(crate) road: Option<Road>,
    /// Where it sees the peer.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// What a rendezvous did.
pub(crate) enum News {
    /// The dial to the rendezvous of this number ended: who answered there, if anyone did.
    Dialled { index: usize, peer: Option<PeerId> },
    /// A peer said something that is meant for whom it serves.
    Said { peer: PeerId, road: Road, said: Said },
    /// The last connection to a peer has ended.
    Gone { peer: PeerId },
    /// There is a connection to a peer that serves.
    Connected { peer: PeerId },
    /// A rendezvous showed that it is there; where it sees this host, if it said so.
    Kept { peer: PeerId, seen: Option<SocketAddr> },
    /// Somebody wants to know what the NAT in front of this host is like.
    Look,
    /// One more rendezvous is known.
    Join(PeerRef),
    /// Somebody waits for the sessions to stand.
    Await(oneshot::Sender<()>),
}

impl Message for News {
    type Result = ();
}
