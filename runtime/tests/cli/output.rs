//! What stands on standard output and in the log.

use crate::command::{Node, complaint, run, webmesh};
use crate::references::expired;
use std::io::{BufRead, BufReader};
use std::process::Stdio;

#[test]
fn objects_have_their_fields_in_the_documented_order() {
    fn in_order(line: &str, names: &[&str]) {
        let places: Vec<_> =
            names.iter().map(|name| line.find(&format!("\"{name}\":")).expect(line)).collect();
        assert!(places.is_sorted() && line.starts_with(&format!("{{\"{}\"", names[0])), "{line}");
    }
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), "127.0.0.1:0");
    in_order(&node.ready.to_string(), &["event", "peer", "peer_ref", "listen"]);
    let ping = run(&["--json", "ping", node.text("peer_ref"), "--count", "1"]);
    let printed = String::from_utf8(ping.stdout).unwrap();
    let (pong, summary) = printed.split_once('\n').unwrap();
    in_order(pong, &["event", "seq", "peer", "rtt_ms", "path", "via"]);
    in_order(
        summary,
        &[
            "event",
            "sent",
            "received",
            "loss_percent",
            "min_ms",
            "p50_ms",
            "p95_ms",
            "max_ms",
            "changes",
        ],
    );
    let inspect = run(&["--json", "inspect", node.text("peer_ref")]);
    let printed = String::from_utf8(inspect.stdout).unwrap();
    in_order(
        &printed,
        &["class", "signer", "version", "addresses", "rendezvous", "expiry", "size", "verdict"],
    );
}

#[test]
fn logs_in_a_file_have_no_colours() {
    let dir = tempfile::tempdir().unwrap();
    // Worth a warning, and no more.
    std::fs::write(dir.path().join("identity.key.version"), "no version").unwrap();
    let data = dir.path().to_str().unwrap();
    let args = ["node", "--data", data, "--listen", "127.0.0.1:0"];
    let mut node = webmesh(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(node.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    node.kill().unwrap();
    let logs = complaint(&node.wait_with_output().unwrap());
    assert!(logs.contains("WARN") && !logs.contains('\x1b'), "{logs:?}");
}

#[test]
fn a_reader_that_stops_after_the_first_line_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), "127.0.0.1:0");
    let expired = expired();
    for (target, code) in [(node.text("peer_ref"), 0), (&expired, 1)] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = webmesh(&["inspect", target]).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", complaint(&output));
        assert!(!complaint(&output).contains("pipe"), "{}", complaint(&output));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_error_changes_no_exit_code_and_ends_no_node() {
    let unwritable = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (args, code) in
        [(["id", "--data", file.to_str().unwrap()].as_slice(), 1), (&["inspect", "wm1x"], 2)]
    {
        let status = webmesh(args).stderr(unwritable()).stdout(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
    // Its log has much to say.
    let data = dir.path().join("node");
    let args = ["--json", "node", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    let mut command = webmesh(&args);
    command.env("RUST_LOG", "trace").stderr(unwritable());
    assert_eq!(Node::read(command).signal("-TERM"), Some(0));
}

#[test]
fn a_malformed_log_filter_is_told_and_a_good_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["id", "--data", dir.path().to_str().unwrap()];
    for (filter, told) in [("webmesh=shout", true), ("webmesh=debug", false), ("", false)] {
        let output = webmesh(&args).env("RUST_LOG", filter).output().unwrap();
        assert!(output.status.success());
        assert_eq!(complaint(&output).contains("RUST_LOG"), told, "{}", complaint(&output));
    }
}
