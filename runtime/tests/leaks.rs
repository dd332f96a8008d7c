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
use std::time::Duration;
use webmesh::AskError;

#[test]
fn meshes_that_are_dropped_without_a_word_leave_neither_threads_nor_sockets() {
    fn count(what: &str) -> usize {
        std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count()
    }
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
