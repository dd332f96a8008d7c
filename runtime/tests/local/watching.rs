//! Watches: exactly one final word, and what may come before.

use crate::actors::{
    Atomic, Log, Panic, Plain, Probe, ProbeActor, Stop, mesh_in_place, probe_in_place,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use webmesh::prelude::*;
use webmesh::{
    ActorRef, Down, DownReason, Event, Mesh, Message, Protocol, RemoteActor, Restart, WatchEvent,
    WatchId, unwatch, watch, watch_events,
};

/// Makes the watcher watch, and forget the watch again.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.watch")]
struct Watch {
    target: ActorRef<Probe>,
    and_stop_watching: bool,
}

/// Keeps the watcher busy.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.busy")]
struct Busy {
    ms: u64,
}

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.crash")]
struct Crash;

#[derive(Protocol)]
#[protocol(id = "test.watcher/1", accepts(Watch, Busy, Crash, Stop))]
struct Watcher;

#[derive(RemoteActor)]
#[remote(serves(Watcher))]
struct WatcherActor {
    log: Log,
    watches: Vec<WatchId>,
}

impl Actor for WatcherActor {
    type Context = Context<Self>;
}

impl Handler<Watch> for WatcherActor {
    type Result = ();
    fn handle(&mut self, order: Watch, ctx: &mut Context<Self>) {
        let id = watch_events(ctx, &order.target);
        self.watches.push(id);
        if order.and_stop_watching {
            unwatch(ctx, id);
        }
    }
}

impl Handler<Busy> for WatcherActor {
    type Result = AtomicResponse<Self, ()>;
    fn handle(&mut self, busy: Busy, _: &mut Context<Self>) -> Self::Result {
        let pause = tokio::time::sleep(Duration::from_millis(busy.ms));
        AtomicResponse::new(Box::pin(pause.into_actor(self)))
    }
}

impl Handler<Crash> for WatcherActor {
    type Result = ();
    fn handle(&mut self, _: Crash, _: &mut Context<Self>) {
        panic!("the watcher, as the test wants it");
    }
}

impl Handler<Stop> for WatcherActor {
    type Result = ();
    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl Handler<Down> for WatcherActor {
    type Result = ();
    fn handle(&mut self, down: Down, _: &mut Context<Self>) {
        let which = self.watches.iter().position(|id| *id == down.watch);
        self.log.write(format!("{which:?} down {:?}", down.reason));
    }
}

impl Handler<WatchEvent> for WatcherActor {
    type Result = ();
    fn handle(&mut self, event: WatchEvent, _: &mut Context<Self>) {
        match event.event {
            Event::Restarted { incarnation } => self.log.write(format!("restarted {incarnation}")),
            other => self.log.write(format!("{other:?}")),
        }
    }
}

fn watcher(mesh: &Mesh) -> (ActorRef<Watcher>, Log) {
    let log = Log::default();
    let writes = log.clone();
    (mesh.spawn(move || WatcherActor { log: writes.clone(), watches: Vec::new() }), log)
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(10)).await;
}

#[webmesh::test]
async fn a_stop_is_told_once_per_watch() {
    let (mesh, probe, _) = probe_in_place().await;
    let (watcher, log) = watcher(&mesh);
    for _ in 0..2 {
        watcher.tell(Watch { target: probe.clone(), and_stop_watching: false }).await.unwrap();
    }
    watcher.flush().await.unwrap();
    assert!(log.take().is_empty());
    probe.tell(Stop).await.unwrap();
    settle().await;
    mesh.shutdown().await;
    assert_eq!(log.take(), ["Some(0) down Stopped", "Some(1) down Stopped"]);
}

#[webmesh::test]
async fn restarts_are_told_as_they_happen_and_the_end_after_them() {
    let (mesh, log) = (mesh_in_place().await, Log::default());
    let policy = Restart::Within { restarts: 2, window: Duration::from_secs(60) };
    let probe = mesh.spawner().restart(policy).spawn(ProbeActor::factory(&log));
    let (watcher, log) = watcher(&mesh);
    watcher.tell(Watch { target: probe.clone(), and_stop_watching: false }).await.unwrap();
    watcher.flush().await.unwrap();
    for _ in 0..3 {
        probe.ask(Panic::InHandler).await.unwrap_err();
        settle().await;
    }
    assert_eq!(log.take(), ["restarted 1", "restarted 2", "Some(0) down Panicked"]);
}

#[webmesh::test]
async fn whoever_watches_too_late_is_told_at_once() {
    let (mesh, probe, _) = probe_in_place().await;
    let (watcher, log) = watcher(&mesh);
    probe.tell(Stop).await.unwrap();
    settle().await;
    watcher.tell(Watch { target: probe.clone(), and_stop_watching: false }).await.unwrap();
    settle().await;
    assert_eq!(log.take(), ["Some(0) down Stopped"]);
}

#[webmesh::test]
async fn a_watch_that_was_ended_says_nothing() {
    let (mesh, probe, _) = probe_in_place().await;
    let (watcher, log) = watcher(&mesh);
    watcher.tell(Watch { target: probe.clone(), and_stop_watching: true }).await.unwrap();
    watcher.flush().await.unwrap();
    probe.tell(Stop).await.unwrap();
    settle().await;
    assert!(log.take().is_empty());
}

#[webmesh::test]
async fn the_last_word_finds_its_place_in_a_full_inlet() {
    let (mesh, probe, _) = probe_in_place().await;
    let log = Log::default();
    let writes = log.clone();
    let watcher = mesh
        .spawner()
        .capacity(2)
        .spawn(move || WatcherActor { log: writes.clone(), watches: Vec::new() });
    watcher.tell(Watch { target: probe.clone(), and_stop_watching: false }).await.unwrap();
    watcher.flush().await.unwrap();
    for _ in 0..3 {
        watcher.tell(Busy { ms: 1000 }).await.unwrap();
    }
    assert!(watcher.try_tell(Busy { ms: 1000 }).is_err());
    probe.tell(Stop).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(log.take(), ["Some(0) down Stopped"]);
}

#[webmesh::test]
async fn a_watch_ends_with_a_restart_of_the_watcher_and_with_its_stop() {
    let (mesh, probe, _) = probe_in_place().await;
    let (restarted, restarted_log) = watcher(&mesh);
    let (stopped, stopped_log) = watcher(&mesh);
    for watcher in [&restarted, &stopped] {
        watcher.tell(Watch { target: probe.clone(), and_stop_watching: false }).await.unwrap();
        watcher.flush().await.unwrap();
    }
    restarted.ask(Crash).await.unwrap_err();
    stopped.ask(Stop).await.unwrap();
    settle().await;
    probe.tell(Stop).await.unwrap();
    settle().await;
    settle().await;
    assert!(restarted_log.take().is_empty());
    assert!(stopped_log.take().is_empty());
}

#[webmesh::test]
async fn a_plain_watch_needs_no_handler_for_events() {
    #[derive(RemoteActor)]
    #[remote(serves(Watcher2))]
    struct Simple(ActorRef<Probe>, Log);
    #[derive(Protocol)]
    #[protocol(id = "test.simple/1", accepts())]
    struct Watcher2;
    impl Actor for Simple {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Context<Self>) {
            watch(ctx, &self.0);
        }
    }
    impl Handler<Down> for Simple {
        type Result = ();
        fn handle(&mut self, down: Down, _: &mut Context<Self>) {
            assert_eq!(down.reason, DownReason::Stopped);
            self.1.write("down");
        }
    }
    let (mesh, probe, _) = probe_in_place().await;
    let log = Log::default();
    let (target, writes) = (probe.clone(), log.clone());
    let _simple = mesh.spawn(move || Simple(target.clone(), writes.clone()));
    settle().await;
    probe.ask(Panic::InHandler).await.unwrap_err();
    assert_eq!(probe.ask(Plain { n: 1 }).await, Ok(1));
    probe.ask(Atomic { n: 1, ms: 1 }).await.unwrap();
    probe.tell(Stop).await.unwrap();
    settle().await;
    assert_eq!(log.take(), ["down"]);
}
