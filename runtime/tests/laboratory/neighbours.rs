//! Pairs beside the matrix: two hosts behind one router, hosts of IPv6, and routers that accept what comes for themselves.

use crate::{
    internet::Internet,
    kind::{Input, Kind},
    namespace::Namespace,
    process::{Node, ping},
};

const DIRECT: [&str; 2] = ["direct", "punched"];

/// The road of the last of fifteen pings, all of which were answered.
fn road(pair: &str, from: &Namespace, to: &Node) -> String {
    let lines = ping(from, &[&to.peer_ref, "--count", "15", "--interval-ms", "150"]);
    let pongs: Vec<_> = lines.iter().filter(|line| line["event"] == "pong").collect();
    assert_eq!(pongs.len(), 15, "{lines:?}");
    let (first, last) = (pongs[0], pongs[14]);
    let took = first["took_ms"].as_f64().unwrap();
    println!(
        "{pair}: {} after {took:.0} ms, then {} via {}",
        first["path"], last["path"], last["via"]
    );
    last["path"].as_str().unwrap().to_owned()
}

/// On one LAN directly; where the LAN keeps them apart, by the router that turns packets round, or by the relay.
pub(crate) fn two_hosts_behind_one_router_exchange_messages(internet: &Internet) {
    let server = internet.site(Kind::Public);
    let listen = format!("{}:4433", server.outside[0]);
    let rendezvous = Node::start(server.host(), &["--listen", &listen]);
    for kind in [Kind::Lan, Kind::Hairpin] {
        let site = internet.site(kind);
        let served = ["--private", "--join", &rendezvous.peer_ref];
        let node = Node::start(&site.hosts[1], &served);
        let road = road(&kind.to_string(), &site.hosts[0], &node);
        let right = DIRECT.contains(&&*road) || kind == Kind::Hairpin && road == "relay-udp";
        assert!(right, "{kind}: {road}");
    }
}

/// Hosts of IPv6 alone meet directly, and one of IPv4 alone through a node that has both.
pub(crate) fn hosts_of_ipv6_exchange_messages(internet: &Internet) {
    let server = internet.dual_stack();
    let listen: Vec<String> =
        [format!("{}:4433", server.outside[0]), format!("[{}]:4433", server.outside[1])].into();
    let rendezvous = Node::start(server.host(), &["--listen", &listen[0], "--listen", &listen[1]]);
    let served = ["--private", "--join", &rendezvous.peer_ref];
    for to in [Kind::PublicV6, Kind::FirewallV6] {
        let site = internet.site(to);
        let node = Node::start(site.host(), &served);
        for from in [Kind::PublicV6, Kind::FirewallV6, Kind::PortRestricted] {
            let road = road(&format!("{from} to {to}"), internet.site(from).host(), &node);
            let right = match from {
                Kind::PortRestricted => road == "relay-udp",
                _ => DIRECT.contains(&&*road),
            };
            assert!(right, "{from} to {to}: {road}");
        }
    }
}

/// Routers that accept what comes for themselves give a port away to whoever was first there; hosts behind them meet all the
/// same.
pub(crate) fn hosts_behind_accepting_routers_exchange_messages(internet: &Internet) {
    let server = internet.site(Kind::Public);
    let listen = format!("{}:4433", server.outside[0]);
    let rendezvous = Node::start(server.host(), &["--listen", &listen]);
    let served = ["--private", "--join", &rendezvous.peer_ref];
    for (from, to) in
        [(Kind::PortRestricted, Kind::PortRestricted), (Kind::FullCone, Kind::PortRestricted)]
    {
        let site = internet.site_with(to, Input::Accept);
        let node = Node::start(site.host(), &served);
        let road = road(
            &format!("{from} to {to}, accepting"),
            internet.site_with(from, Input::Accept).host(),
            &node,
        );
        assert!(DIRECT.contains(&&*road) || road == "relay-udp", "{from} to {to}: {road}");
    }
}
