//! An actor that writes down what it gets, and meshes to put it on.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use webmesh::prelude::*;
use webmesh::{ActorRef, Bytes, Mesh, Message, PeerId, Protocol, RemoteActor};

/// A numbered message of a sender, with a body of any size.
#[derive(Message, Serialize, Deserialize, Debug, Clone)]
#[message(id = "test.note", reply = u64)]
pub struct Note {
    pub sender: u32,
    pub number: u64,
    pub body: Bytes,
}

/// Asks for the body back.
#[derive(Message, Serialize, Deserialize, Debug)]
#[message(id = "test.echo", reply = Bytes)]
pub struct Echo {
    pub body: Bytes,
}

/// Makes the actor do something out of the ordinary.
#[derive(Message, Serialize, Deserialize, Debug)]
#[message(id = "test.do", reply = u64)]
pub enum Do {
    Panic,
    Stop,
    Sleep(u64),
    NeverAnswer,
}

/// Hands over a ref; the receiver tells it a note.
#[derive(Message, Serialize, Deserialize, Debug)]
#[message(id = "test.introduce", reply = u64)]
pub struct Introduce {
    pub to: ActorRef<Recorder>,
}

#[derive(Protocol)]
#[protocol(id = "test.recorder/1", accepts(Note, Echo, Do, Introduce))]
pub struct Recorder;

/// What was written down: sender, number, length of the body.
pub type Log = Arc<Mutex<Vec<(u32, u64, usize)>>>;

#[derive(Default, RemoteActor)]
#[remote(serves(Recorder))]
pub struct RecorderActor {
    pub log: Log,
    pub callers: Arc<Mutex<Vec<PeerId>>>,
    /// Slept before each note is taken.
    pub slow: Duration,
    /// No longer, once this is set.
    pub hurry: Arc<AtomicBool>,
}

impl Actor for RecorderActor {
    type Context = Context<Self>;
}

impl Handler<Note> for RecorderActor {
    type Result = actix::AtomicResponse<Self, u64>;
    fn handle(&mut self, note: Note, ctx: &mut Context<Self>) -> Self::Result {
        self.callers.lock().unwrap().extend(webmesh::caller(ctx).map(|caller| caller.peer()));
        assert!(note.body.iter().all(|byte| *byte == note.number as u8));
        let hurries = self.hurry.load(Ordering::Relaxed);
        let pause = if hurries { Duration::ZERO } else { self.slow };
        // A slow actor, not a blocked thread: its neighbours go on.
        let slept = async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        };
        actix::AtomicResponse::new(Box::pin(slept.into_actor(self).map(move |(), act, _| {
            act.log.lock().unwrap().push((note.sender, note.number, note.body.len()));
            note.number
        })))
    }
}

impl Handler<Echo> for RecorderActor {
    type Result = Bytes;
    fn handle(&mut self, echo: Echo, _: &mut Context<Self>) -> Bytes {
        echo.body
    }
}

impl Handler<Do> for RecorderActor {
    type Result = actix::ResponseFuture<u64>;
    fn handle(&mut self, what: Do, ctx: &mut Context<Self>) -> Self::Result {
        match what {
            Do::Panic => panic!("as asked"),
            Do::Stop => ctx.stop(),
            Do::Sleep(ms) => {
                return Box::pin(async move {
                    tokio::time::sleep(Duration::from_millis(ms)).await;
                    ms
                });
            }
            Do::NeverAnswer => return Box::pin(std::future::pending()),
        }
        Box::pin(async { 0 })
    }
}

impl Handler<Introduce> for RecorderActor {
    type Result = actix::ResponseFuture<u64>;
    fn handle(&mut self, introduce: Introduce, _: &mut Context<Self>) -> Self::Result {
        Box::pin(async move { introduce.to.ask(note(99, 1, 10)).await.unwrap_or(u64::MAX) })
    }
}

pub fn note(sender: u32, number: u64, len: usize) -> Note {
    Note { sender, number, body: vec![number as u8; len].into() }
}

/// A mesh on loopback, with threads of its own.
pub async fn mesh() -> Mesh {
    Mesh::builder().listen("127.0.0.1:0".parse().unwrap()).start().await.unwrap()
}

/// An actor on `host`, as `guest` reaches it by name, and its log.
pub async fn recorder(host: &Mesh, guest: &Mesh, slow: Duration) -> (ActorRef<Recorder>, Log) {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let name = format!("recorder/{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let log = Log::default();
    let made = log.clone();
    let near = host.spawn(move || RecorderActor { log: made.clone(), slow, ..Default::default() });
    host.publish(&name, &near).allow(webmesh::Anyone).await.unwrap();
    (guest.resolve(&name).at(&host.peer_ref()).await.unwrap(), log)
}

/// A test that takes so long hangs: on an idle machine the longest takes ten seconds.
const STUCK_AFTER: Duration = Duration::from_secs(300);

/// Runs a test on a runtime such as an application has.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(STUCK_AFTER, test).await.expect("the test is stuck");
    });
}
