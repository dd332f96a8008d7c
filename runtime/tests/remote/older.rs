//! Peers that understand less than this version does.

use crate::common::{Do, Recorder, mesh, recorder, run};
use quinn::{RecvStream, SendStream};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use webmesh::{ActorRef, Mesh};
use webmesh_transport::{
    Endpoint, EndpointConfig, FEATURE_CANCEL, FEATURE_WITHDRAW, Link, LinkDown, Observer, PeerId,
    SecretKey, Threads,
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

/// A peer of these features that serves nothing, and a mesh with a ref to an actor there.
struct Stranger {
    guest: Mesh,
    far: ActorRef<Recorder>,
    links: mpsc::UnboundedReceiver<Link>,
    _peer: Endpoint,
}

impl Stranger {
    async fn new(features: u64) -> Self {
        let (knocks, links) = mpsc::unbounded_channel();
        let config = EndpointConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            features,
            ..EndpointConfig::new(SecretKey::generate())
        };
        let placement = Arc::new(Threads::start().unwrap());
        let peer = Endpoint::bind(config, placement, Arc::new(Door(knocks))).await.unwrap();
        let (host, guest) = (mesh().await, mesh().await);
        let (far, _) = recorder(&host, &guest, Duration::ZERO).await;
        let mut value = serde_json::to_value(&far).unwrap();
        value["peer"] = serde_json::to_value(peer.peer_ref().peer().unwrap()).unwrap();
        value["hints"] = serde_json::to_value(peer.peer_ref().addresses()).unwrap();
        let far = guest.bind(serde_json::from_value(value).unwrap());
        Self { guest, far, links, _peer: peer }
    }
}

/// The mesh's streams of these kinds, in this order.
async fn accept<const N: usize>(link: &Link, kinds: [u8; N]) -> [(SendStream, RecvStream); N] {
    let mut streams = [const { None }; N];
    while streams.iter().any(Option::is_none) {
        let (send, mut recv) = link.quic().accept_bi().await.unwrap();
        let mut kind = [0];
        recv.read_exact(&mut kind).await.unwrap();
        if let Some(at) = kinds.iter().position(|wanted| *wanted == kind[0]) {
            streams[at] = Some((send, recv));
        }
    }
    streams.map(Option::unwrap)
}

const CONTROL: u8 = 1;
const LANE: u8 = 2;

/// What a mesh sends to a peer of these features when it asks, and gives the ask up.
async fn sent_to(features: u64) -> Vec<u8> {
    let mut stranger = Stranger::new(features).await;
    let asked = tokio::spawn(stranger.far.ask(Do::NeverAnswer));
    let link = stranger.links.recv().await.unwrap();
    let [(mut send, mut recv)] = accept(&link, [LANE]).await;
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

/// What a mesh says on the control stream of a peer of these features when it ends before a tell is confirmed.
async fn last_words_to(features: u64) -> Vec<u8> {
    let mut stranger = Stranger::new(features).await;
    stranger.far.try_tell(Do::NeverAnswer).unwrap();
    let link = stranger.links.recv().await.unwrap();
    let [(_send, mut control), _lane] = accept(&link, [CONTROL, LANE]).await;
    drop(stranger.guest);
    let mut said = Vec::new();
    while let Ok(Some(chunk)) = control.read_chunk(1000, true).await {
        said.extend(chunk.bytes);
    }
    said
}

#[test]
fn a_peer_that_does_not_know_of_withdrawals_is_told_of_none() {
    run(async {
        assert_eq!(last_words_to(FEATURE_WITHDRAW).await, [1, 9]);
        assert!(last_words_to(0).await.is_empty());
    });
}
