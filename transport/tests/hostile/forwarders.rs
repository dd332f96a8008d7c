//! Relays, and others on a road, that forge the end of the handshakes which they forward.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{net::UdpSocket, sync::mpsc};
use webmesh_transport::{ConnectError, Hints, Link, Origin, peer_ref::RendezvousPoint};

use crate::{
    common::{Host, echo, host, host_with, key, reference},
    forgery::{Forgery, Initial, REASON},
    serves,
};

/// The bytes that a relay puts in front of what it forwards.
const RELAY_HEADER: usize = 16;
const RELAY_DATA: u8 = 8;

/// What somebody between hosts and another one does to handshakes that pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Conduct {
    /// Forges answers to those that are relayed, as the relay itself can.
    Relaying(Forgery),
    /// Forges answers to those with the host behind it.
    Direct(Forgery),
    /// Forwards nothing that is relayed, while its sessions stand.
    Mute,
    /// Keeps copies of long datagrams to the host that bear what was encrypted with the keys of a connection.
    Keeping,
    /// Is late, lest the forger lose every race.
    Late,
}

/// How late.
const LATE: Duration = Duration::from_millis(100);

pub(crate) const KEPT_MAX: usize = 256;
const LONG: usize = 800;

/// Stands before a host, and carries datagrams of many guests to and fro, each from an address of its own.
pub(crate) struct Between {
    pub(crate) front: SocketAddr,
    /// At most [`KEPT_MAX`].
    pub(crate) kept: Arc<Mutex<Vec<Vec<u8>>>>,
    forged: Arc<AtomicUsize>,
    carrying: tokio::task::JoinHandle<()>,
}

impl Drop for Between {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

impl Between {
    pub(crate) async fn before(host: SocketAddr, conduct: Conduct) -> Self {
        Self::at(UdpSocket::bind("127.0.0.1:0").await.unwrap(), host, conduct)
    }

    /// A rendezvous that knows no other address of its own than where this stands.
    async fn in_front_of(n: u8, conduct: Conduct) -> (Host, Self) {
        let front = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        let host = host_with(n, |config| config.advertise = vec![address]).await;
        let between = Self::at(front, host.address(), conduct);
        (host, between)
    }

    fn at(front: UdpSocket, host: SocketAddr, conduct: Conduct) -> Self {
        let (front, forged) = (Arc::new(front), Arc::new(AtomicUsize::new(0)));
        let (address, count) = (front.local_addr().unwrap(), forged.clone());
        let kept: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let copies = kept.clone();
        let carrying = tokio::spawn(async move {
            let mut backs: HashMap<SocketAddr, mpsc::UnboundedSender<Vec<u8>>> = HashMap::new();
            let mut buffer = [0; 2048];
            loop {
                // An address that went away makes an error of the next call.
                let Ok((length, from)) = front.recv_from(&mut buffer).await else { continue };
                let datagram = buffer[..length].to_vec();
                let (relayed, first) = seen(&datagram);
                let forgery = match conduct {
                    Conduct::Relaying(forgery) if relayed => Some(forgery),
                    Conduct::Direct(forgery) => Some(forgery),
                    _ => None,
                };
                if conduct == Conduct::Keeping && length >= LONG && datagram[0] & 0xc0 == 0x40 {
                    let mut copies = copies.lock();
                    if copies.len() < KEPT_MAX {
                        copies.push(datagram.clone());
                    }
                }
                if conduct == Conduct::Mute && relayed {
                    continue;
                }
                if let (Some(forgery), Some(first)) = (forgery, first) {
                    if !first.has_token {
                        let header = if relayed { &datagram[..RELAY_HEADER] } else { &[] };
                        let answer = [header, &forgery.answer(&first)].concat();
                        front.send_to(&answer, from).await.unwrap();
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    if is_held_back(forgery, &first) {
                        continue;
                    }
                }
                let back = backs.entry(from).or_insert_with(|| {
                    let (back, queue) = mpsc::unbounded_channel();
                    let late = if conduct == Conduct::Late { LATE } else { Duration::ZERO };
                    tokio::spawn(carry(front.clone(), from, host, queue, late));
                    back
                });
                let _ = back.send(datagram);
            }
        });
        Self { front: address, kept, forged, carrying }
    }

    fn forged(&self) -> usize {
        self.forged.load(Ordering::Relaxed)
    }
}

/// Carries what comes from one guest to the host, and what the host has to say to it.
async fn carry(
    front: Arc<UdpSocket>,
    guest: SocketAddr,
    host: SocketAddr,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
    late: Duration,
) {
    let back = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    back.connect(host).await.unwrap();
    let there = async {
        while let Some(datagram) = queue.recv().await {
            // All of a burst wait together, since they come together.
            if !late.is_zero() && queue.is_empty() {
                tokio::time::sleep(late).await;
            }
            let _ = back.send(&datagram).await;
        }
    };
    let back_again = async {
        let mut buffer = [0; 2048];
        loop {
            match back.recv(&mut buffer).await {
                Ok(length) => drop(front.send_to(&buffer[..length], guest).await),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    tokio::select! {
        () = there => {}
        () = back_again => {}
    }
}

/// Whether a datagram is relayed, and the first packet of a handshake in it.
fn seen(datagram: &[u8]) -> (bool, Option<Initial>) {
    let relayed = datagram.first() == Some(&RELAY_DATA) && datagram.len() > RELAY_HEADER;
    (relayed, Initial::read(if relayed { &datagram[RELAY_HEADER..] } else { datagram }))
}

/// Whether the forger keeps what it answered for itself.
fn is_held_back(forgery: Forgery, first: &Initial) -> bool {
    match forgery {
        Forgery::Close | Forgery::Versions => false,
        Forgery::Retry => !first.has_token,
        Forgery::RetryAndSilence => true,
    }
}
/// Nobody is there.
const NOWHERE: &str = "127.0.0.1:9";

/// A host that can be met only by way of these, each named by its key and by where it is reached.
pub(crate) async fn met_through(n: u8, rendezvous: &[(u8, SocketAddr)]) -> Host {
    let join = rendezvous.iter().map(|(key, at)| reference(*key, &[*at])).collect();
    let host = host_with(n, |config| {
        config.advertise = vec![NOWHERE.parse().unwrap()];
        (config.service, config.join, config.sessions) = (None, join, rendezvous.len());
    })
    .await;
    host.endpoint.attached().await;
    assert_eq!(host.endpoint.attached_to().len(), rendezvous.len());
    host
}

/// Both ends of `link`, which leads to `host`, carry bytes.
pub(crate) async fn carries(link: &Link, host: &Host) {
    assert_eq!(link.peer(), host.peer());
    assert_eq!(echo(link, &host.diary.up().await, &[7; 50_000]).await, [7; 50_000]);
}

#[tokio::test]
async fn a_relay_that_forges_the_end_of_a_handshake_is_passed_by_over_an_honest_one() {
    for forgery in Forgery::ALL {
        let (_hostile, forger) = Between::in_front_of(1, Conduct::Relaying(forgery)).await;
        let (_honest, late) = Between::in_front_of(2, Conduct::Late).await;
        let served = met_through(3, &[(1, forger.front), (2, late.front)]).await;
        let caller = host(4).await;
        let started = Instant::now();
        let link = caller.endpoint.connect(&served.endpoint.peer_ref()).await;
        println!("{forgery:?} by one relay: {:?}", started.elapsed());
        carries(&link.unwrap_or_else(|e| panic!("{forgery:?}: {e}")), &served).await;
        assert!(forger.forged() > 0, "{forgery:?} was never tried");
    }
}

#[tokio::test]
async fn where_only_a_forger_relays_the_dial_ends_in_time_and_the_peer_serves_others() {
    let limit = Duration::from_secs(3);
    for forgery in Forgery::ALL {
        let (_hostile, forger) = Between::in_front_of(1, Conduct::Relaying(forgery)).await;
        let served = met_through(3, &[(1, forger.front)]).await;
        let caller = host_with(4, |config| config.limits.handshake_time_max = limit).await;
        let started = Instant::now();
        let outcome = caller.endpoint.connect(&served.endpoint.peer_ref()).await;
        if forgery == Forgery::Versions {
            // Nobody here speaks another one, and so nobody listens to that.
            carries(&outcome.unwrap(), &served).await;
            continue;
        }
        let error = outcome.unwrap_err();
        println!("{forgery:?}: {error} after {:?}", started.elapsed());
        assert!(started.elapsed() < 2 * limit, "{forgery:?}: {:?}", started.elapsed());
        assert!(forger.forged() > 0, "{forgery:?} was never tried");
        match forgery {
            Forgery::Close => assert!(error.to_string().contains(REASON), "{error:?}"),
            // The peer has no use for a token that it never gave, and who follows a Retry goes on with it.
            _ => assert!(matches!(error, ConnectError::Timeout(_)), "{error:?}"),
        }
        // Neither end is the worse for it: over another road both talk at once.
        let others_way = reference(3, &[served.address()]);
        let guest = host(5).await;
        for other in [&caller, &guest] {
            carries(&other.endpoint.connect(&others_way).await.unwrap(), &served).await;
        }
    }
}

#[tokio::test]
async fn a_forger_at_one_address_of_a_peer_does_not_spoil_the_others() {
    for forgery in Forgery::ALL {
        let served = host(3).await;
        let forger = Between::before(served.address(), Conduct::Direct(forgery)).await;
        let late = Between::before(served.address(), Conduct::Late).await;
        // Both get the same first packet, and the forger is the first to answer.
        let there = reference(3, &[forger.front, late.front]);
        let caller = host(4).await;
        let started = Instant::now();
        let link = caller.endpoint.connect(&there).await;
        println!("{forgery:?} at one address: {:?}", started.elapsed());
        carries(&link.unwrap_or_else(|e| panic!("{forgery:?}: {e}")), &served).await;
        assert!(forger.forged() > 0, "{forgery:?} was never tried");
        serves(&served, &host(5).await).await;
    }
}

#[tokio::test]
async fn a_forger_on_the_direct_road_does_not_spoil_the_relayed_one() {
    for forgery in Forgery::ALL {
        let (honest, late) = Between::in_front_of(2, Conduct::Late).await;
        let served = met_through(3, &[(2, late.front)]).await;
        let forger = Between::before(served.address(), Conduct::Direct(forgery)).await;
        let caller = host(4).await;
        let point =
            RendezvousPoint { peer: honest.peer(), addresses: vec![late.front], tls: Vec::new() };
        let (origin, addresses) = (Origin::User, vec![forger.front]);
        let hints = Hints { origin, addresses, rendezvous: vec![point] };
        let started = Instant::now();
        let link = caller.endpoint.connect_peer(served.peer(), &[hints]).await;
        println!("{forgery:?} on the direct road: {:?}", started.elapsed());
        carries(&link.unwrap_or_else(|e| panic!("{forgery:?}: {e}")), &served).await;
        assert!(forger.forged() > 0, "{forgery:?} was never tried");
    }
}

#[tokio::test]
async fn a_relay_that_forwards_nothing_is_passed_by_and_alone_costs_a_dial_its_bound_and_no_more() {
    let limit = Duration::from_secs(3);
    let (_mute, dead) = Between::in_front_of(1, Conduct::Mute).await;
    let (_honest, late) = Between::in_front_of(2, Conduct::Late).await;
    let both = met_through(3, &[(1, dead.front), (2, late.front)]).await;
    let alone = met_through(4, &[(1, dead.front)]).await;
    let caller = host_with(5, |config| config.limits.handshake_time_max = limit).await;
    carries(&caller.endpoint.connect(&both.endpoint.peer_ref()).await.unwrap(), &both).await;
    let started = Instant::now();
    let error = caller.endpoint.connect(&alone.endpoint.peer_ref()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Timeout(_)), "{error:?}");
    assert!(started.elapsed() < 2 * limit, "{:?}", started.elapsed());
    serves(&both, &host(6).await).await;
}

#[tokio::test]
async fn rendezvous_that_nobody_vouches_for_do_not_crowd_out_this_hosts_own() {
    let honest = host(2).await;
    let (hostile, forger) = Between::in_front_of(1, Conduct::Relaying(Forgery::Close)).await;
    let served = met_through(3, &[(2, honest.address()), (1, forger.front)]).await;
    let caller = met_through(4, &[(2, honest.address())]).await;
    // A crowd, as an unsigned reference could name it.
    let rendezvous = (100..120)
        .map(|n| RendezvousPoint {
            peer: if n == 100 { hostile.peer() } else { key(n).peer_id() },
            addresses: vec![forger.front],
            tls: Vec::new(),
        })
        .collect();
    let hints = Hints { origin: Origin::User, addresses: Vec::new(), rendezvous };
    let link = caller.endpoint.connect_peer(served.peer(), &[hints]).await.unwrap();
    carries(&link, &served).await;
}
