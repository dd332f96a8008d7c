//! A connection that is ended on purpose, and one that leads to where its peer is no more.

use crate::actors::{InFuture, Note, Plain, ProbeActor};
use crate::world::{address, far_probe, lossy_pair, part, seconds, watcher};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::Instant;
use webmesh::{ActorRef, Anyone, AskError, MemoryNetwork, Mesh, SecretKey, TellError};

#[webmesh::test]
async fn a_disconnect_ends_what_was_under_way_once_and_the_next_call_connects_anew() {
    for silent in [false, true] {
        let (network, guest, far_host) = lossy_pair().await;
        let (probe, log) = far_probe(&far_host, &guest, 100).await;
        let heard = watcher(&guest, &probe).await;
        assert_eq!(probe.ask(Plain { n: 0 }).await, Ok(0));
        let pending = tokio::task::spawn_local(probe.ask(InFuture { n: 1, ms: 50_000 }));
        tokio::time::sleep(Duration::from_millis(200)).await;
        // None of these is confirmed by then, wherever it is.
        part(&network, true);
        for n in 1..=3 {
            probe.tell(Note { n }).await.unwrap();
        }
        if !silent {
            part(&network, false);
        }
        assert!(guest.disconnect(&far_host.peer_id()).await);
        assert_eq!(pending.await.unwrap(), Err(AskError::PeerGone));
        part(&network, false);
        seconds(100).await;
        assert_eq!(heard.take(), ["down PeerGone"]);
        assert_eq!(probe.tell(Note { n: 4 }).await, Err(TellError::LostTells { at_most: 3 }));
        probe.tell(Note { n: 5 }).await.unwrap();
        assert_eq!(probe.ask(Plain { n: 6 }).await, Ok(6));
        let log = log.take();
        assert_eq!(log[log.len() - 2..], ["note 5", "plain 6"], "{log:?}");
        assert!(guest.disconnect(&far_host.peer_id()).await);
        assert!(!guest.disconnect(&far_host.peer_id()).await);
    }
}

/// Host 2 anew, at another port, with a probe.
async fn elsewhere(network: &MemoryNetwork, port: u16) -> Mesh {
    let there = SocketAddr::new(address(2).ip(), port);
    let mesh = Mesh::builder()
        .in_place()
        .seed(port.into())
        .secret_key(SecretKey::from_bytes([2; 32]))
        .memory_network(network)
        .listen(there)
        .start()
        .await
        .unwrap();
    let probe = mesh.spawn(ProbeActor::factory(&Default::default()));
    mesh.publish("probe", &probe).allow(Anyone).await.unwrap();
    mesh
}

/// Nobody hears of its end.
async fn kill(network: &MemoryNetwork, mesh: Mesh) {
    part(network, true);
    mesh.shutdown().await;
    drop(mesh);
    part(network, false);
}

#[webmesh::test]
async fn a_peer_that_runs_elsewhere_now_is_found_by_its_newer_reference_within_a_second() {
    for dead_ms in [0, 3_000, 30_000] {
        let (network, guest, far_host) = lossy_pair().await;
        let (probe, _log) = far_probe(&far_host, &guest, 100).await;
        let heard = watcher(&guest, &probe).await;
        assert_eq!(probe.ask(Plain { n: 0 }).await, Ok(0));
        kill(&network, far_host).await;
        tokio::time::sleep(Duration::from_millis(dead_ms)).await;
        let again = elsewhere(&network, 5000).await;
        // What was asked meanwhile goes there, too.
        let waiting = tokio::task::spawn_local(probe.ask(Plain { n: 1 }));
        let begun = Instant::now();
        let found: ActorRef<_> = guest.resolve("probe").at(&again.peer_ref()).await.unwrap();
        assert_eq!(found, probe);
        assert_eq!(found.ask(Plain { n: 2 }).await, Ok(2));
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?} after {dead_ms}", begun.elapsed());
        // It may have been on its way to where nobody is.
        let waiting = waiting.await.unwrap();
        assert!(matches!(waiting, Ok(1) | Err(AskError::PeerRestarted)), "{waiting:?}");
        seconds(100).await;
        let heard = heard.take();
        assert_eq!(heard.iter().filter(|heard| heard.starts_with("down")).count(), 1, "{heard:?}");
    }
}
