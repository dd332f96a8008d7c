//! Peers that ask for memory and don't use it.

use crate::world::{address, far_desk, host, item, seconds};
use std::sync::Arc;
use std::time::Duration;
use webmesh::MemoryNetwork;
use webmesh_transport::{
    Endpoint, EndpointConfig, InPlace, Link, LinkDown, Observer, PeerId, SecretKey,
};

struct Deaf;

impl Observer for Deaf {
    fn link_up(&self, _: Link) {}
    fn link_draining(&self, _: Link) {}
    fn link_down(&self, _: Link, _: LinkDown) {}
    fn unreachable(&self, _: PeerId) {}
    fn reachable(&self, _: PeerId) {}
}

/// The beginning of a stream to a desk, and the claim that a message of so many bytes waits.
fn claim(object: [u8; 16], bytes: u32) -> Vec<u8> {
    let protocol = b"test.desk/1";
    let mut open = vec![1];
    open.extend(object);
    open.push(protocol.len() as u8);
    open.extend(protocol);
    let mut claim = vec![2, open.len() as u8];
    claim.extend(open);
    claim.extend([6, 5, 1]);
    claim.extend((bytes | 0x8000_0000).to_be_bytes());
    claim
}

#[webmesh::test]
async fn peers_that_claim_all_memory_and_send_nothing_lose_it_to_whoever_waits() {
    let network = MemoryNetwork::new(1);
    network.set_latency(Duration::from_millis(10));
    let (near, far) = (host(&network, 1).await, host(&network, 2).await);
    let (desk, log) = far_desk(&far, &near).await;
    let value = serde_json::to_value(&desk).unwrap();
    let object = std::array::from_fn(|at| value["object"][at].as_u64().unwrap() as u8);
    let mut held = Vec::new();
    for n in 10..24 {
        let config = EndpointConfig {
            listen: vec![address(n)],
            network: Some(network.clone()),
            ..EndpointConfig::new(SecretKey::from_bytes([n; 32]))
        };
        let placement = Arc::new(InPlace::new(n.into()).unwrap());
        let hoarder = Endpoint::bind(config, placement, Arc::new(Deaf)).await.unwrap();
        let link = hoarder.connect(&far.peer_ref()).await.unwrap();
        // A peer has one stream at a time to an actor.
        let (mut send, recv) = link.quic().open_bi().await.unwrap();
        send.write_all(&claim(object, 63 << 20)).await.unwrap();
        held.push((hoarder, send, recv));
    }
    seconds(1).await;
    let tell = desk.tell(item(7, 20 << 20));
    let told = tokio::time::timeout(Duration::from_secs(60), async {
        tell.await.unwrap();
        desk.flush().await.unwrap();
    });
    told.await.expect("an honest peer's message gets its turn");
    assert_eq!(log.take(), ["item 7 20971520"]);
}
