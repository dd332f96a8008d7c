//! A host without IPv4, in a network whose NAT64 shows it the hosts of IPv4.

use std::{
    net::{Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    common::{Host, echo, host_in_place, in_place},
    world::World,
};
use webmesh_transport::{
    MemoryNetwork,
    nat::{Resolved, Resolver},
};

/// A name server that makes up addresses under these prefixes of 96 bits, or has nothing to say.
struct NameServer {
    prefixes: Vec<Ipv6Addr>,
    asked: AtomicUsize,
}

impl NameServer {
    fn of(prefixes: &[&str]) -> Arc<Self> {
        let prefixes = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
        Arc::new(Self { prefixes, asked: AtomicUsize::new(0) })
    }
}

impl Resolver for NameServer {
    fn ipv6_of<'a>(&'a self, name: &'a str) -> Resolved<'a> {
        assert_eq!(name, "ipv4only.arpa");
        self.asked.fetch_add(1, Ordering::Relaxed);
        let known = self.prefixes.iter().flat_map(|prefix| {
            [0xc000_00aa, 0xc000_00ab].map(|ip| Ipv6Addr::from_bits(prefix.to_bits() | ip))
        });
        let known = known.collect();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(30)).await;
            Ok(known)
        })
    }
}

const HERE: &str = "[2001:db8:64::1]:1000";
const OUTSIDE: &str = "203.0.113.64:6400";

/// The address of a host of IPv4 as the network of the IPv6 host has it.
fn shown(address: SocketAddr) -> SocketAddr {
    let SocketAddr::V4(v4) = address else { panic!("{address}") };
    let prefix: Ipv6Addr = "64:ff9b::".parse().unwrap();
    let ip = prefix.to_bits() | u128::from(v4.ip().to_bits());
    (Ipv6Addr::from_bits(ip), v4.port()).into()
}

/// Everything that the two say to each other passes the NAT64.
fn nat64(network: &MemoryNetwork, there: SocketAddr) {
    network.set_mapping(HERE.parse().unwrap(), OUTSIDE.parse().unwrap());
    network.set_mapping(there, shown(there));
}

async fn without_ipv4(world: &World, names: &Arc<NameServer>, join: &[&Host]) -> Host {
    let join: Vec<_> = join.iter().map(|host| host.endpoint.peer_ref()).collect();
    host_in_place(9, &world.network, world.placement(), |config| {
        config.listen = vec![HERE.parse().unwrap()];
        config.resolver = Some(names.clone());
        (config.service, config.join) = (None, join);
    })
    .await
}

#[test]
fn a_host_without_ipv4_reaches_one_that_has_nothing_else_through_the_nat64() {
    in_place(1, async |placement| {
        let world = World::new(1, placement);
        world.network.set_latency(Duration::from_millis(20));
        let server = world.server(1).await;
        let reference = server.endpoint.peer_ref();
        nat64(&world.network, server.address());
        let names = NameServer::of(&["64:ff9b::"]);
        let host = without_ipv4(&world, &names, &[]).await;
        // At once: the answer of the name server is waited for.
        let link = host.endpoint.connect(&reference).await.unwrap();
        assert_eq!(link.via(), shown(server.address()));
        assert_eq!(echo(&link, &server.diary.up().await, b"hello").await, b"hello");
        let explained = host.endpoint.explain(&server.peer()).await.unwrap();
        let road = explained.candidates.iter().find(|candidate| candidate.in_use).unwrap();
        let expected = format!("{} through the NAT64", server.address());
        assert!(road.why.contains(&expected), "{}", road.why);
        assert_eq!(names.asked.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_rendezvous_beyond_a_nat64_is_named_by_its_own_address() {
    in_place(2, async |placement| {
        let world = World::new(2, placement);
        world.network.set_latency(Duration::from_millis(20));
        let server = world.server(1).await;
        let known = server.endpoint.peer_ref().addresses().to_vec();
        nat64(&world.network, server.address());
        let host = without_ipv4(&world, &NameServer::of(&["64:ff9b::"]), &[&server]).await;
        host.endpoint.attached().await;
        let webmesh_transport::PeerRef::Signed(own) = host.endpoint.peer_ref() else { panic!() };
        assert_eq!(own.rendezvous()[0].addresses, known);
    });
}

#[test]
fn nobody_is_asked_where_there_is_ipv4_and_a_name_server_without_an_answer_holds_nothing_up() {
    in_place(3, async |placement| {
        let world = World::new(3, placement);
        world.network.set_latency(Duration::from_millis(20));
        let server = world.server(1).await;
        let names = NameServer::of(&["64:ff9b::"]);
        let asked = names.clone();
        let with = host_in_place(8, &world.network, world.placement(), |config| {
            config.resolver = Some(asked);
        })
        .await;
        with.connect(&server).await;
        tokio::time::sleep(Duration::from_secs(7200)).await;
        assert_eq!(names.asked.load(Ordering::Relaxed), 0);

        let silent = NameServer::of(&[]);
        let host = without_ipv4(&world, &silent, &[]).await;
        let begun = tokio::time::Instant::now();
        host.endpoint.connect(&server.endpoint.peer_ref()).await.unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        // What is reached without it is, and the name server isn't pestered.
        let other = host_in_place(7, &world.network, world.placement(), |config| {
            config.listen = vec!["[2001:db8:64::7]:1000".parse().unwrap()];
        })
        .await;
        host.connect(&other).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert!(silent.asked.load(Ordering::Relaxed) <= 3);
    });
}
