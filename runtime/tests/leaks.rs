//! What a mesh leaves behind. A program of its own, for it counts what the whole process holds.

#![cfg(target_os = "linux")]
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helpers of tests fail as tests do"
)]

#[allow(dead_code, reason = "shared with other stories")]
#[path = "remote/common.rs"]
mod common;

use common::*;
use std::sync::Mutex;
use std::time::Duration;
use webmesh::{ActorRef, AskError, prelude::*};

#[global_allocator]
static ALLOCATOR: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

/// One story at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn count(what: &str) -> usize {
    std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
}

#[test]
fn meshes_that_are_dropped_without_a_word_leave_neither_threads_nor_sockets() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    run(async {
        let mut counts = Vec::new();
        for _ in 0..4 {
            let (host, guest) = (mesh().await, mesh().await);
            let (far, _) = recorder(&host, &guest, Duration::ZERO).await;
            far.ask(note(1, 1, 0)).await.unwrap();
            let waiting = tokio::spawn(far.ask(Do::NeverAnswer));
            tokio::time::sleep(Duration::from_millis(50)).await;
            // The asker's own end first: the host's farewell would race with it, and reads `PeerGone`.
            drop(guest);
            let ended = tokio::time::timeout(Duration::from_secs(5), waiting).await;
            assert_eq!(ended.expect("an end").unwrap(), Err(AskError::ShutDown));
            drop((host, far));
            tokio::time::sleep(Duration::from_millis(1000)).await;
            counts.push((count("task"), count("fd")));
        }
        // The first round starts what stays for good.
        let (first, last) = (counts[0], counts[3]);
        assert!(last.0 <= first.0 && last.1 <= first.1, "{counts:?}");
    });
}

#[test]
fn an_ask_that_an_actor_never_answers_does_not_keep_the_sockets_of_its_mesh() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // An actor of the application's own thread, which is there before the meshes and after them.
    actix_rt::System::new().block_on(async {
        let actor = RecorderActor::default().start();
        let mut counts = Vec::new();
        for _ in 0..4 {
            let (host, guest) = (mesh().await, mesh().await);
            host.publish("recorder", &host.expose(&actor)).allow(webmesh::Anyone).await.unwrap();
            let far: ActorRef<Recorder> =
                guest.resolve("recorder").at(&host.peer_ref()).await.unwrap();
            assert_eq!(far.ask(note(1, 1, 0)).await, Ok(1));
            let waiting = tokio::spawn(far.ask(Do::NeverAnswer));
            assert_eq!(far.ask(note(1, 2, 0)).await, Ok(2));
            guest.shutdown().await;
            assert!(waiting.await.unwrap().is_err());
            host.shutdown().await;
            drop((host, guest, far));
            tokio::time::sleep(Duration::from_millis(500)).await;
            counts.push(count("fd"));
        }
        // The first round starts what stays for good.
        assert!(counts[3] <= counts[0], "{counts:?}");
    });
}

/// Hands over many refs, to be kept or to be dropped.
#[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
#[message(id = "test.many", reply = u64)]
struct Many {
    refs: Vec<ActorRef<Recorder>>,
    keep: bool,
}

/// Asks for so many bytes.
#[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
#[message(id = "test.large", reply = webmesh::Bytes)]
struct Large {
    len: usize,
}

#[derive(webmesh::Protocol)]
#[protocol(id = "test.collector/1", accepts(Many, Large))]
struct Collector;

#[derive(Default, webmesh::RemoteActor)]
#[remote(serves(Collector))]
struct CollectorActor(Vec<ActorRef<Recorder>>);

impl Actor for CollectorActor {
    type Context = Context<Self>;
}

impl Handler<Many> for CollectorActor {
    type Result = u64;
    fn handle(&mut self, many: Many, _: &mut Context<Self>) -> u64 {
        if many.keep {
            self.0.extend(many.refs);
        } else {
            self.0.clear();
        }
        self.0.len() as u64
    }
}

impl Handler<Large> for CollectorActor {
    type Result = webmesh::Bytes;
    fn handle(&mut self, large: Large, _: &mut Context<Self>) -> webmesh::Bytes {
        // Of the host's own memory it costs nothing.
        static BODY: [u8; 1 << 20] = [7; 1 << 20];
        webmesh::Bytes::from_static(&BODY[..large.len])
    }
}

async fn collector(
    host: &webmesh::Mesh,
    guest: &webmesh::Mesh,
) -> (ActorRef<Collector>, ActorRef<Collector>) {
    let near = host.spawn(CollectorActor::default);
    host.publish("collector", &near).allow(webmesh::Anyone).await.unwrap();
    let far = guest.resolve("collector").at(&host.peer_ref()).await.unwrap();
    (near, far)
}

#[test]
fn refs_that_are_received_cost_their_names_and_once_dropped_nothing() {
    const AT_ONCE: u64 = 1_000;
    const KEPT: u64 = 20_000;
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (near, far) = collector(&host, &guest).await;
        let nobody = webmesh::SecretKey::generate().peer_id();
        let mut wire = serde_json::to_value(&near).unwrap();
        wire["protocol"] = "test.recorder/1".into();
        wire["peer"] = serde_json::to_value(nobody).unwrap();
        wire["hints"] = serde_json::json!(["192.0.2.1:1", "192.0.2.2:1"]);
        let mut next = 0_u64;
        // Each to an actor of its own. They aren't bound, and so cost the same on this side whatever is received.
        let mut many = |keep| {
            let refs = (0..if keep { AT_ONCE } else { 0 }).map(|_| {
                next += 1;
                let mut object = [0; 16];
                object[..8].copy_from_slice(&next.to_le_bytes());
                wire["object"] = object.to_vec().into();
                serde_json::from_value(wire.clone()).unwrap()
            });
            Many { refs: refs.collect(), keep }
        };
        far.ask(many(true)).await.unwrap();
        far.ask(many(false)).await.unwrap();
        let before = ALLOCATOR.allocated();
        for _ in 0..KEPT / AT_ONCE {
            far.ask(many(true)).await.unwrap();
        }
        let kept = ALLOCATOR.allocated().saturating_sub(before) as u64;
        // Its name is 250 bytes, two addresses are 64, and a list that grows may be half empty.
        assert!(kept / KEPT <= 400, "{} bytes for each", kept / KEPT);
        assert_eq!(far.ask(many(false)).await, Ok(0));
        let left = ALLOCATOR.allocated().saturating_sub(before);
        assert!(left < 2 << 20, "{left} bytes are left of {kept}");
        guest.shutdown().await;
        host.shutdown().await;
    });
}

#[test]
fn large_replies_that_nobody_takes_are_held_within_their_bound() {
    const ASKS: usize = 200;
    const LEN: usize = (1 << 20) - 1_000;
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    run(async {
        let host = mesh().await;
        let small = webmesh::Mesh::builder().listen("127.0.0.1:0".parse().unwrap());
        let small = small.body_max(1 << 20).replies_max(2 << 20, 4 << 20).start().await.unwrap();
        let (_, far) = collector(&host, &small).await;
        let fetch = || far.ask(Large { len: LEN }).timeout(Duration::from_secs(120));
        assert_eq!(fetch().await.map(|body| body.len()), Ok(LEN));
        let before = ALLOCATOR.allocated();
        let asks: Vec<_> = (0..ASKS).map(|_| fetch()).collect();
        tokio::time::sleep(Duration::from_secs(4)).await;
        // Four megabytes that are here, and 48 streams that wait.
        let held = ALLOCATOR.allocated().saturating_sub(before);
        assert!(held < 80 << 20, "{held} of {} bytes are held", ASKS * LEN);
        for ask in asks {
            assert_eq!(ask.await.map(|body| body.len()), Ok(LEN));
        }
        small.shutdown().await;
        host.shutdown().await;
    });
}

#[test]
fn asks_that_are_given_up_leave_no_memory_on_either_side() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (far, _) = recorder(&host, &guest, Duration::ZERO).await;
        let mut held = Vec::new();
        for _ in 0..5 {
            for round in 0..200 {
                let asks = (0..100).map(|_| async {
                    tokio::select! {
                        answer = far.ask(Do::Sleep(20)) => drop(answer.unwrap()),
                        () = tokio::time::sleep(Duration::from_millis(round % 3)) => {}
                    }
                });
                futures_util::future::join_all(asks).await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_eq!(far.ask(Do::Sleep(1)).await, Ok(1));
            held.push(ALLOCATOR.allocated());
        }
        // The first 20,000 make all buffers as large as they get.
        assert!(held[4] < held[0] + (512 << 10), "{held:?}");
    });
}
