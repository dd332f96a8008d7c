//! Hosts with many addresses, of which one leads to them.

use crate::{
    internet::{Internet, Site},
    kind::Kind,
    process::{Node, answered, ping, run},
};

/// Twelve interfaces: a home server's bridges that nobody is on, or networks that nobody else has, and the way to the internet, which
/// the kernel names last.
const OTHERS: u8 = 11;

/// A node with many addresses is reached by its own PeerRef, without a rendezvous.
pub(crate) fn a_host_with_twelve_interfaces_is_reached_by_the_only_address_that_leads_to_it(
    internet: &Internet,
) {
    let bridges = |n| {
        format!(
            "link add br{n} type bridge\nlink set dev br{n} up\naddr add 172.{}.0.1/16 dev br{n}\n",
            16 + n
        )
    };
    // Up, and with addresses that others could have.
    let elsewhere = |n| {
        format!(
            "link add d{n} type veth peer name p{n}\nlink set dev p{n} up\nlink set dev d{n} up\naddr add 203.0.113.{}/32 dev d{n}\n",
            200 + n
        )
    };
    let all = |one: &dyn Fn(u8) -> String| (0..OTHERS).map(one).collect::<String>();
    // The way to the internet that the routes show isn't the one that leads here.
    let misled = "route replace default dev d0\nroute add 198.51.100.0/24 via 192.0.2.1 dev up onlink\nroute del 192.0.2.1 dev up\n";
    let v4 = internet.site(Kind::Public);
    let v6 = internet.site(Kind::PublicV6);
    let reached = |name: &str, server: &Site, from: &Site, place: Option<usize>| {
        let node = Node::start(server.host(), &[]);
        let inspected = run(from.host(), "inspect", &[&node.peer_ref]);
        let addresses = inspected[0]["addresses"].as_array().unwrap();
        let own = format!("{}", server.outside[0]);
        let named = addresses.iter().position(|address| address.as_str().unwrap().contains(&own));
        println!("{name}: named as number {named:?} of {}", addresses.len());
        if place.is_some() {
            assert_eq!(named, place, "{name}: {addresses:?}");
        }
        let lines = ping(from.host(), &[&node.peer_ref, "--count", "3", "--interval-ms", "50"]);
        let pongs = answered(&lines).unwrap_or_else(|| panic!("{name}: {lines:?}"));
        assert!(pongs.iter().all(|pong| pong["path"] == "direct"), "{name}: {lines:?}");
    };
    let server = internet.crowded(&all(&bridges), "", false);
    reached("bridges", &server, &v4, Some(0));
    let server = internet.crowded(&all(&bridges), "", true);
    reached("bridges, and IPv6 alone leads there", &server, &v6, Some(0));
    let server = internet.crowded(&all(&elsewhere), misled, false);
    reached("networks that nobody has", &server, &v4, Some(OTHERS.into()));
    let many: String = (0..2000)
        .map(|n| format!("addr add 10.{}.{}.1/24 dev br0\n", 100 + n / 250, n % 250))
        .collect();
    let server = internet.crowded(&(bridges(0) + &many), "", false);
    reached("2,000 addresses", &server, &v4, Some(0));
}
