//! `webmesh node`: how it starts, what it says, how it ends.

use crate::command::{Node, code_of, complaint, objects, run};
use serde_json::Value;
use std::io::BufRead;
use std::process::{Command, Stdio};

#[test]
fn a_node_says_when_it_is_ready_answers_pings_and_ends_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), "127.0.0.1:0");
    assert_eq!(node.ready["event"], "ready");
    assert!(node.text("peer_ref").starts_with("wm1"));
    for target in [node.text("peer_ref"), node.address()] {
        let output = run(&["--json", "ping", target, "--count", "3", "--interval-ms", "10"]);
        assert!(output.status.success(), "{}", complaint(&output));
        let lines = objects(&output);
        assert_eq!(lines.len(), 4);
        for (seq, pong) in lines[..3].iter().enumerate() {
            assert_eq!((&pong["event"], &pong["seq"]), (&"pong".into(), &seq.into()));
            assert_eq!((&pong["peer"], &pong["path"]), (&node.ready["peer"], &"direct".into()));
            assert_eq!(pong["via"], node.address());
            assert!(pong["rtt_ms"].as_f64().unwrap() > 0.0);
        }
        assert_eq!(
            (&lines[3]["event"], &lines[3]["sent"], &lines[3]["received"]),
            (&"summary".into(), &3.into(), &3.into())
        );
        let figures = ["min_ms", "p50_ms", "p95_ms", "max_ms"];
        let figures = figures.map(|name| lines[3][name].as_f64().unwrap());
        assert!(figures[0] > 0.0 && figures.is_sorted(), "{figures:?}");
        let more = (&lines[3]["loss_percent"], &lines[3]["changes"]);
        assert_eq!(more, (&0.0.into(), &0.into()));
    }
    assert_eq!(node.signal("-TERM"), Some(0));
}

#[test]
fn a_node_ends_on_an_interrupt_too() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Node::start(dir.path(), "127.0.0.1:0").signal("-INT"), Some(0));
}

/// Whether this process ignores SIGHUP, which those that it starts inherit. Known on Linux only.
#[cfg(unix)]
fn hang_ups_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & 1 == 1)
}

#[cfg(unix)]
#[test]
fn a_hang_up_ends_a_node_unless_it_was_started_to_ignore_it() {
    let dir = tempfile::tempdir().unwrap();
    if hang_ups_are_ignored() {
        eprintln!(
            "skipped: these tests themselves were started to ignore SIGHUP, and so is a node"
        );
    } else {
        assert_eq!(Node::start(dir.path(), "127.0.0.1:0").signal("-HUP"), Some(0));
    }
    let mut command = Command::new("nohup");
    command.arg(env!("CARGO_BIN_EXE_webmesh")).stdin(Stdio::null()).stderr(Stdio::null());
    command.args(["--json", "node", "--listen", "127.0.0.1:0", "--data"]).arg(dir.path());
    let mut node = Node::read(command);
    let pid = node.process.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
    // Still there to be asked.
    let status = run(&["--json", "status", "--data", dir.path().to_str().unwrap()]);
    assert!(status.status.success(), "{}", complaint(&status));
    assert_eq!(node.process.try_wait().unwrap(), None);
}

#[test]
fn a_restarted_node_keeps_its_identity_and_signs_a_higher_version() {
    let dir = tempfile::tempdir().unwrap();
    let version = |peer_ref: &str| {
        objects(&run(&["--json", "inspect", peer_ref]))[0]["version"].as_u64().unwrap()
    };
    let first = Node::start(dir.path(), "127.0.0.1:0");
    let (peer, before) = (first.text("peer").to_owned(), version(first.text("peer_ref")));
    assert_eq!(first.signal("-TERM"), Some(0));
    let second = Node::start(dir.path(), "127.0.0.1:0");
    assert_eq!(second.text("peer"), peer);
    assert!(version(second.text("peer_ref")) > before);
}

#[test]
fn a_second_node_on_one_data_directory_is_refused_and_one_after_a_kill_starts_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let mut first = Node::start(dir.path(), "127.0.0.1:0");
    let refused = run(&["node", "--data", data, "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = complaint(&refused);
    assert!(said.contains("already running") && said.contains(data), "{said}");
    let id = run(&["--json", "id", "--data", data]);
    assert_eq!(objects(&id)[0]["peer"], first.ready["peer"], "its key can be read meanwhile");
    first.process.kill().unwrap();
    first.process.wait().unwrap();
    assert_eq!(Node::start(dir.path(), "127.0.0.1:0").ready["peer"], first.ready["peer"]);
}

#[test]
fn a_taken_address_is_a_clear_failure() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["node", "--data", dir.path().to_str().unwrap(), "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains(&address), "{}", complaint(&output));
}

#[test]
fn a_host_that_listens_everywhere_names_loopback_only_if_it_has_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), "0.0.0.0:0");
    let inspected = run(&["--json", "inspect", node.text("peer_ref")]);
    let inspected = &objects(&inspected)[0]["addresses"];
    let addresses: Vec<_> = inspected.as_array().unwrap().iter().map(Value::to_string).collect();
    let loopback = addresses.iter().filter(|address| address.contains("127.0.0.")).count();
    assert!(loopback == 0 || loopback == addresses.len(), "{addresses:?}");
    // Whoever listens on loopback alone gets there too, for it is the same machine.
    let other = tempfile::tempdir().unwrap();
    let joins = ["--join", node.text("peer_ref")];
    let confined = Node::start_with(other.path(), "127.0.0.1:0", &joins);
    let inspected = run(&["--json", "inspect", confined.text("peer_ref")]);
    assert_eq!(objects(&inspected)[0]["rendezvous"][0]["peer"], node.ready["peer"]);
    assert!(run(&["ping", node.text("peer_ref"), "--count", "1"]).status.success());
}

#[cfg(unix)]
#[test]
fn a_changed_reference_is_told_and_kept() {
    let (dir, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let kept = || std::fs::read_to_string(own.path().join("peer_ref")).unwrap();
    let rendezvous = Node::start(dir.path(), "127.0.0.1:0");
    let joins = ["--private", "--join", rendezvous.text("peer_ref")];
    let mut node = Node::start_with(own.path(), "127.0.0.1:0", &joins);
    assert_eq!(kept(), format!("{}\n", node.text("peer_ref")));
    assert_eq!(rendezvous.signal("-TERM"), Some(0));
    let mut line = String::new();
    node.out.read_line(&mut line).unwrap();
    let changed: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(changed["event"], "peer_ref");
    let changed = changed["peer_ref"].as_str().unwrap();
    assert_ne!(changed, node.text("peer_ref"));
    assert_eq!(kept(), format!("{changed}\n"));
    let inspected = &objects(&run(&["--json", "inspect", changed]))[0];
    assert_eq!(inspected["rendezvous"], Value::Array(vec![]), "{inspected}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_or_read_only_data_directory_is_told_as_such() {
    // In a mount namespace of its own.
    for (disk, words) in [("size=4k", "No space left"), ("ro", "Read-only file system")] {
        let script = format!(
            r#"mount -t tmpfs -o {disk} none "$1" && {{ head -c 4096 /dev/zero > "$1/full" || true; }} 2>/dev/null && exec "$0" --json node --listen 127.0.0.1:0 --data "$1""#
        );
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
        command.arg(env!("CARGO_BIN_EXE_webmesh")).arg(dir.path()).stdin(Stdio::null());
        let Ok(output) = command.output() else {
            eprintln!("skipped: no unshare");
            return;
        };
        if output.stdout.is_empty() {
            eprintln!("skipped: no mounts of its own: {}", complaint(&output));
            return;
        }
        assert_eq!(code_of(&output), "data-dir", "{}", complaint(&output));
        let said = complaint(&output);
        assert!(said.contains(words) && said.contains("that can be written"), "{said}");
    }
}
