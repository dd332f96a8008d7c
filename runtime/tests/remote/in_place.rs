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
