//! Which meshes of this process haven't ended, and who waits until they have: the way out of `main`.
//!
//! A mesh belongs to the *run* in which it was started: one call of `#[webmesh::main]` or `#[webmesh::test]`, with all threads of
//! its runtime and of the meshes that were started in it. A mesh that was started elsewhere belongs to none.

use crate::mesh::ending::{Departing, WeakDeparting};
use futures_util::future::select;
use parking_lot::{Condvar, Mutex};
use std::cell::Cell;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use webmesh_transport::{PeerId, Placement};

/// Beyond its linger, how long a mesh is waited for: it has links to close, and may have hosts to send elsewhere. A guess.
const BEYOND_LINGER: Duration = Duration::from_millis(250);

thread_local! {
    static RUN: Cell<Run> = const { Cell::new(Run(0)) };
}

/// All that haven't ended.
static ALL: Mutex<Vec<WeakDeparting>> = Mutex::new(Vec::new());

/// One of [`ALL`] has ended.
static ONE_ENDED: Condvar = Condvar::new();

/// One run of a `main` or a test. 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run(u64);

impl Run {
    /// One that no mesh belongs to yet.
    pub(crate) fn new() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The one that this thread belongs to.
    pub(crate) fn current() -> Self {
        RUN.get()
    }

    /// This thread belongs to it from now on. Returns to which it belonged before.
    pub(crate) fn enter(self) -> Self {
        RUN.replace(self)
    }

    /// Its meshes that haven't ended, on threads or in place, and those of no run that have been dropped. All of them are on
    /// their way out from now on.
    pub(crate) fn depart(self, in_place: bool) -> Vec<Departing> {
        let departing = living(|mesh| {
            let homeless = mesh.run() == Run(0) && mesh.has_begun();
            mesh.is_in_place() == in_place && (mesh.run() == self || homeless)
        });
        departing.iter().for_each(Departing::begin);
        departing
    }
}

/// A mesh has been started.
pub(crate) fn add(mesh: WeakDeparting) {
    ALL.lock().push(mesh);
}

/// A mesh has ended, or will be no more.
pub(crate) fn remove(mesh: &WeakDeparting) {
    let mut all = ALL.lock();
    all.retain(|other| !other.is(mesh));
    drop(all);
    ONE_ENDED.notify_all();
}

fn living(which: impl Fn(&Departing) -> bool) -> Vec<Departing> {
    // A strong one may turn out to be the last, whose drop wants the lock.
    let all: Vec<_> = ALL.lock().iter().filter_map(WeakDeparting::upgrade).collect();
    all.into_iter().filter(which).collect()
}

/// Waits for meshes on threads, each as long as it may linger. Blocks this thread.
pub(crate) fn wait(departing: &[Departing]) {
    for mesh in departing {
        let deadline = Instant::now() + mesh.left() + BEYOND_LINGER;
        let mut all = ALL.lock();
        while !mesh.is_over() {
            if ONE_ENDED.wait_until(&mut all, deadline).timed_out() {
                drop(all);
                mesh.give_up();
                break;
            }
        }
    }
}

/// Waits for meshes in place, by the clock of the runtime that they run in.
pub(crate) async fn wait_in_place(departing: &[Departing]) {
    for mesh in departing {
        let limit = mesh.left() + BEYOND_LINGER;
        if tokio::time::timeout(limit, mesh.over()).await.is_err() {
            mesh.give_up();
        }
    }
}

/// Waits until no mesh that is on its way out has this key locked, as long as one may linger. By the clock of a placement.
pub(crate) async fn key_is_free(peer: PeerId, placement: &dyn Placement) {
    for mesh in living(|mesh| mesh.has_begun() && mesh.has_locked(peer)) {
        let limit = placement.sleep(mesh.left() + BEYOND_LINGER);
        select(pin!(mesh.over()), limit).await;
    }
}

/// Ends every mesh of this program that runs on threads, and waits until what they accepted has left, each as long as it
/// [lingers](crate::MeshBuilder::linger) at the most.
///
/// `#[webmesh::main]` does so by itself. It is for programs with a `main` of their own, as their last act, and before
/// [`std::process::exit`], which runs nothing of what would otherwise be done. Meshes that somebody still holds end as if all their
/// handles had been dropped. A mesh in place needs its runtime: [`Mesh::shutdown`](crate::Mesh::shutdown) it there.
///
/// Blocks this thread; not for async code, nor for handlers.
///
/// ```no_run
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let runtime = tokio::runtime::Runtime::new()?;
///     runtime.block_on(async {
///         let mesh = webmesh::Mesh::builder().start().await?;
///         println!("{}", mesh.peer_ref());
///         Ok::<_, webmesh::StartError>(())
///     })?;
///     drop(runtime);
///     webmesh::linger();
///     Ok(())
/// }
/// ```
pub fn linger() {
    let departing = living(|mesh| !mesh.is_in_place());
    departing.iter().for_each(Departing::begin);
    wait(&departing);
}
