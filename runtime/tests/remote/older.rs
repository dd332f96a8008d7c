//! Peers that understand less than this version does.

use crate::common::{Do, Recorder, mesh, recorder, run};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use webmesh::ActorRef;
use webmesh_transport::{
    Endpoint, EndpointConfig, FEATURE_CANCEL, Link, LinkDown, Observer, PeerId, SecretKey, Threads,
};

struct Door(mpsc::UnboundedSender<Link>);

impl Observer for Door {
    fn link_up(&self, link: Link) {
        let _ = self.0.send(link);
    }
    fn link_draining(&self, _: Link) {}
    fn link_down(&self, _: Link, _: LinkDown) {}
    fn unreachable(&self, _: PeerId) {}
    fn reachable(&self, _: PeerId) {}
}

/// What a mesh sends to a peer of these features when it asks, and gives the ask up.
async fn sent_to(features: u64) -> Vec<u8> {
    let (knocks, mut links) = mpsc::unbounded_channel();
    let config = EndpointConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        features,
        ..EndpointConfig::new(SecretKey::generate())
    };
    let placement = Arc::new(Threads::start().unwrap());
    let peer = Endpoint::bind(config, placement, Arc::new(Door(knocks))).await.unwrap();
    // A ref to an actor of that peer's.
    let (host, guest) = (mesh().await, mesh().await);
    let (far, _) = recorder(&host, &guest, Duration::ZERO).await;
    let mut value = serde_json::to_value(&far).unwrap();
    value["peer"] = serde_json::to_value(peer.peer_ref().peer().unwrap()).unwrap();
    value["hints"] = serde_json::to_value(peer.peer_ref().addresses()).unwrap();
    let far: ActorRef<Recorder> = guest.bind(serde_json::from_value(value).unwrap());
    let asked = tokio::spawn(far.ask(Do::NeverAnswer));
    let link = links.recv().await.unwrap();
    let (mut send, mut recv) = loop {
        let (send, mut recv) = link.quic().accept_bi().await.unwrap();
        let mut kind = [0];
        recv.read_exact(&mut kind).await.unwrap();
        // The other one is the control stream.
        if kind == [2] {
            break (send, recv);
        }
    };
    // OPENED.
    send.write_all(&[2, 0x41, 10]).await.unwrap();
    let mut sent = Vec::new();
    let until = tokio::time::Instant::now() + Duration::from_secs(2);
    while let Ok(chunk) = tokio::time::timeout_at(until, recv.read_chunk(1000, true)).await {
        sent.extend(chunk.unwrap().unwrap().bytes);
        asked.abort();
        if sent.ends_with(&[2, 8, 0]) {
            break;
        }
    }
    sent
}

#[test]
fn a_peer_that_does_not_know_of_cancelled_asks_is_told_of_none() {
    run(async {
        assert!(sent_to(FEATURE_CANCEL).await.ends_with(&[2, 8, 0]));
        let sent = sent_to(0).await;
        assert!(sent.windows(7).any(|bytes| bytes == b"test.do") && !sent.ends_with(&[2, 8, 0]));
    });
}
