//! What an actor can do from inside: `this`, `mesh`, `send`, `caller`, `spawn_child`.

use crate::actors::{
    Atomic, Log, Note, Plain, Probe, ProbeActor, Who, actix, mesh_in_place, probe_in_place,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use webmesh::prelude::*;
use webmesh::{
    ActorRef, AskError, Message, OUTBOX_MAX, PeerId, Protocol, RemoteActor, TrySendError, caller,
    mesh, send, spawn_child, this, try_mesh, try_this,
};

/// Asks the actor about itself, in every kind of response.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.self-portrait", reply = bool)]
struct SelfPortrait;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.self-portrait-later", reply = bool)]
struct SelfPortraitLater;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.self-portrait-atomic", reply = bool)]
struct SelfPortraitAtomic;

/// Who the caller is: in the handler, and in its future.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.callers", reply = Vec<Option<PeerId>>)]
struct Callers;

/// Makes another actor of its kind within its handler, which it exposes if told so. What doesn't hold of the two contexts.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.nest", reply = Vec<String>)]
struct Nest {
    and_expose: bool,
}

#[derive(Protocol)]
#[protocol(
    id = "test.introspective/1",
    accepts(SelfPortrait, SelfPortraitLater, SelfPortraitAtomic, Callers, Nest)
)]
struct Introspective;

#[derive(Protocol)]
#[protocol(id = "test.introspective-too/1", accepts(SelfPortrait))]
struct Second;

#[derive(RemoteActor)]
#[remote(serves(Introspective, Second))]
struct IntrospectiveActor {
    peer: PeerId,
    knows_itself_at_start: bool,
}

impl IntrospectiveActor {
    fn knows_itself(&self, ctx: &Context<Self>) -> bool {
        let (first, second) = (try_this::<Introspective>(ctx), try_this::<Second>(ctx));
        first.is_some_and(|first| first.peer() == self.peer)
            && second.is_some_and(|second| second.peer() == self.peer)
            && try_mesh(ctx).is_some_and(|mesh| mesh.peer_id() == self.peer)
    }
}

impl Actor for IntrospectiveActor {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        self.knows_itself_at_start = self.knows_itself(ctx);
    }
}

impl Handler<SelfPortrait> for IntrospectiveActor {
    type Result = bool;
    fn handle(&mut self, _: SelfPortrait, ctx: &mut Context<Self>) -> bool {
        self.knows_itself_at_start && self.knows_itself(ctx)
    }
}

impl Handler<SelfPortraitLater> for IntrospectiveActor {
    type Result = ResponseActFuture<Self, bool>;
    fn handle(&mut self, _: SelfPortraitLater, _: &mut Context<Self>) -> Self::Result {
        let pause = tokio::time::sleep(Duration::from_millis(10));
        Box::pin(pause.into_actor(self).map(|(), actor, ctx| actor.knows_itself(ctx)))
    }
}

impl Handler<SelfPortraitAtomic> for IntrospectiveActor {
    type Result = AtomicResponse<Self, bool>;
    fn handle(&mut self, _: SelfPortraitAtomic, _: &mut Context<Self>) -> Self::Result {
        let pause = tokio::time::sleep(Duration::from_millis(10));
        AtomicResponse::new(Box::pin(
            pause.into_actor(self).map(|(), actor, ctx| actor.knows_itself(ctx)),
        ))
    }
}

impl Handler<Callers> for IntrospectiveActor {
    type Result = ResponseActFuture<Self, Vec<Option<PeerId>>>;
    fn handle(&mut self, _: Callers, ctx: &mut Context<Self>) -> Self::Result {
        let now = caller(ctx).map(|caller| caller.peer());
        let pause = tokio::time::sleep(Duration::from_millis(10));
        Box::pin(
            pause
                .into_actor(self)
                .map(move |(), _, ctx| vec![now, caller(ctx).map(|caller| caller.peer())]),
        )
    }
}

impl Handler<Nest> for IntrospectiveActor {
    type Result = ResponseFuture<Vec<String>>;
    fn handle(&mut self, nest: Nest, ctx: &mut Context<Self>) -> Self::Result {
        let mut wrong = Vec::new();
        let mut check = |holds: bool, what: &str| {
            if !holds {
                wrong.push(what.to_owned());
            }
        };
        let (outer, home) = (this::<Introspective>(ctx), mesh(ctx));
        let inner = IntrospectiveActor::create(|inner| {
            check(try_this::<Introspective>(inner).is_none(), "the inner one has a ref");
            check(try_mesh(inner).is_none(), "the inner one has a mesh");
            check(caller(inner).is_none(), "the inner one has a caller");
            check(try_this(ctx).as_ref() == Some(&outer), "the outer one lost its ref");
            check(try_mesh(ctx).is_some(), "the outer one lost its mesh");
            check(caller(ctx).is_some(), "the outer one lost its caller");
            IntrospectiveActor { peer: self.peer, knows_itself_at_start: true }
        });
        let other = ProbeActor::create(|other| {
            check(try_this::<Probe>(other).is_none(), "the other one has a ref");
            check(caller(other).is_none(), "the other one has a caller");
            ProbeActor::new(&Log::default())
        });
        check(caller(ctx).is_some(), "the outer one has no caller afterwards");
        Box::pin(async move {
            // By its address it is reached outside of any pump of ours.
            if inner.send(SelfPortraitLater).await != Ok(false) {
                wrong.push("the inner one knows itself in its handler".to_owned());
            }
            if nest.and_expose {
                let exposed = home.expose(&inner);
                if exposed == outer || exposed.ask(SelfPortraitLater).await != Ok(true) {
                    wrong.push("the inner one does not know itself once it is exposed".to_owned());
                }
            }
            drop(other);
            wrong
        })
    }
}

#[webmesh::test]
async fn a_context_made_within_a_handler_speaks_for_its_own_actor_only() {
    let mesh = mesh_in_place().await;
    let peer = mesh.peer_id();
    let new = move || IntrospectiveActor { peer, knows_itself_at_start: false };
    for and_expose in [false, true] {
        let spawned = mesh.spawn(new);
        assert_eq!(spawned.ask(Nest { and_expose }).await, Ok(Vec::new()));
        let exposed = mesh.expose(&new().start());
        assert_eq!(exposed.ask(Nest { and_expose }).await, Ok(Vec::new()));
    }
}

#[webmesh::test]
async fn a_spawned_actor_knows_itself_and_its_mesh_always() {
    let mesh = mesh_in_place().await;
    let peer = mesh.peer_id();
    let actor = mesh.spawn(move || IntrospectiveActor { peer, knows_itself_at_start: false });
    assert_eq!(actor.ask(SelfPortrait).await, Ok(true));
    let (later, atomic) = tokio::join!(actor.ask(SelfPortraitLater), actor.ask(SelfPortraitAtomic));
    assert_eq!((later, atomic), (Ok(true), Ok(true)));
}

#[webmesh::test]
async fn an_exposed_actor_knows_itself_and_its_mesh_once_it_is_exposed() {
    let mesh = mesh_in_place().await;
    let peer = mesh.peer_id();
    let new = || IntrospectiveActor { peer, knows_itself_at_start: true };
    // Two of one kind, so that they could be mixed up; `started` overwrites what was assumed.
    let (one, _other) = (new().start(), new().start());
    let actor = mesh.expose(&one);
    assert_eq!(actor.ask(SelfPortrait).await, Ok(false), "it was started outside of the mesh");
    let (later, atomic) = tokio::join!(actor.ask(SelfPortraitLater), actor.ask(SelfPortraitAtomic));
    assert_eq!((later, atomic), (Ok(true), Ok(true)));
    let plain = one.send(SelfPortraitLater).await.unwrap();
    assert!(plain, "also in handlers of plain messages");
}

#[webmesh::test]
async fn the_caller_is_known_in_the_synchronous_part_only() {
    let (mesh, probe, log) = probe_in_place().await;
    let peer = mesh.peer_id();
    assert_eq!(probe.ask(Who).await, Ok(Some(peer)));
    let address = ProbeActor::new(&log).start();
    let exposed = mesh.expose(&address);
    assert_eq!(exposed.ask(Who).await, Ok(Some(peer)));
    assert_eq!(address.send(Who).await.unwrap(), None, "a plain actix message has none");
    let actor = mesh.spawn(move || IntrospectiveActor { peer, knows_itself_at_start: false });
    let (one, other) = tokio::join!(actor.ask(Callers), actor.ask(Callers));
    assert_eq!((one, other), (Ok(vec![Some(peer), None]), Ok(vec![Some(peer), None])));
}

#[webmesh::test]
async fn outside_of_a_mesh_the_try_variants_say_so() {
    let log = Log::default();
    let ctx = Context::<ProbeActor>::new();
    assert!(try_this::<Probe>(&ctx).is_none());
    assert!(try_mesh(&ctx).is_none());
    assert!(caller(&ctx).is_none());
    let _address: actix::Addr<_> = ctx.run(ProbeActor::new(&log));
}

#[webmesh::test]
#[should_panic(expected = "outside of a mesh")]
async fn outside_of_a_mesh_this_panics() {
    this::<Probe>(&Context::<ProbeActor>::new());
}

/// Sends so many notes, and answers how many were taken.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.send-many", reply = u64)]
struct SendMany {
    to: ActorRef<Probe>,
    count: u64,
}

#[derive(Protocol)]
#[protocol(id = "test.sender/1", accepts(SendMany))]
struct Sender;

#[derive(RemoteActor)]
#[remote(serves(Sender))]
struct SenderActor;

impl Actor for SenderActor {
    type Context = Context<Self>;
}

impl Handler<SendMany> for SenderActor {
    type Result = u64;
    fn handle(&mut self, many: SendMany, ctx: &mut Context<Self>) -> u64 {
        for n in 0..many.count {
            match send(ctx, &many.to, Note { n }) {
                Ok(()) => {}
                Err(TrySendError::Full(Note { n })) => return n,
                Err(error) => panic!("{error}"),
            }
        }
        many.count
    }
}

#[webmesh::test]
async fn a_synchronous_handler_sends_in_order_beyond_what_the_target_has_room_for() {
    let (mesh, log) = (mesh_in_place().await, Log::default());
    let probe = mesh.spawner().capacity(4).spawn(ProbeActor::factory(&log));
    let sender = mesh.spawn(|| SenderActor);
    assert_eq!(sender.ask(SendMany { to: probe.clone(), count: 100 }).await, Ok(100));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(log.take(), (0..100).map(|n| format!("note {n}")).collect::<Vec<_>>());
}

#[webmesh::test]
async fn sends_that_wait_are_bounded_and_the_message_comes_back() {
    let (mesh, log) = (mesh_in_place().await, Log::default());
    let probe = mesh.spawner().capacity(4).spawn(ProbeActor::factory(&log));
    let sender = mesh.spawn(|| SenderActor);
    probe.tell(Atomic { n: 0, ms: 1000 }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    let room = 4 + OUTBOX_MAX as u64;
    assert_eq!(sender.ask(SendMany { to: probe.clone(), count: 1_000_000 }).await, Ok(room));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(log.take().len() as u64, 2 + room);
    assert_eq!(
        sender.ask(SendMany { to: probe.clone(), count: 10 }).await,
        Ok(10),
        "the outbox is free again"
    );
}

/// Has a child that ends with it.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.child", reply = ActorRef<Probe>)]
struct Child;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.end")]
enum End {
    Panic,
    Stop,
}

#[derive(Protocol)]
#[protocol(id = "test.parent/1", accepts(Child, End))]
struct Parent;

#[derive(RemoteActor)]
#[remote(serves(Parent))]
struct ParentActor;

impl Actor for ParentActor {
    type Context = Context<Self>;
}

impl Handler<Child> for ParentActor {
    type Result = ActorRef<Probe>;
    fn handle(&mut self, _: Child, ctx: &mut Context<Self>) -> Self::Result {
        assert_eq!(mesh(ctx).peer_id(), this::<Parent>(ctx).peer());
        spawn_child(ctx, ProbeActor::factory(&Log::default()))
    }
}

impl Handler<End> for ParentActor {
    type Result = ();
    fn handle(&mut self, end: End, ctx: &mut Context<Self>) {
        match end {
            End::Panic => panic!("the parent, as the test wants it"),
            End::Stop => ctx.stop(),
        }
    }
}

#[webmesh::test]
async fn a_child_ends_with_its_parent_and_with_a_restart_of_it() {
    let mesh = mesh_in_place().await;
    let parent = mesh.spawn(|| ParentActor);
    let child = parent.ask(Child).await.unwrap();
    parent.ask(End::Panic).await.unwrap_err();
    assert_eq!(child.ask(Plain { n: 1 }).await, Err(AskError::Stopped));
    let child = parent.ask(Child).await.unwrap();
    assert_eq!(child.ask(Plain { n: 2 }).await, Ok(2));
    parent.ask(End::Stop).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(child.ask(Plain { n: 3 }).await, Err(AskError::Stopped));
}
