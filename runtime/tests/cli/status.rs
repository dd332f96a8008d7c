//! `webmesh status`, and the socket that answers it.

use crate::command::{Node, code_of, complaint, objects, run, webmesh};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Output;

fn status(data: &Path) -> Output {
    run(&["--json", "status", "--data", data.to_str().unwrap()])
}

#[track_caller]
fn told(data: &Path) -> Value {
    let output = status(data);
    assert!(output.status.success(), "{}", complaint(&output));
    objects(&output).pop().unwrap()
}

#[test]
fn a_running_node_says_what_it_does_and_one_that_has_ended_is_not_running() {
    let (dir, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Node::start(dir.path(), "127.0.0.1:0");
    let joins = ["--private", "--join", node.text("peer_ref")];
    let guest = Node::start_with(own.path(), "127.0.0.1:0", &joins);
    let status = told(dir.path());
    assert_eq!(status["event"], "status");
    for name in ["peer", "peer_ref", "listen"] {
        assert_eq!(status[name], node.ready[name], "{name}");
    }
    assert_eq!(status["served"]["sessions"], 1);
    assert_eq!((&status["links_total"], &status["sessions"]), (&1.into(), &Value::Array(vec![])));
    let link = &status["links"][0];
    assert_eq!((&link["peer"], &link["path"]), (&guest.ready["peer"], &"direct".into()));
    assert_eq!((&link["reachable"], &link["dialled"]), (&true.into(), &false.into()));
    assert_eq!(link["via"], guest.address());
    assert_eq!(link["roads"][0]["in_use"], true, "{link}");
    assert_eq!(status["refusals"]["forbidden_name"], 0);
    assert_eq!(status["drops"]["throttled"], 0);
    assert!(status["uptime_s"].is_u64() && status["actors"] == 0);
    assert_eq!(told(own.path())["sessions"][0], node.ready["peer"]);
    let human = run(&["status", "--data", dir.path().to_str().unwrap()]);
    let human = String::from_utf8(human.stdout).unwrap();
    for part in [node.text("peer_ref"), guest.text("peer"), "direct via", "refused    nothing"] {
        assert!(human.contains(part), "{part} is missing in\n{human}");
    }
    assert_eq!(node.signal("-TERM"), Some(0));
    assert_eq!(code_of(&self::status(dir.path())), "not-running");
    assert!(!dir.path().join("status.sock").exists());
}

#[test]
fn the_socket_of_a_killed_node_is_replaced_and_what_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("status.sock");
    let mut killed = Node::start(dir.path(), "127.0.0.1:0");
    killed.process.kill().unwrap();
    killed.process.wait().unwrap();
    assert_eq!(code_of(&status(dir.path())), "not-running");
    let node = Node::start(dir.path(), "127.0.0.1:0");
    assert_eq!(told(dir.path())["peer"], node.ready["peer"]);
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(node.signal("-TERM"), Some(0));
    std::fs::write(&socket, "precious").unwrap();
    let node = Node::start(dir.path(), "127.0.0.1:0");
    assert!(!status(dir.path()).status.success());
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
    assert_eq!(node.signal("-TERM"), Some(0), "it runs all the same");
}

#[cfg(target_os = "linux")]
#[test]
fn a_path_too_long_for_a_socket_is_reached_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("d".repeat(100)).join("e".repeat(100));
    let node = Node::start(&deep, "127.0.0.1:0");
    assert_eq!(told(&deep)["peer"], node.ready["peer"]);
    assert_eq!(node.signal("-TERM"), Some(0));
    assert!(!deep.join("status.sock").exists());
}

#[test]
fn garbage_and_clients_that_never_read_hold_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), "127.0.0.1:0");
    let socket = dir.path().join("status.sock");
    let mut held = Vec::new();
    for _ in 0..50 {
        let mut client = UnixStream::connect(&socket).unwrap();
        let _ = client.write_all(&[0xff; 10_000]);
        held.push(client);
    }
    let asked = std::time::Instant::now();
    while !status(dir.path()).status.success() {
        assert!(asked.elapsed().as_secs() < 60, "it answers no more");
    }
    let mut answer = String::new();
    UnixStream::connect(&socket).unwrap().read_to_string(&mut answer).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["peer"], node.ready["peer"]);
}

#[test]
fn what_answers_in_the_place_of_a_node_is_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(dir.path().join("status.sock"));
    let listener = listener.unwrap();
    let impostor = std::thread::spawn(move || {
        for answer in [&b"\x1b[2J{\"event\":"[..], b"{\"event\":\"other\"}\n", b""] {
            listener.accept().unwrap().0.write_all(answer).unwrap();
        }
    });
    for code in ["bad-answer", "bad-answer", "not-allowed"] {
        assert_eq!(code_of(&status(dir.path())), code);
    }
    impostor.join().unwrap();
}

/// As root alone can it be shown what another user gets.
#[test]
fn another_user_is_hung_up_on_though_the_directory_should_be_open_to_all() {
    use std::os::unix::{fs::MetadataExt, process::CommandExt};
    let dir = tempfile::tempdir().unwrap();
    if std::fs::metadata(dir.path()).unwrap().uid() != 0 {
        eprintln!("skipped: not root");
        return;
    }
    let _node = Node::start(dir.path(), "127.0.0.1:0");
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let data = dir.path().to_str().unwrap();
    let ask = || webmesh(&["--json", "status", "--data", data]).uid(65534).output();
    let Ok(refused) = ask() else {
        eprintln!("skipped: another user can't run the command here");
        return;
    };
    assert_eq!(code_of(&refused), "not-allowed");
    open(dir.path(), 0o755);
    assert_eq!(code_of(&ask().unwrap()), "not-allowed");
    open(&dir.path().join("status.sock"), 0o666);
    assert_eq!(code_of(&ask().unwrap()), "not-allowed");
}
