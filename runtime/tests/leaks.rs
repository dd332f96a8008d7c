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
static ALLOCATED: cap::Cap<std::alloc::System> = cap::Cap::new(std::alloc::System, usize::MAX);

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
            held.push(ALLOCATED.allocated());
        }
        // The first 20,000 make all buffers as large as they get.
        assert!(held[4] < held[0] + (512 << 10), "{held:?}");
    });
}
