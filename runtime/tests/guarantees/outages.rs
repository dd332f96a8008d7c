//! A peer that falls silent, comes back, or doesn't.

use crate::actors::{InFuture, Note, Plain, ProbeActor};
use crate::world::{
    Fetch, address, far_desk, far_probe, host, host_builder, lossy_pair, part, seconds, watcher,
};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;
use webmesh::{Anyone, AskError, MemoryNetwork, Mesh, SecretKey};
use webmesh_transport::sim::Nat;

#[webmesh::test]
async fn a_healed_partition_is_told_and_loses_nothing_but_the_asks_in_flight() {
    let (network, guest, host) = lossy_pair().await;
    let (probe, log) = far_probe(&host, &guest, 100).await;
    let heard = watcher(&guest, &probe).await;
    let pending = tokio::task::spawn_local(probe.ask(InFuture { n: 1, ms: 50_000 }));
    seconds(1).await;
    part(&network, true);
    let parted = Instant::now();
    assert_eq!(pending.await.unwrap(), Err(AskError::Unreachable));
    assert!(parted.elapsed() <= Duration::from_secs(6), "{:?}", parted.elapsed());
    // What is told now waits in line until the peer is back.
    let waiting: Vec<_> =
        (0..10).map(|n| tokio::task::spawn_local(probe.tell(Note { n }))).collect();
    seconds(20).await;
    assert_eq!(heard.take(), ["unreachable"]);
    part(&network, false);
    for tell in waiting {
        tell.await.unwrap().unwrap();
    }
    assert_eq!(probe.ask(Plain { n: 2 }).await, Ok(2));
    assert_eq!(heard.take(), ["reachable"]);
    let mut expected: Vec<_> = (0..10).map(|n| format!("note {n}")).collect();
    expected.push("plain 2".into());
    assert_eq!(log.take(), expected);
}

#[webmesh::test]
async fn a_peer_that_is_silent_for_60_s_is_gone_and_the_watch_ends_once() {
    let (network, guest, host) = lossy_pair().await;
    let (probe, _log) = far_probe(&host, &guest, 100).await;
    let heard = watcher(&guest, &probe).await;
    part(&network, true);
    seconds(50).await;
    assert_eq!(heard.take(), ["unreachable"]);
    // At the latest 60 s after the last sign of life, which idle probes put at most 20 s before the cut.
    seconds(20).await;
    assert_eq!(heard.take(), ["down PeerGone"]);
    part(&network, false);
    assert_eq!(probe.ask(Plain { n: 1 }).await, Ok(1));
    seconds(100).await;
    assert!(heard.take().is_empty());
}

#[webmesh::test]
async fn an_ask_begun_in_silence_waits_for_the_peer_within_its_time() {
    let (network, guest, host) = lossy_pair().await;
    let (probe, _log) = far_probe(&host, &guest, 100).await;
    assert_eq!(probe.ask(Plain { n: 0 }).await, Ok(0));
    part(&network, true);
    assert_eq!(probe.ask(Plain { n: 1 }).await, Err(AskError::Unreachable));
    let hasty = probe.ask(Plain { n: 2 }).timeout(Duration::from_secs(2)).await;
    assert_eq!(hasty, Err(AskError::Timeout));
    let patient = tokio::task::spawn_local(probe.ask(Plain { n: 3 }));
    seconds(10).await;
    part(&network, false);
    assert_eq!(patient.await.unwrap(), Ok(3));
}

#[webmesh::test]
async fn an_ask_whose_time_is_over_while_its_peer_is_dialled_says_that_nothing_was_sent() {
    let (network, guest, host) = lossy_pair().await;
    let (probe, log) = far_probe(&host, &guest, 100).await;
    assert_eq!(probe.ask(Plain { n: 0 }).await, Ok(0));
    part(&network, true);
    assert!(guest.disconnect(&host.peer_id()).await);
    let hasty = probe.ask(Plain { n: 1 }).timeout(Duration::from_secs(2)).await;
    assert_eq!(hasty, Err(AskError::NotReached));
    let patient = probe.ask(Plain { n: 2 }).await;
    assert!(
        matches!(&patient, Err(AskError::Connect(why)) if why.contains("nothing was sent")),
        "{patient:?}"
    );
    part(&network, false);
    assert_eq!(probe.ask(Plain { n: 3 }).await, Ok(3));
    assert_eq!(log.take(), ["plain 0", "plain 3"]);
}

#[webmesh::test]
async fn an_ask_in_the_middle_of_its_large_reply_ends_too_when_the_peer_falls_silent() {
    let (network, guest, host) = lossy_pair().await;
    network.set_loss(0.0);
    let (desk, _log) = far_desk(&host, &guest).await;
    assert_eq!(desk.ask(Plain { n: 0 }).await, Ok(0));
    let pending = tokio::task::spawn_local(desk.ask(Fetch { len: 32 << 20 }));
    tokio::time::sleep(Duration::from_millis(100)).await;
    part(&network, true);
    let parted = Instant::now();
    assert_eq!(pending.await.unwrap(), Err(AskError::Unreachable));
    assert!(parted.elapsed() <= Duration::from_secs(6), "{:?}", parted.elapsed());
}

#[webmesh::test]
async fn an_idle_watcher_hears_of_the_death_of_a_host_within_seven_seconds() {
    let (network, guest, host) = lossy_pair().await;
    network.set_loss(0.0);
    let (probe, _log) = far_probe(&host, &guest, 100).await;
    let heard = watcher(&guest, &probe).await;
    seconds(30).await;
    part(&network, true);
    seconds(5).await;
    assert!(heard.take().is_empty());
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert_eq!(heard.take(), ["unreachable"]);
    part(&network, false);
    seconds(1).await;
    assert_eq!(heard.take(), ["reachable"]);
}

#[webmesh::test]
async fn an_idle_watcher_hears_at_once_that_a_host_was_killed_and_started_anew() {
    for down_for in [0, 1, 3] {
        let (network, guest, killed) = lossy_pair().await;
        network.set_loss(0.0);
        let (probe, _log) = far_probe(&killed, &guest, 100).await;
        let heard = watcher(&guest, &probe).await;
        seconds(30).await;
        network.unplug(address(2));
        drop(killed);
        seconds(down_for).await;
        let _again = host(&network, 2).await;
        tokio::time::sleep(Duration::from_millis(2_200)).await;
        assert_eq!(heard.take(), ["down Stale"], "after {down_for} s");
    }
}

#[webmesh::test]
async fn a_watcher_is_told_of_the_restart_of_a_host_behind_a_router_that_is_reached_through_a_relay()
 {
    for down_for in [1, 20] {
        let network = MemoryNetwork::new(1);
        network.set_latency(Duration::from_millis(10));
        let node = host_builder(&network, 9).relay(true).start().await.unwrap();
        // Behind routers that no two hosts find a direct way through.
        let behind = async |n: u8, port: u16| {
            let outside = [198, 51, 100, n].into();
            let inside = SocketAddr::from(([192, 168, n, 2], port));
            if port == 4000 {
                network.add_nat(outside, Nat::symmetric());
                network.place_behind(inside.ip(), outside);
            }
            let mesh = Mesh::builder().in_place().seed((u64::from(port) << 8) + u64::from(n));
            let mesh = mesh.secret_key(SecretKey::from_bytes([n; 32])).memory_network(&network);
            let mesh = mesh.listen(inside).join(node.peer_ref()).start().await.unwrap();
            mesh.attached().await;
            (mesh, inside)
        };
        let ((guest, _), (killed, there)) = (behind(1, 4000).await, behind(2, 4000).await);
        let (probe, _log) = far_probe(&killed, &guest, 100).await;
        let road = guest.explain(&killed.peer_ref()).await.unwrap();
        assert_eq!(road.path, webmesh::PathKind::RelayUdp, "{road:?}");
        let heard = watcher(&guest, &probe).await;
        seconds(30).await;
        network.unplug(there);
        killed.abort();
        drop(killed);
        seconds(down_for).await;
        // The system gives the process another port.
        let (again, _) = behind(2, 5000).await;
        let fresh = again.spawn(ProbeActor::factory(&Default::default()));
        again.publish("probe", &fresh).allow(Anyone).await.unwrap();
        seconds(20).await;
        let told = heard.take();
        assert_eq!(told.last().map(String::as_str), Some("down Stale"), "{told:?}");
        assert_eq!(probe.ask(Plain { n: 1 }).await, Ok(1));
    }
}
