//! The probes of one connection: sent, answered and timed, as the core in `roads` decides.

mod pulses;

pub(crate) use pulses::Pulses;

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use ring::hmac;
use tokio::sync::oneshot;

use super::{
    nonces::Nonces,
    roads::{Answered, Described, Output, Roads},
};
use crate::{
    ground::address::{is_public, plausible},
    identity::PeerId,
    nat::classify::Observation,
    path::{
        order::{Happened, LinkOrder},
        roads::PINGS_MAX,
    },
    quic::acks::Acks,
    socket::{handles::Mirror, mesh_socket::MeshSocket},
    wire::{
        frame::{FRAME_BYTES, Frame, MTU_MAX, Tag},
        road::{Reach, Road},
    },
};

/// How long an answer to [`Pulse::ping`] is waited for.
const PING_TIME_MAX: Duration = Duration::from_secs(5);

/// Between two doubts whether the peer still knows a connection, however often somebody says that it doesn't.
const DOUBT_EVERY: Duration = Duration::from_secs(1);

/// The label under which the key of probes is exported from TLS (RFC 5705).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-webmesh/1 link";

/// Why a ping had no result. The peer may be there all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// No answer came within five seconds.
    #[error("the peer didn't answer the ping")]
    Timeout,
    /// The link had ended, or so many pings are under way that this one was given up.
    #[error("the link ended before the ping was answered")]
    Closed,
}

/// What both ends of a connection derive from its TLS secrets.
pub(crate) struct Secrets {
    key: hmac::Key,
    to_dialler: Tag,
    to_other: Tag,
    /// The same on both sides; see `Link::rank`.
    pub(crate) rank: [u8; 16],
}

impl Secrets {
    /// `None` if the handshake isn't complete; must not happen.
    pub(crate) fn export(connection: &quinn::Connection) -> Option<Self> {
        let mut bytes = [0; 64];
        connection.export_keying_material(&mut bytes, EXPORTER_LABEL, b"").ok()?;
        let (key, rest) = bytes.split_first_chunk::<32>()?;
        let (to_dialler, rest) = rest.split_first_chunk::<8>()?;
        let (to_other, rest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            to_dialler: *to_dialler,
            to_other: *to_other,
            rank: rest.try_into().ok()?,
        })
    }
}

/// Keeps a peer under close watch while it lives.
#[must_use]
pub struct Expecting {
    pulse: Arc<Pulse>,
}

impl Drop for Expecting {
    fn drop(&mut self) {
        self.pulse.expecting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Has a peer probed, in the pauses that [`Patience::watch_every`](crate::Patience::watch_every) says, while it lives.
#[must_use]
pub struct Watching {
    pulse: Arc<Pulse>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.pulse.watching.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The probes of one connection.
pub(crate) struct Pulse {
    link: u64,
    peer: PeerId,
    key: hmac::Key,
    to_peer: Tag,
    to_us: Tag,
    handle: SocketAddr,
    socket: Arc<MeshSocket>,
    orders: actix::WeakRecipient<LinkOrder>,
    /// What QUIC got acknowledged; congestion control is told by it when the road changes.
    acks: Arc<Acks>,
    expecting: AtomicUsize,
    /// Watches on actors of the peer's.
    watching: AtomicUsize,
    /// How often another road was taken.
    changes: AtomicU64,
    /// Whether the connection actor knows that answers are expected.
    armed: AtomicBool,
    state: Mutex<State>,
}

struct State {
    roads: Roads,
    pings: VecDeque<(u64, oneshot::Sender<Duration>)>,
    /// A question where this host is seen from the other port of a rendezvous.
    observing: Option<(u64, SocketAddr)>,
    /// The last answer.
    heard: Instant,
    /// When the core will be woken.
    wake: Option<Instant>,
    /// Whether the socket looks after what is sent, and after how long it asks.
    watched: bool,
    patience: Duration,
    /// Keeps that were sent, the count of the peer's last one, and when that came.
    keeps: u64,
    kept: (u64, Instant),
    /// Where the peer sees this host along the road in use, and how often that was another place than before.
    seen_at: Option<SocketAddr>,
    remapped: u32,
    /// When somebody in the peer's name last said that this connection isn't known there.
    doubted: Option<Instant>,
}

impl Pulse {
    /// `road` is the one that the handshake came along.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        (link, peer): (u64, PeerId),
        secrets: &Secrets,
        dialled: bool,
        handle: SocketAddr,
        road: Road,
        socket: Arc<MeshSocket>,
        orders: actix::WeakRecipient<LinkOrder>,
        nonces: Nonces,
        acks: Option<Arc<Acks>>,
    ) -> Self {
        let (to_us, to_peer) = if dialled {
            (secrets.to_dialler, secrets.to_other)
        } else {
            (secrets.to_other, secrets.to_dialler)
        };
        let heard = now();
        // Its congestion control is always ours.
        let acks = acks.unwrap_or_else(|| Arc::new(Acks::new(heard)));
        socket.handles().heed(handle, acks.clone());
        let roads = Roads::new(road, nonces, heard);
        let state = State {
            roads,
            pings: VecDeque::new(),
            observing: None,
            heard,
            wake: None,
            watched: false,
            patience: Duration::ZERO,
            keeps: 0,
            kept: (0, heard),
            seen_at: None,
            remapped: 0,
            doubted: None,
        };
        Self {
            link,
            peer,
            key: secrets.key.clone(),
            to_peer,
            to_us,
            handle,
            socket,
            orders,
            acks,
            expecting: AtomicUsize::new(0),
            watching: AtomicUsize::new(0),
            changes: AtomicU64::new(0),
            armed: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn expect_answers(self: &Arc<Self>) -> Expecting {
        self.expecting.fetch_add(1, Ordering::SeqCst);
        // The actor is told once per busy period, not once per request.
        if !self.armed.load(Ordering::SeqCst) && !self.armed.swap(true, Ordering::SeqCst) {
            self.tell(Happened::Expect);
        }
        Expecting { pulse: self.clone() }
    }

    /// Asked by the actor at each tick: are answers still expected? If not, the next
    /// [`Pulse::expect_answers`] will tell it.
    pub(crate) fn still_expecting(&self) -> bool {
        if self.expecting.load(Ordering::SeqCst) > 0 {
            return true;
        }
        self.armed.store(false, Ordering::SeqCst);
        // One may have come between the two lines above and found it armed.
        let expecting = self.expecting.load(Ordering::SeqCst) > 0;
        expecting && !self.armed.swap(true, Ordering::SeqCst)
    }

    pub(crate) fn watch(self: &Arc<Self>) -> Watching {
        if self.watching.fetch_add(1, Ordering::Relaxed) == 0 {
            // The end of the last one it finds out by itself.
            self.tell(Happened::Expect);
        }
        Watching { pulse: self.clone() }
    }

    /// Whether somebody wants to know soon when the peer is silent.
    pub(crate) fn is_watched(&self) -> bool {
        self.watching.load(Ordering::Relaxed) > 0
    }

    pub(crate) async fn ping(self: &Arc<Self>) -> Result<Duration, PingError> {
        let (tx, rx) = oneshot::channel();
        self.change(|state, now| {
            let nonce = state.roads.probe(now);
            // They are given up in their order.
            while state.pings.front().is_some_and(|(_, ping)| ping.is_closed())
                || state.pings.len() >= PINGS_MAX
            {
                state.pings.pop_front();
            }
            state.pings.push_back((nonce, tx));
        });
        match self.within(PING_TIME_MAX, rx).await {
            Some(Ok(rtt)) => Ok(rtt),
            Some(Err(_)) => Err(PingError::Closed),
            None => Err(PingError::Timeout),
        }
    }

    async fn within<F: Future>(&self, limit: Duration, future: F) -> Option<F::Output> {
        let sleep = self.socket.sleep(limit);
        tokio::select! {
            biased;
            output = future => Some(output),
            () = sleep => None,
        }
    }

    /// Asks the peer whether it is there.
    pub(crate) fn probe(self: &Arc<Self>) {
        self.change(|state, now| {
            state.roads.probe(now);
        });
    }

    /// Shows the peer, and the NATs on the way, that this host is there; draws no answer.
    pub(crate) fn keep(&self) {
        let (road, count) = {
            let mut state = self.state.lock();
            state.keeps += 1;
            (state.roads.active(), state.keeps)
        };
        self.socket.send_frame(road, &Frame::Keep { count }.seal(self.to_peer, &self.key));
    }

    /// When the peer last showed by itself that it is there.
    pub(crate) fn kept(&self) -> Instant {
        self.state.lock().kept.1
    }

    /// Where the peer sees this host along the road in use, and how often it was seen elsewhere than before.
    pub(crate) fn seen_at(&self) -> (Option<SocketAddr>, u32) {
        let state = self.state.lock();
        (state.seen_at, state.remapped)
    }

    /// Somebody in the peer's name says that the peer doesn't know this connection, or a flow: the connection actor asks, once a
    /// second at most.
    fn doubt(&self) {
        let now = now();
        let mut state = self.state.lock();
        if state.doubted.is_none_or(|before| now >= before + DOUBT_EVERY) {
            state.doubted = Some(now);
            drop(state);
            self.tell(Happened::Doubted);
        }
    }

    /// The relay `by` has lost the flow that `road` leads through.
    pub(crate) fn lost(&self, by: PeerId, road: Road) {
        self.tell(Happened::Lost { by, road });
    }

    fn tell(&self, what: Happened) {
        if let Some(actor) = self.orders.upgrade() {
            actor.do_send(LinkOrder { link: self.link, what });
        }
    }

    /// The peer says that it can also be reached along these.
    pub(crate) fn add(self: &Arc<Self>, roads: impl IntoIterator<Item = Road>) {
        self.change(|state, now| roads.into_iter().for_each(|road| state.roads.add(road, now)));
    }

    /// The peer is behind a NAT of its own at the end of these, as far as is known, and is about to try the same.
    pub(crate) fn open(self: &Arc<Self>, roads: impl IntoIterator<Item = Road>) {
        self.change(|state, now| {
            for road in roads {
                // There are no NATs in IPv6, nor on the way to a relay or a host on the same network.
                let outside = road.remote.is_ipv4() && is_public(road.remote.ip());
                match road.flow {
                    None if outside => state.roads.open(road, now),
                    _ => state.roads.add(road, now),
                }
            }
        });
    }

    /// The peer has opened its NAT for this host.
    pub(crate) fn invited(self: &Arc<Self>) {
        self.change(|state, now| state.roads.invited(now));
    }

    /// How often another road was taken.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// When the peer last answered.
    pub(crate) fn heard(&self) -> Instant {
        self.state.lock().heard
    }

    /// A frame with our tag came along `road`.
    pub(crate) fn received(self: &Arc<Self>, frame: &[u8], road: Road) {
        match Frame::open(frame, &self.key) {
            // Whoever asks there wants to know where it is seen, and nothing else.
            Some(Frame::Probe { nonce })
                if self.socket.observatory().is_some_and(|(wire, _)| wire == road.wire) =>
            {
                self.carry_out(Output::Answer(road, nonce));
            }
            Some(Frame::Probe { nonce } | Frame::Sizing { nonce, .. }) => {
                self.change(|state, now| state.roads.probed(road, nonce, frame.len(), now));
            }
            Some(Frame::Keep { count }) => self.change(|state, now| {
                if count <= state.kept.0 {
                    return;
                }
                state.kept = (count, now);
                // Along another road than the one in use it is a probe like any other.
                if state.roads.active().source() != road.source() {
                    state.roads.probed(road, count, frame.len(), now);
                }
            }),
            Some(Frame::Answer { nonce, observed }) => {
                self.change(|state, now| {
                    if state.observing == Some((nonce, road.remote)) {
                        state.observing = None;
                        self.observed(road, observed, now);
                        return;
                    }
                    let answered = state.roads.answered(road, nonce, now);
                    let Some(Answered { rtt, sent, active }) = answered else { return };
                    if active {
                        self.acks.answered(sent);
                    }
                    state.heard = now;
                    if state.roads.active().source() == road.source() && road.flow.is_none() {
                        let before = state.seen_at.replace(observed);
                        state.remapped +=
                            u32::from(before.is_some_and(|before| before != observed));
                    }
                    self.observed(road, observed, now);
                    let asked = state.pings.iter().position(|(ping, _)| *ping == nonce);
                    if let Some((_, ping)) = asked.and_then(|index| state.pings.remove(index)) {
                        let _ = ping.send(rtt);
                    }
                });
            }
            None => {}
        }
    }

    /// The road is back after a silence in which all that was sent was lost: congestion control starts anew, as on another road.
    pub(crate) fn afresh(&self) {
        self.acks.switched(now());
    }

    /// When QUIC sent the last packet of those that were acknowledged.
    pub(crate) fn newest_acked(&self) -> Option<Instant> {
        self.acks.newest()
    }

    /// Sends the last datagrams that went along the former road alone once more, along the one in use. QUIC ignores those that
    /// weren't lost.
    fn repeat(&self) {
        let echo = self.socket.handles().echo(self.handle);
        if let Some((road, datagrams)) = echo {
            let whole = self.socket.handles().is_whole(self.handle);
            for datagram in datagrams {
                self.socket.send_datagram(road, &datagram, whole);
            }
        }
        self.socket.handles().forget_echo(self.handle);
    }

    /// Asks the peer where it sees this host from its port `remote`.
    pub(crate) fn observe(self: &Arc<Self>, road: Road, remote: SocketAddr) {
        let nonce = self.change(|state, _| {
            let nonce = state.roads.nonce();
            state.observing = Some((nonce, remote));
            nonce
        });
        self.carry_out(Output::Probe(Road { remote, ..road }, nonce));
    }

    /// The peer says where it sees this host along `road`.
    fn observed(&self, road: Road, observed: SocketAddr, now: Instant) {
        let direct = road.flow.is_none() && is_public(road.remote.ip().to_canonical());
        if let (true, Some(local)) = (direct, self.socket.local(road))
            && plausible(observed, road.remote)
        {
            let seen = Observation { local, observer: road.remote, observed, at: now };
            self.socket.nat().observe(seen);
        }
    }

    /// A probe whose answer is of no matter here: it opens a NAT, and the peer's own check follows.
    pub(crate) fn knock(&self) -> [u8; FRAME_BYTES] {
        let nonce = self.state.lock().roads.nonce();
        Frame::Probe { nonce }.seal(self.to_peer, &self.key)
    }

    /// Something was sent along the road in use at `sent` and isn't known to have arrived; `None`: it may never be.
    pub(super) fn unproven(self: &Arc<Self>, sent: Option<Instant>) {
        self.change(|state, now| match sent {
            Some(sent) => state.roads.unacknowledged(sent, now),
            None => state.roads.question(now),
        });
        if self.state.lock().roads.active().flow.is_some() {
            self.tell(Happened::Silent);
        }
    }

    /// This host has moved, or slept: any road may be dead.
    pub(crate) fn suspect(self: &Arc<Self>) {
        self.change(|state, now| state.roads.suspect(now));
    }

    /// The peer is at `ip` by other means: is it there by UDP as well?
    pub(crate) fn retest(self: &Arc<Self>, ip: IpAddr) {
        self.change(|state, now| state.roads.retest(ip, now));
    }

    /// The peer is likely to be found at `remote` before long: see [`Roads::once_more`].
    pub(crate) fn once_more(self: &Arc<Self>, remote: SocketAddr, at_once: bool) {
        self.change(|state, now| state.roads.once_more(remote, at_once, now));
    }

    /// Whether that is a probe of the peer's.
    pub(crate) fn is_probe(&self, frame: &[u8]) -> bool {
        let named = Frame::tag(frame) == Some(self.to_us);
        named && matches!(Frame::open(frame, &self.key), Some(Frame::Probe { .. }))
    }

    /// What is known about each road.
    pub(crate) fn describe(&self) -> Vec<Described> {
        self.state.lock().roads.describe()
    }

    /// Changes the core, carries out what it says, and has it woken in time.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State, Instant) -> T) -> T {
        let (changed, wake) = {
            let (mut state, now) = (self.state.lock(), now());
            state.roads.acked(self.acks.proof(), now);
            let changed = change(&mut state, now);
            self.tell_socket(&mut state);
            // Under the lock, for another thread's outputs must not come in between.
            while let Some(output) = state.roads.poll() {
                self.carry_out(output);
            }
            let next = state.roads.timeout();
            let sooner = next.filter(|next| state.wake.is_none_or(|wake| *next < wake));
            if sooner.is_some() {
                state.wake = sooner;
            }
            (changed, sooner.map(|at| (at, at.saturating_duration_since(now))))
        };
        if let Some((at, wait)) = wake {
            let (pulse, sleep) = (Arc::downgrade(self), self.socket.sleep(wait));
            self.socket.spawn(async move {
                sleep.await;
                if let Some(pulse) = pulse.upgrade() {
                    pulse.wake(at);
                }
            });
        }
        changed
    }

    /// Tells the socket whether to look after what is sent, and after how long to ask.
    fn tell_socket(&self, state: &mut State) {
        // What isn't acknowledged beyond a relay may be the relay's fault, and another road may be had.
        let watched = state.roads.has_choice() || state.roads.active().flow.is_some();
        let patience = state.roads.patience();
        // Every measurement changes it a little.
        let other = patience.abs_diff(state.patience) > state.patience / 16;
        if watched != state.watched || watched && other {
            let mut handles = self.socket.handles();
            handles.watch(self.handle, watched);
            handles.set_patience(self.handle, patience);
            (state.watched, state.patience) = (watched, patience);
        }
    }

    /// A timer that was set for `at` has fired; it may have been overtaken by another.
    fn wake(self: &Arc<Self>, at: Instant) {
        self.change(|state, now| {
            state.wake = state.wake.filter(|wake| *wake != at);
            state.roads.advance(now);
        });
    }

    fn carry_out(&self, output: Output) {
        let (road, frame) = match output {
            Output::Probe(road, nonce) => (road, Frame::Probe { nonce }),
            Output::Open(road, nonce) => {
                let frame = Frame::Probe { nonce }.seal(self.to_peer, &self.key);
                self.socket.send_short(road, &frame, Reach::Near);
                return;
            }
            Output::Size(road, nonce) => {
                let frame = Frame::Sizing { nonce, length: MTU_MAX };
                let mut frame = frame.seal(self.to_peer, &self.key).to_vec();
                frame.resize(MTU_MAX.into(), 0);
                self.socket.send_frame(road, &frame);
                return;
            }
            Output::Whole(whole) => {
                self.socket.handles().set_whole(self.handle, whole);
                return;
            }
            Output::Mirror { road, whole, rtt } => {
                let mirror = Mirror::new(road, whole, rtt, now());
                let last = self.socket.handles().mirror(self.handle, Some(mirror));
                for datagram in last {
                    self.socket.send_datagram(road, &datagram, whole);
                }
                return;
            }
            Output::Sure => {
                let _ = self.socket.handles().mirror(self.handle, None);
                return;
            }
            Output::Answer(road, nonce) => (road, Frame::Answer { nonce, observed: road.remote }),
            Output::Proven(road) => {
                self.socket.handles().recognise(self.handle, road);
                return;
            }
            Output::Switch(road) => {
                let (peer, via, relayed) = (self.peer, road.remote, road.flow.is_some());
                tracing::debug!(%peer, link = self.link, %via, relayed, "another road is taken");
                self.changes.fetch_add(1, Ordering::Relaxed);
                self.socket.handles().switch(self.handle, road);
                self.acks.switched(now());
                self.repeat();
                return;
            }
        };
        self.socket.send_frame(road, &frame.seal(self.to_peer, &self.key));
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
