//! Two meshes on one runtime under a paused clock, over a network in memory.

use crate::common::*;
use std::time::Duration;
use webmesh::{ActorRef, AskError, MemoryNetwork, Mesh};

async fn pair() -> (Mesh, Mesh) {
    let network = MemoryNetwork::new(1);
    let start = async |address: &str, seed| {
        Mesh::builder()
            .in_place()
            .seed(seed)
            .memory_network(&network)
            .listen(address.parse().unwrap())
            .start()
            .await
            .unwrap()
    };
    (start("10.0.0.1:7000", 1).await, start("10.0.0.2:7000", 2).await)
}

#[webmesh::test]
async fn meshes_in_place_exchange_messages_of_all_sizes() {
    let (host, guest) = pair().await;
    let (far, log) = recorder(&host, &guest, Duration::ZERO).await;
    for (number, len) in [0, 100, 70_000, 1 << 20].into_iter().enumerate() {
        assert_eq!(far.ask(note(1, number as u64, len)).await, Ok(number as u64));
    }
    for number in 4..3000 {
        far.tell(note(1, number, 100)).await.unwrap();
    }
    far.flush().await.unwrap();
    assert_eq!(log.lock().unwrap().len(), 3000);
    assert_eq!(
        far.ask(Do::Sleep(5000)).timeout(Duration::from_secs(1)).await,
        Err(AskError::Timeout)
    );
    host.shutdown().await;
    guest.shutdown().await;
}

#[webmesh::test]
async fn a_mesh_that_ends_takes_its_refs_with_it() {
    let (host, guest) = pair().await;
    let (far, _): (ActorRef<Recorder>, _) = recorder(&host, &guest, Duration::ZERO).await;
    far.ask(note(1, 1, 0)).await.unwrap();
    guest.shutdown().await;
    assert_eq!(far.ask(note(1, 1, 0)).await, Err(AskError::ShutDown));
}

#[webmesh::test]
async fn meshes_behind_routers_of_both_sides_meet_by_a_reference_alone() {
    use webmesh::sim::Nat;
    let network = MemoryNetwork::new(1);
    network.set_latency(Duration::from_millis(20));
    let start = |address: &str, seed| {
        let builder = Mesh::builder().in_place().seed(seed).memory_network(&network);
        builder.listen(address.parse().unwrap())
    };
    let node = start("203.0.113.1:4433", 1).relay(true).start().await.unwrap();
    for (host, router, nat) in [
        ("10.0.0.1", "198.51.100.1", Nat::port_restricted()),
        ("10.0.0.2", "198.51.100.2", Nat::symmetric()),
    ] {
        let router = router.parse().unwrap();
        network.add_nat(router, nat);
        network.place_behind(host.parse().unwrap(), router);
    }
    let host = start("10.0.0.1:7000", 2).serve(false).join(node.peer_ref()).start().await.unwrap();
    host.attached().await;
    let guest = start("10.0.0.2:7000", 3).serve(false).start().await.unwrap();
    let (far, log) = recorder(&host, &guest, Duration::ZERO).await;
    for (number, len) in [0, 100, 70_000, 1 << 20].into_iter().enumerate() {
        assert_eq!(far.ask(note(1, number as u64, len)).await, Ok(number as u64));
    }
    assert_eq!(log.lock().unwrap().len(), 4);
    let explained = guest.explain(&host.peer_ref()).await.unwrap();
    assert_eq!(explained.path, webmesh::PathKind::RelayUdp, "{explained:?}");
    assert!(!explained.reason.is_empty());
}
