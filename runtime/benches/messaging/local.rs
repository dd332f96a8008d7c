//! Cases within one process: the price of a local tell, and of an idle actor.

use crate::report::{Better, Case, Options};
use serde::{Deserialize, Serialize};
use std::{
    alloc::System,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};
use webmesh::{Mesh, Message, Protocol, RemoteActor, actix, prelude::*};

pub(crate) const TELL: &str = "local tell to another thread";
pub(crate) const ACTOR_MEMORY: &str = "live heap per idle exposed actor";

/// Messages of one round, as the issue of this figure fixes them; at least 15 rounds.
const TELLS: usize = 1_000_000;
const TELL_ROUNDS_MIN: usize = 15;
const ACTORS: usize = 2_000;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "bench.count")]
struct Count {
    n: u64,
}

#[derive(Protocol)]
#[protocol(id = "webmesh.bench.local/1", accepts(Count))]
struct Counter;

#[derive(RemoteActor)]
#[remote(serves(Counter))]
struct CounterActor {
    handled: Arc<AtomicUsize>,
}

impl Actor for CounterActor {
    type Context = Context<Self>;
}

impl Handler<Count> for CounterActor {
    type Result = ();
    fn handle(&mut self, count: Count, _: &mut Context<Self>) {
        std::hint::black_box(count.n);
        self.handled.fetch_add(1, Ordering::Relaxed);
    }
}

/// Nanoseconds a message from the first send until the last was handled.
fn until_handled(handled: &AtomicUsize, start: Instant) -> f64 {
    while handled.load(Ordering::Relaxed) < TELLS {
        std::thread::yield_now();
    }
    handled.store(0, Ordering::Relaxed);
    start.elapsed().as_nanos() as f64 / TELLS as f64
}

/// `ActorRef::tell` against actix's `Addr::do_send`, both to an actor on another thread, one producer.
pub(crate) fn tell(options: &Options) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let handled = Arc::new(AtomicUsize::new(0));
    let actor = || CounterActor { handled: handled.clone() };

    let mesh = runtime
        .block_on(
            Mesh::builder().listen("127.0.0.1:0".parse().unwrap()).inlet_capacity(1024).start(),
        )
        .unwrap();
    let plain = actor();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let system = actix::System::new();
        system.block_on(async move {
            let arbiter = actix::Arbiter::new();
            let address = CounterActor::start_in_arbiter(&arbiter.handle(), move |_| plain);
            sender.send(address).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let address = receiver.recv().unwrap();
    let reference = {
        let handled = handled.clone();
        mesh.spawn(move || CounterActor { handled: handled.clone() })
    };

    let ours = || {
        let start = Instant::now();
        runtime.block_on(async {
            for n in 0..TELLS {
                reference.tell(Count { n: n as u64 }).await.unwrap();
            }
        });
        until_handled(&handled, start)
    };
    let theirs = || {
        let start = Instant::now();
        for n in 0..TELLS {
            address.do_send(Count { n: n as u64 });
        }
        until_handled(&handled, start)
    };
    // A round to warm up.
    let _ = (ours(), theirs());
    let pairs: Vec<(f64, f64)> = (0..options.rounds.max(TELL_ROUNDS_MIN))
        .map(|round| {
            if round % 2 == 0 {
                let theirs = theirs();
                (ours(), theirs)
            } else {
                (ours(), theirs())
            }
        })
        .collect();
    let case = Case {
        name: TELL,
        unit: "ns/message",
        better: Better::Lower,
        workload: "",
        webmesh: "webmesh",
        reference: "actix do_send",
        quiet_cpu: false,
    };
    options.print(&case, &pairs);
}

/// Live heap that an idle exposed actor holds; the reference is the same actor plain in actix.
pub(crate) fn actor_memory(options: &Options, allocator: &cap::Cap<System>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let handled = Arc::new(AtomicUsize::new(0));
    let settle = || async { tokio::time::sleep(std::time::Duration::from_millis(200)).await };
    let pairs: Vec<(f64, f64)> = (0..3)
        .map(|_| {
            local.block_on(&runtime, async {
                let mesh = Mesh::builder()
                    .listen("127.0.0.1:0".parse().unwrap())
                    .in_place()
                    .start()
                    .await
                    .unwrap();
                let spawn = |_| {
                    let handled = handled.clone();
                    mesh.spawn(move || CounterActor { handled: handled.clone() })
                };
                spawn(0).tell(Count { n: 0 }).await.unwrap();
                settle().await;

                let before = allocator.allocated();
                let mut ours = Vec::with_capacity(ACTORS);
                ours.extend((0..ACTORS).map(spawn));
                settle().await;
                let ours_bytes = allocator.allocated() - before;

                let before = allocator.allocated();
                let mut plain = Vec::with_capacity(ACTORS);
                plain
                    .extend((0..ACTORS).map(|_| CounterActor { handled: handled.clone() }.start()));
                settle().await;
                let plain_bytes = allocator.allocated() - before;
                drop(ours);
                mesh.shutdown().await;
                (ours_bytes as f64 / ACTORS as f64, plain_bytes as f64 / ACTORS as f64)
            })
        })
        .collect();
    let case = Case {
        name: ACTOR_MEMORY,
        unit: "B",
        better: Better::Lower,
        workload: "",
        webmesh: "webmesh",
        reference: "actix",
        quiet_cpu: false,
    };
    options.print(&case, &pairs);
}
