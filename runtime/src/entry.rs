//! The runtimes that `#[webmesh::main]` and `#[webmesh::test]` run their function in.
//!
//! Both are a tokio runtime with a `LocalSet` around the function: a Mesh placed *in place* and plain actix actors spawn on that set.
//! Meshes in the *threads* placement bring their own threads and need nothing of it. At the end, the meshes that were started in it
//! leave; a panic is passed on at once.

use crate::mesh::departures;
use crate::mesh::departures::Run;
use std::future::Future;
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;
use webmesh_transport::shortage::{self, RUNTIME_DESCRIPTORS_MAX};

/// Which runtime.
#[derive(Clone, Copy, Debug)]
pub enum Flavor {
    /// Everything on the calling thread.
    CurrentThread,
    /// With worker threads for what `tokio::spawn` is given: so many, or one per core.
    MultiThread(Option<usize>),
}

/// Runs the future to its end.
///
/// # Panics
///
/// If the operating system refuses the runtime's descriptors or threads: nothing can run then, and the caller's return type is
/// not known here.
pub fn block_on<F: Future>(flavor: Flavor, future: F) -> F::Output {
    let mut builder = match flavor {
        Flavor::CurrentThread => Builder::new_current_thread(),
        Flavor::MultiThread(workers) => {
            let mut builder = Builder::new_multi_thread();
            if let Some(workers) = workers {
                builder.worker_threads(workers);
            }
            builder
        }
    };
    run(&mut builder, future)
}

/// Runs the future on this thread, under a clock that jumps to the next timer whenever all tasks wait.
///
/// # Panics
///
/// As [`block_on`].
#[cfg(feature = "test-util")]
pub fn block_on_paused<F: Future>(future: F) -> F::Output {
    run(Builder::new_current_thread().start_paused(true), future)
}

fn run<F: Future>(builder: &mut Builder, future: F) -> F::Output {
    let run = Run::new();
    // All threads that its tasks may run on.
    builder.on_thread_start(move || {
        run.enter();
    });
    // tokio panics by itself where one of the first descriptors is refused.
    let room = shortage::room_for(RUNTIME_DESCRIPTORS_MAX);
    let runtime: Runtime = match room.and_then(|()| builder.enable_all().build()) {
        Ok(runtime) => runtime,
        Err(error) => {
            panic!("the runtime could not be started: {}", shortage::with_remedy(&error))
        }
    };
    let outer = Outer(run.enter());
    let output = {
        // Entered until the end, for what is left in the set may still spawn when it is dropped.
        let _entered = runtime.enter();
        let local = LocalSet::new();
        let output = local.block_on(&runtime, future);
        // What a mesh in place accepted can leave only while its tasks run.
        let departing = run.depart(true);
        if !departing.is_empty() {
            local.block_on(&runtime, departures::wait_in_place(&departing));
        }
        output
    };
    // Without waiting for blocking calls, for some never end: a read of a terminal would keep the program from ending
    // until somebody presses a key.
    runtime.shutdown_background();
    // Those that tasks held have been dropped, or are now as good as that.
    departures::wait(&run.depart(false));
    drop(outer);
    output
}

/// To which run this thread belonged before.
struct Outer(Run);

impl Drop for Outer {
    fn drop(&mut self) {
        self.0.enter();
    }
}
