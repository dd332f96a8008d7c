//! Who reaches whom: every kind of host in front of every other, met through one public node.

use crate::{
    internet::{Internet, Site},
    kind::Kind,
    process::{Node, answered, ping, ping_until_direct, run},
};
use serde_json::Value;

/// Pings of one pair: enough for a direct road to be found, though the first of them wait for the dial.
const PINGS: usize = 30;
const PING_EVERY_MS: &str = "150";

/// Rows of the matrix that are measured at a time.
const AT_A_TIME: usize = 3;

/// How the first and the last reply of a pair came, and what the first one took, the dial and the meeting included.
#[derive(Clone)]
struct Outcome {
    first: String,
    last: String,
    first_ms: f64,
}

/// Every pair exchanges messages by the PeerRef of one side alone, and goes on directly where no NAT's mapping depends on
/// the address that is sent to. The table is what docs/reachability.md shows.
pub(crate) fn every_pair_meets_through_one_public_node(internet: &Internet) {
    let server = internet.site(Kind::Public);
    let listen = format!("{}:4433", server.outside[0]);
    let rendezvous = Node::start(server.host(), &["--listen", &listen]);
    let kinds = Kind::MATRIX;
    let served: Vec<(Kind, Site)> =
        kinds.iter().map(|kind| (*kind, internet.site(*kind))).collect();
    let nodes: Vec<(Kind, Node)> = served
        .iter()
        .map(|(kind, site)| {
            let args = ["--private", "--join", &rendezvous.peer_ref];
            (*kind, Node::start(site.host(), &args))
        })
        .collect();
    // Several at a time, for they mostly wait; but not so many that the machine is busy.
    let rows = std::sync::Mutex::new(vec![Vec::new(); kinds.len()]);
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(from) =
                    kinds.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
                {
                    let site = internet.site(*from);
                    let row: Vec<_> = nodes.iter().map(|(_, node)| meet(&site, node)).collect();
                    let index = kinds.iter().position(|kind| kind == from).unwrap();
                    rows.lock().unwrap()[index] = row;
                }
            });
        }
    });
    let rows = rows.into_inner().unwrap();
    let mut wrong = Vec::new();
    let names: String = kinds.iter().map(|kind| format!(" {kind} |")).collect();
    println!("| from \\ to |{names}\n|---|{}", "---|".repeat(kinds.len()));
    for (from, outcomes) in kinds.iter().zip(&rows) {
        let mut row = format!("| {from} |");
        for (to, outcome) in kinds.iter().zip(outcomes) {
            let text = match outcome {
                Some(Outcome { first, last, first_ms }) => {
                    if !expected(*from, *to).contains(&last.as_str()) {
                        wrong.push(format!("{from} to {to}: {last}"));
                    }
                    let then = if first == last { String::new() } else { format!(", {last}") };
                    format!("{first} {first_ms:.0} ms{then}")
                }
                None => {
                    wrong.push(format!("{from} to {to}: nothing"));
                    "nothing".to_owned()
                }
            };
            row += &format!(" {text} |");
        }
        println!("{row}");
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// The roads that a pair may end on.
fn expected(one: Kind, other: Kind) -> &'static [&'static str] {
    let strict = |kind| {
        matches!(kind, Kind::PortRestricted | Kind::Carrier | Kind::Firewall | Kind::Symmetric)
    };
    match (one, other) {
        (Kind::UdpBlocked, _) => &["relay-tls"],
        (_, Kind::UdpBlocked) => &["relay-udp"],
        (Kind::Symmetric, other) | (other, Kind::Symmetric) if strict(other) => {
            &["relay-udp", "punched"]
        }
        _ => &["direct", "punched"],
    }
}

fn meet(site: &Site, node: &Node) -> Option<Outcome> {
    let count = PINGS.to_string();
    let lines =
        ping(site.host(), &[&node.peer_ref, "--count", &count, "--interval-ms", PING_EVERY_MS]);
    let pongs = answered(&lines)?;
    let path = |pong: &Value| pong["path"].as_str().map(str::to_owned);
    let (first, last) = (pongs.first()?, pongs.last()?);
    Some(Outcome { first: path(first)?, last: path(last)?, first_ms: first["took_ms"].as_f64()? })
}

/// Where no direct road is found, `webmesh explain` says why.
pub(crate) fn explain_says_why_a_road_is_not_direct(internet: &Internet) {
    let server = internet.site(Kind::Public);
    let rendezvous =
        Node::start(server.host(), &["--listen", &format!("{}:4433", server.outside[0])]);
    let explain = |from: Kind, to: Kind| {
        let (here, there) = (internet.site(from), internet.site(to));
        let join = ["--join", &rendezvous.peer_ref];
        let node = Node::start(there.host(), &["--private", join[0], join[1]]);
        let lines = run(here.host(), "explain", &[&node.peer_ref, join[0], join[1]]);
        let [line] = &lines[..] else { panic!("{from} to {to}: {lines:?}") };
        println!("{from} to {to}: {line}");
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        (text("path"), text("reason"), text("nat"), text("peer_nat"))
    };
    let (path, reason, nat, peer_nat) = explain(Kind::Symmetric, Kind::Symmetric);
    assert_eq!(path, "relay-udp");
    assert!(nat.contains("symmetric") && peer_nat.contains("symmetric"), "{nat}; {peer_nat}");
    assert!(reason.contains("both NATs are symmetric"), "{reason}");
    let (path, reason, ..) = explain(Kind::UdpBlocked, Kind::PortRestricted);
    assert_eq!(path, "relay-tls");
    assert!(reason.contains("UDP"), "{reason}");
    let (path, ..) = explain(Kind::Carrier, Kind::AddressRestricted);
    assert_eq!(path, "punched");
}

/// Attempts of each kind of pair; more by the environment variable `BIRTHDAY_RUNS`.
const BIRTHDAY_RUNS: usize = 2;

/// A symmetric NAT is got through by luck, of which there is enough: against a port-restricted NAT, a carrier's and a
/// firewall, from either side.
pub(crate) fn a_symmetric_nat_is_got_through_by_the_birthday_attempt(internet: &Internet) {
    let server = internet.site(Kind::Public);
    let rendezvous =
        Node::start(server.host(), &["--listen", &format!("{}:4433", server.outside[0])]);
    let join = ["--join", &rendezvous.peer_ref];
    let runs = std::env::var("BIRTHDAY_RUNS").ok().and_then(|runs| runs.parse().ok());
    let runs: usize = runs.unwrap_or(BIRTHDAY_RUNS);
    let strict = [Kind::PortRestricted, Kind::Carrier, Kind::Firewall];
    let pairs = strict.map(|kind| [(Kind::Symmetric, kind), (kind, Kind::Symmetric)]);
    for (from, to) in pairs.into_iter().flatten() {
        let mut took = Vec::new();
        for _ in 0..runs {
            let (here, there) = (internet.site(from), internet.site(to));
            let node = Node::start(there.host(), &["--private", join[0], join[1]]);
            let pings = [&node.peer_ref, "--count", "90", "--interval-ms", "500"];
            took.push(ping_until_direct(here.host(), &[&pings[..], &join].concat()));
        }
        let found = took.iter().flatten().count();
        println!("{from} to {to}: {found} of {runs} became direct: {took:.1?}");
        // The chance of each to fail is below 1%.
        assert!(found > 0, "{from} to {to}");
    }
}
