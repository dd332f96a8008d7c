//! Rendezvous that lie about where hosts are seen.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use webmesh_transport::{
    InstanceId,
    hello::{FEATURE_RENDEZVOUS, Hello},
    peer_ref::PeerRef,
};

use crate::{
    attacker,
    common::{Heard, Host, host},
    forwarders::{carries, met_through},
};

/// A rendezvous that grants every session and introduces everybody to everybody, at whatever addresses it was told to name.
struct Liar {
    address: SocketAddr,
    /// What it says to have seen, in turn.
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
    reserved: Arc<AtomicUsize>,
    introduced: Arc<AtomicUsize>,
    endpoint: quinn::Endpoint,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.endpoint.close(0_u8.into(), b"");
    }
}

impl Liar {
    /// It names all of `seen` as the places of peers, and each in turn as that of who asks.
    fn start(n: u8, seen: &[SocketAddr]) -> Self {
        let endpoint = attacker::server(n);
        let liar = Self {
            address: endpoint.local_addr().unwrap(),
            seen: Arc::new(Mutex::new(seen.iter().map(|address| bytes(*address)).collect())),
            reserved: Arc::default(),
            introduced: Arc::default(),
            endpoint: endpoint.clone(),
        };
        let (seen, reserved) = (liar.seen.clone(), liar.reserved.clone());
        let introduced = liar.introduced.clone();
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let (seen, reserved) = (seen.clone(), reserved.clone());
                let introduced = introduced.clone();
                tokio::spawn(async move {
                    let connection = incoming.await.ok()?;
                    // Ends with its connection.
                    lie(&connection, &seen, &reserved, &introduced).await
                });
            }
        });
        liar
    }
}

fn bytes(address: SocketAddr) -> Vec<u8> {
    let ip = match address.ip() {
        std::net::IpAddr::V4(ip) => [&[4][..], &ip.octets()].concat(),
        std::net::IpAddr::V6(ip) => [&[6][..], &ip.octets()].concat(),
    };
    [ip, address.port().to_be_bytes().to_vec()].concat()
}

async fn lie(
    connection: &quinn::Connection,
    seen: &Mutex<Vec<Vec<u8>>>,
    reserved: &AtomicUsize,
    introduced: &AtomicUsize,
) -> Option<()> {
    let (mut tx, mut rx) = connection.accept_bi().await.ok()?;
    let mut head = [0; 3];
    rx.read_exact(&mut head).await.ok()?;
    rx.read_exact(&mut vec![0; u16::from_be_bytes([head[1], head[2]]).into()]).await.ok()?;
    let hello = Hello { instance: InstanceId(1), features: FEATURE_RENDEZVOUS, reference: None };
    tx.write_all(&hello.encode()).await.ok()?;
    let (to, mut notes) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(said) = next(&mut rx).await {
            let _ = to.send(said);
        }
    });
    let mut asked = false;
    loop {
        let pause = tokio::time::sleep(Duration::from_millis(100));
        let said = tokio::select! {
            said = notes.recv() => said?,
            () = pause, if asked => vec![1],
        };
        let body = match said[0] {
            // A minute, whatever it likes, and a lie; unasked ever after.
            1 => {
                asked = true;
                let n = reserved.fetch_add(1, Ordering::Relaxed);
                let all = seen.lock();
                let lie = &all[n % all.len()];
                let terms = [0, 0, 0, 60, 0, 100, 0, 10, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
                [&[2][..], &terms, &[1], lie].concat()
            }
            6 => {
                introduced.fetch_add(1, Ordering::Relaxed);
                let all = seen.lock().clone();
                let flow = [&[1][..], &[7; 8], &[7; 32]].concat();
                [&[7], &said[1..5], &[all.len() as u8], &all.concat(), &[0], &flow].concat()
            }
            14 => [&[15], &said[1..9]].concat(),
            _ => continue,
        };
        let note = [&[0x10], &(body.len() as u16).to_be_bytes()[..], &body].concat();
        tx.write_all(&note).await.ok()?;
    }
}

/// The next message about rendezvous.
pub(crate) async fn next(rx: &mut quinn::RecvStream) -> Option<Vec<u8>> {
    let mut byte = [0];
    while byte != [0x10] {
        rx.read_exact(&mut byte).await.ok()?;
    }
    let mut length = [0; 2];
    rx.read_exact(&mut length).await.ok()?;
    let mut body = vec![0; u16::from_be_bytes(length).into()];
    rx.read_exact(&mut body).await.ok()?;
    Some(body)
}

/// A host whose address liars name, several ports of it.
struct Victim(Vec<UdpSocket>);

impl Victim {
    async fn at(ip: &str, ports: usize) -> Self {
        let mut sockets = Vec::new();
        for _ in 0..ports {
            sockets.push(UdpSocket::bind((ip, 0)).await.unwrap());
        }
        Self(sockets)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|socket| socket.local_addr().unwrap()).collect()
    }

    /// What came to all of its ports.
    fn received(&self) -> usize {
        let (mut count, mut room) = (0, [0; 2000]);
        for socket in &self.0 {
            while socket.try_recv(&mut room).is_ok() {
                count += 1;
            }
        }
        count
    }
}

/// All probes of what was named are sent by then: the pauses between five of them double from half a second.
const PROBES_OVER: Duration = Duration::from_secs(10);

fn named(host: &Host) -> Vec<SocketAddr> {
    let PeerRef::Signed(signed) = host.endpoint.peer_ref() else { panic!("it isn't signed") };
    let points = signed.rendezvous().iter().flat_map(|point| point.addresses.clone());
    signed.addresses().iter().copied().chain(points).collect()
}

#[tokio::test]
async fn a_rendezvous_that_lies_about_where_a_host_is_seen_costs_a_victim_five_datagrams_at_most() {
    let honest = host(1).await;
    let victim = Victim::at("127.0.0.7", 3).await;
    let liar = Liar::start(9, &victim.addresses());
    let served = met_through(3, &[(9, liar.address), (1, honest.address())]).await;
    // It has said each of its lies by then.
    while liar.reserved.load(Ordering::Relaxed) < 6 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let caller = host(4).await;
    let link = caller.endpoint.connect(&served.endpoint.peer_ref()).await.unwrap();
    carries(&link, &served).await;
    tokio::time::sleep(PROBES_OVER).await;
    let count = victim.received();
    println!("a victim named by the peer's rendezvous got {count}");
    assert!((1..=5).contains(&count), "{count}");
    // What it signs of itself says nothing of it, and the other session stands.
    assert!(named(&served).iter().all(|address| !victim.addresses().contains(address)));
    assert!(served.endpoint.attached_to().contains(&honest.peer()));
}

#[tokio::test]
async fn a_rendezvous_that_says_a_peer_is_at_a_victims_does_not_hold_up_the_dial_nor_harm_the_victim()
 {
    let honest = host(1).await;
    let victim = Victim::at("127.0.0.8", 16).await;
    let liar = Liar::start(9, &victim.addresses());
    let served = met_through(3, &[(9, liar.address), (1, honest.address())]).await;
    let caller = host(4).await;
    let link = caller.endpoint.connect(&served.endpoint.peer_ref()).await.unwrap();
    assert!(liar.introduced.load(Ordering::Relaxed) > 0, "the liar wasn't asked");
    carries(&link, &served).await;
    // A direct road was found all the same.
    let direct = async {
        while link.via() != served.address() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), direct).await.expect("it stays relayed");
    tokio::time::sleep(PROBES_OVER).await;
    // Of the caller; the served host was told of one address in turn, and says it to the caller.
    let count = victim.received();
    println!("a victim named to the caller got {count}");
    assert!((1..=5).contains(&count), "{count}");
}

#[tokio::test]
async fn observed_addresses_that_are_nobodys_end_the_session_with_the_liar_alone() {
    let honest = host(1).await;
    let lies = ["0.0.0.0:9", "224.0.0.1:9", "255.255.255.255:9", "127.0.0.1:0", "[fe80::1]:9"];
    let lies = lies.map(|lie| lie.parse().unwrap());
    let liar = Liar::start(9, &lies);
    let join = [(9, liar.address), (1, honest.address())];
    let served = attached_to_one_of(3, &join).await;
    let refused = served.diary.until("each lie is refused", |all| {
        let downs = all.iter().filter(|heard| matches!(heard, Heard::Down(..)));
        (downs.count() >= 2).then_some(())
    });
    refused.await;
    assert_eq!(served.endpoint.attached_to(), [honest.peer()]);
    assert!(named(&served).iter().all(|address| !lies.contains(address)));
    let caller = host(4).await;
    let link = caller.endpoint.connect(&served.endpoint.peer_ref()).await.unwrap();
    carries(&link, &served).await;
}

/// A private host which joins these, of whom one at least grants a session.
async fn attached_to_one_of(n: u8, rendezvous: &[(u8, SocketAddr)]) -> Host {
    let join = rendezvous.iter().map(|(key, at)| crate::common::reference(*key, &[*at])).collect();
    let host = crate::common::host_with(n, |config| {
        config.advertise = vec!["127.0.0.1:9".parse().unwrap()];
        (config.service, config.join, config.sessions) = (None, join, rendezvous.len());
    })
    .await;
    let attached = async {
        while host.endpoint.attached_to().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), attached).await.expect("no session stands");
    host
}
