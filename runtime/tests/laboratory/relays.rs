//! Relays that have several addresses, and relays that come back.

use crate::{
    internet::Internet,
    kind::Kind,
    process::{Node, Signal, answered, ping, webmesh},
};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::{Duration, Instant},
};

/// Two hosts behind symmetric NATs, each of which knows the relay by one of its addresses, whichever the relay's system would send
/// from.
pub(crate) fn a_relay_with_two_addresses_serves_symmetric_hosts_by_either(internet: &Internet) {
    let server = internet.observer();
    let [first, second, _] = server.outside[..] else { panic!("{:?}", server.outside) };
    let at = |ip| format!("{ip}:4433");
    let args = ["--listen", "0.0.0.0:4433", "--advertise", &at(first), "--advertise", &at(second)];
    let _relay = Node::start(server.host(), &args);
    for (theirs, mine) in [(first, second), (second, first), (second, second)] {
        let (there, here) = (internet.site(Kind::Symmetric), internet.site(Kind::Symmetric));
        let served = Node::start(there.host(), &["--private", "--join", &at(theirs)]);
        let pings =
            ["--join", &at(mine), "--count", "10", "--interval-ms", "100", &served.peer_ref];
        let lines = ping(here.host(), &pings);
        let pongs = answered(&lines).unwrap_or_else(|| panic!("{mine} to {theirs}: {lines:?}"));
        assert!(
            pongs.iter().all(|pong| pong["path"] == "relay-udp"),
            "{mine} to {theirs}: {lines:?}"
        );
    }
}

/// By way of a node that only introduces, hosts whose NATs are independent of the endpoint are punched with the first handshake, and the others hear
/// that nobody relays.
pub(crate) fn hosts_are_punched_though_no_node_relays(internet: &Internet) {
    let server = internet.site(Kind::Public);
    let listen = format!("{}:4433", server.outside[0]);
    let node = Node::start(server.host(), &["--listen", &listen, "--no-relay"]);
    let independent = [Kind::FullCone, Kind::PortRestricted, Kind::Carrier, Kind::Firewall];
    let pairs = independent.map(|from| independent.map(|to| (from, to, true)));
    let hopeless = [
        (Kind::Symmetric, Kind::PortRestricted, false),
        (Kind::Symmetric, Kind::Symmetric, false),
        (Kind::UdpBlocked, Kind::PortRestricted, false),
    ];
    for (from, to, punched) in pairs.into_iter().flatten().chain(hopeless) {
        let (there, here) = (internet.site(to), internet.site(from));
        let served = Node::start(there.host(), &["--private", "--join", &node.peer_ref]);
        let lines = ping(here.host(), &["--count", "1", "--interval-ms", "100", &served.peer_ref]);
        println!("{from} to {to}: {}", lines[0]);
        if punched {
            let path = lines[0]["path"].as_str();
            assert!(matches!(path, Some("punched" | "direct")), "{from} to {to}: {lines:?}");
        } else {
            let error = lines[0]["error"].as_str();
            let told = error.is_some_and(|error| error.contains("no rendezvous relays"));
            assert!(told, "{from} to {to}: {lines:?}");
            let last = &lines[lines.len() - 1];
            assert_eq!(last["code"], "no-relay", "{from} to {to}: {lines:?}");
        }
    }
}

/// How long after the node is back things go on, at most.
const ON_WITHIN: Duration = Duration::from_secs(5);

/// The only public node of two symmetric hosts is ended and started again while pings run through it. How long after its return the
/// next reply comes is printed.
pub(crate) fn pings_go_on_after_the_only_public_node_was_restarted(internet: &Internet) {
    for (signal, outage) in
        [(Signal::Terminate, 0), (Signal::Kill, 0), (Signal::Terminate, 20), (Signal::Kill, 20)]
    {
        let server = internet.site(Kind::Public);
        let address = format!("{}:4433", server.outside[0]);
        let identity = tempfile::tempdir().unwrap();
        let start = || Node::start_at(server.host(), identity.path(), &["--listen", &address]);
        let node = start();
        let (there, here) = (internet.site(Kind::Symmetric), internet.site(Kind::Symmetric));
        let served = Node::start(there.host(), &["--private", "--join", &node.peer_ref]);
        let args = ["ping", "--count", "10000", "--interval-ms", "200", &served.peer_ref];
        let mut pinging = webmesh(here.host(), &args).stdout(Stdio::piped()).spawn().unwrap();
        let (say, said) = std::sync::mpsc::channel();
        let output = BufReader::new(pinging.stdout.take().unwrap());
        std::thread::spawn(move || {
            output
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| say.send((Instant::now(), line)))
        });
        let pong_after = |since: Instant| loop {
            let left = (since + Duration::from_secs(120)).saturating_duration_since(Instant::now());
            let (at, line) = said.recv_timeout(left).expect("no reply ever again");
            let line: Value = serde_json::from_str(&line).unwrap();
            if at > since && line["event"] == "pong" {
                return at - since;
            }
        };
        pong_after(Instant::now() + Duration::from_secs(2));
        node.end(signal);
        std::thread::sleep(Duration::from_secs(outage));
        let _again = start();
        let on = pong_after(Instant::now());
        println!("{signal:?}, away for {outage} s: on {on:?} after its return");
        pinging.kill().unwrap();
        pinging.wait().unwrap();
        assert!(on <= ON_WITHIN, "{signal:?}, away for {outage} s: {on:?}");
    }
}
