//! The `webmesh` command as its users meet it: real processes, their output and exit codes.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

fn webmesh(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_webmesh"));
    command.args(args).stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

fn run(args: &[&str]) -> Output {
    webmesh(args).output().unwrap()
}

fn objects(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The code of an object that says how a command failed.
#[track_caller]
fn failure_of(object: &Value) -> &str {
    assert_eq!(object["event"], "error", "{object}");
    assert!(object["message"].as_str().is_some_and(|message| !message.is_empty()), "{object}");
    object["code"].as_str().unwrap()
}

/// Its last object, which must be that.
#[track_caller]
fn code_of(output: &Output) -> String {
    failure_of(objects(output).last().unwrap()).to_owned()
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A running `webmesh node` and its `ready` object; killed when dropped.
struct Node {
    process: Child,
    out: BufReader<ChildStdout>,
    ready: Value,
}

impl Node {
    fn start(data: &Path, listen: &str) -> Node {
        Self::start_with(data, listen, &[])
    }

    fn start_with(data: &Path, listen: &str, more: &[&str]) -> Node {
        let args = ["--json", "node", "--data", data.to_str().unwrap(), "--listen", listen];
        let mut command = webmesh(&args);
        command.args(more).stderr(Stdio::inherit());
        Self::read(command)
    }

    fn read(mut command: Command) -> Node {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap();
        Node { process, out, ready }
    }

    fn text(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap()
    }

    fn address(&self) -> &str {
        self.ready["listen"][0].as_str().unwrap()
    }

    /// Asks the node to end and gives its exit code.
    fn signal(mut self, signal: &str) -> Option<i32> {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let code = self.process.wait().unwrap().code();
        let mut rest = String::new();
        self.out.read_line(&mut rest).unwrap();
        assert_eq!(rest, "", "nothing but `ready` belongs on standard output");
        code
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn an_identity_is_created_once_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("new").join("deep");
    let args = ["--json", "id", "--data", data.to_str().unwrap()];
    let first = run(&args);
    assert!(first.status.success(), "{}", complaint(&first));
    #[cfg(unix)]
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    let peer = objects(&first)[0]["peer"].as_str().unwrap().to_owned();
    assert_eq!(peer.len(), 52);
    assert_eq!(objects(&run(&args))[0]["peer"], peer.as_str());
    let human = run(&args[1..]);
    assert_eq!(String::from_utf8(human.stdout).unwrap(), format!("{peer}\n"));
}

#[test]
fn two_processes_that_create_the_same_identity_agree() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--json", "id", "--data", dir.path().to_str().unwrap()];
    let started: Vec<Child> =
        (0..8).map(|_| webmesh(&args).stdout(Stdio::piped()).spawn().unwrap()).collect();
    let peers: Vec<Value> = started
        .into_iter()
        .map(|child| objects(&child.wait_with_output().unwrap())[0]["peer"].clone())
        .collect();
    assert!(peers.iter().all(|peer| *peer == peers[0]), "{peers:?}");
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_refused_and_left_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let args = ["id", "--data", dir.path().to_str().unwrap()];
    assert!(run(&args).status.success());
    let key = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "key"));
    let key = key.unwrap();
    let before = std::fs::read(&key).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = run(&args);
    assert_eq!(refused.status.code(), Some(1));
    assert!(complaint(&refused).contains("chmod 600"), "{}", complaint(&refused));
    assert_eq!(std::fs::read(&key).unwrap(), before);
}

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
fn a_taken_address_is_a_clear_failure() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["node", "--data", dir.path().to_str().unwrap(), "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains(&address), "{}", complaint(&output));
}

#[test]
fn inspect_explains_a_good_reference_and_tells_a_typing_error_apart() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), "127.0.0.1:0");
    let good = run(&["--json", "inspect", node.text("peer_ref")]);
    assert!(good.status.success());
    let object = &objects(&good)[0];
    assert_eq!((&object["verdict"], &object["signer"]), (&"valid".into(), &node.ready["peer"]));
    assert_eq!(object["addresses"], node.ready["listen"]);
    assert!(object["size"].as_u64().unwrap() <= 1000);

    let mut typo = node.text("peer_ref").to_owned().into_bytes();
    let last = typo.len() - 10;
    typo[last] = if typo[last] == b'a' { b'b' } else { b'a' };
    let mistyped = run(&["--json", "inspect", std::str::from_utf8(&typo).unwrap()]);
    assert_eq!(mistyped.status.code(), Some(2));
    assert!(complaint(&mistyped).contains("mistyped"), "{}", complaint(&mistyped));
}

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
fn an_address_without_a_port_is_told_what_a_target_looks_like() {
    let output = run(&["ping", "192.0.2.7"]);
    assert!(complaint(&output).contains("neither a PeerRef (wm1…) nor IP:PORT"));
}

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
fn every_bad_reference_of_the_vectors_has_its_verdict_and_its_exit_code() {
    let vectors = include_str!("../../transport/tests/vectors/peer_ref.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for case in vectors["cases"].as_array().unwrap() {
        let (text, verdict) = (case["text"].as_str().unwrap(), case["verdict"].as_str().unwrap());
        let code = match verdict {
            "valid" | "unsigned" => continue, // whether these have expired by now is the calendar's matter
            "expired" | "bad-signature" => 1,
            _ => 2,
        };
        let output = run(&["--json", "inspect", text]);
        assert_eq!(objects(&output)[0]["verdict"], verdict, "{}", case["name"]);
        assert_eq!(output.status.code(), Some(code), "{}", case["name"]);
        // A dial refuses them as well: what cannot be read as wrong usage, what has expired as a failure.
        if seen.insert(verdict) {
            let ping = run(&["ping", text, "--count", "1"]);
            let code = if verdict == "expired" { 1 } else { 2 };
            assert_eq!(ping.status.code(), Some(code), "{}: {}", case["name"], complaint(&ping));
        }
    }
    assert!(
        seen.contains("expired") && seen.contains("bad-signature") && seen.contains("mistyped")
    );
}

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

/// A PeerRef that was valid once.
fn expired() -> String {
    let vectors = include_str!("../../transport/tests/vectors/peer_ref.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    let case = cases.iter().find(|case| case["verdict"] == "expired").unwrap();
    case["text"].as_str().unwrap().to_owned()
}

/// What the node with this data directory signs: that it is there, or there, until then.
fn signed(data: &Path, addresses: &[&str], through: Option<&Node>, expires: u64) -> String {
    use webmesh_transport::peer_ref::{RefContent, RendezvousPoint, SignedRef};
    let secret = webmesh_transport::SecretKey::load(data.join("identity.key")).unwrap();
    let point = |node: &Node| RendezvousPoint {
        peer: node.text("peer").parse().unwrap(),
        addresses: vec![node.address().parse().unwrap()],
        tls: Vec::new(),
    };
    let content = RefContent {
        version: 1,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        rendezvous: through.map(point).into_iter().collect(),
        expires,
    };
    webmesh::PeerRef::from(SignedRef::sign(&secret, content).unwrap()).to_string()
}

const LONG_AGO: u64 = 1_000_000;
const LONG_AFTER: u64 = 4_000_000_000;

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

#[test]
fn an_expiry_is_told_in_words() {
    let output = run(&["inspect", &expired()]);
    let printed = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(printed.contains(" d ago (Unix time "), "{printed}");
    assert!(complaint(&output).contains(" d ago; ask for a newer one"), "{}", complaint(&output));
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

#[cfg(unix)]
#[test]
fn a_key_that_its_group_may_read_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--json", "id", "--data", dir.path().to_str().unwrap()];
    let peer = objects(&run(&args))[0]["peer"].clone();
    let key = dir.path().join("identity.key");
    for (mode, taken) in
        [(0o440, true), (0o640, true), (0o400, true), (0o444, false), (0o641, false)]
    {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let output = run(&args);
        assert_eq!(output.status.success(), taken, "{mode:o}: {}", complaint(&output));
        if taken {
            assert_eq!(objects(&output)[0]["peer"], peer);
        } else {
            assert_eq!(code_of(&output), "key-file");
        }
    }
}

#[cfg(unix)]
mod status {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

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
        assert_eq!(
            (&status["links_total"], &status["sessions"]),
            (&1.into(), &Value::Array(vec![]))
        );
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
        for part in [node.text("peer_ref"), guest.text("peer"), "direct via", "refused    nothing"]
        {
            assert!(human.contains(part), "{part} is missing in\n{human}");
        }
        assert_eq!(node.signal("-TERM"), Some(0));
        assert_eq!(code_of(&super::status::status(dir.path())), "not-running");
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
