//! Refs whose senders chose where they lead.

use crate::actors::{Plain, Probe, ProbeActor};
use crate::world::{DeskActor, Introduce, seconds};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use webmesh::{ActorRef, Anyone, AskError, MemoryNetwork, Mesh, SecretKey};

async fn at(network: &MemoryNetwork, key: u8, addresses: &[&str]) -> Mesh {
    let builder = Mesh::builder()
        .in_place()
        .seed(key.into())
        .secret_key(SecretKey::from_bytes([key; 32]))
        .memory_network(network);
    let listen = |builder: webmesh::MeshBuilder, address: &&str| {
        builder.listen(SocketAddr::new(address.parse().unwrap(), 4000))
    };
    addresses.iter().fold(builder, listen).start().await.unwrap()
}

/// A ref to an actor of a host that nobody is, which is said to be at these addresses, or to have its rendezvous there.
fn lie(of: &Mesh, hints: &[&str], as_rendezvous: bool) -> ActorRef<Probe> {
    let probe = of.spawn(ProbeActor::factory(&Default::default()));
    let mut wire = serde_json::to_value(&probe).unwrap();
    let nobody = SecretKey::from_bytes([99; 32]).peer_id();
    let nowhere = SecretKey::from_bytes([98; 32]).peer_id();
    let port = |ip: &&str| SocketAddr::new(ip.parse().unwrap(), 22).to_string();
    let addresses: Vec<_> = hints.iter().map(port).collect();
    wire["peer"] = serde_json::to_value(nobody).unwrap();
    if as_rendezvous {
        wire["hints"] = serde_json::json!([]);
        wire["rendezvous"] =
            serde_json::json!([{ "peer": nowhere, "addresses": addresses, "tls": [] }]);
    } else {
        wire["hints"] = addresses.into();
    }
    serde_json::from_value(wire).unwrap()
}

const PRIVATE: [&str; 8] = [
    "10.9.9.9",
    "192.168.9.9",
    "172.16.9.9",
    "169.254.169.254",
    "100.64.9.9",
    "fc00::9",
    "::ffff:10.9.9.8",
    "64:ff9b::10.9.9.7",
];
const NEVER: [&str; 7] = [
    "127.0.0.1",
    "127.9.9.9",
    "::1",
    "fe80::9",
    "::ffff:127.0.0.9",
    "64:ff9b::127.0.0.1",
    "0.9.9.9",
];
const PUBLIC: [&str; 2] = ["192.0.2.9", "2001:db8:9::9"];

/// Where the host at `victim` sends after it used refs that `sender` handed it.
async fn led_to(sender: &[&str], victim: &[&str]) -> BTreeSet<IpAddr> {
    let network = MemoryNetwork::new(1);
    let (hostile, host) = (at(&network, 1, sender).await, at(&network, 2, victim).await);
    let desk = host.spawn(|| DeskActor { log: Default::default() });
    host.publish("desk", &desk).allow(Anyone).await.unwrap();
    let desk: ActorRef<crate::world::Desk> =
        hostile.resolve("desk").at(&host.peer_ref()).await.unwrap();
    let homes: Vec<IpAddr> = victim.iter().map(|ip| ip.parse().unwrap()).collect();
    let (seen, of) = (Arc::new(Mutex::new(BTreeSet::new())), homes);
    let to = seen.clone();
    network.observe(move |sent| {
        if of.contains(&sent.from) {
            to.lock().unwrap().insert(sent.to.to_canonical());
        }
    });
    for as_rendezvous in [false, true] {
        for hints in [&PRIVATE[..], &NEVER, &PUBLIC] {
            let introduce = Introduce { to: lie(&hostile, hints, as_rendezvous), n: 1 };
            let long = Duration::from_secs(100);
            assert_eq!(desk.ask(introduce).timeout(long).await, Ok(None));
        }
    }
    seconds(5).await;
    seen.lock().unwrap().clone()
}

fn ips(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| text.parse::<IpAddr>().unwrap().to_canonical()).collect()
}

#[webmesh::test]
async fn a_ref_from_the_internet_leads_into_no_private_network() {
    let seen = led_to(&["203.0.113.1"], &["198.51.100.2", "2001:db8::2"]).await;
    assert!(seen.is_superset(&ips(&PUBLIC)), "{seen:?}");
    assert!(seen.is_disjoint(&ips(&PRIVATE)), "{seen:?}");
    assert!(seen.is_disjoint(&ips(&NEVER)), "{seen:?}");
}

#[webmesh::test]
async fn a_neighbour_s_ref_leads_to_neighbours_and_never_to_this_host_itself() {
    let seen = led_to(&["10.0.0.1"], &["10.0.0.2", "2001:db8::2"]).await;
    assert!(seen.is_superset(&ips(&PUBLIC)), "{seen:?}");
    assert!(seen.is_superset(&ips(&["10.9.9.9", "192.168.9.9", "fc00::9"])), "{seen:?}");
    assert!(seen.is_disjoint(&ips(&NEVER)), "{seen:?}");
}

#[webmesh::test]
async fn an_address_on_the_own_network_is_tried_whoever_names_it() {
    let network = ["10.9.9.2", "2001:db8::2", "198.51.100.2"];
    let seen = led_to(&["203.0.113.1"], &network).await;
    assert!(seen.is_superset(&ips(&["10.9.9.9", "10.9.9.8"])), "{seen:?}");
    assert!(seen.is_disjoint(&ips(&["192.168.9.9", "169.254.169.254"])), "{seen:?}");
}

#[webmesh::test]
async fn what_the_user_gave_is_tried_wherever_it_leads() {
    let network = MemoryNetwork::new(1);
    let host = at(&network, 2, &["198.51.100.2"]).await;
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let to = seen.clone();
    network.observe(move |sent| {
        to.lock().unwrap().insert(sent.to);
    });
    let pasted = host.bind(lie(&host, &["10.9.9.9", "192.168.9.9"], false));
    let asked = pasted.ask(Plain { n: 1 }).timeout(Duration::from_secs(100)).await;
    assert!(matches!(asked, Err(AskError::Connect(_))), "{asked:?}");
    assert!(seen.lock().unwrap().is_superset(&ips(&["10.9.9.9", "192.168.9.9"])));
}

#[webmesh::test]
async fn a_ref_that_is_not_used_leads_nowhere() {
    let network = MemoryNetwork::new(1);
    let (hostile, host) =
        (at(&network, 1, &["203.0.113.1"]).await, at(&network, 2, &["198.51.100.2"]).await);
    // A reply: the asker holds the ref, and does nothing with it.
    let keeper = hostile.spawn(|| Keeper);
    hostile.publish("keeper", &keeper).allow(Anyone).await.unwrap();
    let keeper: ActorRef<Keeping> = host.resolve("keeper").at(&hostile.peer_ref()).await.unwrap();
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let to = seen.clone();
    network.observe(move |sent| {
        to.lock().unwrap().insert(sent.to);
    });
    let text = serde_json::to_string(&lie(&hostile, &PUBLIC, false)).unwrap();
    let refs = keeper.ask(Give { text }).await.unwrap();
    assert_eq!(refs.len(), 100);
    seconds(60).await;
    assert_eq!(*seen.lock().unwrap(), ips(&["203.0.113.1", "198.51.100.2"]));
    drop(refs);
}

/// Asks for a hundred refs like this one.
#[derive(webmesh::Message, serde::Serialize, serde::Deserialize)]
#[message(id = "test.give", reply = Vec<ActorRef<Probe>>)]
struct Give {
    text: String,
}

#[derive(webmesh::Protocol)]
#[protocol(id = "test.keeping/1", accepts(Give))]
struct Keeping;

#[derive(webmesh::RemoteActor)]
#[remote(serves(Keeping))]
struct Keeper;

impl actix::Actor for Keeper {
    type Context = actix::Context<Self>;
}

impl actix::Handler<Give> for Keeper {
    type Result = Vec<ActorRef<Probe>>;
    fn handle(&mut self, give: Give, _: &mut actix::Context<Self>) -> Self::Result {
        (0..100).map(|_| serde_json::from_str(&give.text).unwrap()).collect()
    }
}
