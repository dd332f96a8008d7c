//! A peer that sends what no frame is loses its connection, with a reason; others go on.

use crate::common::*;
use std::sync::{Arc, Mutex};
use std::time::Duration;
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
    let protocol = b"test.recorder/1";
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
pub(crate) fn published_object(far: &webmesh::ActorRef<Recorder>) -> [u8; 16] {
    let value: serde_json::Value = serde_json::to_value(far).unwrap();
    let bytes = value["object"].as_array().unwrap();
    std::array::from_fn(|at| bytes[at].as_u64().unwrap() as u8)
}
