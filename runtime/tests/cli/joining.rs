//! Nodes that join others: `--join`.

use crate::command::{Node, complaint, objects, run, webmesh};
use crate::references::{LONG_AFTER, LONG_AGO, signed};

#[test]
fn a_node_that_does_not_serve_is_no_rendezvous_and_one_that_does_takes_its_place() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let local = "127.0.0.1:0";
    let idle = Node::start_with(dirs[0].path(), local, &["--no-serve"]);
    let serving = Node::start(dirs[1].path(), local);
    let joins = ["--private", "--join", idle.text("peer_ref"), "--join", serving.address()];
    let private = Node::start_with(dirs[2].path(), local, &joins);
    let output = run(&["--json", "inspect", private.text("peer_ref")]);
    let points = &objects(&output)[0]["rendezvous"];
    assert_eq!(points.as_array().map(Vec::len), Some(1), "{points}");
    assert_eq!(points[0]["peer"], serving.ready["peer"], "{points}");
}

#[test]
fn a_node_is_joined_and_dialled_by_an_expired_reference_as_long_as_it_is_there_with_a_warning() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let node = Node::start(dirs[0].path(), "127.0.0.1:0");
    let old = signed(dirs[0].path(), &[node.address()], None, LONG_AGO);
    let ping = run(&["ping", &old, "--count", "1"]);
    assert!(ping.status.success(), "{}", complaint(&ping));
    assert!(complaint(&ping).contains("expired"), "{}", complaint(&ping));
    let host = Node::start_with(dirs[1].path(), "127.0.0.1:0", &["--private", "--join", &old]);
    let output = run(&["--json", "inspect", host.text("peer_ref")]);
    assert_eq!(objects(&output)[0]["rendezvous"][0]["peer"], node.ready["peer"]);
    // Its key must answer: at another's address it is a hint that leads to nobody.
    let other = signed(dirs[1].path(), &[node.address()], None, LONG_AGO);
    let ping = run(&["--json", "ping", &other, "--count", "1"]);
    assert_eq!(ping.status.code(), Some(1));
    let error = objects(&ping)[0]["error"].as_str().unwrap().to_owned();
    assert!(error.contains("answered in place of") && error.contains("expired"), "{error}");
}

#[test]
fn a_node_whose_rendezvous_is_down_when_it_starts_goes_on_and_joins_it_later() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let first = Node::start(dirs[0].path(), "127.0.0.1:0");
    let (target, address) = (first.text("peer_ref").to_owned(), first.address().to_owned());
    assert_eq!(first.signal("-TERM"), Some(0));
    let host = Node::start_with(dirs[1].path(), "127.0.0.1:0", &["--private", "--join", &target]);
    let output = run(&["--json", "inspect", host.text("peer_ref")]);
    assert_eq!(objects(&output)[0]["rendezvous"], serde_json::json!([]));
    let node = Node::start(dirs[0].path(), &address);
    // By way of the rendezvous alone: nobody is where the reference says.
    let met = signed(dirs[1].path(), &["127.0.0.1:9"], Some(&node), LONG_AFTER);
    let reached = (0..10).any(|_| run(&["ping", &met, "--count", "1"]).status.success());
    assert!(reached, "it wasn't attached within ten dials");
}

#[test]
fn joining_oneself_is_refused_at_once_by_reference_and_by_address() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let first = Node::start(dir.path(), "127.0.0.1:0");
    let (peer_ref, address) = (first.text("peer_ref").to_owned(), first.address().to_owned());
    assert_eq!(first.signal("-TERM"), Some(0));
    let begun = std::time::Instant::now();
    for target in [&peer_ref, &address] {
        let args = ["node", "--data", data, "--listen", &address, "--join", target];
        let output = run(&args);
        assert_eq!(output.status.code(), Some(1), "{target}");
        assert!(complaint(&output).contains("that is this host itself"), "{}", complaint(&output));
    }
    assert!(begun.elapsed() < std::time::Duration::from_secs(20), "it waited");
}

#[test]
fn a_dead_rendezvous_beside_a_living_one_is_not_waited_for() {
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().unwrap()).collect();
    let living = Node::start(dirs[0].path(), "127.0.0.1:0");
    // Bound and never read: nothing answers there.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let dead = silent.local_addr().unwrap().to_string();
    let joins = ["--join", living.address(), "--join", &dead];
    // A dial takes ten seconds to fail.
    let short = std::time::Duration::from_secs(8);
    let begun = std::time::Instant::now();
    let ping = webmesh(&["ping", living.address(), "--count", "1"]).args(joins).output().unwrap();
    assert!(ping.status.success() && begun.elapsed() < short, "{:?}", begun.elapsed());
    let begun = std::time::Instant::now();
    let node = Node::start_with(dirs[1].path(), "127.0.0.1:0", &joins);
    assert!(begun.elapsed() < short, "{:?}", begun.elapsed());
    let inspected = run(&["--json", "inspect", node.text("peer_ref")]);
    assert_eq!(objects(&inspected)[0]["rendezvous"][0]["peer"], living.ready["peer"]);
}
