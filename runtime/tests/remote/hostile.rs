//! A peer that sends what no frame is loses its connection, with a reason; others go on.

use crate::common::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use webmesh::prelude::*;
use webmesh_transport::{
    Endpoint, EndpointConfig, Link, LinkDown, Observer, PeerId, SecretKey, Threads,
};

#[derive(Default)]
pub(crate) struct Ends(Mutex<Vec<LinkDown>>);

impl Observer for Ends {
    fn link_up(&self, _: Link) {}
    fn link_draining(&self, _: Link) {}
    fn link_down(&self, _: Link, why: LinkDown) {
        self.0.lock().unwrap().push(why);
    }
    fn unreachable(&self, _: PeerId) {}
    fn reachable(&self, _: PeerId) {}
}

fn open_frame(object: [u8; 16]) -> Vec<u8> {
    open_frame_of(object, b"test.recorder/1")
}

fn open_frame_of(object: [u8; 16], protocol: &[u8]) -> Vec<u8> {
    let mut frame = vec![1];
    frame.extend(object);
    frame.push(protocol.len() as u8);
    frame.extend(protocol);
    [vec![2, frame.len() as u8], frame].concat()
}

#[test]
fn malformed_frames_endless_lengths_and_deep_nesting_are_refused_and_others_go_on() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (far, _) = recorder(&host, &guest, Duration::ZERO).await;
        let object = published_object(&far);
        let attacks: Vec<(&str, Vec<u8>)> = vec![
            ("an unknown kind of stream", vec![9, 1, 1]),
            ("an unknown frame", vec![2, 1, 0x10]),
            ("an endless length", vec![2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            ("a long form of a number", vec![2, 0x40, 0x01, 0x01]),
            ("an empty frame", vec![2, 0]),
            ("a message before OPEN", vec![2, 3, 2, 0, 0]),
            ("a second OPEN", [open_frame(object), open_frame(object)[1..].to_vec()].concat()),
            ("a message number that skips", [open_frame(object), vec![3, 2, 7, 0]].concat()),
            (
                "too much",
                // More than a fresh lane may carry, at once: what comes later may have been granted meanwhile.
                [
                    open_frame(object),
                    vec![12, 2, 0, 9],
                    b"test.note".to_vec(),
                    [2, 2, 0].repeat(100),
                ]
                .concat(),
            ),
            ("a cancel of what was never asked", [open_frame(object), vec![2, 8, 0]].concat()),
            ("asks whose numbers fall", {
                let ask = |number, id: &[u8]| {
                    let payload = rmp_serde::to_vec_named(&note(1, 1, 0)).unwrap();
                    let frame = [&[3, number, 0], id, &payload].concat();
                    [vec![frame.len() as u8], frame].concat()
                };
                [open_frame(object), ask(5, b"\x09test.note"), ask(4, b"")].concat()
            }),
            ("bodies beyond the limit", {
                let mut frame = vec![6, 0, 9];
                frame.extend(b"test.note");
                frame.extend([1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
                [open_frame(object), vec![frame.len() as u8], frame].concat()
            }),
            ("a second control stream", vec![1]),
        ];
        for (what, bytes) in attacks {
            let ends = Arc::new(Ends::default());
            let placement = Arc::new(Threads::start().unwrap());
            let config = EndpointConfig {
                listen: vec!["127.0.0.1:0".parse().unwrap()],
                ..EndpointConfig::new(SecretKey::generate())
            };
            let attacker = Endpoint::bind(config, placement, ends.clone()).await.unwrap();
            let link = attacker.connect(&host.peer_ref()).await.unwrap();
            let mut first = None;
            if what == "a second control stream" {
                // Kept, for its end is refused too.
                let (send, _recv) = first.insert(link.quic().open_bi().await.unwrap());
                send.write_all(&[1]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let (mut send, _recv) = link.quic().open_bi().await.unwrap();
            send.write_all(&bytes).await.unwrap();
            let closed = tokio::time::timeout(Duration::from_secs(5), link.quic().closed()).await;
            let closed = closed.unwrap_or_else(|_| panic!("{what} was not refused")).to_string();
            assert!(
                closed.contains("code 6") || closed.contains("closed by peer"),
                "{what}: {closed}"
            );
            // The honest guest isn't touched.
            assert_eq!(far.ask(note(1, 1, 0)).await, Ok(1), "after {what}");
        }
    });
}

#[test]
fn a_deeply_nested_payload_is_a_bad_payload() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let (far, _) = recorder(&host, &guest, Duration::ZERO).await;
        let object = published_object(&far);
        let placement = Arc::new(Threads::start().unwrap());
        let config = EndpointConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            ..EndpointConfig::new(SecretKey::generate())
        };
        let attacker = Endpoint::bind(config, placement, Arc::new(Ends::default())).await.unwrap();
        let link = attacker.connect(&host.peer_ref()).await.unwrap();
        let (mut send, mut recv) = link.quic().open_bi().await.unwrap();
        let mut ask = vec![3, 0, 0, 9];
        ask.extend(b"test.note");
        ask.extend(vec![0x91; 20_000]);
        let len = ask.len() as u32 | 0x8000_0000;
        send.write_all(&[open_frame(object), len.to_be_bytes().to_vec(), ask].concat())
            .await
            .unwrap();
        let mut heard = Vec::new();
        // FAULT (0x46) for ask 0, BadPayload (4).
        while !heard.windows(3).any(|bytes| bytes == [0x46, 0, 4]) {
            let chunk =
                tokio::time::timeout(Duration::from_secs(5), recv.read_chunk(1000, true)).await;
            heard.extend(chunk.expect("an answer").unwrap().expect("an answer").bytes);
        }
        assert!(link.quic().close_reason().is_none());
    });
}

/// The object id inside a ref.
pub(crate) fn published_object<P: webmesh::Protocol>(far: &webmesh::ActorRef<P>) -> [u8; 16] {
    let value: serde_json::Value = serde_json::to_value(far).unwrap();
    let bytes = value["object"].as_array().unwrap();
    std::array::from_fn(|at| bytes[at].as_u64().unwrap() as u8)
}

/// Asks for so many bytes.
#[derive(webmesh::Message, serde::Serialize, serde::Deserialize, Debug)]
#[message(id = "test.much", reply = webmesh::Bytes)]
struct Much {
    len: usize,
}

/// More than waits for an asker without being paid for.
const MUCH: usize = 5 << 20;

#[derive(webmesh::Protocol)]
#[protocol(id = "test.generous/1", accepts(Much))]
struct Generous;

#[derive(webmesh::RemoteActor)]
#[remote(serves(Generous))]
struct GenerousActor {
    asked: tokio::sync::mpsc::UnboundedSender<()>,
}

impl Actor for GenerousActor {
    type Context = Context<Self>;
}

impl Handler<Much> for GenerousActor {
    type Result = webmesh::Bytes;
    fn handle(&mut self, much: Much, _: &mut Context<Self>) -> webmesh::Bytes {
        self.asked.send(()).unwrap();
        vec![0; much.len].into()
    }
}

/// A host with such an actor, its object, and what it is asked; a peer that reads no bodies, and its link.
struct Scene {
    _host: webmesh::Mesh,
    object: [u8; 16],
    asks: tokio::sync::mpsc::UnboundedReceiver<()>,
    _peer: Endpoint,
    link: Link,
}

impl Scene {
    /// The peer takes so many bytes of a stream that it doesn't read.
    async fn new(window: u32) -> Self {
        let (host, guest) = (mesh().await, mesh().await);
        let (asked, asks) = tokio::sync::mpsc::unbounded_channel();
        let near = host.spawn(move || GenerousActor { asked: asked.clone() });
        host.publish("generous", &near).allow(webmesh::Anyone).await.unwrap();
        let far: webmesh::ActorRef<Generous> =
            guest.resolve("generous").at(&host.peer_ref()).await.unwrap();
        let placement = Arc::new(Threads::start().unwrap());
        let mut config = EndpointConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            ..EndpointConfig::new(SecretKey::generate())
        };
        config.windows.bodies_max = 0;
        config.windows.stream = window;
        let peer = Endpoint::bind(config, placement, Arc::new(Ends::default())).await.unwrap();
        let link = peer.connect(&host.peer_ref()).await.unwrap();
        Self { _host: host, object: published_object(&far), asks, _peer: peer, link }
    }

    /// Opens a lane to the actor.
    async fn lane(&self) -> (quinn::SendStream, quinn::RecvStream) {
        let (mut send, mut recv) = self.link.quic().open_bi().await.unwrap();
        send.write_all(&open_frame_of(self.object, b"test.generous/1")).await.unwrap();
        assert!(recv.read(&mut [0; 64]).await.unwrap().is_some());
        (send, recv)
    }

    /// Asks, and waits until the actor has that in hand.
    async fn ask(&mut self, send: &mut quinn::SendStream, number: u8, len: usize) {
        let id = if number == 0 { [&[9][..], b"test.much"].concat() } else { Vec::new() };
        let payload = rmp_serde::to_vec_named(&Much { len }).unwrap();
        let frame = [&[3, number, 0], &id[..], &payload].concat();
        send.write_all(&[vec![frame.len() as u8], frame].concat()).await.unwrap();
        let handled = tokio::time::timeout(Duration::from_secs(10), self.asks.recv()).await;
        handled.expect("what nobody wants is waited for").unwrap();
    }

    /// Lets one stream of bodies come, and says of which lane it is.
    async fn bodies(&self) -> (u64, quinn::RecvStream) {
        self.link.quic().set_max_concurrent_uni_streams(1u32.into());
        let mut bodies = self.link.quic().accept_uni().await.unwrap();
        // Its kind, the lane and the number of the reply, all small.
        let mut head = [0; 3];
        bodies.read_exact(&mut head).await.unwrap();
        (u64::from(head[1]), bodies)
    }
}

fn lane_id(send: &quinn::SendStream) -> u64 {
    quinn::VarInt::from(send.id()).into_inner()
}

#[test]
fn nothing_is_kept_for_a_peer_that_wants_no_replies() {
    run(async {
        let mut scene = Scene::new(16 << 20).await;
        for _ in 0..4 {
            let (mut send, mut recv) = scene.lane().await;
            recv.stop(1u32.into()).unwrap();
            scene.ask(&mut send, 0, MUCH).await;
            // Who hears no answers asks no more.
            let ended = tokio::time::timeout(Duration::from_secs(10), send.stopped()).await;
            assert!(ended.expect("the lane goes on").unwrap().is_some());
        }
    });
}

#[test]
fn a_lane_lasts_as_long_as_bodies_of_its_replies_are_kept() {
    run(async {
        let mut scene = Scene::new(16 << 20).await;
        let (mut send, mut recv) = scene.lane().await;
        scene.ask(&mut send, 0, MUCH).await;
        send.finish().unwrap();
        let mut end = std::pin::pin!(recv.read_to_end(1000));
        let early = tokio::time::timeout(Duration::from_millis(500), end.as_mut()).await;
        assert!(early.is_err(), "a lane has ended, and its bodies are kept still");
        let (lane, mut bodies) = scene.bodies().await;
        assert_eq!(lane, lane_id(&send));
        assert_eq!(bodies.read_to_end(2 * MUCH).await.unwrap().len(), MUCH);
        end.await.unwrap();
    });
}

#[test]
fn bodies_of_replies_go_with_their_lane() {
    run(async {
        let mut scene = Scene::new(16 << 20).await;
        let (mut first, mut recv) = scene.lane().await;
        scene.ask(&mut first, 0, MUCH).await;
        // The next lane to an object ends the one before.
        let (mut second, _recv) = scene.lane().await;
        let reset = recv.read_to_end(1000).await;
        assert!(reset.is_err(), "{reset:?}");
        for number in 0..3 {
            scene.ask(&mut second, number, MUCH).await;
            let (lane, mut bodies) = scene.bodies().await;
            assert_eq!(lane, lane_id(&second));
            bodies.read_to_end(2 * MUCH).await.unwrap();
        }
    });
}

#[test]
fn a_lane_whose_replies_nobody_reads_ends_all_the_same_when_the_next_one_comes() {
    run(async {
        let mut scene = Scene::new(4096).await;
        let (mut send, mut recv) = scene.lane().await;
        scene.ask(&mut send, 0, 60_000).await;
        // Until the reply has come as far as it can.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let _next = scene.lane().await;
        let reset = tokio::time::timeout(Duration::from_secs(10), recv.received_reset()).await;
        assert!(reset.expect("its replies are kept").unwrap().is_some());
    });
}
