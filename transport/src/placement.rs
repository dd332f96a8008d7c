//! Where tasks and actors run: the one door to actix's System and arbiters and to tokio's `LocalSet`.
//!
//! Two placements follow docs/architecture.md. [`Threads`] owns a network thread (endpoint, connection
//! drivers and stream pumps together, which docs/measurements.md measured as 3.6 times the requests of a
//! multi-thread runtime) and a pool of arbiters for application actors. [`InPlace`] runs everything on
//! the caller's `LocalSet`, so that a paused tokio clock and a seed make a run repeatable.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use actix_rt::{Arbiter, ArbiterHandle, System};
use futures_util::future::LocalBoxFuture;
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::mpsc};

use crate::shortage::{self, with_remedy};

/// A task that is sent to its thread first and becomes a (thread-bound) future there.
pub type Task = Box<dyn FnOnce() -> LocalBoxFuture<'static, ()> + Send>;

/// A sleep that may be awaited from any thread or runtime.
pub type Sleep = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

/// Says on which thread network tasks and actors run, and which clock they see.
pub trait Placement: Send + Sync + 'static {
    /// Runs `task` on the network thread. Tasks start in the order of the calls. A task given to a
    /// placement that has been shut down is dropped.
    fn spawn_network(&self, task: Task);

    /// Runs `task` on the application arbiter with the fewest tasks still running.
    fn spawn_actor(&self, task: Task);

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
    pool: Mutex<Vec<Slot>>,
    pool_max: usize,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// One application arbiter and the number of tasks on it.
struct Slot {
    arbiter: ArbiterHandle,
    load: Arc<AtomicUsize>,
}

/// Counts a task as running until it is dropped.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
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

    /// The arbiter with the lowest load: a new one while the pool is small and all others are busy.
    fn least_loaded(&self) -> Option<(ArbiterHandle, Running)> {
        let mut pool = self.pool.lock();
        let idle = pool.iter().any(|slot| slot.load.load(Ordering::Relaxed) == 0);
        if !idle && pool.len() < self.pool_max {
            // `Arbiter::try_new` wants a System in its thread, and a thread can never be rid of one
            // again, so the caller's must not be it.
            let system = self.system.clone();
            let made = std::thread::Builder::new().spawn(move || {
                System::set_current(system);
                let made = Arbiter::try_with_tokio_rt(shortage::runtime);
                made.map(|arbiter| arbiter.handle())
            });
            let died = |_| Err(std::io::Error::other("the thread that starts it panicked"));
            match made.and_then(|thread| thread.join().unwrap_or_else(died)) {
                Ok(arbiter) => pool.push(Slot { arbiter, load: Arc::new(AtomicUsize::new(0)) }),
                Err(e) => tracing::warn!("no further thread for actors: {}", with_remedy(&e)),
            }
        }
        let slot = pool.iter().min_by_key(|slot| slot.load.load(Ordering::Relaxed))?;
        slot.load.fetch_add(1, Ordering::Relaxed);
        Some((slot.arbiter.clone(), Running(slot.load.clone())))
    }
}

impl Placement for Threads {
    fn spawn_network(&self, task: Task) {
        self.network.spawn_fn(move || {
            actix_rt::spawn(task());
        });
    }

    fn spawn_actor(&self, task: Task) {
        match self.least_loaded() {
            Some((arbiter, running)) => {
                arbiter.spawn_fn(move || {
                    actix_rt::spawn(async move {
                        let _running = running;
                        task().await;
                    });
                });
            }
            // Without a single arbiter the network thread is slower but right.
            None => self.spawn_network(task),
        }
    }

    fn network(&self) -> &Handle {
        &self.runtime
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

    fn spawn_actor(&self, task: Task) {
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
            if network { threads.spawn_network(task) } else { threads.spawn_actor(task) }
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

    #[test]
    fn in_place_outside_a_local_set_is_an_error() {
        assert!(matches!(InPlace::new(1), Err(PlacementError::NoLocalSet)));
    }
}
