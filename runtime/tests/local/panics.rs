//! What a panic costs, and what it doesn't.

use crate::actors::{
    InActFuture, InFuture, Log, Note, Panic, PanicInFuture, Plain, ProbeActor, Silence,
    mesh_in_place, mesh_on_threads, probe_in_place,
};
use crate::silence::silence_panics;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use webmesh::prelude::*;
use webmesh::{AskError, Message, Protocol, RemoteActor, Restart, TellError};

#[webmesh::test]
async fn a_panic_in_a_handler_fails_that_ask_and_the_queue_goes_on() {
    let (_mesh, probe, log) = probe_in_place().await;
    let (before, panicking, behind) = tokio::join!(
        probe.ask(Plain { n: 1 }),
        probe.ask(Panic::InHandler),
        probe.ask(Plain { n: 2 })
    );
    assert_eq!((before, panicking, behind), (Ok(1), Err(AskError::Panicked), Ok(2)));
    assert_eq!(log.take(), ["plain 1", "plain 2"]);
}

#[webmesh::test]
async fn what_the_actor_was_working_at_panics_with_it_but_futures_of_their_own_go_on() {
    let (_mesh, probe, _log) = probe_in_place().await;
    let (act, future, panicking) = tokio::join!(
        probe.ask(InActFuture { n: 1, ms: 1000 }),
        probe.ask(InFuture { n: 2, ms: 1000 }),
        probe.ask(Panic::InHandler),
    );
    assert_eq!((act, future), (Err(AskError::Panicked), Ok(2)));
    assert_eq!(panicking, Err(AskError::Panicked));
}

#[webmesh::test]
async fn a_panic_in_a_future_of_the_context_restarts_the_actor() {
    let (_mesh, probe, _log) = probe_in_place().await;
    let (act, panicking) =
        tokio::join!(probe.ask(InActFuture { n: 1, ms: 1000 }), probe.ask(Panic::InActFuture));
    assert_eq!((act, panicking), (Err(AskError::Panicked), Ok(())));
    assert_eq!(probe.ask(Plain { n: 2 }).await, Ok(2));
}

#[webmesh::test]
async fn a_panic_in_a_response_future_fails_that_ask_only() {
    let (_mesh, probe, _log) = probe_in_place().await;
    let (act, panicking) =
        tokio::join!(probe.ask(InActFuture { n: 1, ms: 1000 }), probe.ask(PanicInFuture));
    assert_eq!((act, panicking), (Ok(1), Err(AskError::Panicked)));
}

#[webmesh::test(clock = "real")]
async fn a_panic_in_a_response_future_is_told_however_late_the_asker_looks() {
    silence_panics();
    let mesh = mesh_on_threads().await;
    let probe = mesh.spawn(ProbeActor::factory(&Log::default()));
    for n in 0..50 {
        let ask = probe.ask(PanicInFuture);
        if n % 2 == 0 {
            // Answered after it: the panic is over when the asker looks.
            assert_eq!(probe.ask(InFuture { n, ms: 1 }).await, Ok(n));
        }
        assert_eq!(ask.await, Err(AskError::Panicked));
    }
    mesh.shutdown().await;
}

#[webmesh::test]
async fn a_responder_that_is_dropped_reads_as_no_reply() {
    let (_mesh, probe, _log) = probe_in_place().await;
    assert_eq!(probe.ask(Silence).await, Err(AskError::NoReply));
}

/// Answers with its number; every 100th message makes it panic.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.risky", reply = u64)]
struct Risky {
    n: u64,
}

#[derive(Protocol)]
#[protocol(id = "test.fragile/1", accepts(Risky))]
struct Fragile;

#[derive(RemoteActor)]
#[remote(serves(Fragile))]
struct FragileActor {
    seen: Arc<std::sync::Mutex<Vec<u64>>>,
}

impl Actor for FragileActor {
    type Context = Context<Self>;
}

impl Handler<Risky> for FragileActor {
    type Result = u64;
    fn handle(&mut self, risky: Risky, _: &mut Context<Self>) -> u64 {
        self.seen.lock().unwrap().push(risky.n);
        assert!(risky.n % 100 != 99, "every 100th, as the test wants it");
        risky.n
    }
}

#[webmesh::test(clock = "real")]
async fn an_actor_that_panics_on_every_100th_message_under_load_keeps_its_ref_and_its_queue() {
    silence_panics();
    let mesh = mesh_on_threads().await;
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let fragile = {
        let seen = seen.clone();
        mesh.spawn(move || FragileActor { seen: seen.clone() })
    };
    const MESSAGES: u64 = 10_000;
    // Half of them asks, half tells, in one order.
    let mut asks = Vec::new();
    for n in 0..MESSAGES {
        if n % 2 == 0 {
            fragile.tell(Risky { n }).await.unwrap();
        } else {
            asks.push((n, tokio::task::spawn_local(fragile.ask(Risky { n }))));
        }
    }
    for (n, ask) in asks {
        let expected = if n % 100 == 99 { Err(AskError::Panicked) } else { Ok(n) };
        assert_eq!(ask.await.unwrap(), expected);
    }
    assert_eq!(*seen.lock().unwrap(), (0..MESSAGES).collect::<Vec<_>>());
    mesh.shutdown().await;
}

/// Panics in `started` until it has been tried so often.
struct Slow {
    tries: Arc<AtomicU32>,
    needs: u32,
}

impl Actor for Slow {
    type Context = Context<Self>;
    fn started(&mut self, _: &mut Context<Self>) {
        let tries = self.tries.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(tries >= self.needs, "in started, as the test wants it");
    }
}

impl RemoteActor for Slow {
    type Main = Fragile;
}

impl Handler<webmesh::__private::Attach<Self>> for Slow {
    type Result = ();
    fn handle(&mut self, attach: webmesh::__private::Attach<Self>, ctx: &mut Context<Self>) {
        attach.install(ctx);
    }
}

impl Handler<Risky> for Slow {
    type Result = u64;
    fn handle(&mut self, risky: Risky, _: &mut Context<Self>) -> u64 {
        risky.n
    }
}

#[webmesh::test]
async fn an_actor_whose_start_panics_is_tried_again_with_pauses_and_its_queue_waits() {
    silence_panics();
    let (mesh, tries) = (mesh_in_place().await, Arc::new(AtomicU32::new(0)));
    let slow = {
        let tries = tries.clone();
        mesh.spawn(move || Slow { tries: tries.clone(), needs: 5 })
    };
    let start = Instant::now();
    assert_eq!(slow.ask(Risky { n: 7 }).await, Ok(7));
    assert_eq!(tries.load(Ordering::Relaxed), 5);
    assert!(start.elapsed() >= Duration::from_millis(70), "{:?}", start.elapsed());
}

#[webmesh::test]
async fn an_actor_that_can_never_start_is_given_up() {
    silence_panics();
    let (mesh, tries) = (mesh_in_place().await, Arc::new(AtomicU32::new(0)));
    let hopeless = {
        let tries = tries.clone();
        mesh.spawn(move || Slow { tries: tries.clone(), needs: u32::MAX })
    };
    let queued = hopeless.ask(Risky { n: 1 });
    assert_eq!(queued.await, Err(AskError::Panicked));
    assert_eq!(tries.load(Ordering::Relaxed), 10);
    assert_eq!(hopeless.ask(Risky { n: 2 }).await, Err(AskError::Panicked));
    assert_eq!(hopeless.tell(Risky { n: 3 }).await, Err(TellError::Panicked));
    assert_eq!(hopeless.flush().await, Err(TellError::Panicked));
}

#[webmesh::test]
async fn a_factory_may_panic_too() {
    silence_panics();
    let (mesh, log, mut tries) = (mesh_in_place().await, Log::default(), 0);
    let probe = mesh.spawn(move || {
        tries += 1;
        assert!(tries > 3, "in the factory, as the test wants it");
        ProbeActor::new(&log)
    });
    assert_eq!(probe.ask(Plain { n: 1 }).await, Ok(1));
}

#[webmesh::test]
async fn an_actor_is_not_restarted_if_its_policy_says_never() {
    silence_panics();
    let (mesh, log) = (mesh_in_place().await, Log::default());
    let probe = mesh.spawner().restart(Restart::Never).spawn(ProbeActor::factory(&log));
    let (panicking, behind) = tokio::join!(probe.ask(Panic::InHandler), probe.ask(Plain { n: 1 }));
    assert_eq!((panicking, behind), (Err(AskError::Panicked), Err(AskError::Panicked)));
    assert_eq!(probe.tell(Note { n: 2 }).await, Err(TellError::Panicked));
    assert!(log.take().is_empty());
}

/// Panics in its handler and again while it is dropped.
#[derive(RemoteActor)]
#[remote(serves(Fragile))]
struct Doubly;

impl Actor for Doubly {
    type Context = Context<Self>;
    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        panic!("in stopping, as the test wants it");
    }
}

impl Handler<Risky> for Doubly {
    type Result = u64;
    fn handle(&mut self, risky: Risky, _: &mut Context<Self>) -> u64 {
        assert!(risky.n != 99, "in the handler, as the test wants it");
        risky.n
    }
}

impl Drop for Doubly {
    fn drop(&mut self) {
        panic!("in drop, as the test wants it");
    }
}

#[webmesh::test]
async fn panics_in_stopping_and_in_drop_do_not_end_the_process() {
    silence_panics();
    let mesh = mesh_in_place().await;
    let doubly = mesh.spawn(|| Doubly);
    assert_eq!(doubly.ask(Risky { n: 99 }).await, Err(AskError::Panicked));
    assert_eq!(doubly.ask(Risky { n: 1 }).await, Ok(1));
}
