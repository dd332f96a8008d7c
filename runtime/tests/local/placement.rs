//! Where actors run, and what senders on many threads see.

use crate::actors::{Log, Note, Plain, ProbeActor, Who, mesh_on_threads};
use crate::spy::Spy;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use webmesh::prelude::*;
use webmesh::{Anyone, AskError, Message, Protocol, RemoteActor, StartError};

#[test]
fn several_meshes_live_in_one_program_under_tokios_own_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (one, two) = (mesh_on_threads().await, mesh_on_threads().await);
        assert_ne!(one.peer_id(), two.peer_id());
        let (log_one, log_two) = (Log::default(), Log::default());
        let in_one = one.spawn(ProbeActor::factory(&log_one));
        let in_two = two.spawn(ProbeActor::factory(&log_two));
        assert_eq!(in_one.ask(Who).await, Ok(Some(one.peer_id())));
        assert_eq!(in_two.ask(Who).await, Ok(Some(two.peer_id())));
        one.shutdown().await;
        drop(one);
        assert_eq!(in_one.ask(Plain { n: 1 }).await, Err(AskError::Stopped));
        assert_eq!(in_two.ask(Plain { n: 2 }).await, Ok(2));
        two.shutdown().await;
    });
}

#[test]
fn senders_on_many_threads_keep_their_orders_and_lose_nothing() {
    const SENDERS: u64 = 8;
    const MESSAGES: u64 = 5_000;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        let (mesh, log) = (mesh_on_threads().await, Log::default());
        // A small inlet, so that most of them have to wait in line.
        let probe = mesh.spawner().capacity(16).spawn(ProbeActor::factory(&log));
        let senders: Vec<_> = (0..SENDERS)
            .map(|sender| {
                let probe = probe.clone();
                tokio::spawn(async move {
                    for n in 0..MESSAGES {
                        probe.tell(Note { n: sender * MESSAGES + n }).await.unwrap();
                    }
                    probe.flush().await.unwrap();
                })
            })
            .collect();
        for sender in senders {
            sender.await.unwrap();
        }
        let mut next: HashMap<u64, u64> = HashMap::new();
        let lines = log.take();
        assert_eq!(lines.len() as u64, SENDERS * MESSAGES);
        for line in lines {
            let n: u64 = line.strip_prefix("note ").unwrap().parse().unwrap();
            let next = next.entry(n / MESSAGES).or_default();
            assert_eq!(n % MESSAGES, *next, "of sender {}", n / MESSAGES);
            *next += 1;
        }
        mesh.shutdown().await;
    });
}

#[test]
fn a_mesh_dropped_without_goodbye_ends_its_actors() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mesh, log) = (mesh_on_threads().await, Log::default());
        let probe = mesh.spawn(ProbeActor::factory(&log));
        assert_eq!(probe.ask(Plain { n: 1 }).await, Ok(1));
        drop(mesh);
        let ended = async {
            while probe.ask(Plain { n: 2 }).await != Err(AskError::Stopped) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(5), ended).await.unwrap();
    });
}

#[test]
fn in_place_without_a_local_set_is_an_error() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(webmesh::Mesh::builder().in_place().start());
    assert!(matches!(outcome, Err(StartError::Placement(_))), "{outcome:?}");
}

/// Blocks the thread until the test lets it go.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.block")]
struct Block;

#[derive(Protocol)]
#[protocol(id = "test.blocking/1", accepts(Block))]
struct Blocking;

#[derive(RemoteActor)]
#[remote(serves(Blocking))]
struct BlockingActor(Arc<Mutex<Receiver<()>>>);

impl Actor for BlockingActor {
    type Context = Context<Self>;
}

impl Handler<Block> for BlockingActor {
    type Result = ();
    fn handle(&mut self, _: Block, _: &mut Context<Self>) {
        let _ = self.0.lock().unwrap().recv();
    }
}

#[test]
fn an_actor_that_blocks_its_thread_is_named_and_gets_no_new_neighbours() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mesh, spy) = (mesh_on_threads().await, Spy::default());
        let _listening = spy.listen();
        let (release, released) = channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let blocking = mesh.spawn(move || BlockingActor(released.clone()));
        mesh.publish("test/blocking", &blocking).allow(Anyone).await.unwrap();
        blocking.flush().await.unwrap();
        let blocked = blocking.ask(Block);
        let mut named = false;
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            // Placing an actor looks at the threads.
            drop(mesh.spawn(ProbeActor::factory(&Log::default())));
            named = spy.take().iter().any(|line| {
                line.contains("blocks its thread")
                    && line.contains("test/blocking 1.0.0 (")
                    && line.contains("BlockingActor")
            });
            if named {
                break;
            }
        }
        assert!(named, "nobody says what blocks the thread");
        for n in 0..20 {
            let probe = mesh.spawn(ProbeActor::factory(&Log::default()));
            assert_eq!(probe.ask(Plain { n }).await, Ok(n));
        }
        let again = spy.take().iter().filter(|line| line.contains("BlockingActor")).count();
        assert_eq!(again, 0, "it is named once");
        drop(release);
        assert_eq!(blocked.await, Ok(()));
        mesh.shutdown().await;
    });
}

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.slow-start", reply = u64)]
struct SlowStart;

#[derive(Protocol)]
#[protocol(id = "test.slow-starter/1", accepts(SlowStart))]
struct SlowStarter;

/// Begins with an ask, tells that it has, goes on in the same handler when it's told to, and answers later.
#[derive(RemoteActor)]
#[remote(serves(SlowStarter))]
struct SlowStartActor {
    begun: std::sync::mpsc::Sender<()>,
    go_on: Arc<Mutex<Receiver<()>>>,
}

impl Actor for SlowStartActor {
    type Context = Context<Self>;
}

impl Handler<SlowStart> for SlowStartActor {
    type Result = ResponseActFuture<Self, u64>;
    fn handle(&mut self, _: SlowStart, _: &mut Context<Self>) -> Self::Result {
        self.begun.send(()).unwrap();
        self.go_on.lock().unwrap().recv().unwrap();
        Box::pin(tokio::time::sleep(Duration::from_millis(50)).into_actor(self).map(|(), _, _| 7))
    }
}

#[test]
fn a_shutdown_that_comes_while_a_handler_runs_waits_for_its_answer() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mesh = mesh_on_threads().await;
        let ((begun, has_begun), (go_on, goes_on)) = (channel(), channel());
        let goes_on = Arc::new(Mutex::new(goes_on));
        let actor =
            mesh.spawn(move || SlowStartActor { begun: begun.clone(), go_on: goes_on.clone() });
        let ask = tokio::spawn(actor.ask(SlowStart));
        tokio::task::spawn_blocking(move || has_begun.recv().unwrap()).await.unwrap();
        let shutdown = mesh.clone();
        let shutdown =
            tokio::spawn(async move { shutdown.shutdown_within(Duration::from_secs(60)).await });
        // It has been shut down as soon as nothing starts any more.
        while actor.ask(SlowStart).await != Err(AskError::Stopped) {
            tokio::task::yield_now().await;
        }
        go_on.send(()).unwrap();
        assert_eq!(ask.await.unwrap(), Ok(7));
        shutdown.await.unwrap();
    });
}
