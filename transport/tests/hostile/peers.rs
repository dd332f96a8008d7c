//! Peers that hold a key, and then say what must not be said.

use std::time::{Duration, Instant};

use quinn::ConnectionError;
use webmesh_transport::hello::{HELLO_BYTES_MAX, Hello};
use webmesh_transport::{ALPN, InstanceId};

use crate::{
    alone::{is_alone, resident},
    attacker::{Attacker, Shows},
    common::{Host, host, host_with, reference},
    serves, serves_in_the_end,
};

/// What the host said when it closed the connection.
async fn refusal(connection: &quinn::Connection) -> String {
    let closed = tokio::time::timeout(Duration::from_secs(15), connection.closed()).await;
    match closed.expect("the host keeps a connection that broke the rules") {
        ConnectionError::ApplicationClosed(close) => {
            String::from_utf8_lossy(&close.reason).into_owned()
        }
        other => format!("{other:?}"),
    }
}

fn hello(instance: u128) -> Vec<u8> {
    let hello = Hello { instance: InstanceId(instance), features: 0, reference: None };
    [vec![0], hello.encode()].concat()
}

/// A HELLO like [`hello`], with what follows the length changed.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut body = hello(1).split_off(3);
    change(&mut body);
    [vec![0], (body.len() as u16).to_be_bytes().to_vec(), body].concat()
}

/// A connection on which HELLOs were exchanged as they should.
async fn greeted(attacker: &Attacker, host: &Host, instance: u128) -> Greeted {
    let connection = attacker.dial(host.address()).await.unwrap();
    let (mut tx, mut rx) = connection.open_bi().await.unwrap();
    tx.write_all(&hello(instance)).await.unwrap();
    let mut length = [0; 2];
    rx.read_exact(&mut length).await.unwrap();
    let mut theirs = vec![0; u16::from_be_bytes(length).into()];
    rx.read_exact(&mut theirs).await.unwrap();
    Greeted { connection, tx, _rx: rx }
}

struct Greeted {
    connection: quinn::Connection,
    tx: quinn::SendStream,
    _rx: quinn::RecvStream,
}

#[tokio::test]
async fn whoever_shows_no_key_or_speaks_another_protocol_is_refused_in_the_handshake() {
    let (host, guest) = (host(1).await, host(2).await);
    for (shows, alpn) in [(Shows::Nothing, ALPN), (Shows::Key(9), b"h3")] {
        let attacker = Attacker::new(shows, alpn);
        let refused = match attacker.dial(host.address()).await {
            // The client of TLS 1.3 is done before the server has seen its identity.
            Ok(connection) => connection.closed().await,
            Err(e) => e,
        };
        let text = refused.to_string();
        assert!(matches!(refused, ConnectionError::ConnectionClosed(_)), "{shows:?}: {text}");
    }
    assert_eq!(host.diary.all(), []);
    serves(&host, &guest).await;
}

#[tokio::test]
async fn every_malformed_hello_is_refused_with_words_and_others_are_served() {
    let (host, guest) = (host(1).await, host(2).await);
    let foreign = reference(7, &[host.address()]).to_bytes();
    let cases: [(&str, Vec<u8>); 8] = [
        ("kind", [&[2], &hello(1)[1..]].concat()),
        ("bytes", vec![0, 0, 0]),
        ("bytes", vec![0, 0, 25, 0, 1]),
        ("bytes", [&[0], &(HELLO_BYTES_MAX as u16 + 1).to_be_bytes()[..]].concat()),
        ("bytes", vec![0, 0xff, 0xff]),
        ("version", changed(|body| body[0] = 0x7f)),
        ("reference", changed(|body| body.extend([0x55; 300]))),
        ("another peer", changed(|body| body.extend(foreign))),
    ];
    for (n, (word, bytes)) in cases.into_iter().enumerate() {
        let attacker = Attacker::with_key(50 + n as u8);
        let connection = attacker.dial(host.address()).await.unwrap();
        let (mut tx, _rx) = connection.open_bi().await.unwrap();
        tx.write_all(&bytes).await.unwrap();
        let said = refusal(&connection).await;
        assert!(said.contains(word), "case {n}: {word:?} isn't in {said:?}");
    }
    assert_eq!(host.diary.all(), []);
    serves(&host, &guest).await;
}

#[tokio::test]
async fn a_hello_that_never_comes_or_trickles_is_not_waited_for() {
    let limit = Duration::from_secs(2);
    let host = host_with(1, |config| config.limits.handshake_time_max = limit).await;
    let guest = crate::common::host(2).await;
    let (silent, trickling) = (Attacker::with_key(50), Attacker::with_key(51));
    let silent = silent.dial(host.address()).await.unwrap();
    let connection = trickling.dial(host.address()).await.unwrap();
    let started = Instant::now();
    let trickle = connection.clone();
    tokio::spawn(async move {
        let (mut tx, _rx) = trickle.open_bi().await.unwrap();
        for byte in hello(1) {
            if tx.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    serves(&host, &guest).await;
    refusal(&silent).await;
    refusal(&connection).await;
    assert!(started.elapsed() < limit * 3, "took {:?}", started.elapsed());
}

#[tokio::test]
async fn before_its_hello_a_peer_can_open_little_and_send_little() {
    let limit = Duration::from_secs(3);
    let host = host_with(1, |config| config.limits.handshake_time_max = limit).await;
    let attacker = Attacker::with_key(50);
    let connection = attacker.dial(host.address()).await.unwrap();
    let mut streams = Vec::new();
    let flood = async {
        while let Ok((mut tx, rx)) = connection.open_bi().await {
            streams.push((tx.write(&[9; 1 << 20]).await.unwrap_or(0), tx, rx));
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), flood).await;
    let sent: usize = streams.iter().map(|(sent, ..)| sent).sum();
    assert!(streams.len() <= 8, "{} streams before HELLO", streams.len());
    assert!(sent <= 512 << 10, "{sent} bytes before HELLO");
    let one_way = tokio::time::timeout(Duration::from_millis(300), connection.open_uni()).await;
    assert!(one_way.is_err() || one_way.unwrap().is_err());
    assert!(connection.max_datagram_size().is_none());
}

#[tokio::test]
async fn a_byte_after_the_hello_that_means_nothing_ends_the_link() {
    let (host, guest) = (host(1).await, host(2).await);
    let attacker = Attacker::with_key(50);
    let mut link = greeted(&attacker, &host, 1).await;
    let at_host = host.diary.up().await;
    link.tx.write_all(&[0x77]).await.unwrap();
    assert!(refusal(&link.connection).await.contains("note"));
    host.diary.down(&at_host).await;
    serves(&host, &guest).await;
}

#[tokio::test]
async fn a_flood_of_notes_costs_no_memory() {
    if !is_alone("peers::a_flood_of_notes_costs_no_memory") {
        return;
    }
    let (host, guest) = (host(1).await, host(2).await);
    let attacker = Attacker::with_key(50);
    let mut link = greeted(&attacker, &host, 1).await;
    host.diary.up().await;
    let before = resident();
    // Knocks; then the two notes that contradict each other, in turn.
    link.tx.write_all(&vec![3; 1 << 18]).await.unwrap();
    link.tx.write_all(&[1, 2].repeat(1 << 17)).await.unwrap();
    link.tx.finish().unwrap();
    // Others are served while they wait.
    serves(&host, &guest).await;
    // Once all are read, the end of the stream is, which is the link's.
    let read = tokio::time::timeout(Duration::from_secs(60), link.connection.closed()).await;
    read.expect("it reads no notes");
    let grown = resident().saturating_sub(before);
    println!("memory grew by {} KiB", grown >> 10);
    assert!(grown < 16 << 20, "memory grew by {} MiB", grown >> 20);
    serves(&host, &guest).await;
}

#[tokio::test]
async fn one_key_cannot_pile_up_links() {
    let (host, guest) = (host(1).await, host(2).await);
    let attacker = Attacker::with_key(50);
    let mut links = Vec::new();
    for _ in 0..40 {
        links.push(greeted(&attacker, &host, 1).await);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let open = links.iter().filter(|link| link.connection.close_reason().is_none()).count();
    assert!(open <= 8, "{open} links with one key are open");
    serves(&host, &guest).await;
}

#[tokio::test]
async fn many_keys_cannot_pile_up_links_without_end() {
    if !is_alone("peers::many_keys_cannot_pile_up_links_without_end") {
        return;
    }
    let host = host_with(1, |config| config.limits.connections_max = 100).await;
    let before = resident();
    let mut links = Vec::new();
    for n in 50..149 {
        let attacker = Attacker::with_key(n).that_stays();
        links.push((greeted(&attacker, &host, 1).await, attacker));
    }
    let each = resident().saturating_sub(before) / links.len();
    println!("{} KiB for both ends of a link", each >> 10);
    assert!(each < 512 << 10, "{} KiB for both ends of a link", each >> 10);
    let guest = crate::common::host(2).await;
    serves(&host, &guest).await;
    let refused = Attacker::with_key(200).dial(host.address()).await.unwrap_err();
    assert!(refused.to_string().contains("refused"), "{refused}");
    // Room again once one is gone.
    links.pop().unwrap().0.connection.close(0_u8.into(), b"");
    let third = crate::common::host(3).await;
    // What is closed is kept until nothing late can come for it, some round trips.
    serves_in_the_end(&host, &third).await;
}

#[tokio::test]
async fn a_peer_that_restarts_all_the_time_has_one_link_and_spoils_nothing() {
    let (host, guest) = (host(1).await, host(2).await);
    let (at_guest, at_host) = serves(&host, &guest).await;
    let attacker = Attacker::with_key(50);
    let mut links = Vec::new();
    for instance in 1..40 {
        links.push(greeted(&attacker, &host, instance).await);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let open = links.iter().filter(|link| link.connection.close_reason().is_none()).count();
    assert_eq!(open, 1);
    assert_eq!(crate::common::echo(&at_guest, &at_host, b"still here").await, b"still here");
}

#[tokio::test]
async fn an_attacker_cannot_take_over_the_link_of_another_key() {
    let (host, guest) = (host(1).await, host(2).await);
    let (at_guest, at_host) = serves(&host, &guest).await;
    // It claims the guest's instance and reference under a key of its own.
    let theirs = Hello {
        instance: guest.endpoint.instance(),
        features: 0,
        reference: Some(guest.endpoint.peer_ref()),
    };
    let attacker = Attacker::with_key(50);
    let connection = attacker.dial(host.address()).await.unwrap();
    let (mut tx, _rx) = connection.open_bi().await.unwrap();
    tx.write_all(&[vec![0], theirs.encode()].concat()).await.unwrap();
    assert!(refusal(&connection).await.contains("another peer"));
    assert_eq!(host.endpoint.link(&guest.peer()), Some(at_host.clone()));
    assert_eq!(crate::common::echo(&at_guest, &at_host, b"still mine").await, b"still mine");
}
