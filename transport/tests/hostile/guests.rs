//! Hosts that use another as their rendezvous, byte by byte as docs/wire-transport.md says, and some that say it wrong.

use quinn::ConnectionError;
use webmesh_transport::{
    InstanceId, Service,
    hello::{FEATURE_RELAY, FEATURE_RENDEZVOUS, Hello},
};

use crate::{
    attacker::Attacker,
    common::{Host, host, host_with, key},
};

const LOOPBACK: [u8; 5] = [4, 127, 0, 0, 1];

/// A raw client that has said HELLO.
pub(crate) struct Guest {
    // Kept, lest the connection end with it.
    _attacker: Attacker,
    /// Sends from where the host sees it.
    pub(crate) socket: std::net::UdpSocket,
    pub(crate) connection: quinn::Connection,
    pub(crate) tx: quinn::SendStream,
    rx: quinn::RecvStream,
    features: u64,
}

impl Guest {
    pub(crate) async fn of(n: u8, host: &Host) -> Self {
        Self::at(n, host.address()).await
    }

    pub(crate) async fn at(n: u8, address: std::net::SocketAddr) -> Self {
        let (attacker, socket) = Attacker::with_key_and_socket(n);
        let (connection, tx, rx, features) = greet(&attacker, address).await.unwrap();
        Self { _attacker: attacker, socket, connection, tx, rx, features }
    }

    /// Says something, a byte at a time.
    pub(crate) async fn say(&mut self, body: &[u8]) {
        let note = [&[0x10], &(body.len() as u16).to_be_bytes()[..], body].concat();
        for byte in note {
            self.tx.write_all(&[byte]).await.unwrap();
        }
    }

    /// The next message about rendezvous; other notes are passed over.
    pub(crate) async fn hear(&mut self) -> Vec<u8> {
        let mut byte = [0];
        while byte != [0x10] {
            self.rx.read_exact(&mut byte).await.unwrap();
        }
        let mut length = [0; 2];
        self.rx.read_exact(&mut length).await.unwrap();
        let mut body = vec![0; u16::from_be_bytes(length).into()];
        self.rx.read_exact(&mut body).await.unwrap();
        body
    }

    /// The port at which the host sees it.
    async fn observed(&mut self) -> [u8; 2] {
        self.say(&[4]).await;
        let answer = self.hear().await;
        assert_eq!(answer[..7], [&[5, 1], &LOOPBACK[..]].concat());
        answer[7..].try_into().unwrap()
    }
}

/// A connection on which both sides have said HELLO, its link stream, and the features of the host.
pub(crate) async fn greet(
    attacker: &Attacker,
    address: std::net::SocketAddr,
) -> Option<(quinn::Connection, quinn::SendStream, quinn::RecvStream, u64)> {
    let connection = attacker.dial(address).await.ok()?;
    let (mut tx, mut rx) = connection.open_bi().await.ok()?;
    let hello = Hello { instance: InstanceId(1), features: 0, reference: None };
    tx.write_all(&[vec![0], hello.encode()].concat()).await.ok()?;
    let mut length = [0; 2];
    rx.read_exact(&mut length).await.ok()?;
    let mut theirs = vec![0; u16::from_be_bytes(length).into()];
    rx.read_exact(&mut theirs).await.ok()?;
    Some((connection, tx, rx, Hello::decode(&theirs).unwrap().features))
}

/// The question, without candidates, for the host with key `n`.
pub(crate) fn introduce(n: u8) -> Vec<u8> {
    [&[6, 0, 0, 0, 7], &key(n).peer_id().as_bytes()[..], &[0, 0]].concat()
}

#[tokio::test]
async fn a_caller_and_a_host_with_a_session_are_told_where_the_other_is_seen() {
    let host = host(1).await;
    let (mut served, mut caller) = (Guest::of(8, &host).await, Guest::of(9, &host).await);
    assert_eq!(served.features, FEATURE_RENDEZVOUS | FEATURE_RELAY);
    // No session yet.
    caller.say(&introduce(8)).await;
    assert_eq!(caller.hear().await, [8, 0, 0, 0, 7, 4]);
    let (served_port, caller_port) = (served.observed().await, caller.observed().await);
    served.say(&[1]).await;
    let reserved = served.hear().await;
    assert_eq!(reserved[0], 2);
    assert_eq!(reserved[21..], [&[1], &LOOPBACK[..], &served_port].concat());
    caller.say(&introduce(8)).await;
    let introduced = caller.hear().await;
    let expected = [&[7, 0, 0, 0, 7, 1], &LOOPBACK[..], &served_port, &[0]].concat();
    let (expected_of_served, granted) = introduced.split_at(expected.len());
    assert_eq!(expected_of_served, expected);
    // A flow through the relay: its token and key, others at each end.
    assert_eq!((granted[0], granted.len()), (1, 1 + 8 + 32));
    let incoming = served.hear().await;
    let caller_key = key(9).peer_id();
    let expected = [&[9], &caller_key.as_bytes()[..], &[1], &LOOPBACK, &caller_port, &[0]];
    let (expected_of_caller, granted_there) = incoming.split_at(expected.concat().len());
    assert_eq!(expected_of_caller, expected.concat());
    assert_eq!((granted_there[0], granted_there.len()), (1, 1 + 8 + 32));
    assert_ne!(granted_there[1..9], granted[1..9]);
    assert_ne!(granted_there[9..], granted[9..]);
    // Once it is gone, it isn't here.
    served.connection.close(0u32.into(), b"");
    loop {
        caller.say(&introduce(8)).await;
        let answer = caller.hear().await;
        match answer[0] {
            7 => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            // The flow between the two is dead, which the host says as soon as it knows.
            10 => {}
            _ => break assert_eq!(answer, [8, 0, 0, 0, 7, 4]),
        }
    }
}

#[tokio::test]
async fn whoever_does_not_serve_holds_no_sessions_and_introduces_nobody() {
    let host = host_with(1, |config| config.service = None).await;
    let mut guest = Guest::of(8, &host).await;
    assert_eq!(guest.features, 0);
    guest.say(&[1]).await;
    assert_eq!(guest.hear().await, [3, 1, 0]);
    guest.say(&introduce(9)).await;
    assert_eq!(guest.hear().await, [8, 0, 0, 0, 7, 1]);
    guest.observed().await;
}

#[tokio::test]
async fn whoever_asks_too_often_is_told_so() {
    let service = Service { introductions_by_each_per_minute: 0, ..Service::default() };
    let host = host_with(1, |config| config.service = Some(service)).await;
    let mut guest = Guest::of(8, &host).await;
    guest.say(&introduce(9)).await;
    assert_eq!(guest.hear().await, [8, 0, 0, 0, 7, 3]);
}

#[tokio::test]
async fn whoever_has_more_waiting_than_anybody_needs_is_cut_off() {
    let host = host(1).await;
    let mut guest = Guest::of(8, &host).await;
    let question = introduce(9);
    let note = [&[0x10], &(question.len() as u16).to_be_bytes()[..], &question].concat();
    let pressing = async { while guest.tx.write_all(&note).await.is_ok() {} };
    let limit = std::time::Duration::from_secs(30);
    tokio::time::timeout(limit, pressing).await.expect("it is listened to for ever");
    let ConnectionError::ApplicationClosed(close) = guest.connection.closed().await else {
        panic!("it isn't told why")
    };
    let reason = String::from_utf8_lossy(&close.reason).into_owned();
    assert!(reason.contains("too much about rendezvous"), "{reason}");
}

#[tokio::test]
async fn what_is_no_message_ends_the_connection() {
    let host = host(1).await;
    let cases: [(&[u8], &str); 4] = [
        (&[0x10, 0, 1, 99], "99 isn't a kind of message"),
        (&[0x10, 0, 2, 1, 1], "1 bytes follow its end"),
        (&[0x10, 0, 0], "it has 0 bytes"),
        (&[0x10, 8, 1], "it has 2049 bytes"),
    ];
    for (n, (note, why)) in (10..).zip(cases) {
        let mut guest = Guest::of(n, &host).await;
        guest.tx.write_all(note).await.unwrap();
        let ConnectionError::ApplicationClosed(close) = guest.connection.closed().await else {
            panic!("{why}")
        };
        let reason = String::from_utf8_lossy(&close.reason).into_owned();
        assert!(reason.contains(why), "{reason}");
    }
}

/// Datagrams that come to `victim` until none has come for two seconds and more, which is longer than the pauses between the
/// first probes of an address.
pub(crate) async fn received(victim: &tokio::net::UdpSocket) -> usize {
    let quiet = std::time::Duration::from_secs(5);
    let mut count = 0;
    while tokio::time::timeout(quiet, victim.recv(&mut [0; 2000])).await.is_ok() {
        count += 1;
    }
    count
}

pub(crate) async fn victim() -> (tokio::net::UdpSocket, [u8; 7]) {
    let victim = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let [high, low] = victim.local_addr().unwrap().port().to_be_bytes();
    (victim, [4, 127, 0, 0, 1, high, low])
}

#[tokio::test]
async fn a_victim_that_a_peer_names_as_itself_gets_five_probes_at_most() {
    let host = host(1).await;
    let (victim, address) = victim().await;
    let mut guest = Guest::of(8, &host).await;
    // `Here`: one address, nothing about a NAT; again and again.
    let here = [&[12, 1], &address[..], &[0]].concat();
    for _ in 0..20 {
        guest.say(&here).await;
    }
    let count = received(&victim).await;
    assert!((1..=5).contains(&count), "{count}");
}

#[tokio::test]
async fn whoever_is_no_rendezvous_of_ours_sends_no_callers_and_draws_no_guesses() {
    let host = host(1).await;
    let (victim, address) = victim().await;
    let mut guest = Guest::of(8, &host).await;
    let from = key(9).peer_id();
    // `Incoming`: a caller at the victim's address, with a flow. `Punch`: pays for guesses at ports.
    let flow = [&[1][..], &[7; 8], &[7; 32]].concat();
    let incoming = [&[9], &from.as_bytes()[..], &[1], &address[..], &[0], &flow].concat();
    guest.say(&incoming).await;
    let punch: Vec<u8> = std::iter::once(13).chain([0; 1599]).collect();
    guest.say(&punch).await;
    guest.observed().await;
    assert_eq!(received(&victim).await, 0);
}

#[tokio::test]
async fn nobody_but_the_two_ends_of_a_flow_gets_anything_through_it_or_out_of_it() {
    let host = host(1).await;
    let (mut served, mut caller) = (Guest::of(8, &host).await, Guest::of(9, &host).await);
    served.say(&[1]).await;
    served.hear().await;
    caller.say(&introduce(8)).await;
    let introduced = caller.hear().await;
    let token = introduced[introduced.len() - 40..introduced.len() - 32].to_vec();
    let stranger = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.connect(host.address()).await.unwrap();
    let data = |token: &[u8], length: usize| {
        [&[8, 0, 0, 0, 0, 0, 0, 0], token, &vec![0x41; length]].concat()
    };
    // Tokens that name nothing draw the word that they do: some of them, 16 bytes each.
    for n in 0..100u64 {
        stranger.send(&data(&n.to_be_bytes(), 1000)).await.unwrap();
    }
    // The right one draws a challenge, however much comes: ten a second, each shorter than what drew it.
    for _ in 0..100 {
        stranger.send(&data(&token, 1000)).await.unwrap();
    }
    let mut drawn = Vec::new();
    let quiet = std::time::Duration::from_secs(1);
    let mut room = [0; 2000];
    while let Ok(Ok(count)) = tokio::time::timeout(quiet, stranger.recv(&mut room)).await {
        drawn.push(room[..count].to_vec());
    }
    drawn.retain(|frame| frame.len() != 16 || frame[0] != 0x0c);
    assert!((1..=10).contains(&drawn.len()), "{}", drawn.len());
    assert!(drawn.iter().all(|frame| frame[0] == 9 && frame.len() == 40));
    assert_eq!(host.endpoint.relayed(), 0);
    // The same from where the caller is seen.
    caller.socket.send_to(&data(&token, 1000), host.address()).unwrap();
    while host.endpoint.relayed() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(host.endpoint.relayed(), 1016);
}
