//! Somebody on the road between two hosts, who sees every datagram and can send any, under any address.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use webmesh_transport::Link;

use crate::common::{Host, echo, host, reference};

/// Carries datagrams between a guest and a host, and keeps copies of our own frames.
struct Bystander {
    /// Where the guest sends to.
    front: Arc<UdpSocket>,
    /// Where the host's datagrams come to.
    back: Arc<UdpSocket>,
    /// Probes and answers to the host, and to the guest.
    to_host: Arc<Mutex<Vec<Vec<u8>>>>,
    to_guest: Arc<Mutex<Vec<Vec<u8>>>>,
    guest: Arc<Mutex<Option<SocketAddr>>>,
    host: SocketAddr,
}

const PROBE: u8 = 1;
const ANSWER: u8 = 2;

impl Bystander {
    async fn before(host: SocketAddr) -> Self {
        let bind = async || Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let between = Self {
            front: bind().await,
            back: bind().await,
            to_host: Arc::default(),
            to_guest: Arc::default(),
            guest: Arc::default(),
            host,
        };
        let (front, back, copies) =
            (between.front.clone(), between.back.clone(), between.to_host.clone());
        let guest = between.guest.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = front.recv_from(&mut buffer).await {
                *guest.lock() = Some(from);
                keep(&copies, &buffer[..length]);
                let _ = back.send_to(&buffer[..length], host).await;
            }
        });
        let (front, back, copies) =
            (between.front.clone(), between.back.clone(), between.to_guest.clone());
        let guest = between.guest.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 2048];
            while let Ok(length) = back.recv(&mut buffer).await {
                let to = *guest.lock();
                keep(&copies, &buffer[..length]);
                if let Some(to) = to {
                    let _ = front.send_to(&buffer[..length], to).await;
                }
            }
        });
        between
    }

    /// A link from `guest` to `host` through here.
    async fn link(&self, guest: &Host, host: &Host, n: u8) -> (Link, Link) {
        let there = reference(n, &[self.front.local_addr().unwrap()]);
        let at_guest = guest.endpoint.connect(&there).await.unwrap();
        let at_host = host.diary.up().await;
        assert_eq!(at_host.via(), self.back.local_addr().unwrap());
        (at_guest, at_host)
    }
}

fn keep(copies: &Mutex<Vec<Vec<u8>>>, datagram: &[u8]) {
    if matches!(datagram.first(), Some(&(PROBE | ANSWER))) {
        copies.lock().push(datagram.to_vec());
    }
}

fn last(copies: &Mutex<Vec<Vec<u8>>>, kind: u8) -> Vec<u8> {
    copies.lock().iter().rev().find(|frame| frame[0] == kind).cloned().expect("a frame")
}

/// Bytes that come to `socket` within `length`.
async fn drawn(socket: &UdpSocket, length: Duration) -> usize {
    let (mut drawn, mut buffer) = (0, [0; 2048]);
    let _ = tokio::time::timeout(length, async {
        while let Ok(got) = socket.recv(&mut buffer).await {
            drawn += got;
        }
    })
    .await;
    drawn
}

#[tokio::test]
async fn a_replayed_probe_moves_no_traffic_and_draws_at_most_threefold() {
    let (host, guest) = (host(1).await, host(2).await);
    let between = Bystander::before(host.address()).await;
    let (at_guest, at_host) = between.link(&guest, &host, 1).await;
    at_guest.ping().await.unwrap();
    let probe = last(&between.to_host, PROBE);

    let victim = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    let mut sent = 0;
    for _ in 0..40 {
        victim.send_to(&probe, between.host).await.unwrap();
        sent += probe.len();
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let drawn = drawn(&victim, Duration::from_secs(1)).await;
    println!("{sent} replayed bytes drew {drawn}");
    assert!(drawn <= 3 * sent, "{sent} bytes drew {drawn}");
    assert_eq!(at_host.via(), between.back.local_addr().unwrap());
    assert_eq!(echo(&at_guest, &at_host, &[1; 50_000]).await, [1; 50_000]);
}

#[tokio::test]
async fn a_probe_replayed_from_everywhere_neither_ends_nor_blinds_the_link() {
    let (host, guest) = (host(1).await, host(2).await);
    let between = Bystander::before(host.address()).await;
    let (at_guest, at_host) = between.link(&guest, &host, 1).await;
    at_guest.ping().await.unwrap();
    let probe = last(&between.to_host, PROBE);

    let mut sources = Vec::new();
    for n in 2..102 {
        sources.push(UdpSocket::bind((format!("127.0.1.{n}"), 0)).await.unwrap());
    }
    let target = between.host;
    let flood = tokio::spawn(async move {
        loop {
            for source in &sources {
                let _ = source.send_to(&probe, target).await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    // The host's own probes must find their answers all the while.
    for _ in 0..20 {
        at_host.ping().await.expect("a ping amid replayed probes");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    flood.abort();
    assert_eq!(at_host.via(), between.back.local_addr().unwrap());
    assert_eq!(echo(&at_guest, &at_host, &[1; 50_000]).await, [1; 50_000]);
}

#[tokio::test]
async fn a_probe_sent_back_to_its_author_is_no_answer_and_no_probe() {
    let (host, guest) = (host(1).await, host(2).await);
    let between = Bystander::before(host.address()).await;
    let (at_guest, _at_host) = between.link(&guest, &host, 1).await;
    at_guest.ping().await.unwrap();
    let garbage = guest.endpoint.drops().garbage;
    let (probe, to) = (last(&between.to_host, PROBE), between.guest.lock().unwrap());
    for kind in [PROBE, ANSWER] {
        let mut turned = probe.clone();
        turned[0] = kind;
        between.front.send_to(&turned, to).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(guest.endpoint.drops().garbage, garbage + 2);
}

#[tokio::test]
async fn an_answer_counts_once_and_only_from_where_it_was_asked_for() {
    let (host, guest) = (host(1).await, host(2).await);
    let between = Bystander::before(host.address()).await;
    let (at_guest, at_host) = between.link(&guest, &host, 1).await;
    at_host.ping().await.unwrap();
    let answer = last(&between.to_host, ANSWER);
    let elsewhere = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    for _ in 0..50 {
        elsewhere.send_to(&answer, between.host).await.unwrap();
        between.back.send_to(&answer, between.host).await.unwrap();
    }
    assert_eq!(drawn(&elsewhere, Duration::from_millis(500)).await, 0);
    assert_eq!(at_host.via(), between.back.local_addr().unwrap());
    assert_eq!(echo(&at_guest, &at_host, b"as before").await, b"as before");
}

#[tokio::test]
async fn stolen_tags_with_wrong_macs_and_flipped_frames_are_ignored() {
    let (host, guest) = (host(1).await, host(2).await);
    let between = Bystander::before(host.address()).await;
    let (at_guest, at_host) = between.link(&guest, &host, 1).await;
    at_guest.ping().await.unwrap();
    let probe = last(&between.to_host, PROBE);
    let forger = UdpSocket::bind("127.0.0.9:0").await.unwrap();
    // Another tag than a known one draws the word that it isn't known, which is rationed (tests/simulated/restarts.rs).
    let tag = 8..72;
    for bit in (0..probe.len() * 8).filter(|bit| !tag.contains(bit)) {
        let mut forged = probe.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        forger.send_to(&forged, between.host).await.unwrap();
        if bit % 32 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(
        drawn(&forger, Duration::from_millis(500)).await,
        0,
        "a forged probe drew an answer"
    );
    assert_eq!(echo(&at_guest, &at_host, b"unimpressed").await, b"unimpressed");
}
