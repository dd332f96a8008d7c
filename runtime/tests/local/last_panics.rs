//! A panic does not make a stop forgotten, whoever wanted the stop and wherever the panic comes.

use crate::actors::{Log, Plain, Probe, ProbeActor, actix, mesh_in_place};
use crate::silence::silence_panics;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use webmesh::prelude::*;
use webmesh::{
    ActorRef, AskError, Down, Mesh, Message, Protocol, RemoteActor, Restart, spawn_child, watch,
};

/// Where an instance panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum At {
    /// In `started`, having asked for its own stop.
    Started,
    /// In the handler, having asked for its own stop.
    Handler,
    /// In the handler, having ended itself at once.
    Terminated,
    Stopping,
    Stopped,
    Drop,
    Nowhere,
}

/// Ends the actor, or has it panic.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.end-at")]
struct End(At);

/// Panics, with no stop under way.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.just-panic")]
struct JustPanic;

/// Has the actor panic after [`LATER`].
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.panic-later")]
struct PanicLater;

const LATER: Duration = Duration::from_millis(500);

/// The child that the actor has had since its start.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.child-of", reply = ActorRef<Probe>)]
struct ChildOf;

#[derive(Protocol)]
#[protocol(id = "test.ending/1", accepts(End, JustPanic, PanicLater, ChildOf))]
struct Ending;

/// What the test knows of all instances.
#[derive(Default)]
struct Seen {
    made: AtomicU32,
    /// How many stops are still refused.
    refuses: AtomicU32,
}

#[derive(RemoteActor)]
#[remote(serves(Ending))]
struct EndingActor {
    at: At,
    seen: Arc<Seen>,
    child: Option<ActorRef<Probe>>,
}

impl EndingActor {
    fn reach(&self, at: At) {
        assert!(self.at != at, "at {at:?}, as the test wants it");
    }
}

impl Actor for EndingActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.child = Some(spawn_child(ctx, ProbeActor::factory(&Log::default())));
        if self.at == At::Started {
            ctx.stop();
            self.reach(At::Started);
        }
    }

    fn stopping(&mut self, _: &mut Context<Self>) -> Running {
        self.reach(At::Stopping);
        let refused =
            self.seen
                .refuses
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if refused.is_ok() { Running::Continue } else { Running::Stop }
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.reach(At::Stopped);
    }
}

impl Drop for EndingActor {
    fn drop(&mut self) {
        self.reach(At::Drop);
    }
}

impl Handler<End> for EndingActor {
    type Result = ();
    fn handle(&mut self, End(at): End, ctx: &mut Context<Self>) {
        self.at = at;
        if at == At::Terminated {
            ctx.terminate()
        } else {
            ctx.stop()
        }
        self.reach(At::Handler);
        self.reach(At::Terminated);
    }
}

impl Handler<JustPanic> for EndingActor {
    type Result = ();
    fn handle(&mut self, _: JustPanic, _: &mut Context<Self>) {
        panic!("with no stop under way, as the test wants it");
    }
}

impl Handler<PanicLater> for EndingActor {
    type Result = ();
    fn handle(&mut self, _: PanicLater, ctx: &mut Context<Self>) {
        ctx.run_later(LATER, |_, _| panic!("later, as the test wants it"));
    }
}

impl Handler<ChildOf> for EndingActor {
    type Result = actix::MessageResult<ChildOf>;
    fn handle(&mut self, _: ChildOf, _: &mut Context<Self>) -> Self::Result {
        actix::MessageResult(self.child.clone().unwrap())
    }
}

fn spawn(mesh: &Mesh, at: At, seen: &Arc<Seen>) -> ActorRef<Ending> {
    let seen = seen.clone();
    mesh.spawn(move || {
        seen.made.fetch_add(1, Ordering::Relaxed);
        EndingActor { at, seen: seen.clone(), child: None }
    })
}

/// Writes down how another actor ended.
#[derive(RemoteActor)]
#[remote(serves(Nothing))]
struct Witness(ActorRef<Ending>, Log);

#[derive(Protocol)]
#[protocol(id = "test.witness/1", accepts())]
struct Nothing;

impl Actor for Witness {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        watch(ctx, &self.0);
    }
}

impl Handler<Down> for Witness {
    type Result = ();
    fn handle(&mut self, down: Down, _: &mut Context<Self>) {
        self.1.write(format!("{:?}", down.reason));
    }
}

async fn settle() {
    tokio::time::sleep(Duration::from_secs(30)).await;
}

#[webmesh::test]
async fn an_actor_that_panics_while_it_stops_has_stopped_and_its_child_with_it() {
    silence_panics();
    for at in [At::Handler, At::Terminated, At::Stopping, At::Stopped, At::Drop, At::Nowhere] {
        let (mesh, seen, log) = (mesh_in_place().await, Arc::new(Seen::default()), Log::default());
        let actor = spawn(&mesh, At::Nowhere, &seen);
        let (watched, writes) = (actor.clone(), log.clone());
        mesh.spawn(move || Witness(watched.clone(), writes.clone()));
        let child = actor.ask(ChildOf).await.unwrap();
        assert_eq!(child.ask(Plain { n: 1 }).await, Ok(1));
        actor.tell(End(at)).await.unwrap();
        let queued = actor.ask(ChildOf);
        settle().await;
        assert_eq!(seen.made.load(Ordering::Relaxed), 1, "{at:?}: no resurrection");
        assert_eq!(queued.await.err(), Some(AskError::Stopped), "{at:?}");
        assert_eq!(log.take(), ["Stopped"], "{at:?}");
        assert_eq!(child.ask(Plain { n: 2 }).await, Err(AskError::Stopped), "{at:?}");
    }
}

#[webmesh::test]
async fn an_actor_that_wants_to_stop_and_panics_in_its_start_is_not_started_again() {
    silence_panics();
    let (mesh, seen) = (mesh_in_place().await, Arc::new(Seen::default()));
    let actor = spawn(&mesh, At::Started, &seen);
    assert_eq!(actor.ask(ChildOf).await.err(), Some(AskError::Stopped));
    settle().await;
    assert_eq!(seen.made.load(Ordering::Relaxed), 1);
}

#[webmesh::test]
async fn a_shutdown_waits_for_no_actor_that_panics_over_its_stop() {
    silence_panics();
    for at in [At::Stopping, At::Stopped, At::Drop] {
        let (mesh, seen) = (mesh_in_place().await, Arc::new(Seen::default()));
        let actor = spawn(&mesh, at, &seen);
        let child = actor.ask(ChildOf).await.unwrap();
        let start = Instant::now();
        mesh.shutdown().await;
        assert!(start.elapsed() < Duration::from_secs(2), "{at:?}: {:?}", start.elapsed());
        assert_eq!(actor.ask(ChildOf).await.err(), Some(AskError::Stopped));
        assert_eq!(child.ask(Plain { n: 1 }).await, Err(AskError::Stopped));
        settle().await;
        assert_eq!(seen.made.load(Ordering::Relaxed), 1, "{at:?}");
    }
}

#[webmesh::test]
async fn a_stop_ends_the_pause_before_the_next_instance() {
    silence_panics();
    let (mesh, made) = (mesh_in_place().await, Arc::new(AtomicU32::new(0)));
    // Its restarts get ever later.
    let policy = Restart::WhileItProgresses { attempts: u32::MAX };
    let hopeless = {
        let made = made.clone();
        mesh.spawner().restart(policy).spawn(move || -> ProbeActor {
            made.fetch_add(1, Ordering::Relaxed);
            panic!("in the factory, as the test wants it")
        })
    };
    let queued = hopeless.ask(Plain { n: 1 });
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = made.load(Ordering::Relaxed);
    assert!((10..30).contains(&before), "{before}");
    let start = Instant::now();
    mesh.shutdown().await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(queued.await, Err(AskError::Stopped));
    settle().await;
    assert_eq!(made.load(Ordering::Relaxed), before);
}

/// Has a child that never starts, and ends.
#[derive(RemoteActor)]
#[remote(serves(Ending))]
struct ParentOfHopeless(Arc<AtomicU32>);

impl Actor for ParentOfHopeless {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        let made = self.0.clone();
        spawn_child(ctx, move || -> ProbeActor {
            made.fetch_add(1, Ordering::Relaxed);
            panic!("in the child's factory, as the test wants it")
        });
    }
}

impl Handler<End> for ParentOfHopeless {
    type Result = ();
    fn handle(&mut self, _: End, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl Handler<JustPanic> for ParentOfHopeless {
    type Result = ();
    fn handle(&mut self, _: JustPanic, _: &mut Context<Self>) {}
}

impl Handler<PanicLater> for ParentOfHopeless {
    type Result = ();
    fn handle(&mut self, _: PanicLater, _: &mut Context<Self>) {
        unreachable!("nobody wants it")
    }
}

impl Handler<ChildOf> for ParentOfHopeless {
    type Result = actix::MessageResult<ChildOf>;
    fn handle(&mut self, _: ChildOf, _: &mut Context<Self>) -> Self::Result {
        unreachable!("nobody asks")
    }
}

#[webmesh::test]
async fn a_child_whose_factory_keeps_panicking_ends_with_its_parent() {
    silence_panics();
    let (mesh, made) = (mesh_in_place().await, Arc::new(AtomicU32::new(0)));
    let parent = {
        let made = made.clone();
        mesh.spawn(move || ParentOfHopeless(made.clone()))
    };
    parent.ask(JustPanic).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    parent.tell(End(At::Nowhere)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let before = made.load(Ordering::Relaxed);
    assert!(before > 1);
    settle().await;
    assert_eq!(made.load(Ordering::Relaxed), before);
}

#[webmesh::test]
async fn a_stop_of_the_mesh_that_was_put_off_is_remembered_when_the_actor_panics() {
    silence_panics();
    let (mesh, seen) = (mesh_in_place().await, Arc::new(Seen::default()));
    seen.refuses.store(1, Ordering::Relaxed);
    let actor = spawn(&mesh, At::Nowhere, &seen);
    actor.ask(PanicLater).await.unwrap();
    let start = Instant::now();
    mesh.shutdown().await;
    let took = start.elapsed();
    assert!(took >= LATER && took < Duration::from_secs(2), "{took:?}");
    assert_eq!(actor.ask(ChildOf).await.err(), Some(AskError::Stopped));
    assert_eq!(seen.made.load(Ordering::Relaxed), 1);
}

#[webmesh::test]
async fn an_actor_that_has_changed_its_own_mind_about_its_stop_is_restarted_after_a_panic() {
    silence_panics();
    let (mesh, seen) = (mesh_in_place().await, Arc::new(Seen::default()));
    seen.refuses.store(1, Ordering::Relaxed);
    let actor = spawn(&mesh, At::Nowhere, &seen);
    actor.ask(End(At::Nowhere)).await.unwrap();
    assert_eq!(actor.ask(JustPanic).await, Err(AskError::Panicked));
    assert!(actor.ask(ChildOf).await.is_ok());
    assert_eq!(seen.made.load(Ordering::Relaxed), 2);
    actor.ask(End(At::Nowhere)).await.unwrap();
    assert_eq!(actor.ask(ChildOf).await.err(), Some(AskError::Stopped));
}

#[webmesh::test]
async fn an_actor_that_was_stopped_before_it_started_never_starts() {
    let (mesh, log) = (mesh_in_place().await, Log::default());
    let made = Arc::new(AtomicU32::new(0));
    let probe = {
        let (made, log) = (made.clone(), log.clone());
        mesh.spawn(move || {
            made.fetch_add(1, Ordering::Relaxed);
            ProbeActor::new(&log)
        })
    };
    mesh.shutdown().await;
    assert_eq!(probe.ask(Plain { n: 1 }).await, Err(AskError::Stopped));
    settle().await;
    assert_eq!(made.load(Ordering::Relaxed), 0);
}
