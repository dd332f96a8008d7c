//! What a restart ends, when it comes, and who hears of it.

use crate::actors::{Log, Panic, Plain, Probe, ProbeActor, Stop, actix, mesh_in_place};
use crate::silence::silence_panics;
use crate::spy::Spy;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use webmesh::prelude::*;
use webmesh::{
    ActorRef, Anyone, AskError, Down, Event, Mesh, Message, Protocol, RemoteActor, Restart,
    WatchEvent, spawn_child, watch_events,
};

/// Keeps the actor from its messages for a while.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.pause")]
struct Pause {
    ms: u64,
}

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.fall")]
struct Fall;

/// The child of the present instance.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.its-child", reply = ActorRef<Probe>)]
struct ItsChild;

#[derive(Protocol)]
#[protocol(id = "test.keeper/1", accepts(Pause, Fall, ItsChild, Plain))]
struct Keeper;

/// Each instance has a child and watches the same actor.
#[derive(RemoteActor)]
#[remote(serves(Keeper))]
struct KeeperActor {
    of: ActorRef<Probe>,
    log: Log,
    instance: u32,
    child: Option<ActorRef<Probe>>,
}

impl Actor for KeeperActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        watch_events(ctx, &self.of);
        self.child = Some(spawn_child(ctx, ProbeActor::factory(&Log::default())));
    }
}

impl Handler<Pause> for KeeperActor {
    type Result = AtomicResponse<Self, ()>;
    fn handle(&mut self, pause: Pause, _: &mut Context<Self>) -> Self::Result {
        let pause = tokio::time::sleep(Duration::from_millis(pause.ms));
        AtomicResponse::new(Box::pin(pause.into_actor(self)))
    }
}

impl Handler<Fall> for KeeperActor {
    type Result = ();
    fn handle(&mut self, _: Fall, _: &mut Context<Self>) {
        panic!("the keeper, as the test wants it");
    }
}

impl Handler<ItsChild> for KeeperActor {
    type Result = actix::MessageResult<ItsChild>;
    fn handle(&mut self, _: ItsChild, _: &mut Context<Self>) -> Self::Result {
        actix::MessageResult(self.child.clone().unwrap())
    }
}

impl Handler<Plain> for KeeperActor {
    type Result = u64;
    fn handle(&mut self, plain: Plain, _: &mut Context<Self>) -> u64 {
        plain.n
    }
}

impl Handler<Down> for KeeperActor {
    type Result = ();
    fn handle(&mut self, down: Down, _: &mut Context<Self>) {
        self.log.write(format!("{} down {:?}", self.instance, down.reason));
    }
}

impl Handler<WatchEvent> for KeeperActor {
    type Result = ();
    fn handle(&mut self, event: WatchEvent, _: &mut Context<Self>) {
        if let Event::Restarted { incarnation } = event.event {
            self.log.write(format!("{} restarted {incarnation}", self.instance));
        }
    }
}

fn keeper(mesh: &Mesh, of: &ActorRef<Probe>, log: &Log) -> ActorRef<Keeper> {
    let (of, log, mut instance) = (of.clone(), log.clone(), 0);
    mesh.spawn(move || {
        instance += 1;
        KeeperActor { of: of.clone(), log: log.clone(), instance, child: None }
    })
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(20)).await;
}

#[webmesh::test]
async fn a_restart_ends_the_children_and_the_watches_of_the_instance_before() {
    silence_panics();
    let (mesh, log) = (mesh_in_place().await, Log::default());
    let probe = mesh.spawn(ProbeActor::factory(&Log::default()));
    let keeper = keeper(&mesh, &probe, &log);
    let mut children = Vec::new();
    for _ in 0..5 {
        children.push(keeper.ask(ItsChild).await.unwrap());
        keeper.ask(Fall).await.unwrap_err();
    }
    let last = keeper.ask(ItsChild).await.unwrap();
    for child in children {
        assert_eq!(child.ask(Plain { n: 1 }).await, Err(AskError::Stopped));
    }
    assert_eq!(last.ask(Plain { n: 1 }).await, Ok(1));
    // The watches of others on it stay, and only those of its present instance are there.
    probe.ask(Panic::InHandler).await.unwrap_err();
    settle().await;
    probe.ask(Stop).await.unwrap();
    settle().await;
    assert_eq!(log.take(), ["6 restarted 1", "6 down Stopped"]);
}

#[webmesh::test]
async fn what_an_instance_was_still_to_be_told_of_its_watches_ends_with_it() {
    silence_panics();
    let (mesh, log) = (mesh_in_place().await, Log::default());
    let probe = mesh.spawn(ProbeActor::factory(&Log::default()));
    let keeper = keeper(&mesh, &probe, &log);
    keeper.flush().await.unwrap();
    // The messages are in line before what there is to tell of the watch.
    let (pause, fall) = (keeper.tell(Pause { ms: 1000 }), keeper.tell(Fall));
    pause.await.unwrap();
    fall.await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    probe.ask(Panic::InHandler).await.unwrap_err();
    settle().await;
    assert_eq!(keeper.ask(Plain { n: 1 }).await, Ok(1));
    assert!(log.take().is_empty(), "the second instance's watch began after the restart");
    let (pause, fall) = (keeper.tell(Pause { ms: 1000 }), keeper.tell(Fall));
    pause.await.unwrap();
    fall.await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    probe.tell(Stop).await.unwrap();
    settle().await;
    // The third instance watches too late, which it is told once.
    assert_eq!(log.take(), ["3 down Stopped"]);
}

#[webmesh::test]
async fn restarts_that_nobody_had_time_to_hear_of_are_told_as_one() {
    silence_panics();
    let (mesh, log) = (mesh_in_place().await, Log::default());
    let probe = mesh.spawn(ProbeActor::factory(&Log::default()));
    let keeper = keeper(&mesh, &probe, &log);
    keeper.tell(Pause { ms: 100_000 }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    // More than events of other kinds may wait.
    for _ in 0..50 {
        probe.ask(Panic::InHandler).await.unwrap_err();
    }
    tokio::time::sleep(Duration::from_secs(100)).await;
    probe.ask(Panic::InHandler).await.unwrap_err();
    settle().await;
    probe.ask(Stop).await.unwrap();
    settle().await;
    assert_eq!(log.take(), ["1 restarted 50", "1 restarted 51", "1 down Stopped"]);
}

#[webmesh::test]
async fn restarts_back_off_and_never_give_up_while_messages_are_taken() {
    silence_panics();
    let (mesh, made) = (mesh_in_place().await, Arc::new(AtomicU32::new(0)));
    let probe = {
        let made = made.clone();
        mesh.spawn(move || {
            made.fetch_add(1, Ordering::Relaxed);
            ProbeActor::new(&Log::default())
        })
    };
    let start = Instant::now();
    let poisoned: Vec<_> = (0..1000).map(|_| probe.ask(Panic::InHandler)).collect();
    let behind = probe.ask(Plain { n: 1 });
    tokio::time::sleep(Duration::from_secs(100)).await;
    let soon = made.load(Ordering::Relaxed);
    assert!((100..110).contains(&soon), "{soon} instances in 100 s");
    for ask in poisoned {
        // They wait longer than an ask does.
        assert!(matches!(ask.timeout(Duration::from_secs(100_000)).await, Err(AskError::Panicked)));
    }
    assert_eq!(behind.timeout(Duration::from_secs(100_000)).await, Ok(1));
    assert_eq!(made.load(Ordering::Relaxed), 1001);
    assert!(start.elapsed() > Duration::from_secs(990), "{:?}", start.elapsed());
    // Well again: the next panic costs little.
    let start = Instant::now();
    assert_eq!(probe.ask(Panic::InHandler).await, Err(AskError::Panicked));
    assert_eq!(probe.ask(Plain { n: 2 }).await, Ok(2));
    assert!(start.elapsed() < Duration::from_millis(20), "{:?}", start.elapsed());
}

#[webmesh::test]
async fn a_hard_limit_ends_the_actor_as_panicked() {
    silence_panics();
    let mesh = mesh_in_place().await;
    let policy = Restart::Within { restarts: 3, window: Duration::from_secs(60) };
    let probe = mesh.spawner().restart(policy).spawn(ProbeActor::factory(&Log::default()));
    for _ in 0..4 {
        assert_eq!(probe.ask(Plain { n: 1 }).await, Ok(1));
        assert_eq!(probe.ask(Panic::InHandler).await, Err(AskError::Panicked));
    }
    assert_eq!(probe.ask(Plain { n: 1 }).await, Err(AskError::Panicked));
}

#[webmesh::test]
async fn a_panic_names_the_actor_by_what_it_is_published_as_or_by_its_object() {
    silence_panics();
    let (mesh, spy) = (mesh_in_place().await, Spy::default());
    let _listening = spy.listen();
    let hidden = mesh.spawn(ProbeActor::factory(&Log::default()));
    hidden.ask(Panic::InHandler).await.unwrap_err();
    let lines = spy.take();
    assert!(
        lines.iter().any(|line| line.contains("an actor panicked")
            && line.contains("actor=object ")
            && line.contains("ProbeActor")),
        "{lines:?}"
    );
    mesh.publish("probe/one", &hidden).version("1.2.0").allow(Anyone).await.unwrap();
    hidden.ask(Panic::InHandler).await.unwrap_err();
    let lines = spy.take();
    assert!(lines.iter().any(|line| line.contains("actor=probe/one 1.2.0")), "{lines:?}");
    let exposed = mesh.expose(&ProbeActor::new(&Log::default()).start());
    mesh.publish("probe/two", &exposed).allow(Anyone).await.unwrap();
    exposed.ask(Panic::InHandler).await.unwrap_err();
    let lines = spy.take();
    assert!(lines.iter().any(|line| line.contains("actor=probe/two 1.0.0")), "{lines:?}");
}
