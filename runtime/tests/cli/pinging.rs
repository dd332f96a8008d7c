//! `webmesh ping`, and what stands in its way.

use crate::command::{Node, code_of, complaint, failure_of, objects, run, webmesh};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn another_key_at_the_address_is_told_and_not_believed() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Node::start(old.path(), "127.0.0.1:0");
    let (peer_ref, address) = (first.text("peer_ref").to_owned(), first.address().to_owned());
    assert_eq!(first.signal("-TERM"), Some(0));
    let impostor = Node::start(new.path(), &address);
    let output = run(&["--json", "ping", &peer_ref, "--count", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let lost = &objects(&output)[0];
    assert_eq!(lost["event"], "lost");
    assert!(lost["error"].as_str().unwrap().contains(impostor.text("peer")), "{lost}");
}

#[test]
fn a_silent_address_fails_with_a_summary() {
    // Bound and never read: nothing answers there.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let target = silent.local_addr().unwrap().to_string();
    let output = run(&["--json", "ping", &target, "--count", "1", "--timeout", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let mut lines = objects(&output);
    assert_eq!(failure_of(&lines.pop().unwrap()), "no-answer");
    let (lost, summary) = (&lines[0], &lines[1]);
    assert_eq!((&lost["event"], &lost["code"]), (&"lost".into(), &"no-answer".into()));
    assert_eq!((&summary["sent"], &summary["received"]), (&1.into(), &0.into()));
    assert_eq!((&summary["loss_percent"], &summary["p95_ms"]), (&100.0.into(), &Value::Null));
}

#[cfg(unix)]
#[test]
fn pings_leave_at_the_interval_though_none_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), "127.0.0.1:0");
    let signal = |signal: &str| {
        let pid = node.process.id().to_string();
        assert!(Command::new("kill").args([signal, pid.as_str()]).status().unwrap().success());
    };
    let args = ["--json", "ping", node.address(), "--count", "150", "--interval-ms", "20"];
    let mut ping = webmesh(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(ping.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    signal("-STOP");
    std::thread::sleep(std::time::Duration::from_secs(2));
    signal("-CONT");
    let lines: Vec<Value> =
        out.lines().map(|l| serde_json::from_str(&l.unwrap()).unwrap()).collect();
    assert!(ping.wait().unwrap().success());
    // What came to the node while it was stopped is answered late, all of it: one at a time, it would be a single ping.
    let late = |line: &&Value| line["event"] == "pong" && line["rtt_ms"].as_f64() > Some(200.0);
    let late = lines.iter().filter(late).count();
    assert!(late >= 5, "{late} pings were under way: {lines:?}");
    let summary = lines.last().unwrap();
    assert_eq!((&summary["event"], &summary["sent"]), (&"summary".into(), &150.into()));
}

#[test]
fn an_interrupted_ping_sums_up_what_it_has_seen() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), "127.0.0.1:0");
    let args = ["--json", "ping", node.address(), "--count", "1000000", "--interval-ms", "10"];
    let mut ping = webmesh(&args).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(ping.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    assert!(
        Command::new("kill").args(["-INT", &ping.id().to_string()]).status().unwrap().success()
    );
    let last = out.lines().map_while(Result::ok).last().unwrap();
    let summary: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(summary["event"], "summary");
    assert!(summary["received"].as_u64().unwrap() >= 1, "{summary}");
    assert!(summary["sent"].as_u64() >= summary["received"].as_u64(), "{summary}");
    assert_eq!(ping.wait().unwrap().code(), Some(0));
}

#[test]
fn a_dial_to_nobody_on_this_machine_is_refused_at_once() {
    let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let ping = run(&["--json", "ping", &free.to_string(), "--count", "1"]);
    assert_eq!(ping.status.code(), Some(1));
    let lost = &objects(&ping)[0];
    let error = lost["error"].as_str().unwrap();
    if cfg!(target_os = "linux") {
        assert!(error.contains("nobody listens"), "{error}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_way_that_takes_less_than_quic_needs_is_told() {
    // In a network of its own, whose loopback is narrow.
    let script = r#"ip link set lo up mtu 1000 && exec "$0" --json ping 127.0.0.1:9 --count 1"#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net", "sh", "-c", script]);
    let output = command.arg(env!("CARGO_BIN_EXE_webmesh")).stdin(Stdio::null()).output();
    let Ok(output) = output else {
        eprintln!("skipped: no unshare");
        return;
    };
    if output.stdout.is_empty() {
        eprintln!("skipped: no network of its own: {}", complaint(&output));
        return;
    }
    assert_eq!(code_of(&output), "mtu", "{}", complaint(&output));
    assert!(complaint(&output).contains("raise the MTU"), "{}", complaint(&output));
}
