//! One link at work: its streams are accepted and told apart, names are resolved and actors watched over its control
//! stream.
//!
//! - [`serving`]: the peer's streams.
//! - [`control`]: the control stream, and [`outbox`], what waits to be written to it.
//! - [`eviction`]: core: which lane ends when another one needs its stream.
//! - [`watched`]: the peer's watches on actors of this mesh.

mod control;
pub(crate) mod eviction;
mod outbox;
mod serving;
mod watched;

use crate::codec::frame::control::Control;
use crate::codec::frame::{FrameError, stream_kind};
use crate::codec::wire_ref::WireRef;
use crate::ground::error::Fault;
use crate::net::bodies::Meeting;
use crate::net::inbound::budget::Budget;
use crate::net::inbound::replies::Replies;
use crate::net::outbound::room::{Parking, Room};
use crate::net::query::ResolveError;
use crate::net::refusals::Refusals;
use crate::net::shared::{Shared, largest};
use crate::net::stream::refuse;
use eviction::{Activity, Uses};
use outbox::Outbox;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use watched::Watched;
use webmesh_transport::{FEATURE_WITHDRAW, Link};

/// What all windows on one link may grant together; the default of the transport's receive window, so that what a peer
/// may send at once is the same by both counts.
const WINDOWS_MAX: u64 = 16 << 20;

/// Replies that wait for one peer to read them, beyond what each lane may have, in messages of the largest size. A guess.
const REPLIES_MAX: u64 = 4;

/// How long a lane that lost its connection waits to be told why. A guess; it comes at once.
const WHY_WITHIN: Duration = Duration::from_secs(2);

/// Lanes of this side.
#[derive(Default)]
struct OwnLanes {
    /// By the ids of their streams.
    open: BTreeMap<u64, Arc<dyn CarriedLane>>,
    uses: Uses,
}

/// A lane of this side, as the session knows it that carries its stream.
pub(crate) trait CarriedLane: Send + Sync {
    /// How it is used; none once its stream is being drained.
    fn activity(&self) -> Option<Activity>;
    /// Ends its stream behind what was accepted.
    fn drain(self: Arc<Self>);
    /// The same, if its stream is still on this link.
    fn drain_from(self: Arc<Self>, link: &Link);
}

/// One link and what goes on upon it.
pub(crate) struct Session {
    link: Link,
    shared: Weak<Shared>,
    message_max: u64,
    meeting: Arc<Meeting>,
    budget: Arc<Budget>,
    replies_budget: Arc<Budget>,
    reply_room: Arc<Room>,
    parking: Parking,
    control: Arc<Outbox>,
    has_control: AtomicBool,
    requests: Mutex<HashMap<u64, oneshot::Sender<Result<WireRef, ResolveError>>>>,
    next_request: AtomicU64,
    /// The peer's watches on actors of this mesh.
    watched: Mutex<HashMap<u64, Watched>>,
    lanes: Mutex<OwnLanes>,
    /// How many of them there may be.
    lanes_max: usize,
    lanes_in: AtomicUsize,
    /// The ways back of the peer's lanes, by the ids of their streams.
    replies: Mutex<HashMap<u64, Arc<Replies>>>,
    draining: AtomicBool,
    /// The peer takes back what its lanes hold.
    peer_withdraws: AtomicBool,
    /// The longest that the peer took to answer for a name or a stream, in microseconds.
    slowest: AtomicU64,
    /// The peer has opened a lane, watched an actor, or asked for one by name.
    spoken: AtomicBool,
    down: watch::Sender<Option<Fault>>,
    refusals: Arc<Refusals>,
}

impl Session {
    /// Starts serving a link.
    pub(crate) fn start(link: Link, shared: &Arc<Shared>) -> Arc<Self> {
        let (message_max, largest) = (shared.message_max as u64, largest(shared.message_max));
        let (budget, replies_budget) = (shared.budget.clone(), shared.replies_budget.clone());
        let session = Arc::new(Self {
            budget: Budget::new(WINDOWS_MAX, largest, Some(budget)),
            replies_budget: Budget::new(REPLIES_MAX * largest, 0, Some(replies_budget)),
            reply_room: shared.reply_room.clone(),
            parking: Parking::default(),
            link,
            shared: Arc::downgrade(shared),
            message_max,
            meeting: Arc::default(),
            control: Arc::default(),
            has_control: AtomicBool::new(false),
            requests: Mutex::default(),
            next_request: AtomicU64::new(0),
            watched: Mutex::default(),
            lanes: Mutex::default(),
            lanes_max: shared.lanes_max,
            lanes_in: AtomicUsize::new(0),
            replies: Mutex::default(),
            draining: AtomicBool::new(false),
            peer_withdraws: AtomicBool::new(false),
            slowest: AtomicU64::new(0),
            spoken: AtomicBool::new(false),
            down: watch::Sender::new(None),
            refusals: shared.refusals.clone(),
        });
        if session.link.dialled() {
            session.has_control.store(true, Ordering::Relaxed);
            let opener = session.clone();
            drop(tokio::spawn(async move {
                if let Ok((mut send, recv)) = opener.link.quic().open_bi().await
                    && send.write_all(&[stream_kind::CONTROL]).await.is_ok()
                {
                    opener.control_stream(send, recv).await;
                }
            }));
        }
        drop(tokio::spawn(session.clone().accept_lanes()));
        drop(tokio::spawn(session.clone().accept_bodies()));
        session
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn meeting(&self) -> &Arc<Meeting> {
        &self.meeting
    }

    /// Where the peer's large replies get their memory.
    pub(crate) fn reply_room(&self) -> &Arc<Room> {
        &self.reply_room
    }

    /// Those of its replies that wait for it.
    pub(crate) fn parking(&self) -> &Parking {
        &self.parking
    }

    pub(crate) fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Closes the connection, for the peer sent what no frame is. Others are not affected.
    pub(crate) fn refuse(&self, error: &FrameError) {
        self.refusals.broken(self.link.peer(), error);
        refuse(&self.link, error);
    }

    pub(crate) fn message_max(&self) -> u64 {
        self.message_max
    }

    /// The peer took so long to answer for a name or a stream.
    pub(crate) fn answered_within(&self, length: Duration) {
        let length = u64::try_from(length.as_micros()).unwrap_or(u64::MAX);
        self.slowest.fetch_max(length, Ordering::Relaxed);
    }

    /// What an answer of the peer's may take: QUIC's estimate of the round trip, or the longest that one has taken, which counts
    /// the time for which a busy host has other things to do.
    pub(crate) fn trip(&self) -> Duration {
        self.link.rtt().max(Duration::from_micros(self.slowest.load(Ordering::Relaxed)))
    }

    /// Takes back what the peer hasn't passed on of this side's lanes, if it understands that.
    pub(crate) fn withdraw(&self) {
        if self.link.has_feature(FEATURE_WITHDRAW) {
            self.say(&Control::Withdraw);
        }
    }

    /// The peer takes back what hasn't been passed on of its lanes.
    fn give_back(&self) {
        self.peer_withdraws.store(true, Ordering::Release);
        let replies: Vec<_> = self.replies.lock().values().cloned().collect();
        replies.iter().for_each(|replies| replies.withdraw());
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    // ---- this side's lanes

    /// A stream was opened for a lane.
    pub(crate) fn lane_opened(&self, stream: u64, lane: Arc<dyn CarriedLane>) {
        let mut lanes = self.lanes.lock();
        lanes.uses.opened(stream);
        lanes.open.insert(stream, lane);
    }

    /// A lane's stream has ended.
    pub(crate) fn lane_closed(&self, stream: u64) {
        {
            let mut lanes = self.lanes.lock();
            lanes.uses.closed(stream);
            lanes.open.remove(&stream);
        }
        self.tell_drained();
    }

    /// Ends the lane that is used least, if there are as many as there may be.
    pub(crate) fn make_room(&self) {
        if self.lanes.lock().open.len() >= self.lanes_max {
            self.evict();
        }
    }

    /// Ends the lane that is used least.
    pub(crate) fn evict(&self) {
        let least = {
            let mut lanes = self.lanes.lock();
            let OwnLanes { open, uses } = &mut *lanes;
            uses.choose(|stream| open.get(&stream)?.activity())
                .and_then(|stream| open.get(&stream).cloned())
        };
        if let Some(lane) = least {
            lane.drain();
        }
    }

    /// Another link takes all new lanes: this one's are drained, then it ends.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        let lanes: Vec<_> = self.lanes.lock().open.values().cloned().collect();
        for lane in lanes {
            lane.drain_from(&self.link);
        }
        self.tell_drained();
    }

    /// It is the one for new lanes again.
    pub(crate) fn revive(&self) {
        self.draining.store(false, Ordering::Release);
    }

    fn tell_drained(&self) {
        if self.is_draining()
            && self.lanes.lock().open.is_empty()
            && self.lanes_in.load(Ordering::Acquire) == 0
            && self.requests.lock().is_empty()
        {
            self.link.drained();
        }
    }

    /// The link has ended.
    pub(crate) fn down(&self, fault: &Fault) {
        self.down.send_replace(Some(fault.clone()));
        self.control.close();
        // A lane that was read to its end hears of the link no more.
        let replies: Vec<_> = self.replies.lock().values().cloned().collect();
        replies.iter().for_each(|replies| replies.close());
        self.requests.lock().clear();
        self.forget_all_watches();
    }

    /// Why the link ended; waits a moment to be told.
    pub(crate) async fn why_down(&self) -> Fault {
        let mut down = self.down.subscribe();
        let told = tokio::time::timeout(WHY_WITHIN, down.wait_for(Option::is_some)).await;
        match told {
            Ok(Ok(fault)) => fault.clone().unwrap_or(Fault::PeerGone),
            _ => Fault::PeerGone,
        }
    }

    /// Whether every answer that was given has been handed to QUIC.
    pub(crate) fn has_sent_answers(&self) -> bool {
        self.replies.lock().values().all(|replies| replies.has_sent())
    }

    /// Whether there may be something on its way to the peer that it has to read before the link ends: answers, or news of an
    /// actor that it watched.
    pub(crate) fn has_spoken(&self) -> bool {
        self.spoken.load(Ordering::Relaxed)
    }

    /// Whether every ask of the peer's has been answered and every answer handed to QUIC.
    pub(crate) fn is_settled(&self) -> bool {
        self.replies.lock().values().all(|replies| replies.is_settled())
    }
}
