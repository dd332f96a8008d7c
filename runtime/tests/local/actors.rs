//! An actor that answers in every way there is, and writes down what happens to it.

use actix::dev::{MessageResponse, OneshotSender};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use webmesh::prelude::*;
use webmesh::{ActorRef, Mesh, Message, PeerId, Protocol, RemoteActor, caller};

pub(crate) use webmesh::actix;

/// Writes `note N`.
#[derive(Message, Serialize, Deserialize, Debug, PartialEq)]
#[message(id = "test.note")]
pub(crate) struct Note {
    pub(crate) n: u64,
}

/// Writes `plain N`; answered at once.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.plain", reply = u64)]
pub(crate) struct Plain {
    pub(crate) n: u64,
}

/// Answered by a future of its own, after some time.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.future", reply = u64)]
pub(crate) struct InFuture {
    pub(crate) n: u64,
    pub(crate) ms: u64,
}

/// Writes `act N` after some time, while other messages are handled.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.act-future", reply = u64)]
pub(crate) struct InActFuture {
    pub(crate) n: u64,
    pub(crate) ms: u64,
}

/// Writes `begin N`, and `end N` after some time, with nothing else in between.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.atomic", reply = u64)]
pub(crate) struct Atomic {
    pub(crate) n: u64,
    pub(crate) ms: u64,
}

/// Panics, in the handler or later.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.panic")]
pub(crate) enum Panic {
    InHandler,
    InActFuture,
}

/// Its `ResponseFuture` panics.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.panic-in-future")]
pub(crate) struct PanicInFuture;

/// Never answered.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.silence")]
pub(crate) struct Silence;

/// Stops the actor.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.stop")]
pub(crate) struct Stop;

/// Who asks.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.who", reply = Option<PeerId>)]
pub(crate) struct Who;

#[derive(Protocol)]
#[protocol(
    id = "test.probe/1",
    accepts(Note, Plain, InFuture, InActFuture, Atomic, Panic, PanicInFuture, Silence, Stop, Who)
)]
pub(crate) struct Probe;

/// What several instances of an actor write down.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn write(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    /// What was written since the last call.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

#[derive(RemoteActor)]
#[remote(serves(Probe))]
pub(crate) struct ProbeActor {
    pub(crate) log: Log,
}

impl ProbeActor {
    pub(crate) fn new(log: &Log) -> Self {
        Self { log: log.clone() }
    }

    /// What `spawn` wants.
    pub(crate) fn factory(log: &Log) -> impl FnMut() -> Self + Send + 'static {
        let log = log.clone();
        move || Self::new(&log)
    }
}

impl Actor for ProbeActor {
    type Context = Context<Self>;
}

impl Handler<Note> for ProbeActor {
    type Result = ();
    fn handle(&mut self, note: Note, _: &mut Context<Self>) {
        self.log.write(format!("note {}", note.n));
    }
}

impl Handler<Plain> for ProbeActor {
    type Result = u64;
    fn handle(&mut self, plain: Plain, _: &mut Context<Self>) -> u64 {
        self.log.write(format!("plain {}", plain.n));
        plain.n
    }
}

impl Handler<InFuture> for ProbeActor {
    type Result = ResponseFuture<u64>;
    fn handle(&mut self, later: InFuture, _: &mut Context<Self>) -> Self::Result {
        Box::pin(async move {
            pause(later.ms).await;
            later.n
        })
    }
}

impl Handler<InActFuture> for ProbeActor {
    type Result = ResponseActFuture<Self, u64>;
    fn handle(&mut self, later: InActFuture, _: &mut Context<Self>) -> Self::Result {
        Box::pin(pause(later.ms).into_actor(self).map(move |(), actor, _| {
            actor.log.write(format!("act {}", later.n));
            later.n
        }))
    }
}

impl Handler<Atomic> for ProbeActor {
    type Result = AtomicResponse<Self, u64>;
    fn handle(&mut self, atomic: Atomic, _: &mut Context<Self>) -> Self::Result {
        self.log.write(format!("begin {}", atomic.n));
        AtomicResponse::new(Box::pin(pause(atomic.ms).into_actor(self).map(move |(), actor, _| {
            actor.log.write(format!("end {}", atomic.n));
            atomic.n
        })))
    }
}

impl Handler<Panic> for ProbeActor {
    type Result = ();
    fn handle(&mut self, panic: Panic, ctx: &mut Context<Self>) {
        match panic {
            Panic::InHandler => panic!("in the handler, as the test wants it"),
            Panic::InActFuture => {
                ctx.spawn(
                    async {}
                        .into_actor(self)
                        .map(|(), _, _| panic!("in a future, as the test wants it")),
                );
            }
        }
    }
}

impl Handler<PanicInFuture> for ProbeActor {
    type Result = ResponseFuture<()>;
    fn handle(&mut self, _: PanicInFuture, _: &mut Context<Self>) -> Self::Result {
        Box::pin(async { panic!("in a response future, as the test wants it") })
    }
}

/// A response that loses its sender.
pub(crate) struct NoResponse;

impl<A: Actor, M: actix::Message> MessageResponse<A, M> for NoResponse {
    fn handle(self, _: &mut A::Context, _: Option<OneshotSender<M::Result>>) {}
}

impl Handler<Silence> for ProbeActor {
    type Result = NoResponse;
    fn handle(&mut self, _: Silence, _: &mut Context<Self>) -> NoResponse {
        NoResponse
    }
}

impl Handler<Stop> for ProbeActor {
    type Result = ();
    fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}

impl Handler<Who> for ProbeActor {
    type Result = Option<PeerId>;
    fn handle(&mut self, _: Who, ctx: &mut Context<Self>) -> Self::Result {
        caller(ctx).map(|caller| caller.peer())
    }
}

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// A mesh in place, without a single socket.
pub(crate) async fn mesh_in_place() -> Mesh {
    let network = webmesh::MemoryNetwork::new(1);
    let address = "10.0.0.1:4000".parse().unwrap();
    Mesh::builder().in_place().memory_network(&network).listen(address).start().await.unwrap()
}

/// A mesh with threads of its own.
pub(crate) async fn mesh_on_threads() -> Mesh {
    Mesh::builder().listen("127.0.0.1:0".parse().unwrap()).start().await.unwrap()
}

/// A mesh in place with a probe in it, and what the probe writes.
pub(crate) async fn probe_in_place() -> (Mesh, ActorRef<Probe>, Log) {
    let (mesh, log) = (mesh_in_place().await, Log::default());
    let probe = mesh.spawn(ProbeActor::factory(&log));
    (mesh, probe, log)
}
