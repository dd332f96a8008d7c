//! How a mesh ends: by a shutdown, by itself once nobody holds it, or at once.
//!
//! A handle that is dropped never waits. The last one hands the mesh over to its network thread, where it lingers until what it
//! accepted has left; who waits for that is the end of `main` ([`departures`]).

use super::vigil::{VIGIL_MAX, Vigil};
use super::{Inner, Mesh};
use crate::mesh::departures;
use crate::mesh::departures::Run;
use crate::net::network::{Drain, Undrained};
use crate::net::outbound::core::Owed;
use crate::refs::calls::CENTURY;
use futures_util::future::select;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};
use webmesh_transport::PeerId;

/// How long [`Mesh::shutdown`] waits for the asks in hand and the actors. A guess: as long as a service manager waits without
/// complaint.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(5);

/// How long a mesh that nobody holds lingers unless set otherwise. A guess: some round trips between most hosts, and nothing
/// that a person waits for.
const LINGER: Duration = Duration::from_millis(500);

/// How many of the longest times for which a peer let it wait before it lingers, if they are more than that: one brings the confirmation, another
/// one what was lost on the way. A guess.
const LINGER_TRIPS: u32 = 4;

/// How long it lingers even then. A guess: a host that is farther away is as good as silent.
const LINGER_MAX: Duration = Duration::from_secs(5);

/// What the actors have at least for their stop, however long the asks in hand took. A guess.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// How long a mesh that is shut down waits for what it sent to arrive.
const DRAIN_WITHIN: Duration = Duration::from_secs(1);

/// What the goodbye takes at the most after that, as `Endpoint::close` has it.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// How often a mesh that ends looks whether its actors have stopped and its answers have left.
const STEP: Duration = Duration::from_millis(2);

/// How often it looks whether its lanes have, of which it is told, and whether peers still give signs of life.
const LOOK: Duration = Duration::from_millis(50);

/// What a mesh knows of its own end.
pub(crate) struct Ending {
    run: Run,
    in_place: bool,
    /// How long it lingers once nobody holds it; `None`: [`LINGER`], or what the round trips demand.
    linger: Option<Duration>,
    /// When it was handed over.
    begun: OnceLock<Instant>,
    handed_over: AtomicBool,
    /// A shutdown is under way, and has ended by then.
    shut_down_by: Mutex<Option<Instant>>,
    over: watch::Sender<bool>,
}

impl Ending {
    pub(crate) fn new(in_place: bool, linger: Option<Duration>) -> Self {
        Self {
            run: Run::current(),
            in_place,
            linger: linger.map(|linger| linger.min(CENTURY)),
            begun: OnceLock::new(),
            handed_over: AtomicBool::new(false),
            shut_down_by: Mutex::new(None),
            over: watch::Sender::new(false),
        }
    }
}

/// Whoever holds the mesh. When the last one goes, the mesh ends by itself.
pub(crate) struct Hold {
    pub(super) inner: Arc<Inner>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.inner.hand_over();
    }
}

impl Mesh {
    /// Ends the mesh gracefully: [`shutdown_within`](Self::shutdown_within) 5 s.
    ///
    /// ```
    /// # #![allow(unused_imports)]
    /// # use webmesh::{prelude::*, ActorRef, Anyone, Mesh};
    /// # #[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
    /// # #[message(id = "add", reply = u64)]
    /// # struct Add(u64);
    /// # #[derive(webmesh::Protocol)]
    /// # #[protocol(id = "sum/1", accepts(Add))]
    /// # struct Sum;
    /// # #[derive(Default, webmesh::RemoteActor)]
    /// # #[remote(serves(Sum))]
    /// # struct SumActor(u64);
    /// # impl Actor for SumActor { type Context = Context<Self>; }
    /// # impl Handler<Add> for SumActor {
    /// #     type Result = u64;
    /// #     fn handle(&mut self, add: Add, _: &mut Context<Self>) -> u64 { self.0 += add.0; self.0 }
    /// # }
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// let sum = mesh.spawn(SumActor::default);
    /// mesh.shutdown().await;
    /// assert!(sum.ask(Add(1)).await.is_err()); // stopped, and nothing starts anew
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shutdown(&self) {
        self.shutdown_within(SHUTDOWN_WITHIN).await;
    }

    /// Ends the mesh gracefully. Its actors take no further messages: those that wait are answered as `Stopped`, as are later ones.
    /// Asks that a handler has in hand, of near and far askers alike, have so long to be answered; then the actors are stopped, what
    /// was sent leaves, and all peers are told goodbye. A handler's future that is still at work by then is dropped.
    ///
    /// Takes the given time at the most for the asks in hand and the actors (who have 1 s for their stop at least), and 1 s each for
    /// what was sent to arrive and for the goodbye. Tells that haven't arrived by then are taken back, as
    /// [`MeshBuilder::linger`](crate::MeshBuilder::linger) has it. Goes on though the future should be dropped, and all handles with it; the end of
    /// `#[webmesh::main]` waits for it.
    ///
    /// ```
    /// # use webmesh::Mesh;
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// mesh.shutdown_within(std::time::Duration::from_secs(30)).await; // some asks take long
    /// # Ok(())
    /// # }
    /// ```
    pub async fn shutdown_within(&self, limit: Duration) {
        let limit = limit.min(CENTURY);
        let (done, ended) = oneshot::channel::<()>();
        let shutdown = ShuttingDown::begin(self.clone(), limit);
        // Now, so that an actor that hasn't started never does.
        let stopped = self.inner().take_no_more();
        self.inner().placement.spawn_network(Box::new(move || {
            Box::pin(async move {
                shutdown.0.inner().shut_down_within(limit, stopped).await;
                drop(shutdown);
                drop(done);
            })
        }));
        let _ = ended.await;
        // If its threads had ended already.
        self.inner().mark_over();
    }

    /// Ends the mesh at once, as a crash would: nothing leaves any more, peers are told nothing and find out by its silence, asks in
    /// flight end as `ShutDown`. Never blocks. The port is free when the last handle has been dropped.
    ///
    /// ```
    /// # use webmesh::Mesh;
    /// # #[webmesh::main]
    /// # async fn main() -> webmesh::Result<()> {
    /// # let mesh = Mesh::builder().listen("127.0.0.1:0".parse()?).start().await?;
    /// mesh.abort();
    /// # Ok(())
    /// # }
    /// ```
    pub fn abort(&self) {
        let inner = self.inner();
        inner.ending.handed_over.store(true, Ordering::Release);
        inner.shut_down.store(true, Ordering::Release);
        inner.endpoint.abort();
        inner.objects.stop_all();
        inner.cut_off();
        inner.mark_over();
        inner.placement.stop();
    }
}

impl Mesh {
    /// To which run it belongs.
    pub(crate) fn run(&self) -> Run {
        self.inner().ending.run
    }
}

impl Inner {
    /// Nobody holds it any more: it leaves by itself, unless it has ended.
    fn hand_over(self: &Arc<Self>) {
        if self.ending.handed_over.swap(true, Ordering::AcqRel) || *self.ending.over.borrow() {
            return;
        }
        let _ = self.ending.begun.set(Instant::now());
        let leaving = Leaving(self.clone());
        self.placement.spawn_network(Box::new(move || Box::pin(leaving.leave())));
    }

    /// Has the actors take no further messages, and stops them if they have no ask in hand. Whether it did.
    fn take_no_more(&self) -> bool {
        self.shut_down.store(true, Ordering::Release);
        self.objects.drain_all();
        let idle = self.objects.asks_in_hand() == 0;
        if idle {
            self.objects.stop_all_once_idle();
        }
        idle
    }

    /// `stopped`: the actors were told to. Once is enough, but for those that a handler had just begun in: one that puts it off of
    /// its own accord has its reasons.
    async fn shut_down_within(&self, limit: Duration, stopped: bool) {
        let placement = &self.placement;
        let begun = placement.now();
        while self.objects.asks_in_hand() > 0 {
            if placement.now() >= begun + limit {
                let asks = self.objects.asks_in_hand();
                tracing::warn!(asks, "asks in hand were not answered in time");
                break;
            }
            placement.sleep(STEP).await;
        }
        let mut in_time = placement.now() < begun + limit;
        if !stopped {
            if in_time {
                self.objects.stop_all_once_idle();
            } else {
                self.objects.stop_all();
            }
        }
        let mut stopped_by = (begun + limit).max(placement.now() + STOP_WITHIN);
        while !self.objects.is_empty() && placement.now() < stopped_by {
            in_time &= placement.now() < begun + limit;
            if (!in_time || self.objects.asks_in_hand() == 0) && self.objects.stop_put_off(!in_time)
            {
                stopped_by = stopped_by.max(placement.now() + STOP_WITHIN);
            }
            placement.sleep(STEP).await;
        }
        let left = self.objects.len();
        if left > 0 {
            tracing::warn!(left, "actors did not stop in time");
        }
        let deadline = placement.now() + DRAIN_WITHIN;
        if !self.drain(Drain::All, || deadline).await {
            self.take_back().await;
        }
        self.cut_off();
        self.endpoint.close("shut down").await;
        self.mark_over();
    }

    /// Waits until what was accepted has left, `deadline` by the placement's clock at the latest, which is asked for again and again.
    /// Whether it has.
    async fn drain(&self, how: Drain, deadline: impl Fn() -> Instant) -> bool {
        let Some(network) = self.network.get() else { return true };
        let placement = &self.placement;
        loop {
            // What actors send while they stop is accepted still.
            let stopped = how == Drain::All || self.objects.is_empty();
            let undrained = network.drain(how, stopped);
            if undrained == Undrained::Nothing && stopped {
                tracing::debug!(peer = %self.peer, "all that was accepted has left");
                break;
            }
            let left = deadline().saturating_duration_since(placement.now());
            if left.is_zero() {
                return false;
            }
            let lanes_alone = stopped && undrained == Undrained::Lanes;
            let sleep = placement.sleep(if lanes_alone { LOOK } else { STEP }.min(left));
            select(network.one_settled(), sleep).await;
        }
        let deadline = deadline();
        let farewell = network.farewell().min(deadline.saturating_duration_since(placement.now()));
        if farewell > Duration::ZERO {
            placement.sleep(farewell).await;
        }
        true
    }

    /// Takes back what hasn't arrived, and waits for the word of its peers what has, as long as they give signs of life.
    async fn take_back(&self) {
        let Some(network) = self.network.get() else { return };
        network.withdraw();
        let mut vigil = Vigil::new(self.placement.now());
        while vigil.goes_on(self.placement.now(), &network.in_doubt()) {
            select(network.one_settled(), self.placement.sleep(LOOK)).await;
        }
    }

    /// Ends what is under way, and says in the log what doesn't leave any more.
    fn cut_off(&self) {
        self.report(self.network.get().map(|network| network.end()));
    }

    fn report(&self, owed: Option<Owed>) {
        let Owed { lost, unconfirmed } = owed.unwrap_or_default();
        if lost > 0 {
            tracing::warn!(
                peer = %self.peer,
                lost,
                "the mesh ended before these accepted tells could leave: they are lost"
            );
        }
        if unconfirmed > 0 {
            tracing::warn!(
                peer = %self.peer,
                unconfirmed,
                "the mesh ended before these accepted tells were confirmed: each has arrived or not"
            );
        }
    }

    /// It has ended: another one may use its key.
    fn mark_over(&self) {
        *self.key_lock.lock() = None;
        if !self.ending.over.send_replace(true) {
            tracing::debug!(peer = %self.peer, "the mesh has ended");
        }
        departures::remove(&self.itself);
    }
}

/// A mesh that is being shut down. Held meanwhile, so that it doesn't end by itself, which would cut this short. Dropped before its time,
/// with its thread say, it leaves the mesh to those that hold it.
struct ShuttingDown(Mesh);

impl ShuttingDown {
    fn begin(mesh: Mesh, limit: Duration) -> Self {
        let by = Instant::now() + limit + STOP_WITHIN + DRAIN_WITHIN + VIGIL_MAX + CLOSE_WITHIN;
        let mut shut_down_by = mesh.inner().ending.shut_down_by.lock();
        *shut_down_by = (*shut_down_by).max(Some(by));
        drop(shut_down_by);
        Self(mesh)
    }
}

impl Drop for ShuttingDown {
    fn drop(&mut self) {
        *self.0.inner().ending.shut_down_by.lock() = None;
    }
}

/// A mesh that is leaving. Dropped before it has, it is cut off: its thread has ended, or the runtime that it is placed in.
struct Leaving(Arc<Inner>);

impl Leaving {
    async fn leave(self) {
        let inner = &self.0;
        let begun = inner.placement.now();
        inner.shut_down.store(true, Ordering::Release);
        inner.objects.stop_all();
        let trip = || {
            let in_doubt = inner.network.get().map(|network| network.in_doubt());
            in_doubt.into_iter().flatten().map(|peer| peer.trip).max().unwrap_or_default()
        };
        let linger = || match inner.ending.linger {
            Some(linger) => linger,
            None => (LINGER_TRIPS * trip()).clamp(LINGER, LINGER_MAX),
        };
        if !inner.drain(Drain::Promised, || begun + linger()).await {
            inner.take_back().await;
        }
        inner.cut_off();
        inner.endpoint.leave("nobody holds it any more").await;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let Self(inner) = self;
        inner.cut_off();
        inner.mark_over();
        inner.placement.stop();
    }
}

/// A mesh on its way out, as [`departures`] sees it. Holding it doesn't keep it from ending.
pub(crate) struct Departing(Arc<Inner>);

impl Departing {
    /// Has it leave, whoever holds it, unless it is being shut down.
    pub(crate) fn begin(&self) {
        if self.0.ending.shut_down_by.lock().is_none() {
            self.0.hand_over();
        }
    }

    pub(crate) fn run(&self) -> Run {
        self.0.ending.run
    }

    /// Whether it keeps others from using the file of this key.
    pub(crate) fn has_locked(&self, peer: PeerId) -> bool {
        self.0.peer == peer && self.0.key_lock.lock().is_some()
    }

    pub(crate) fn is_in_place(&self) -> bool {
        self.0.ending.in_place
    }

    /// Whether it is leaving already.
    pub(crate) fn has_begun(&self) -> bool {
        let ending = &self.0.ending;
        ending.handed_over.load(Ordering::Acquire) || ending.shut_down_by.lock().is_some()
    }

    pub(crate) fn is_over(&self) -> bool {
        *self.0.ending.over.borrow()
    }

    /// Resolves when it has ended.
    pub(crate) async fn over(&self) {
        // Its sender is held here.
        let _ = self.0.ending.over.subscribe().wait_for(|over| *over).await;
    }

    /// How long it may still linger, or its shutdown last, at the most.
    pub(crate) fn left(&self) -> Duration {
        let ending = &self.0.ending;
        if let Some(by) = *ending.shut_down_by.lock()
            && !ending.handed_over.load(Ordering::Acquire)
        {
            return by.saturating_duration_since(Instant::now());
        }
        let begun = ending.begun.get().copied().unwrap_or_else(Instant::now);
        (ending.linger.unwrap_or(LINGER_MAX) + VIGIL_MAX).saturating_sub(begun.elapsed())
    }

    /// It is waited for no longer, and the process ends. What is told as lost doesn't leave after that, nor is it told again.
    pub(crate) fn give_up(&self) {
        self.0.cut_off();
    }
}

/// A mesh, as [`departures`] lists it.
#[derive(Clone)]
pub(crate) struct WeakDeparting(Weak<Inner>);

impl WeakDeparting {
    pub(super) fn new(inner: Weak<Inner>) -> Self {
        Self(inner)
    }

    /// The mesh itself.
    pub(super) fn inner(&self) -> Weak<Inner> {
        self.0.clone()
    }

    pub(crate) fn upgrade(&self) -> Option<Departing> {
        self.0.upgrade().map(Departing)
    }

    /// Whether both are the same mesh.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryNetwork;

    async fn mesh(linger: Duration) -> Mesh {
        let network = MemoryNetwork::new(1);
        let address = "10.0.0.1:4000".parse().unwrap();
        let builder = Mesh::builder().in_place().memory_network(&network).listen(address);
        builder.linger(linger).start().await.unwrap()
    }

    #[webmesh::test]
    async fn the_end_of_main_leaves_a_shutdown_its_time() {
        let mesh = mesh(LINGER).await;
        let departing = mesh.inner().itself.upgrade().unwrap();
        assert!(!departing.has_begun() && departing.left() <= LINGER + VIGIL_MAX);
        let limit = Duration::from_secs(30);
        let mut shutdown = Box::pin(mesh.shutdown_within(limit));
        assert!(futures_util::poll!(&mut shutdown).is_pending());
        departing.begin();
        assert!(departing.has_begun() && !departing.0.ending.handed_over.load(Ordering::Acquire));
        assert!(departing.left() > limit);
        shutdown.await;
        assert!(departing.is_over());
    }

    #[webmesh::test]
    async fn a_mesh_may_linger_for_longer_than_the_clock_goes() {
        let mesh = mesh(Duration::MAX).await;
        let departing = mesh.inner().itself.upgrade().unwrap();
        drop(mesh);
        assert!(departing.has_begun());
        // With what is added to it, no more than a clock has.
        assert!(Instant::now().checked_add(departing.left() + 2 * LINGER).is_some());
        departing.over().await;
    }
}
