//! Hosts whose messages make an actor panic.

use crate::silence::silence_panics;
use crate::world::{host_builder, seconds};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;
use webmesh::prelude::*;
use webmesh::{
    ActorRef, Anyone, AskError, MemoryNetwork, Mesh, Message, Protocol, RemoteActor, Restart,
    SecretKey, TellError,
};

/// Answered with the number of the instance.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.which", reply = u64)]
struct Which;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.poison")]
struct Poison;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.poison-atomic", reply = u64)]
struct PoisonAtomic {
    panics: bool,
}

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.poison-act", reply = u64)]
struct PoisonAct {
    panics: bool,
}

/// Its reply can't be encoded without a panic.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.poison-reply", reply = Ignited)]
struct PoisonReply;

#[derive(Debug, PartialEq, Deserialize, webmesh::Reply)]
struct Ignited;

impl Serialize for Ignited {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("while the reply is encoded, as the test wants it")
    }
}

/// Has the actor panic soon, over nobody's message.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.time-bomb")]
struct TimeBomb;

#[derive(Protocol)]
#[protocol(
    id = "test.brittle/1",
    accepts(Which, Poison, PoisonAtomic, PoisonAct, PoisonReply, TimeBomb)
)]
struct Brittle;

#[derive(RemoteActor)]
#[remote(serves(Brittle))]
struct BrittleActor(u64);

impl Actor for BrittleActor {
    type Context = Context<Self>;
}

impl Handler<Which> for BrittleActor {
    type Result = u64;
    fn handle(&mut self, _: Which, _: &mut Context<Self>) -> u64 {
        self.0
    }
}

impl Handler<Poison> for BrittleActor {
    type Result = ();
    fn handle(&mut self, _: Poison, _: &mut Context<Self>) {
        panic!("poisoned, as the test wants it");
    }
}

async fn later(panics: bool) -> u64 {
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!panics, "poisoned later, as the test wants it");
    7
}

impl Handler<PoisonAtomic> for BrittleActor {
    type Result = AtomicResponse<Self, u64>;
    fn handle(&mut self, poison: PoisonAtomic, _: &mut Context<Self>) -> Self::Result {
        AtomicResponse::new(Box::pin(later(poison.panics).into_actor(self)))
    }
}

impl Handler<PoisonAct> for BrittleActor {
    type Result = ResponseActFuture<Self, u64>;
    fn handle(&mut self, poison: PoisonAct, _: &mut Context<Self>) -> Self::Result {
        Box::pin(later(poison.panics).into_actor(self))
    }
}

impl Handler<PoisonReply> for BrittleActor {
    type Result = actix::MessageResult<PoisonReply>;
    fn handle(&mut self, _: PoisonReply, _: &mut Context<Self>) -> Self::Result {
        actix::MessageResult(Ignited)
    }
}

impl Handler<TimeBomb> for BrittleActor {
    type Result = ();
    fn handle(&mut self, _: TimeBomb, ctx: &mut Context<Self>) {
        ctx.run_later(Duration::from_millis(150), |_, _| panic!("a timer, as the test wants it"));
    }
}

/// A mesh in place at this address, with the key of this number.
async fn mesh_at(network: &MemoryNetwork, address: &str, key: u8) -> Mesh {
    let address: SocketAddr = format!("{address}:4000").parse().unwrap();
    Mesh::builder()
        .in_place()
        .seed(key.into())
        .secret_key(SecretKey::from_bytes([key; 32]))
        .memory_network(network)
        .listen(address)
        .start()
        .await
        .unwrap()
}

/// A brittle actor that is published by this name.
async fn brittle(host: &Mesh, name: &str, policy: Restart) -> ActorRef<Brittle> {
    let mut instance = 0;
    let actor = host.spawner().restart(policy).spawn(move || {
        instance += 1;
        BrittleActor(instance)
    });
    host.publish(name, &actor).allow(Anyone).await.unwrap();
    actor
}

async fn far(from: &Mesh, host: &Mesh, name: &str) -> ActorRef<Brittle> {
    from.resolve(name).at(&host.peer_ref()).await.unwrap()
}

fn is_refused<T: std::fmt::Debug>(outcome: &Result<T, AskError>) -> bool {
    matches!(outcome, Err(AskError::Quarantined { left })
        if *left <= Duration::from_secs(60) && *left > Duration::from_secs(50))
}

#[webmesh::test]
async fn a_host_whose_messages_make_an_actor_panic_is_refused_there_for_a_minute() {
    silence_panics();
    let network = MemoryNetwork::new(1);
    let host = host_builder(&network, 1).start().await.unwrap();
    let guilty = mesh_at(&network, "10.7.0.2", 2).await;
    let neighbour = mesh_at(&network, "10.7.0.3", 3).await;
    let stranger = mesh_at(&network, "10.7.1.2", 4).await;
    let near = brittle(&host, "brittle", Restart::default()).await;
    brittle(&host, "other", Restart::default()).await;
    let (a, b, c) = (
        far(&guilty, &host, "brittle").await,
        far(&neighbour, &host, "brittle").await,
        far(&stranger, &host, "brittle").await,
    );
    assert_eq!(b.ask(Which).await, Ok(1));
    for panics in 1..=3 {
        assert_eq!(a.ask(Poison).await, Err(AskError::Panicked));
        assert_eq!(c.ask(Which).await, Ok(panics + 1));
    }
    // What it says on a stream that is open is refused one by one; so is who comes from the same network.
    for far in [&a, &b] {
        let refused = far.ask(Which).await;
        assert!(is_refused(&refused), "{refused:?}");
        let refused = far.ask(Poison).await;
        assert!(is_refused(&refused), "{refused:?}");
    }
    // Nobody else is, and the host isn't elsewhere.
    assert_eq!(c.ask(Which).await, Ok(4));
    assert_eq!(near.ask(Which).await, Ok(4));
    let other = far(&guilty, &host, "other").await;
    assert_eq!(other.ask(Which).await, Ok(1));
    seconds(61).await;
    assert_eq!((a.ask(Which).await, b.ask(Which).await), (Ok(4), Ok(4)));
    // And begins anew.
    assert_eq!(a.ask(Poison).await, Err(AskError::Panicked));
    assert_eq!(a.ask(Which).await, Ok(5));
}

#[webmesh::test]
async fn tells_of_a_host_that_is_refused_are_told_as_lost_and_then_refused() {
    silence_panics();
    let network = MemoryNetwork::new(1);
    let host = host_builder(&network, 1).start().await.unwrap();
    let guilty = mesh_at(&network, "10.7.0.2", 2).await;
    let near = brittle(&host, "brittle", Restart::default()).await;
    let a = far(&guilty, &host, "brittle").await;
    for _ in 0..10 {
        a.tell(Poison).await.unwrap();
    }
    // Seven of them reached no handler.
    assert_eq!(a.flush().await, Err(TellError::LostTells { at_most: 7 }));
    assert_eq!(near.ask(Which).await, Ok(4));
    seconds(1).await;
    let refused = a.tell(Poison).await;
    assert!(matches!(refused, Err(TellError::Quarantined { .. })), "{refused:?}");
    seconds(61).await;
    a.tell(Poison).await.unwrap();
    a.flush().await.unwrap();
    assert_eq!(near.ask(Which).await, Ok(5));
}

#[webmesh::test]
async fn panics_of_asynchronous_handlers_count_against_the_host_that_asked() {
    silence_panics();
    let network = MemoryNetwork::new(1);
    let host = host_builder(&network, 1).start().await.unwrap();
    for (n, name) in [(0, "atomic"), (1, "act"), (2, "reply")] {
        let guilty = mesh_at(&network, &format!("10.7.{n}.2"), 10 + n).await;
        let near = brittle(&host, name, Restart::default()).await;
        let a = far(&guilty, &host, name).await;
        for _ in 0..3 {
            let failed = match n {
                0 => a.ask(PoisonAtomic { panics: true }).await.err(),
                1 => a.ask(PoisonAct { panics: true }).await.err(),
                _ => a.ask(PoisonReply).await.err(),
            };
            assert!(
                matches!(
                    failed,
                    Some(AskError::Panicked | AskError::NoReply | AskError::BadReply(_))
                ),
                "{name}: {failed:?}"
            );
        }
        let restarts = near.ask(Which).await.unwrap() - 1;
        let refused = a.ask(Which).await;
        // Whoever harms nobody else isn't refused.
        assert_eq!(is_refused(&refused), restarts == 3, "{name}: {refused:?}");
        assert!(restarts == 3 || n == 2, "{name}: {restarts}");
    }
}

#[webmesh::test]
async fn nobody_is_refused_for_what_another_did() {
    silence_panics();
    let network = MemoryNetwork::new(1);
    let host = host_builder(&network, 1).start().await.unwrap();
    let guest = mesh_at(&network, "10.7.0.2", 2).await;
    let near = brittle(&host, "brittle", Restart::default()).await;
    let far = far(&guest, &host, "brittle").await;
    for _ in 0..5 {
        // The guest has an asynchronous handler of each kind under way, or just behind it, when something else panics.
        let act = far.ask(PoisonAct { panics: false });
        let bomb = near.tell(TimeBomb);
        bomb.await.unwrap();
        assert_eq!(act.await, Ok(7));
        seconds(1).await;
        assert_eq!(near.ask(Poison).await, Err(AskError::Panicked));
        near.ask(TimeBomb).await.unwrap();
        assert_eq!(far.ask(PoisonAtomic { panics: false }).await, Ok(7));
        seconds(1).await;
    }
    assert_eq!(far.ask(Which).await, Ok(16));
}

#[webmesh::test]
async fn another_host_cannot_end_an_actor_by_its_hard_limit() {
    silence_panics();
    let network = MemoryNetwork::new(1);
    let host = host_builder(&network, 1).start().await.unwrap();
    let policy = Restart::Within { restarts: 1, window: Duration::from_secs(3600) };
    let near = brittle(&host, "brittle", policy).await;
    for n in 0..5 {
        let guest = mesh_at(&network, &format!("10.7.{n}.2"), 10 + n).await;
        let far = far(&guest, &host, "brittle").await;
        for _ in 0..3 {
            assert_eq!(far.ask(Poison).await, Err(AskError::Panicked));
        }
    }
    assert_eq!(near.ask(Which).await, Ok(16));
    assert_eq!(near.ask(Poison).await, Err(AskError::Panicked));
    assert_eq!(near.ask(Which).await, Ok(17));
    assert_eq!(near.ask(Poison).await, Err(AskError::Panicked));
    assert_eq!(near.ask(Which).await, Err(AskError::Panicked));
}

#[webmesh::test]
async fn a_flood_of_restarts_leaves_a_far_watcher_with_the_latest() {
    silence_panics();
    let network = MemoryNetwork::new(1);
    let host = host_builder(&network, 1).start().await.unwrap();
    let guest = mesh_at(&network, "10.7.0.2", 2).await;
    let probe = host.spawn(crate::actors::ProbeActor::factory(&crate::actors::Log::default()));
    host.publish("probe", &probe).allow(Anyone).await.unwrap();
    let far = guest.resolve("probe").at(&host.peer_ref()).await.unwrap();
    let heard = crate::world::watcher(&guest, &far).await;
    for _ in 0..40 {
        probe.ask(crate::actors::Panic::InHandler).await.unwrap_err();
    }
    seconds(5).await;
    assert_eq!(heard.take().last().map(String::as_str), Some("restarted 40"));
}
