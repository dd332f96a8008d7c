//! Dials that others draw: a host that hostile peers have met is of little use to them against third parties.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use webmesh_transport::{
    ALPN, InstanceId, MemoryNetwork, PeerId, PeerRef, SecretKey,
    hello::{FEATURE_RENDEZVOUS, Hello},
    peer_ref::{RENDEZVOUS_MAX, RefContent, RendezvousPoint, SignedRef},
};

use crate::{
    attacker::{self, Shows},
    common::{Host, in_place, key, reference},
    world::{Kind, World},
};

/// Dials that others draw which may be begun at once, and how many more a second (docs/decisions/0014).
const AT_ONCE: f64 = 32.0;
const PER_SECOND: f64 = 0.5;

/// Datagrams that open the own NAT for callers: so many at once, and how many more a second (docs/guarantees.md, "Bounds").
const OPENED_AT_ONCE: f64 = 32.0;
const OPENED_PER_SECOND: f64 = 2.0;

/// What a dial to an address that never answers sends in its ten seconds, at most: a handshake each two seconds, and each handshake's first packet
/// after 0, 1, 3 and 7 s, each time once more for a probe.
const DATAGRAMS_PER_DIAL: f64 = 40.0;

const HOSTILE: std::ops::Range<u8> = 100..124;

/// One of the victims that this hostile peer names.
fn victim(of: u8, n: usize) -> SocketAddr {
    let n = u8::try_from(n).unwrap();
    (IpAddr::from([203, 0, of, n]), 4433).into()
}

fn is_victim(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[..2] == [203, 0])
}

/// What this hostile peer signs: as many rendezvous as may be, each with a key of its own, at the addresses of victims.
fn lying_reference(n: u8) -> PeerRef {
    let point = |k: usize| {
        let mut secret = [n; 32];
        secret[0] = u8::try_from(k).unwrap();
        let peer = SecretKey::from_bytes(secret).peer_id();
        RendezvousPoint { peer, addresses: vec![victim(n, k)], tls: Vec::new() }
    };
    let content = RefContent {
        version: 1,
        addresses: vec![(World::outside(n), 1).into()],
        rendezvous: (0..RENDEZVOUS_MAX).map(point).collect(),
        expires: 4_000_000_000,
    };
    PeerRef::Signed(SignedRef::sign(&key(n), content).unwrap())
}

/// A peer with a free key, which says HELLO and keeps no other rule.
struct Hostile {
    n: u8,
    endpoint: quinn::Endpoint,
    /// Kept, lest they end.
    connections: Vec<(quinn::Connection, quinn::SendStream, quinn::RecvStream)>,
}

impl Hostile {
    fn new(network: &MemoryNetwork, n: u8) -> Self {
        let mut config = quinn::EndpointConfig::default();
        config.grease_quic_bit(false).rng_seed(Some([n; 32]));
        let socket = network.socket((World::outside(n), 1).into()).unwrap();
        let runtime = Arc::new(quinn::TokioRuntime);
        let endpoint =
            quinn::Endpoint::new_with_abstract_socket(config, None, socket, runtime).unwrap();
        Self { n, endpoint, connections: Vec::new() }
    }

    async fn greet(&mut self, host: &Host) {
        let mut config = attacker::client_config(Shows::Key(self.n), ALPN);
        let mut transport = quinn::TransportConfig::default();
        // The host is to decide when it has been silent for too long.
        transport.max_idle_timeout(None);
        config.transport_config(Arc::new(transport));
        let dial = self.endpoint.connect_with(config, host.address(), "any.invalid");
        let connection = dial.unwrap().await.unwrap();
        let (mut tx, mut rx) = connection.open_bi().await.unwrap();
        let reference = Some(lying_reference(self.n));
        let hello = Hello { instance: InstanceId(1), features: 0, reference };
        tx.write_all(&[vec![0], hello.encode()].concat()).await.unwrap();
        let mut length = [0; 2];
        rx.read_exact(&mut length).await.unwrap();
        rx.read_exact(&mut vec![0; u16::from_be_bytes(length).into()]).await.unwrap();
        self.connections.push((connection, tx, rx));
    }

    /// Has the rendezvous tell `host` that it is about to call.
    async fn be_introduced(&mut self, by: &Host, host: PeerId) {
        self.greet(by).await;
        let (_, tx, rx) = self.connections.last_mut().unwrap();
        let body = [&[6, 0, 0, 0, 7], &host.as_bytes()[..], &[0, 0]].concat();
        let note = [&[0x10], &(body.len() as u16).to_be_bytes()[..], &body].concat();
        tx.write_all(&note).await.unwrap();
        let mut kind = [0; 4];
        rx.read_exact(&mut kind).await.unwrap();
        assert_eq!(kind[3], 7, "it wasn't introduced");
    }
}

/// What a host sent to victims.
#[derive(Default)]
struct Drawn {
    datagrams: usize,
    victims: BTreeSet<IpAddr>,
}

impl Drawn {
    fn watch(network: &MemoryNetwork) -> Arc<Mutex<Self>> {
        let drawn = Arc::new(Mutex::new(Self::default()));
        let seen = drawn.clone();
        network.observe(move |sent| {
            if is_victim(sent.to) {
                let mut seen = seen.lock().unwrap();
                seen.datagrams += 1;
                seen.victims.insert(sent.to);
            }
        });
        drawn
    }
}

#[test]
fn dials_that_hostile_peers_draw_upon_others_are_rationed_over_all_of_them() {
    in_place(1, async |placement| {
        let world = World::new(1, placement);
        world.network.set_latency(Duration::from_millis(20));
        let rendezvous = world.server(1).await;
        let host = world.site(2, Kind::Public, &[&rendezvous]).await;
        let drawn = Drawn::watch(&world.network);
        let begun = Instant::now();
        let mut hostile = Vec::new();
        for n in HOSTILE {
            let mut peer = Hostile::new(&world.network, n);
            peer.be_introduced(&rendezvous, host.peer()).await;
            peer.greet(&host).await;
            assert!(host.endpoint.link(&key(n).peer_id()).is_some());
            hostile.push(peer);
        }
        // From now on none of them answers: until each is given up, the host looks for other roads to it, by the rendezvous that it signed.
        let theirs: Vec<_> = HOSTILE.map(World::outside).collect();
        world.network.set_partition(&[World::outside(2)], &theirs, true);
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            let allowed = AT_ONCE + PER_SECOND * begun.elapsed().as_secs_f64();
            let Drawn { datagrams, victims } = &*drawn.lock().unwrap();
            let (datagrams, victims) = (*datagrams as f64, victims.len() as f64);
            println!("after {:?}: {victims} victims got {datagrams}", begun.elapsed());
            assert!(victims <= allowed, "{victims} victims, {allowed} dials allowed");
            assert!(datagrams <= allowed * DATAGRAMS_PER_DIAL, "{datagrams}");
        }
        assert!(!drawn.lock().unwrap().victims.is_empty(), "it looked for none of them");
        assert_eq!(host.endpoint.attached_to(), [rendezvous.peer()], "its own isn't rationed");
    });
}

/// A rendezvous that grants a session and says, as often as it is heard, that somebody else is about to call from a victim's address.
async fn lie(network: MemoryNetwork, n: u8, at: SocketAddr) -> Option<()> {
    let mut config = quinn::EndpointConfig::default();
    config.grease_quic_bit(false).rng_seed(Some([n; 32]));
    let server = attacker::server_config(n, quinn::TransportConfig::default());
    let socket = network.socket(at).ok()?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let endpoint =
        quinn::Endpoint::new_with_abstract_socket(config, Some(server), socket, runtime).ok()?;
    let connection = endpoint.accept().await?.await.ok()?;
    let (mut tx, mut rx) = connection.accept_bi().await.ok()?;
    let mut head = [0; 3];
    rx.read_exact(&mut head).await.ok()?;
    rx.read_exact(&mut vec![0; u16::from_be_bytes([head[1], head[2]]).into()]).await.ok()?;
    let hello = Hello { instance: InstanceId(1), features: FEATURE_RENDEZVOUS, reference: None };
    tx.write_all(&hello.encode()).await.ok()?;
    // It waits for the question, in whichever note that is.
    rx.read_exact(&mut [0; 4]).await.ok()?;
    let mut say = async |body: &[u8]| {
        let note = [&[0x10], &(body.len() as u16).to_be_bytes()[..], body].concat();
        tx.write_all(&note).await.ok()
    };
    // For an hour, and it relays nothing.
    let terms = [0, 0, 14, 16, 0, 100, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    say(&[&[2][..], &terms, &[1, 4, 198, 51, 100, 2, 3, 232]].concat()).await?;
    for count in 0_u16.. {
        let [high, low] = count.to_be_bytes();
        let mut secret = [n; 32];
        secret[..2].copy_from_slice(&[high, low]);
        let from = SecretKey::from_bytes(secret).peer_id();
        let seen = [1, 4, 203, 0, high, low, 17, 81];
        say(&[&[9][..], from.as_bytes(), &seen, &[0, 0]].concat()).await?;
        // Who says more than twenty things a second is cut off before long.
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    Some(())
}

#[test]
fn callers_that_a_lying_rendezvous_invents_draw_few_datagrams_upon_others() {
    in_place(2, async |placement| {
        let world = World::new(2, placement);
        world.network.set_latency(Duration::from_millis(20));
        let at = (World::outside(9), 4433).into();
        let lying = tokio::task::spawn_local(lie(world.network.clone(), 9, at));
        let drawn = Drawn::watch(&world.network);
        let host = world.joining(2, Kind::PortRestricted, vec![reference(9, &[at])]).await;
        host.endpoint.attached().await;
        let begun = Instant::now();
        // It answers no probes either, and is given up after a minute.
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            let allowed = OPENED_AT_ONCE + OPENED_PER_SECOND * begun.elapsed().as_secs_f64();
            let Drawn { datagrams, victims } = &*drawn.lock().unwrap();
            println!("after {:?}: {} victims got {datagrams}", begun.elapsed(), victims.len());
            assert!(*datagrams as f64 <= allowed, "{datagrams}, {allowed} allowed");
        }
        assert!(drawn.lock().unwrap().datagrams > 0, "it let nobody in");
        assert!(!lying.is_finished(), "it was cut off before that");
    });
}
