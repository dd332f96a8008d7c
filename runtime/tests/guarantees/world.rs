//! Meshes at addresses of a network in memory, and an actor for bodies, large replies and refs.

use crate::actors::{Log, Note, Plain, Probe, ProbeActor};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use webmesh::prelude::*;
use webmesh::{
    ActorRef, Anyone, Bytes, Down, Event, MemoryNetwork, Mesh, MeshBuilder, Message, Protocol,
    RemoteActor, SecretKey, WatchEvent,
};

/// Writes `item N LENGTH`.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.item")]
pub(crate) struct Item {
    pub(crate) n: u64,
    pub(crate) body: Bytes,
}

/// Asks for so many bytes, beside the lane if they are many.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.fetch", reply = Bytes)]
pub(crate) struct Fetch {
    pub(crate) len: usize,
}

/// Asks for a text so long, which is part of the reply's payload.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.text", reply = String)]
pub(crate) struct Text {
    pub(crate) len: usize,
}

/// Asks for something that cannot be encoded.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.unspeakable", reply = Unspeakable)]
pub(crate) struct Speak;

#[derive(Debug, PartialEq, Deserialize, webmesh::Reply)]
pub(crate) struct Unspeakable;

impl Serialize for Unspeakable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("unspeakable"))
    }
}

/// Hands over a ref: the receiver asks it, and gives it back with the answer.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.introduce", reply = Option<(u64, ActorRef<Probe>)>)]
pub(crate) struct Introduce {
    pub(crate) to: ActorRef<Probe>,
    pub(crate) n: u64,
}

#[derive(Protocol)]
#[protocol(id = "test.desk/1", accepts(Item, Fetch, Text, Speak, Introduce, Plain, stream(Note)))]
pub(crate) struct Desk;

#[derive(RemoteActor)]
#[remote(serves(Desk))]
pub(crate) struct DeskActor {
    pub(crate) log: Log,
}

impl Actor for DeskActor {
    type Context = Context<Self>;
}

impl Handler<Item> for DeskActor {
    type Result = ();
    fn handle(&mut self, item: Item, _: &mut Context<Self>) {
        assert!(item.body.iter().all(|byte| *byte == item.n as u8), "a body of another message");
        self.log.write(format!("item {} {}", item.n, item.body.len()));
    }
}

impl Handler<Fetch> for DeskActor {
    type Result = Bytes;
    fn handle(&mut self, fetch: Fetch, _: &mut Context<Self>) -> Bytes {
        Bytes::from(vec![7; fetch.len])
    }
}

impl Handler<Text> for DeskActor {
    type Result = String;
    fn handle(&mut self, text: Text, _: &mut Context<Self>) -> String {
        "x".repeat(text.len)
    }
}

impl Handler<Speak> for DeskActor {
    type Result = Unspeakable;
    fn handle(&mut self, _: Speak, _: &mut Context<Self>) -> Unspeakable {
        Unspeakable
    }
}

impl Handler<Introduce> for DeskActor {
    type Result = ResponseFuture<Option<(u64, ActorRef<Probe>)>>;
    fn handle(&mut self, introduce: Introduce, _: &mut Context<Self>) -> Self::Result {
        Box::pin(async move {
            let answer = introduce.to.ask(Plain { n: introduce.n }).await.ok()?;
            Some((answer, introduce.to))
        })
    }
}

impl Handler<Plain> for DeskActor {
    type Result = u64;
    fn handle(&mut self, plain: Plain, _: &mut Context<Self>) -> u64 {
        self.log.write(format!("plain {}", plain.n));
        plain.n
    }
}

#[derive(Protocol)]
#[protocol(id = "test.watching/1", accepts(Plain))]
struct Watching;

/// Watches one actor and writes down what it is told.
#[derive(RemoteActor)]
#[remote(serves(Watching))]
struct Watcher {
    of: ActorRef<Probe>,
    log: Log,
}

impl Actor for Watcher {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        webmesh::watch_events(ctx, &self.of);
    }
}

impl Handler<Plain> for Watcher {
    type Result = u64;
    fn handle(&mut self, plain: Plain, _: &mut Context<Self>) -> u64 {
        plain.n
    }
}

impl Handler<Down> for Watcher {
    type Result = ();
    fn handle(&mut self, down: Down, _: &mut Context<Self>) {
        self.log.write(format!("down {:?}", down.reason));
    }
}

impl Handler<WatchEvent> for Watcher {
    type Result = ();
    fn handle(&mut self, event: WatchEvent, _: &mut Context<Self>) {
        self.log.write(match event.event {
            Event::Restarted { incarnation } => format!("restarted {incarnation}"),
            Event::LostTells { at_most } => format!("lost {at_most}"),
            other => format!("{other:?}").to_lowercase(),
        });
    }
}

/// What a watcher at `mesh` hears of an actor.
pub(crate) async fn watcher(mesh: &Mesh, of: &ActorRef<Probe>) -> Log {
    let log = Log::default();
    let (of, writes) = (of.clone(), log.clone());
    let watcher = mesh.spawn(move || Watcher { of: of.clone(), log: writes.clone() });
    watcher.ask(Plain { n: 0 }).await.unwrap();
    seconds(1).await;
    log
}

/// The address of host `n`.
pub(crate) fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 4000))
}

/// A mesh to be started in place as host `n`, always with the same key.
pub(crate) fn host_builder(network: &MemoryNetwork, n: u8) -> MeshBuilder {
    Mesh::builder()
        .in_place()
        .seed(n.into())
        .secret_key(SecretKey::from_bytes([n; 32]))
        .memory_network(network)
        .listen(address(n))
}

pub(crate) async fn host(network: &MemoryNetwork, n: u8) -> Mesh {
    for _ in 0..100 {
        // An earlier mesh gives its address back with its last task.
        match host_builder(network, n).start().await {
            Ok(mesh) => return mesh,
            Err(_) => seconds(1).await,
        }
    }
    panic!("the address stays taken")
}

/// A network with 10 ms latency and 2% loss, and hosts 1 and 2 on it.
pub(crate) async fn lossy_pair() -> (MemoryNetwork, Mesh, Mesh) {
    let network = MemoryNetwork::new(1);
    network.set_latency(Duration::from_millis(10));
    network.set_loss(0.02);
    let (near, far) = (host(&network, 1).await, host(&network, 2).await);
    (network, near, far)
}

/// A probe with so many places on `on`, as `from` reaches it, and what it writes.
pub(crate) async fn far_probe(on: &Mesh, from: &Mesh, places: usize) -> (ActorRef<Probe>, Log) {
    let log = Log::default();
    let probe = on.spawner().capacity(places).spawn(ProbeActor::factory(&log));
    on.publish("probe", &probe).allow(Anyone).await.unwrap();
    let far = from.resolve("probe").at(&on.peer_ref()).await.unwrap();
    (far, log)
}

/// A desk on `on`, as `from` reaches it, and what it writes.
pub(crate) async fn far_desk(on: &Mesh, from: &Mesh) -> (ActorRef<Desk>, Log) {
    let log = Log::default();
    let writes = log.clone();
    let desk = on.spawn(move || DeskActor { log: writes.clone() });
    on.publish("desk", &desk).allow(Anyone).await.unwrap();
    let far = from.resolve("desk").at(&on.peer_ref()).await.unwrap();
    (far, log)
}

pub(crate) fn item(n: u64, len: usize) -> Item {
    Item { n, body: Bytes::from(vec![n as u8; len]) }
}

/// Parts hosts 1 and 2, or joins them again.
pub(crate) fn part(network: &MemoryNetwork, parted: bool) {
    let ip = |n| -> IpAddr { address(n).ip() };
    network.set_cut(ip(1), ip(2), parted);
}

pub(crate) async fn seconds(n: u64) {
    tokio::time::sleep(Duration::from_secs(n)).await;
}
