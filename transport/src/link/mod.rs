//! A [`Link`]: one authenticated connection to a peer, and who hears of it.
//!
//! - `authenticated`: what a handshake leaves, of which a link is made
//! - `connect_error`: why none came to be
//! - `cid_guard`: a connection's share in the socket's table of handles

pub(crate) mod authenticated;
pub(crate) mod cid_guard;
pub(crate) mod connect_error;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use quinn::VarInt;

use crate::{
    identity::PeerId,
    limits,
    link::cid_guard::Lease,
    path::{
        kind::PathKind,
        order::{Happened, LinkOrder},
        pulse::{Expecting, PingError, Pulse, Watching},
    },
    peer_ref::hints::Origin,
    placement::inline::Inline,
    quic::Windows,
    tunnel::is_far_end,
    wire::{
        closing::LinkDown,
        hello::{FEATURE_RELAY, FEATURE_RENDEZVOUS, InstanceId},
        road::Road,
    },
};

/// One authenticated QUIC connection to a peer whose HELLO has arrived. Clones are the same link.
#[derive(Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    peer: PeerId,
    instance: InstanceId,
    dialled: bool,
    features: u64,
    rank: [u8; 16],
    connection: quinn::Connection,
    driver: Inline,
    lease: Lease,
    pulse: Arc<Pulse>,
    orders: actix::WeakRecipient<LinkOrder>,
    introduced: Option<Box<[SocketAddr]>>,
    version: AtomicU64,
    windows: Windows,
}

/// What a link is made of.
pub(crate) struct Parts {
    pub(crate) id: u64,
    pub(crate) peer: PeerId,
    /// Which start of the peer it leads to.
    pub(crate) instance: InstanceId,
    /// Whether this side dialled.
    pub(crate) dialled: bool,
    /// The same on both sides, and like nothing else: settles which of two equal links stays.
    pub(crate) rank: [u8; 16],
    pub(crate) connection: quinn::Connection,
    /// The task that drives it.
    pub(crate) driver: Inline,
    pub(crate) lease: Lease,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) orders: actix::WeakRecipient<LinkOrder>,
    /// What the peer understands beyond version 1 of the wire format, by its HELLO.
    pub(crate) features: u64,
    /// If a rendezvous was needed: the addresses that the peer names.
    pub(crate) introduced: Option<Box<[SocketAddr]>>,
    /// That of the peer's reference; 0 if it has shown none.
    pub(crate) version: u64,
    /// What the peer may send unread, and how many streams it may open.
    pub(crate) windows: Windows,
}

impl Link {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            id,
            peer,
            instance,
            dialled,
            rank,
            connection,
            driver,
            lease,
            pulse,
            orders,
            features,
            introduced,
            version,
            windows,
        } = parts;
        let version = AtomicU64::new(version);
        let inner = Inner {
            id,
            peer,
            instance,
            dialled,
            features,
            rank,
            connection,
            driver,
            lease,
            pulse,
            orders,
            introduced,
            version,
            windows,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The key that the peer proved to hold.
    pub fn peer(&self) -> PeerId {
        self.inner.peer
    }

    /// Which start of the peer this link leads to.
    pub fn instance(&self) -> InstanceId {
        self.inner.instance
    }

    /// Unique among the links of this process.
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// Whether the peer serves as a rendezvous.
    pub(crate) fn serves(&self) -> bool {
        self.has_feature(FEATURE_RENDEZVOUS)
    }

    /// Whether the peer named this bit in its HELLO, such as [`FEATURE_CANCEL`](crate::FEATURE_CANCEL).
    pub fn has_feature(&self, feature: u64) -> bool {
        self.inner.features & feature != 0
    }

    /// Whether the peer says that it relays between those whom it introduces.
    pub(crate) fn relays(&self) -> bool {
        self.has_feature(FEATURE_RELAY)
    }

    /// Whether this side dialled; the dialler opens what exists once per link.
    pub fn dialled(&self) -> bool {
        self.inner.dialled
    }

    /// The version of the newest reference of the peer's that was tried in place of this link.
    pub(crate) fn known_version(&self) -> u64 {
        self.inner.version.load(Ordering::Relaxed)
    }

    pub(crate) fn set_known_version(&self, version: u64) {
        self.inner.version.store(version, Ordering::Relaxed);
    }

    /// The QUIC connection. Its first two-way stream is taken (HELLO); all others are the user's.
    pub fn quic(&self) -> &quinn::Connection {
        &self.inner.connection
    }

    /// Bytes that the peer may send unread: over all streams of the connection, if that isn't [widened](Self::widen), and on each.
    pub fn receive_windows(&self) -> (u64, u64) {
        let Windows { connection, stream, .. } = self.inner.windows;
        (connection.into(), stream.into())
    }

    /// Lets the peer send so many more bytes unread than at first, over all streams, and keep so many more one-way streams open. Each call
    /// replaces the one before.
    pub fn widen(&self, bytes: u64, streams: u32) {
        let Windows { connection, bodies_max, .. } = self.inner.windows;
        let window = u64::from(connection).saturating_add(bytes);
        let window = VarInt::from_u64(window).unwrap_or(VarInt::MAX);
        self.inner.connection.set_receive_window(window);
        let streams = VarInt::from_u32(bodies_max.saturating_add(streams));
        self.inner.connection.set_max_concurrent_uni_streams(streams);
    }

    /// Runs `write` and sends at once, on this thread, what it wrote to streams of the connection, rather than waking the
    /// network thread for it: for little that is waited for. `false`, and `write` was not run: the connection
    /// has ended, or the network thread is at work on it, or this is that thread. It must neither wait nor send to the same link in this way.
    pub fn send_here(&self, write: impl FnOnce()) -> bool {
        self.inner.driver.run_after(write)
    }

    /// QUIC's estimate of the round-trip time.
    pub fn rtt(&self) -> Duration {
        self.inner.connection.rtt()
    }

    /// The peer's address on the road in use, or that of the relay.
    pub fn via(&self) -> SocketAddr {
        self.inner.lease.via()
    }

    /// The network that the peer's datagrams come from on the road in use (/24 of IPv4, /48 of IPv6), and whether it is
    /// that of a relay, which others share. `None` while no road is in use.
    pub fn network(&self) -> Option<(IpAddr, bool)> {
        let road = self.inner.lease.road()?;
        Some((limits::prefix(self.via().ip().to_canonical()), road.flow.is_some()))
    }

    /// The kind of the road in use.
    pub fn path(&self) -> PathKind {
        self.inner.lease.road().map_or(PathKind::Direct, |road| self.kind(&road))
    }

    /// Whose word it is what the peer says of others, as far as it decides where that may lead this host.
    pub fn origin(&self) -> Origin {
        Origin::of(self.inner.lease.road())
    }

    /// How often this side has sent along another road than before, since the handshake. The peer's own changes aren't
    /// counted: each side chooses for itself.
    pub fn road_changes(&self) -> u64 {
        self.inner.pulse.changes()
    }

    /// The kind of a road to this peer.
    pub(crate) fn kind(&self, road: &Road) -> PathKind {
        match &self.inner.introduced {
            _ if is_far_end(road.remote) => PathKind::RelayTls,
            _ if road.flow.is_some() => PathKind::RelayUdp,
            Some(named) if !named.contains(&road.remote) => PathKind::Punched,
            _ => PathKind::Direct,
        }
    }

    /// Whether the link has ended.
    pub fn is_closed(&self) -> bool {
        self.inner.connection.close_reason().is_some()
    }

    /// Ends the link; the peer gets `reason` as [`LinkDown::Closed`]. What wasn't acknowledged yet may
    /// be lost.
    pub fn close(&self, reason: &str) {
        self.end(LinkDown::Local { reason: reason.to_owned() });
    }

    /// Says that all of our own lanes on a draining link have ended, and that the peer's application has
    /// acknowledged all that was in them: the link closes as soon as the peer has said so too, and what
    /// isn't read then is lost. Without effect on a link that isn't draining.
    pub fn drained(&self) {
        self.order(Happened::Drained);
    }

    /// While any of these lives, the peer is probed each half second, so that its silence is noticed
    /// in time. Cheap enough for every request.
    pub fn expect_answers(&self) -> Expecting {
        self.inner.pulse.expect_answers()
    }

    /// While any of these lives, the peer is probed each two seconds or as [`Patience::watch_every`](crate::Patience::watch_every)
    /// says, and more often after the first of these that isn't answered. So its silence, or its restart, is noticed soon though nothing is expected of it.
    pub fn watch(&self) -> Watching {
        self.inner.pulse.watch()
    }

    /// Sends a probe of our own, outside QUIC, and waits for its answer.
    pub async fn ping(&self) -> Result<Duration, PingError> {
        self.inner.pulse.ping().await
    }

    pub(crate) fn pulse(&self) -> &Arc<Pulse> {
        &self.inner.pulse
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.inner.lease
    }

    /// Higher wins: the lower key's dial, and between equals what both sides see alike.
    pub(crate) fn rank(&self, own: PeerId) -> (bool, [u8; 16]) {
        (self.inner.dialled == (own < self.inner.peer), self.inner.rank)
    }

    /// Ends the connection for `why`, which is also what this side will report.
    pub(crate) fn end(&self, why: LinkDown) {
        let (code, reason) = (why.code(), why.reason());
        self.order(Happened::Ending { why });
        self.inner.connection.close(code, reason.as_bytes());
    }

    fn order(&self, what: Happened) {
        if let Some(actor) = self.inner.orders.upgrade() {
            actor.do_send(LinkOrder { link: self.inner.id, what });
        }
    }
}

impl PartialEq for Link {
    fn eq(&self, other: &Self) -> bool {
        self.inner.id == other.inner.id
    }
}

impl Eq for Link {}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("id", &self.inner.id)
            .field("peer", &self.inner.peer)
            .field("via", &self.via())
            .finish_non_exhaustive()
    }
}

/// Hears about links. Called on the network thread: it must not block.
///
/// At most one link per peer is *up* at a time, and new work goes there. When two connections to one
/// peer exist (both sides dialled), one is up and the other drains.
pub trait Observer: Send + Sync + 'static {
    /// `link` is the one for all new work with its peer; it may be one that was draining before.
    fn link_up(&self, link: Link);

    /// `link` is a duplicate: serve what the peer still sends on it, move your own work to the link that
    /// is up, then call [`Link::drained`]. It may come for a link that never was up.
    fn link_draining(&self, link: Link);

    /// `link` has ended; the last that is said about it.
    fn link_down(&self, link: Link, reason: LinkDown);

    /// The peer hasn't answered for `unreachable_after`; what waits for it should end, outcome unknown.
    fn unreachable(&self, peer: PeerId);

    /// The peer answers again after [`Observer::unreachable`].
    fn reachable(&self, peer: PeerId);
}
