//! The network of one mesh: its endpoint, a session per link, a lane per object of another mesh.

use crate::codec::wire_ref::WireRef;
use crate::ground::error::Fault;
use crate::net::far_target::FarTarget;
use crate::net::network::{Drain, InDoubt, Network, Undrained};
use crate::net::outbound::core::Owed;
use crate::net::outbound::lane::{Lane, LaneKeeper};
use crate::net::outbound::pump;
use crate::net::query::{Query, ResolveError};
use crate::net::refusals::Refusals;
use crate::net::remote_watches::LostTells;
use crate::net::session::Session;
use crate::net::shared::{Host, Shared, Sizes};
use crate::refs::binder::WeakBinder;
use crate::refs::target::RemoteTarget;
use crate::refs::watch::{DownReason, Event, WatchId, WatchSink};
use dashmap::{DashMap, DashSet};
use futures_util::future::BoxFuture;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use webmesh_transport::{
    ConnectError, Endpoint, Excerpt, Hints, Link, LinkDown, Observer, Origin, PeerId, PeerRef,
    Placement,
};

/// How often lanes are looked after.
const ROUND: Duration = Duration::from_secs(1);

/// Rounds after which an unused lane gives up its stream. A guess: opening the next one costs nothing but a few bytes.
const IDLE_ROUNDS: u64 = 60;

/// Rounds for which a lane that lost tells is kept, though every ref that was used is gone: one that wasn't may yet hear of it. A guess.
const OWING_ROUNDS: u64 = 600;

/// How often a lane tries to get a stream on a link that ends before it has one.
const OPEN_TRIES: usize = 5;

/// The longest wait for the last answers to arrive. A guess: two round trips between any two hosts with a fair connection.
const FAREWELL_MAX: Duration = Duration::from_millis(500);

/// How often a name is asked for while links end before they answer.
const RESOLVE_TRIES: usize = 3;

/// How long a name's resolution may take once there's a link.
const RESOLVE_WITHIN: Duration = Duration::from_secs(10);

/// The network of one mesh.
pub(crate) struct Links {
    /// The mesh that refs in replies are bound to.
    binder: OnceLock<WeakBinder>,
    placement: Arc<dyn Placement>,
    endpoint: OnceLock<Endpoint>,
    sessions: DashMap<u64, Arc<Session>>,
    lanes: DashMap<(PeerId, [u8; 16], String), Arc<Lane>>,
    silent: DashSet<PeerId>,
    /// Something changed about which peers can be reached.
    news: Notify,
    /// A peer has said what became of a stream of messages.
    settled: Arc<Notify>,
    /// What hasn't arrived is taken back: lanes that begin take nothing.
    taking_back: AtomicBool,
    /// The only strong one: sessions know by it that there is no network any more.
    shared: Arc<Shared>,
}

impl Links {
    /// The network of a mesh that is being started.
    pub(crate) fn new(placement: Arc<dyn Placement>, sizes: Sizes) -> Arc<Self> {
        Arc::new(Self {
            binder: OnceLock::new(),
            placement,
            endpoint: OnceLock::new(),
            sessions: DashMap::new(),
            lanes: DashMap::new(),
            silent: DashSet::new(),
            news: Notify::new(),
            settled: Arc::default(),
            taking_back: AtomicBool::new(false),
            shared: Shared::new(sizes),
        })
    }

    /// What the endpoint is to tell of its links.
    pub(crate) fn observer(self: &Arc<Self>) -> Arc<dyn Observer> {
        Arc::new(Eyes(Arc::downgrade(self)))
    }

    /// What the mesh holds of it.
    pub(crate) fn network(self: Arc<Self>) -> Arc<dyn Network> {
        Arc::new(LinkNetwork(self))
    }

    /// The mesh and its endpoint are there.
    pub(crate) fn start(
        self: &Arc<Self>,
        host: Weak<dyn Host>,
        binder: WeakBinder,
        endpoint: Endpoint,
    ) {
        self.shared.set_host(host);
        let _ = self.binder.set(binder);
        let _ = self.endpoint.set(endpoint);
        let housekeeper = Arc::downgrade(self);
        self.placement.spawn_network(Box::new(move || {
            Box::pin(async move {
                for round in 1.. {
                    tokio::time::sleep(ROUND).await;
                    match housekeeper.upgrade() {
                        Some(links) => links.tidy(round),
                        None => return,
                    }
                }
            })
        }));
    }

    /// What this mesh refuses its peers.
    pub(crate) fn refusals(&self) -> &Arc<Refusals> {
        &self.shared.refusals
    }

    /// The endpoint, as soon as the mesh has started.
    fn endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.get()
    }

    /// Starts a session, or finds the one that is there. Only for what the endpoint tells of a link before its end: a
    /// session of a link that has ended would stay for ever.
    fn start_session(self: &Arc<Self>, link: &Link) -> Arc<Session> {
        self.sessions
            .entry(link.id())
            .or_insert_with(|| Session::start(link.clone(), &self.shared))
            .clone()
    }

    /// The session of a link; `None`: the link has ended.
    fn session(&self, link: &Link) -> Option<Arc<Session>> {
        self.sessions.get(&link.id()).map(|session| session.clone())
    }

    /// The session for new work with a peer, connecting if need be.
    async fn session_to(
        self: &Arc<Self>,
        peer: PeerId,
        hints: &[Hints],
    ) -> Result<Arc<Session>, Fault> {
        let endpoint = self.endpoint().ok_or(Fault::ShutDown)?;
        if self.silent.contains(&peer) {
            endpoint.look_for(peer, hints);
        }
        while self.silent.contains(&peer) {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if !self.silent.contains(&peer) {
                break;
            }
            news.await;
        }
        for _ in 0..OPEN_TRIES {
            match endpoint.connect_peer(peer, hints).await {
                Ok(link) => {
                    if let Some(session) = self.session(&link) {
                        return Ok(session);
                    }
                }
                Err(ConnectError::Closed) => return Err(Fault::ShutDown),
                Err(error) => {
                    return Err(Fault::Connect(crate::codec::payload::shorten(error.to_string())));
                }
            }
        }
        Err(Fault::PeerGone)
    }

    async fn resolve_once(
        self: &Arc<Self>,
        at: &PeerRef,
        query: Query,
    ) -> Result<WireRef, ResolveError> {
        let endpoint = self.endpoint().ok_or(ResolveError::ShutDown)?;
        let link = endpoint.connect(at).await.map_err(|error| match error {
            ConnectError::Closed => ResolveError::ShutDown,
            error => ResolveError::Connect(error.to_string()),
        })?;
        // Sessions start on the network's thread.
        let (done, answer) = tokio::sync::oneshot::channel();
        let links = self.clone();
        self.placement.spawn_network(Box::new(move || {
            Box::pin(async move {
                let answer = match links.session(&link) {
                    Some(session) => {
                        tokio::time::timeout(RESOLVE_WITHIN, session.resolve(&query)).await.ok()
                    }
                    None => None,
                };
                let _ = done.send(answer.unwrap_or(Err(ResolveError::NoAnswer)));
            })
        }));
        answer.await.unwrap_or(Err(ResolveError::ShutDown))
    }

    /// The lane to an object of another mesh, which is begun if it is the first use of it.
    pub(crate) fn lane(self: &Arc<Self>, wire: &WireRef, origin: Origin) -> Arc<Lane> {
        let key = (wire.peer, wire.object.0, wire.protocol.clone().into_owned());
        let keeper: Weak<Self> = Arc::downgrade(self);
        let begin = || Arc::new(Lane::new(keeper, wire, self.shared.message_max));
        let lane = self.lanes.entry(key).or_insert_with(begin).clone();
        // After it is in the table, which `withdraw` looks through once it has said so.
        if self.taking_back.load(Ordering::Acquire) {
            lane.change(|state, _| state.core.take_back(&Fault::ShutDown));
        }
        let hints = wire.whereabouts(origin);
        // What is held back for a silent peer goes on as soon as that is found, and a new ref may say where.
        self.look_for(wire.peer, &hints);
        lane.add_hints(hints);
        lane
    }

    /// Looks for a peer that has fallen silent.
    fn look_for(&self, peer: PeerId, hints: &Hints) {
        if self.silent.contains(&peer)
            && let Some(endpoint) = self.endpoint()
        {
            endpoint.look_for(peer, std::slice::from_ref(hints));
        }
    }

    /// Looks for the silent peers that are watched: one that was started anew behind a router, or moved, can't be told by its link.
    fn look_for_watched(&self) {
        let mut silent: Vec<_> = self.silent.iter().map(|peer| *peer).collect();
        // The table's own order is another one in each run.
        silent.sort_unstable();
        for peer in silent {
            let hints = self.shared.watches.whereabouts(&peer);
            if !hints.is_empty()
                && let Some(endpoint) = self.endpoint()
            {
                endpoint.look_for(peer, &hints);
            }
        }
    }

    /// Watches an object of another mesh.
    pub(crate) fn watch(
        self: &Arc<Self>,
        wire: &WireRef,
        origin: Origin,
        publication: Option<u64>,
        watch: WatchId,
        sink: Arc<dyn WatchSink>,
    ) {
        let (peer, hints) = (wire.peer, [wire.whereabouts(origin)]);
        self.shared.watches.add(watch, wire.clone(), hints[0].clone(), publication, sink);
        let links = self.clone();
        self.placement.spawn_network(Box::new(move || {
            Box::pin(async move {
                match links.session_to(peer, &hints).await {
                    Ok(session) => links.tell_watches(&session),
                    // Not those of other refs, whose hints may be better.
                    Err(_) => links.shared.watches.fail(watch, DownReason::PeerGone),
                }
            })
        }));
    }

    /// Says over a session what is watched there.
    fn tell_watches(&self, session: &Session) {
        self.shared.watches.tell(session.link(), |number, object, epoch, actor| {
            session.watch(number, object, epoch, actor);
        });
    }

    /// Ends a watch.
    pub(crate) fn unwatch(&self, watch: WatchId) {
        if let Some((peer, number)) = self.shared.watches.remove(watch) {
            for session in self.sessions_of(peer) {
                session.unwatch(number);
            }
        }
    }

    fn sessions_of(&self, peer: PeerId) -> Vec<Arc<Session>> {
        let of_peer = self.sessions.iter().filter(|entry| entry.link().peer() == peer);
        let mut sessions: Vec<_> = of_peer.map(|entry| entry.clone()).collect();
        sessions.sort_unstable_by_key(|session| session.link().id());
        sessions
    }

    /// In an order that doesn't depend on the table's, which is another one in each run.
    fn lanes_where(&self, fits: impl Fn(&Arc<Lane>) -> bool) -> Vec<Arc<Lane>> {
        let fitting = self.lanes.iter().filter(|entry| fits(entry));
        let mut lanes: Vec<_> = fitting.map(|entry| entry.clone()).collect();
        lanes.sort_unstable_by_key(|lane| (lane.peer, lane.object));
        lanes
    }

    fn lanes_to(&self, peer: PeerId) -> Vec<Arc<Lane>> {
        self.lanes_where(|lane| lane.peer == peer)
    }

    /// The housekeeping's round.
    fn tidy(&self, round: u64) {
        self.shared.reply_room.round();
        self.look_for_watched();
        for lane in self.lanes_where(|lane| lane.tidy(round) >= IDLE_ROUNDS) {
            lane.change(|state, fx| {
                if state.core.is_quiet() {
                    state.core.drain(fx);
                }
            });
        }
        // No ref that was used is left, and nothing is left to be told: the table's own is the last.
        self.lanes.retain(|_, lane| {
            let news = lane.look(|state| {
                let owes = state.core.owes_news() && round - lane.last_used() < OWING_ROUNDS;
                owes || !(state.core.is_closed() && state.core.is_quiet())
            });
            Arc::strong_count(lane) > 1 || news
        });
    }

    fn up(self: &Arc<Self>, link: &Link) {
        let session = self.start_session(link);
        session.revive();
        self.silent.remove(&link.peer());
        self.news.notify_waiters();
        self.tell_watches(&session);
    }

    fn draining(self: &Arc<Self>, link: &Link) {
        self.start_session(link).drain();
    }

    fn down(self: &Arc<Self>, link: &Link, reason: &LinkDown) {
        let peer = link.peer();
        let fault = match reason {
            LinkDown::Restarted => Fault::PeerRestarted,
            LinkDown::Local { .. } if self.shared.host().is_none() => Fault::ShutDown,
            _ => Fault::PeerGone,
        };
        if let Some((_, session)) = self.sessions.remove(&link.id()) {
            session.down(&fault);
        }
        // With another link up, its watches and lanes have moved there or will.
        if self
            .endpoint()
            .is_some_and(|endpoint| endpoint.link(&peer).is_some_and(|up| up != *link))
        {
            return;
        }
        self.silent.remove(&peer);
        self.news.notify_waiters();
        let reason = match reason {
            LinkDown::Restarted => DownReason::Stale,
            LinkDown::KeyInUse => DownReason::KeyInUse,
            _ => DownReason::PeerGone,
        };
        self.shared.watches.peer_gone(peer, reason);
    }

    /// Has each lane end its stream behind what was accepted; says what of it hasn't arrived.
    fn drain(&self, how: Drain, refuse: bool) -> Undrained {
        let mut lanes_have = true;
        for lane in self.lanes_where(|_| true) {
            lanes_have &= lane.change(|state, fx| {
                if refuse {
                    state.core.refuse_new(&Fault::ShutDown);
                }
                state.core.drain(fx);
                state.core.owed().is_nothing() && (how == Drain::Promised || !state.core.is_open())
            });
        }
        let answers_have = self.sessions.iter().all(|session| match how {
            Drain::All => session.is_settled(),
            Drain::Promised => session.has_sent_answers(),
        });
        match (lanes_have, answers_have) {
            (true, true) => Undrained::Nothing,
            (_, false) => Undrained::Answers,
            (false, true) => Undrained::Lanes,
        }
    }

    /// Takes back what hasn't arrived.
    fn withdraw(&self) {
        self.taking_back.store(true, Ordering::Release);
        for lane in self.lanes_where(|_| true) {
            lane.change(|state, _| state.core.take_back(&Fault::ShutDown));
        }
        let of = self.sessions_in_doubt();
        of.iter().for_each(|session| session.withdraw());
    }

    /// The links to peers that have yet to say of some tell what became of it.
    fn sessions_in_doubt(&self) -> Vec<Arc<Session>> {
        let mut sessions: Vec<Arc<Session>> = Vec::new();
        let mut seen = HashSet::new();
        for lane in self.lanes_where(|lane| !self.silent.contains(&lane.peer)) {
            let session = lane.look(|state| {
                let session = state.session.as_ref().filter(|_| state.core.is_in_doubt())?;
                (!session.link().is_closed()).then(|| session.clone())
            });
            sessions.extend(session.filter(|session| seen.insert(session.link().id())));
        }
        sessions
    }

    /// Ends all lanes for good. Returns which tells were accepted and may not have arrived.
    fn end_lanes(&self) -> Owed {
        self.lanes_where(|_| true).iter().map(Lane::end).sum()
    }

    fn silence(&self, peer: PeerId) {
        self.silent.insert(peer);
        for lane in self.lanes_to(peer) {
            lane.change(|state, fx| {
                state.core.hold(true, fx);
                state.core.fail_asks(&Fault::Unreachable, fx);
            });
        }
        self.shared.watches.peer_event(peer, Event::Unreachable);
    }

    fn sound(&self, peer: PeerId) {
        self.silent.remove(&peer);
        self.news.notify_waiters();
        for lane in self.lanes_to(peer) {
            lane.change(|state, fx| state.core.hold(false, fx));
        }
        self.shared.watches.peer_event(peer, Event::Reachable);
    }
}

impl LaneKeeper for Links {
    fn open(self: Arc<Self>, lane: Arc<Lane>) {
        let links = self.clone();
        self.placement.spawn_network(Box::new(move || {
            Box::pin(async move {
                let mut fault = Fault::PeerGone;
                for _ in 0..OPEN_TRIES {
                    match links.session_to(lane.peer, &lane.hints()).await {
                        Err(error) => {
                            fault = error;
                            break;
                        }
                        Ok(session) if session.is_draining() => {
                            tokio::time::sleep(Duration::from_millis(1)).await
                        }
                        Ok(session) => {
                            session.make_room();
                            match pump::open(&session, &lane).await {
                                Ok(()) => return,
                                Err(_) => fault = session.why_down().await,
                            }
                        }
                    }
                }
                lane.change(|state, fx| state.core.open_failed(&fault, fx));
                links.lane_settled();
            })
        }));
    }

    fn lost_tells(&self, lane: &Lane, lost: LostTells) {
        self.shared.watches.lost_tells(lane.peer, lane.object, lost);
    }

    fn lane_settled(&self) {
        self.settled.notify_one();
    }
}

/// Refs may live on, and who waits for an answer to one must not wait in vain.
impl Drop for Links {
    fn drop(&mut self) {
        self.end_lanes();
    }
}

/// What the endpoint tells of its links.
struct Eyes(Weak<Links>);

impl Observer for Eyes {
    fn link_up(&self, link: Link) {
        if let Some(links) = self.0.upgrade() {
            links.up(&link);
        }
    }

    fn link_draining(&self, link: Link) {
        if let Some(links) = self.0.upgrade() {
            links.draining(&link);
        }
    }

    fn link_down(&self, link: Link, reason: LinkDown) {
        if let Some(links) = self.0.upgrade() {
            links.down(&link, &reason);
        }
    }

    fn unreachable(&self, peer: PeerId) {
        if let Some(links) = self.0.upgrade() {
            links.silence(peer);
        }
    }

    fn reachable(&self, peer: PeerId) {
        if let Some(links) = self.0.upgrade() {
            links.sound(peer);
        }
    }
}

/// The network of a mesh, as the mesh holds it.
struct LinkNetwork(Arc<Links>);

impl Network for LinkNetwork {
    fn silent(&self) -> HashSet<PeerId> {
        self.0.silent.iter().map(|peer| *peer).collect()
    }

    fn target(&self, wire: WireRef, origin: Origin) -> Arc<dyn RemoteTarget> {
        let binder = self.0.binder.get().cloned().unwrap_or_default();
        Arc::new(FarTarget::new(&self.0, wire, origin, binder))
    }

    fn origin_of(&self, peer: &PeerId) -> Origin {
        let link = self.0.endpoint().and_then(|endpoint| endpoint.link(peer));
        link.map_or(Origin::Internet, |link| link.origin())
    }

    fn look_for(&self, wire: &WireRef) {
        self.0.look_for(wire.peer, &wire.whereabouts(Origin::User));
    }

    fn resolve(
        &self,
        at: PeerRef,
        query: Query,
    ) -> BoxFuture<'static, Result<WireRef, ResolveError>> {
        let links = self.0.clone();
        Box::pin(async move {
            let mut answer = Err(ResolveError::NoAnswer);
            // A link may turn out to be a duplicate just when it's asked; then the other one knows as well.
            for _ in 0..RESOLVE_TRIES {
                answer = links.resolve_once(&at, query.clone()).await;
                if answer != Err(ResolveError::NoAnswer) {
                    break;
                }
            }
            if let Err(error) = &answer {
                let why = error.to_string();
                tracing::debug!(name = %Excerpt(&query.name), at = ?at.peer(), why = %Excerpt(&why), "not resolved");
            }
            let mut wire = answer?;
            // Where it was found is where it can be reached.
            wire.add_whereabouts(&at);
            Ok(wire)
        })
    }

    fn drain(&self, how: Drain, refuse: bool) -> Undrained {
        self.0.drain(how, refuse)
    }

    fn one_settled(&self) -> BoxFuture<'static, ()> {
        let settled = self.0.settled.clone();
        Box::pin(async move { settled.notified().await })
    }

    fn withdraw(&self) {
        self.0.withdraw();
    }

    fn in_doubt(&self) -> Vec<InDoubt> {
        let in_doubt = |session: &Arc<Session>| {
            let link = session.link();
            let heard = link.quic().stats().udp_rx.datagrams;
            InDoubt { link: link.id(), heard, trip: session.trip() }
        };
        self.0.sessions_in_doubt().iter().map(in_doubt).collect()
    }

    fn farewell(&self) -> Duration {
        // QUIC doesn't tell what has arrived of a stream that goes on: two round trips cover what isn't lost on the way.
        let spoken = self.0.sessions.iter();
        let trips = spoken.filter(|s| s.has_spoken()).map(|s| 2 * s.link().rtt()).max();
        trips.unwrap_or_default().min(FAREWELL_MAX)
    }

    fn end(&self) -> Owed {
        self.0.shared.watches.shut_down();
        self.0.end_lanes()
    }
}
