//! Meshes in programs that bring their own threads, runtimes and executors, or none.

use crate::actors::{InFuture, Log, Note, Plain, Probe, ProbeActor, Silence, mesh_on_threads};
use serde::{Deserialize, Serialize};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Waiting, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;
use webmesh::prelude::*;
use webmesh::{ActorRef, Anyone, AskError, MeshEnded, Message, Protocol, RemoteActor};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What executors of a few lines do: no reactor, no timers.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Waiting::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn a_mesh_is_used_from_a_plain_thread_with_no_runtime_at_all() {
    block_on(async {
        let (host, guest) = (mesh_on_threads().await, mesh_on_threads().await);
        let near = host.spawn(ProbeActor::factory(&Log::default()));
        host.publish("probe", &near).allow(Anyone).await.unwrap();
        let far: ActorRef<Probe> = guest.resolve("probe").at(&host.peer_ref()).await.unwrap();
        for probe in [near, far] {
            assert_eq!(probe.ask(Plain { n: 1 }).await, Ok(1));
            assert_eq!(probe.ask(InFuture { n: 2, ms: 50 }).await, Ok(2));
            probe.tell(Note { n: 3 }).await.unwrap();
            probe.flush().await.unwrap();
            let soon = Duration::from_millis(50);
            let late = probe.ask(InFuture { n: 4, ms: 600_000 }).timeout(soon).await;
            assert_eq!(late, Err(AskError::Timeout));
        }
        assert_eq!(guest.ping(&host.peer_ref()).await.unwrap().peer, host.peer_id());
        let error = host.until_ctrl_c().await.unwrap_err();
        assert!(error.to_string().contains("tokio runtime"), "{error}");
        guest.shutdown().await;
        host.shutdown_within(Duration::ZERO).await;
    });
}

/// Blocks the thread until it has an answer of the actor itself.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.ask-yourself", reply = String)]
struct AskYourself;

#[derive(Protocol)]
#[protocol(id = "test.introvert/1", accepts(AskYourself))]
struct Introvert;

#[derive(RemoteActor)]
#[remote(serves(Introvert))]
struct IntrovertActor;

impl Actor for IntrovertActor {
    type Context = Context<Self>;
}

impl Handler<AskYourself> for IntrovertActor {
    type Result = String;
    fn handle(&mut self, _: AskYourself, ctx: &mut Context<Self>) -> String {
        let me: ActorRef<Introvert> = webmesh::this(ctx);
        let answer = block_on(me.ask(AskYourself).timeout(Duration::from_millis(100)));
        format!("{answer:?}")
    }
}

#[test]
fn an_ask_to_oneself_that_blocks_the_thread_ends_in_its_time() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mesh = mesh_on_threads().await;
        let introvert = mesh.spawn(|| IntrovertActor);
        let answer = introvert.ask(AskYourself).await;
        assert_eq!(answer, Ok(format!("{:?}", Err::<String, _>(AskError::Timeout))));
        let (_address, exposed) = mesh.start_exposed(|| IntrovertActor).await.unwrap();
        let answer = exposed.ask(AskYourself).await;
        assert_eq!(answer, Ok(format!("{:?}", Err::<String, _>(AskError::Timeout))));
        mesh.shutdown().await;
    });
}

#[test]
fn a_plain_actor_is_started_and_exposed_where_there_is_no_local_set() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mesh, log) = (mesh_on_threads().await, Log::default());
        let writes = log.clone();
        let (address, probe) = mesh.start_exposed(move || ProbeActor::new(&writes)).await.unwrap();
        assert_eq!(address.send(Plain { n: 1 }).await.unwrap(), 1);
        assert_eq!(probe.ask(Plain { n: 2 }).await, Ok(2));
        mesh.shutdown().await;
        assert_eq!(probe.ask(Plain { n: 3 }).await, Err(AskError::Stopped));
        assert_eq!(address.send(Plain { n: 4 }).await.unwrap(), 4);
        let too_late = mesh.start_exposed(move || ProbeActor::new(&log)).await;
        assert_eq!(too_late.map(drop).unwrap_err(), MeshEnded);
    });
}

#[test]
fn a_mesh_lives_in_an_actix_system() {
    webmesh::actix::System::new().block_on(async {
        let (mesh, log) = (mesh_on_threads().await, Log::default());
        let probe = mesh.expose(&ProbeActor::new(&log).start());
        assert_eq!(probe.ask(Plain { n: 1 }).await, Ok(1));
        let soon = Duration::from_millis(20);
        let silent = mesh.spawn(ProbeActor::factory(&log));
        assert_eq!(silent.ask(Silence).timeout(soon).await, Err(AskError::NoReply));
        mesh.shutdown().await;
    });
}

#[test]
fn a_mesh_that_was_dropped_lets_the_next_one_of_its_key_wait() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let builder = webmesh::Mesh::builder().data_dir(dir.path());
        builder.listen("127.0.0.1:0".parse().unwrap()).start()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut peers = std::collections::HashSet::new();
        for _ in 0..5 {
            peers.insert(start().await.unwrap().peer_id());
        }
        assert_eq!(peers.len(), 1);
    });
}

#[test]
fn handles_that_are_dropped_on_threads_of_the_mesh_end_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mesh, log) = (mesh_on_threads().await, Log::default());
        let probe = mesh.spawn(ProbeActor::factory(&log));
        // The last handle goes while the actor's own thread unwinds.
        let mut held = Some(mesh.clone());
        let holder = mesh.spawn(move || Holder(held.take()));
        drop(mesh);
        let _ = holder.ask(AskYourself).await;
        while probe.ask(Plain { n: 1 }).await != Err(AskError::Stopped) {
            tokio::task::yield_now().await;
        }
    });
}

/// Holds its own mesh, and lets it go in a panic.
#[derive(RemoteActor)]
#[remote(serves(Introvert))]
struct Holder(Option<webmesh::Mesh>);

impl Actor for Holder {
    type Context = Context<Self>;
}

impl Handler<AskYourself> for Holder {
    type Result = String;
    fn handle(&mut self, _: AskYourself, _: &mut Context<Self>) -> String {
        let _mesh = self.0.take();
        panic!("as the test wants it");
    }
}
