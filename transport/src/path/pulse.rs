//! The probes of one connection: sent, answered and timed; and the checks that bind a new address.
//!
//! A source address is used for sending only after it answered a fresh nonce that was sent to it, under
//! the connection's exporter key (DESIGN.md section 5): a valid probe from elsewhere merely starts that
//! check, for a MAC cannot cover a source address that NATs rewrite.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use dashmap::DashMap;
use parking_lot::Mutex;
use rand::{RngExt, rngs::StdRng};
use ring::hmac;
use tokio::sync::oneshot;

use crate::{
    connection::Order,
    socket::{
        handles::Road,
        mesh_socket::{Frames, MeshSocket},
    },
    wire::{Frame, Tag},
};

/// Probes whose answers are still welcome. At one each 500 ms that is more than ten seconds of them.
const OUTSTANDING_MAX: usize = 32;

/// How long an answer to [`Pulse::ping`] is waited for.
const PING_TIME_MAX: Duration = Duration::from_secs(5);

/// The label under which the key of probes is exported from TLS (RFC 5705).
const EXPORTER_LABEL: &[u8] = b"EXPORTER-webmesh/1 link";

/// Silence on the old road, while a new one answers, that makes the new one active: at least this.
const SILENCE_MIN: Duration = Duration::from_millis(300);

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

/// The probes of one connection.
pub(crate) struct Pulse {
    link: u64,
    key: hmac::Key,
    to_peer: Tag,
    to_us: Tag,
    handle: SocketAddr,
    socket: Arc<MeshSocket>,
    orders: actix::WeakRecipient<Order>,
    expecting: AtomicUsize,
    /// Whether the connection actor knows that answers are expected.
    armed: AtomicBool,
    state: Mutex<State>,
}

struct State {
    rng: StdRng,
    outstanding: VecDeque<Outstanding>,
    /// The last answer on the active road.
    heard: Instant,
}

struct Outstanding {
    nonce: u64,
    sent: Instant,
    road: Road,
    ping: Option<oneshot::Sender<Duration>>,
}

impl Pulse {
    pub(crate) fn new(
        link: u64,
        secrets: &Secrets,
        dialled: bool,
        handle: SocketAddr,
        socket: Arc<MeshSocket>,
        orders: actix::WeakRecipient<Order>,
        rng: StdRng,
    ) -> Self {
        let (to_us, to_peer) = if dialled {
            (secrets.to_dialler, secrets.to_other)
        } else {
            (secrets.to_other, secrets.to_dialler)
        };
        let state = State { rng, outstanding: VecDeque::new(), heard: now() };
        Self {
            link,
            key: secrets.key.clone(),
            to_peer,
            to_us,
            handle,
            socket,
            orders,
            expecting: AtomicUsize::new(0),
            armed: AtomicBool::new(false),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn expect_answers(self: &Arc<Self>) -> Expecting {
        self.expecting.fetch_add(1, Ordering::SeqCst);
        // The actor is told once per busy period, not once per request.
        if !self.armed.load(Ordering::SeqCst)
            && !self.armed.swap(true, Ordering::SeqCst)
            && let Some(actor) = self.orders.upgrade()
        {
            actor.do_send(Order::Expect { link: self.link });
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

    pub(crate) async fn ping(&self) -> Result<Duration, PingError> {
        let (tx, rx) = oneshot::channel();
        self.probe_road(self.active().ok_or(PingError::Closed)?, Some(tx));
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

    /// Sends one probe along the active road.
    pub(crate) fn probe(&self) {
        if let Some(road) = self.active() {
            self.probe_road(road, None);
        }
    }

    /// When the peer last answered.
    pub(crate) fn heard(&self) -> Instant {
        self.state.lock().heard
    }

    fn active(&self) -> Option<Road> {
        self.socket.handles().active(self.handle)
    }

    fn probe_road(&self, road: Road, ping: Option<oneshot::Sender<Duration>>) {
        let nonce = {
            let mut state = self.state.lock();
            let nonce = state.rng.random();
            if state.outstanding.len() >= OUTSTANDING_MAX {
                state.outstanding.pop_front();
            }
            state.outstanding.push_back(Outstanding { nonce, sent: now(), road, ping });
            nonce
        };
        self.socket.send_frame(road, &Frame::Probe { nonce }.seal(self.to_peer, &self.key));
    }

    /// A frame with our tag came along `road`.
    fn received(self: &Arc<Self>, frame: &[u8], road: Road) {
        match Frame::open(frame, &self.key) {
            Some(Frame::Probe { nonce }) => {
                let answer = Frame::Answer { nonce, observed: road.remote };
                self.socket.send_frame(road, &answer.seal(self.to_peer, &self.key));
                let known = self.active().is_some_and(|active| same(active, road));
                if !known && !self.is_checking(road) {
                    self.probe_road(road, None);
                    // For comparison: is the road in use alive?
                    self.probe();
                }
            }
            Some(Frame::Answer { nonce, .. }) => self.answered(nonce, road),
            None => {}
        }
    }

    fn answered(self: &Arc<Self>, nonce: u64, road: Road) {
        let mut state = self.state.lock();
        let Some(index) = state.outstanding.iter().position(|probe| probe.nonce == nonce) else {
            return;
        };
        // The answer must come from where the probe was sent.
        if !same(state.outstanding[index].road, road) {
            return;
        }
        let Some(probe) = state.outstanding.remove(index) else { return };
        let heard = now();
        drop(state);
        if let Some(ping) = probe.ping {
            let _ = ping.send(heard - probe.sent);
        }
        if self.active().is_some_and(|active| same(active, road)) {
            self.state.lock().heard = heard;
        } else {
            self.consider(road, probe.sent, heard - probe.sent);
        }
    }

    /// `road` is proven. It becomes the active one if the one in use stays silent meanwhile.
    fn consider(self: &Arc<Self>, road: Road, asked: Instant, rtt: Duration) {
        let pulse = self.clone();
        let patience = self.socket.sleep(SILENCE_MIN.max(rtt * 3));
        self.socket.spawn(async move {
            patience.await;
            let silent = pulse.heard() < asked;
            if silent && pulse.active().is_some_and(|active| !same(active, road)) {
                tracing::info!(to = %road.remote, "the peer is at another address now");
                pulse.socket.handles().switch(pulse.handle, road);
                pulse.state.lock().heard = now();
            }
        });
    }

    fn is_checking(&self, road: Road) -> bool {
        let recent = now().checked_sub(SILENCE_MIN);
        self.state
            .lock()
            .outstanding
            .iter()
            .any(|probe| same(probe.road, road) && recent.is_none_or(|recent| probe.sent > recent))
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn same(a: Road, b: Road) -> bool {
    (a.wire, a.remote) == (b.wire, b.remote)
}

/// The pulses of all connections, by the tags that their peers use.
#[derive(Clone, Default)]
pub(crate) struct Pulses(Arc<DashMap<Tag, Weak<Pulse>>>);

impl Pulses {
    pub(crate) fn insert(&self, pulse: &Arc<Pulse>) {
        self.0.insert(pulse.to_us, Arc::downgrade(pulse));
    }

    pub(crate) fn remove(&self, pulse: &Pulse) {
        self.0.remove(&pulse.to_us);
    }
}

impl Frames for Pulses {
    fn received(
        &self,
        frame: &[u8],
        (wire, remote): (usize, SocketAddr),
        local: Option<IpAddr>,
    ) -> bool {
        let Some(tag) = Frame::tag(frame) else { return false };
        let Some(pulse) = self.0.get(&tag).and_then(|pulse| pulse.upgrade()) else { return false };
        pulse.received(frame, Road { wire, remote, local });
        true
    }
}
