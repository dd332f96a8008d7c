//! Where tasks and actors run: the one door to actix's System and arbiters and to tokio's `LocalSet`.
//!
//! Two placements follow docs/architecture.md. [`Threads`] owns a network thread (endpoint, connection
//! drivers and stream pumps together, which docs/measurements.md measured as 3.6 times the requests of a
//! multi-thread runtime) and a pool of arbiters for application actors. [`InPlace`] runs everything on
//! the caller's `LocalSet`, so that a paused tokio clock and a seed make a run repeatable.
//!
//! Actors keep to their thread, so a handler that blocks it stops its neighbours. New ones are placed elsewhere then.

pub(crate) mod inline;
mod turns;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use actix_rt::{Arbiter, ArbiterHandle, System};
use futures_util::future::LocalBoxFuture;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::mpsc};

use crate::ground::shortage::{self, with_remedy};
pub use turns::Named;
use turns::Turns;

/// A task that is sent to its thread first and becomes a (thread-bound) future there.
pub type Task = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>;

/// A sleep that may be awaited from any thread or runtime.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Says on which thread network tasks and actors run, and which clock they see.
pub trait Placement: Send + Sync + 'static {
    /// Runs `task` on the network thread. Tasks start in the order of the calls. A task given to a
    /// placement that has been shut down is dropped.
    fn spawn_network(&self, task: Task);

    /// Runs `task` on the application arbiter with the fewest tasks still running, of those that turn. `name` is for the log,
    /// should the task keep its thread from turning.
    fn spawn_actor(&self, task: Task, name: Arc<dyn Named>);

    /// The runtime whose clock and I/O driver the network uses.
    fn network(&self) -> &Handle;

    /// Now, by the placement's clock; under a paused clock only meaningful on that clock's runtime.
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }

    /// Sleeps by the network runtime's clock; may be awaited anywhere.
    fn sleep(&self, length: Duration) -> Sleep {
        let _inside = self.network().enter();
        Box::pin(tokio::time::sleep(length))
    }

    /// Ends what runs here, if it has threads of its own. Never blocks.
    fn stop(&self) {}

    /// The seed from which all randomness that decides the order of events is drawn, if the run is to
    /// be repeatable.
    fn seed(&self) -> Option<u64> {
        None
    }
}

/// Why the threads of a placement could not be started.
#[derive(Debug, thiserror::Error)]
pub enum PlacementError {
    /// The operating system refused a thread; nothing was started. The text says what to raise.
    #[error("cannot start the network thread: {}", with_remedy(.0))]
    Thread(#[source] std::io::Error),
    /// The operating system refused the descriptors of the thread's runtime; nothing is left running. The text says what to raise.
    #[error("cannot start the network thread: {}", with_remedy(.0))]
    Runtime(#[source] std::io::Error),
    /// The thread was started but its runtime was not; nothing is left running.
    #[error("the network thread ended before it was ready")]
    NotReady,
    /// [`InPlace`] was made outside a `tokio::task::LocalSet` on a current-thread runtime.
    #[error("in place needs a tokio LocalSet on a current-thread runtime around it")]
    NoLocalSet,
}

/// The default placement: a network thread and a lazily grown pool of application arbiters.
///
/// Its threads end at [`Threads::shutdown`] or when it is dropped.
pub struct Threads {
    system: System,
    network: ArbiterHandle,
    runtime: Handle,
    pool: Mutex<Vec<Arc<Slot>>>,
    pool_max: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Threads that don't turn are replaced until there are so many times as many threads as CPUs. A guess.
const REPLACED_UP_TO: usize = 2;

/// One application arbiter.
struct Slot {
    arbiter: ArbiterHandle,
    /// Tasks on it.
    load: AtomicUsize,
    turns: Arc<Turns>,
}

/// A task on an arbiter: counted until it is dropped, and known by its number while it has its turn.
struct Running {
    slot: Arc<Slot>,
    number: u64,
}

impl Running {
    fn new(slot: &Arc<Slot>, name: Arc<dyn Named>) -> Self {
        slot.load.fetch_add(1, Ordering::Relaxed);
        Self { slot: slot.clone(), number: slot.turns.add(name) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.slot.turns.remove(self.number);
        self.slot.load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A task whose turns are noted.
struct Noted {
    // First, so that it is still counted while it is dropped.
    task: LocalBoxFuture<'static, ()>,
    running: Running,
}

impl Future for Noted {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let turns = &this.running.slot.turns;
        turns.begin(this.running.number, Instant::now());
        let outcome = this.task.as_mut().poll(cx);
        turns.end();
        outcome
    }
}

/// An arbiter of the current thread's System.
fn start_arbiter() -> std::io::Result<Arc<Slot>> {
    let turns = Arc::new(Turns::new(Instant::now()));
    let (sleeping, waking) = (turns.clone(), turns.clone());
    let arbiter = Arbiter::try_with_tokio_rt(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(move || sleeping.sleeps())
            .on_thread_unpark(move || waking.turns(Instant::now()))
            .build()
    })?;
    Ok(Arc::new(Slot { arbiter: arbiter.handle(), load: AtomicUsize::new(0), turns }))
}

impl Threads {
    /// Starts the network thread; arbiters follow when actors are spawned, up to one per CPU.
    pub fn start() -> Result<Self, PlacementError> {
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("webmesh-net".into())
            .spawn(move || {
                // actix's own would panic where the system lacks something.
                let runtime = match shortage::runtime() {
                    Ok(runtime) => runtime,
                    Err(e) => return drop(ready.send(Err(e))),
                };
                let handle = runtime.handle().clone();
                let runner = System::with_tokio_rt(|| runtime);
                let system = System::current();
                let network = system.arbiter().clone();
                if ready.send(Ok((system, network, handle))).is_ok()
                    && let Err(e) = runner.run()
                {
                    tracing::error!("the network thread ended with {e}");
                }
            })
            .map_err(PlacementError::Thread)?;
        let started = started.recv().map_err(|_| PlacementError::NotReady)?;
        let (system, network, runtime) = started.map_err(PlacementError::Runtime)?;
        Ok(Self {
            system,
            network,
            runtime,
            pool: Mutex::new(Vec::new()),
            pool_max: std::thread::available_parallelism().map_or(1, |n| n.get()),
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Ends all threads of this placement; what still runs there is dropped. Waits for the network
    /// thread, unless called on it.
    pub fn shutdown(&self) {
        self.system.stop();
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }

    /// The arbiter with the lowest load of those that turn: a new one while the pool is small and all others are busy.
    fn least_loaded(&self) -> Option<Arc<Slot>> {
        let mut pool = self.pool.lock();
        let now = Instant::now();
        let stuck: Vec<_> = pool.iter().map(|slot| slot.turns.stuck(now)).collect();
        let turning = stuck.iter().filter(|stuck| stuck.is_none()).count();
        let load = |slot: &Slot| slot.load.load(Ordering::Relaxed);
        let idle = pool.iter().zip(&stuck).any(|(slot, stuck)| stuck.is_none() && load(slot) == 0);
        if !idle && turning < self.pool_max && pool.len() < REPLACED_UP_TO * self.pool_max {
            // `Arbiter::try_new` wants a System in its thread, and a thread can never be rid of one
            // again, so the caller's must not be it.
            let system = self.system.clone();
            let made = std::thread::Builder::new().spawn(move || {
                System::set_current(system);
                start_arbiter()
            });
            let died = |_| Err(std::io::Error::other("the thread that starts it panicked"));
            match made.and_then(|thread| thread.join().unwrap_or_else(died)) {
                Ok(slot) => pool.push(slot),
                Err(e) => tracing::warn!("no further thread for actors: {}", with_remedy(&e)),
            }
        }
        // One that was just made turns. If none does, the least loaded is as good as any.
        let is_stuck = |at: usize| stuck.get(at).is_some_and(Option::is_some);
        let best = pool.iter().enumerate().min_by_key(|(at, slot)| (is_stuck(*at), load(slot)));
        let best = best.map(|(_, slot)| slot.clone());
        drop(pool);
        for stuck in stuck.into_iter().flatten().filter(|stuck| stuck.is_news) {
            let task = stuck.task.map(|task| task.name());
            tracing::warn!(
                actor = task.as_deref().unwrap_or("a future that runs apart from its actor"),
                for_ms = u64::try_from(stuck.since.as_millis()).unwrap_or(u64::MAX),
                "blocks its thread: its neighbours wait, new actors are placed on other threads"
            );
        }
        best
    }
}

impl Placement for Threads {
    fn spawn_network(&self, task: Task) {
        self.network.spawn_fn(move || {
            actix_rt::spawn(task());
        });
    }

    fn spawn_actor(&self, task: Task, name: Arc<dyn Named>) {
        match self.least_loaded() {
            Some(slot) => {
                let running = Running::new(&slot, name);
                slot.arbiter.spawn_fn(move || {
                    actix_rt::spawn(Noted { task: task(), running });
                });
            }
            // Without a single arbiter the network thread is slower but right.
            None => self.spawn_network(task),
        }
    }

    fn network(&self) -> &Handle {
        &self.runtime
    }

    fn stop(&self) {
        self.system.stop();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // No join here: the last owner may be a task on one of these threads.
        self.system.stop();
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("arbiters", &self.pool.lock().len()).finish_non_exhaustive()
    }
}

/// Everything on the `LocalSet` in which it was made; with a paused clock and a seed, repeatable.
pub struct InPlace {
    tasks: mpsc::UnboundedSender<Task>,
    runtime: Handle,
    seed: u64,
}

impl InPlace {
    /// Places everything on the current `LocalSet`. `seed` decides every random choice that could
    /// change the order of events.
    pub fn new(seed: u64) -> Result<Self, PlacementError> {
        let runtime = Handle::try_current().map_err(|_| PlacementError::NoLocalSet)?;
        if runtime.runtime_flavor() != tokio::runtime::RuntimeFlavor::CurrentThread {
            return Err(PlacementError::NoLocalSet);
        }
        let (tasks, mut queue) = mpsc::unbounded_channel::<Task>();
        // One dispatcher starts all tasks: a caller may be outside the LocalSet, where spawn_local
        // panics, and the order of starts must not depend on where callers are.
        let dispatcher = async move {
            while let Some(task) = queue.recv().await {
                tokio::task::spawn_local(task());
            }
        };
        // tokio offers no question "is there a LocalSet?", only the panic.
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            tokio::task::spawn_local(dispatcher);
        }))
        .map_err(|_| PlacementError::NoLocalSet)?;
        Ok(Self { tasks, runtime, seed })
    }
}

impl Placement for InPlace {
    fn spawn_network(&self, task: Task) {
        let _ = self.tasks.send(task);
    }

    fn spawn_actor(&self, task: Task, _: Arc<dyn Named>) {
        let _ = self.tasks.send(task);
    }

    fn network(&self) -> &Handle {
        &self.runtime
    }

    fn seed(&self) -> Option<u64> {
        Some(self.seed)
    }
}

impl fmt::Debug for InPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InPlace").field("seed", &self.seed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_are_spread_over_arbiters_and_network_tasks_keep_to_their_thread() {
        let threads = Threads::start().unwrap();
        let (tx, rx) = std::sync::mpsc::channel();
        for network in [true, true, false, false] {
            let tx = tx.clone();
            let task: Task = Box::new(move || {
                Box::pin(async move {
                    let name = std::thread::current().name().unwrap_or("").to_owned();
                    tx.send((network, name)).unwrap();
                    std::future::pending::<()>().await;
                })
            });
            if network { threads.spawn_network(task) } else { threads.spawn_actor(task, named()) }
        }
        let mut arbiters = std::collections::BTreeSet::new();
        for _ in 0..4 {
            let (network, name) = rx.recv_timeout(Duration::from_secs(5)).unwrap();
            if network {
                assert_eq!(name, "webmesh-net")
            } else {
                arbiters.insert(name);
            }
        }
        let cpus = std::thread::available_parallelism().unwrap().get();
        assert_eq!(arbiters.len(), cpus.min(2));
        threads.shutdown();
    }

    struct Test;

    impl Named for Test {
        fn name(&self) -> String {
            "a test's".to_owned()
        }
    }

    fn named() -> Arc<dyn Named> {
        Arc::new(Test)
    }

    #[test]
    fn a_thread_that_is_blocked_gets_no_new_actors_until_it_turns_again() {
        let threads = Threads::start().unwrap();
        let cpus = threads.pool_max;
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let (began, begun) = std::sync::mpsc::channel();
        let blocked = Arc::new(Mutex::new(blocked));
        // One on each thread, as many as there are.
        for _ in 0..cpus {
            let (began, blocked) = (began.clone(), blocked.clone());
            threads.spawn_actor(
                Box::new(move || {
                    Box::pin(async move {
                        began.send(()).unwrap();
                        let _ = blocked.lock().recv();
                    })
                }),
                named(),
            );
        }
        for _ in 0..cpus {
            begun.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        std::thread::sleep(turns::STUCK_AFTER + Duration::from_millis(100));
        let (answer, answers) = std::sync::mpsc::channel();
        for n in 0..100 {
            let answer = answer.clone();
            let task: Task = Box::new(move || {
                Box::pin(async move {
                    answer.send(n).unwrap();
                    std::future::pending::<()>().await;
                })
            });
            threads.spawn_actor(task, named());
        }
        let mut answered: Vec<_> =
            (0..100).map(|_| answers.recv_timeout(Duration::from_secs(60)).unwrap()).collect();
        answered.sort_unstable();
        assert_eq!(answered, (0..100).collect::<Vec<_>>());
        assert_eq!(threads.pool.lock().len(), 2 * cpus, "as many again, and no more");
        drop(release);
        threads.shutdown();
    }

    #[test]
    fn in_place_outside_a_local_set_is_an_error() {
        assert!(matches!(InPlace::new(1), Err(PlacementError::NoLocalSet)));
    }
}
