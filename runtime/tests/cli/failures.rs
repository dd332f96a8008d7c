//! How each command says that it failed.

use crate::command::{Node, code_of, complaint, failure_of, objects, run};
use crate::references::expired;

#[test]
fn wrong_usage_exits_with_2_and_malformed_input_too() {
    let wrong: [&[&str]; 10] = [
        &[],
        &["fly"],
        &["id", "--frobnicate"],
        &["ping", "not-a-target"],
        &["ping", "wm1notbase32!"],
        &["ping", "127.0.0.1:1", "--count", "0"],
        &["node", "--listen", "127.0.0.1"],
        &["node", "--advertise", "0.0.0.0:4433"],
        &["node", "--advertise", "192.0.2.1:1", "--advertise", "192.0.2.1:1"],
        &["node", "--listen", "224.0.0.1:5000"],
    ];
    for args in wrong {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", complaint(&output));
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{args:?}");
        let output = run(&[&["--json"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let lines = objects(&output);
        let malformed = args.iter().any(|arg| arg.starts_with("not-a") || arg.starts_with("wm1"));
        let code = if malformed { "bad-reference" } else { "usage" };
        assert_eq!((lines.len(), failure_of(&lines[0])), (1, code), "{args:?}: {lines:?}");
    }
    // Help that was asked for is no failure.
    let help = run(&["--json", "ping", "--help"]);
    assert!(help.status.success() && !help.stdout.is_empty() && help.stderr.is_empty());
}

#[test]
fn failures_of_one_kind_have_one_code_whichever_command_meets_them() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let node = Node::start(dir.path(), "127.0.0.1:0");
    let code = |args: &[&str]| code_of(&run(&[&["--json"], args].concat()));
    let local = ["--listen", "127.0.0.1:0"];
    let other = tempfile::tempdir().unwrap();
    let other = other.path().to_str().unwrap();
    assert_eq!(code(&["node", "--data", data, local[0], local[1]]), "key-in-use");
    assert_eq!(code(&["node", "--data", other, "--listen", node.address()]), "listen");
    let mistyped = format!("{}a", node.text("peer_ref"));
    for command in ["ping", "explain", "inspect"] {
        assert_eq!(code(&[command, &mistyped]), "bad-reference", "{command}");
    }
    assert_eq!(code(&["inspect", &expired()]), "expired");
    assert_eq!(code(&["node", "--data", other, "--join", &mistyped]), "bad-reference");
    let file = dir.path().join("identity.key").join("deeper");
    assert_eq!(code(&["id", "--data", file.to_str().unwrap()]), "data-dir");
    assert_eq!(code(&["status", "--data", other]), "not-running");
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    for command in ["ping", "explain"] {
        assert_eq!(code(&[command, &silent, "--timeout", "1"]), "no-answer", "{command}");
        if cfg!(target_os = "linux") {
            assert_eq!(code(&[command, "127.0.0.1:1"]), "nobody-listens", "{command}");
        }
    }
    #[cfg(unix)]
    {
        // A node that was stopped, say.
        let hung = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(hung.path().join("status.sock"));
        assert_eq!(code(&["status", "--data", hung.path().to_str().unwrap()]), "silent-node");
    }
    // The same for people: what happened, and what to do about it.
    let output = run(&["status", "--data", other]);
    assert!(output.stdout.is_empty());
    assert!(complaint(&output).contains("; start a node with this directory"), "{output:?}");
}
