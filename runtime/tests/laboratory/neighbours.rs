//! Pairs beside the matrix: two hosts behind one router, hosts of IPv6, and routers that accept what comes for themselves.

use crate::{
    internet::Internet,
    kind::{Input, Kind},
    namespace::Namespace,
    process::{Node, answered, ping, ping_until_direct, run},
};
use std::time::Duration;

const DIRECT: [&str; 2] = ["direct", "punched"];

/// The road of the last of thirty pings, none of which was lost once the peer was met.
fn road(pair: &str, from: &Namespace, to: &Node) -> String {
    let lines = ping(from, &[&to.peer_ref, "--count", "30", "--interval-ms", "150"]);
    let pongs = answered(&lines).unwrap_or_else(|| panic!("{pair}: {lines:?}"));
    let (first, last) = (pongs[0], pongs[pongs.len() - 1]);
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
    for (kind, expected, why) in [
        (Kind::Lan, "direct", "own address"),
        (Kind::Hairpin, "punched", "both sides sent at once"),
        (Kind::Apart, "relay-udp", "same router"),
        (Kind::SymmetricApart, "relay-udp", "both NATs are symmetric"),
        (Kind::Customers, "punched", "both sides sent at once"),
        (Kind::CustomersApart, "relay-udp", "the same carrier's"),
    ] {
        let site = internet.site(kind);
        let join = ["--join", &rendezvous.peer_ref];
        let node = Node::start(&site.hosts[1], &["--private", join[0], join[1]]);
        let road = road(&kind.to_string(), &site.hosts[0], &node);
        let lines = run(&site.hosts[0], "explain", &[&node.peer_ref, join[0], join[1]]);
        let reason = lines[0]["reason"].as_str().unwrap();
        println!("{kind}: {reason}");
        assert_eq!(road, expected, "{kind}");
        assert!(reason.contains(why), "{kind}: {reason}");
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

/// Two neighbours whose routers accept what comes for themselves: even a probe that gets no further than the next router
/// takes a port away there. Their hosts begin relayed, and become direct by taking turns.
pub(crate) fn neighbours_whose_routers_accept_are_punched(internet: &Internet) {
    let server = internet.site(Kind::Public);
    let listen = format!("{}:4433", server.outside[0]);
    let rendezvous = Node::start(server.host(), &["--listen", &listen]);
    let join = ["--join", &rendezvous.peer_ref];
    for input in [Input::Drop, Input::Accept] {
        let [here, there] = internet.neighbours(input);
        let node = Node::start(there.host(), &["--private", join[0], join[1]]);
        let pings = [&node.peer_ref, "--count", "500", "--interval-ms", "200"];
        let took = ping_until_direct(here.host(), &pings).map(|took| took.as_secs());
        println!("neighbours, {input:?}: direct after {took:?} s");
        // The first turn takes 43 s, the second as much again.
        assert!(took.is_some(), "{input:?}");
    }
}

/// Pairs behind accepting routers; more of each by the environment variable `ACCEPTING_RUNS`.
const ACCEPTING_RUNS: usize = 2;

/// Routers that accept what comes for themselves give a port away to whoever was first there; hosts behind them become direct
/// all the same, for the first probe of either side gets no further than its own router.
pub(crate) fn hosts_behind_accepting_routers_exchange_messages(internet: &Internet) {
    let server = internet.site(Kind::Public);
    let listen = format!("{}:4433", server.outside[0]);
    let rendezvous = Node::start(server.host(), &["--listen", &listen]);
    let served = ["--private", "--join", &rendezvous.peer_ref];
    let runs = std::env::var("ACCEPTING_RUNS").ok().and_then(|runs| runs.parse().ok());
    let runs: usize = runs.unwrap_or(ACCEPTING_RUNS);
    let kinds = [Kind::FullCone, Kind::PortRestricted, Kind::Carrier];
    for (from, to) in kinds.into_iter().flat_map(|from| kinds.map(|to| (from, to))) {
        let mut took = Vec::new();
        for _ in 0..runs {
            let (here, there) =
                (internet.site_with(from, Input::Accept), internet.site_with(to, Input::Accept));
            let node = Node::start(there.host(), &served);
            // For eight seconds.
            let pings = [&node.peer_ref, "--count", "80", "--interval-ms", "100"];
            took.push(ping_until_direct(here.host(), &pings));
        }
        let milliseconds: Vec<_> = took.iter().flatten().map(Duration::as_millis).collect();
        println!(
            "{from} to {to}, accepting: {} of {runs} became direct after the first reply by so many ms: {milliseconds:?}",
            milliseconds.len()
        );
        assert_eq!(milliseconds.len(), runs, "{from} to {to}");
    }
}
