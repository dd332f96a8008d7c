//! The `webmesh` command where the system has little to give: descriptors, threads, netlink.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpStream},
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};
use tempfile::TempDir;

/// The first of the users who run nothing else, as far as can be known: limits on threads count all of a user's. A guess.
const NOBODY: u32 = 63_217;

/// One more of them for each test.
fn nobody() -> u32 {
    static USED: AtomicU32 = AtomicU32::new(0);
    NOBODY + USED.fetch_add(1, Ordering::Relaxed)
}

/// Where a user without rights runs the command: a copy of it, and a directory of that user's own.
struct Place {
    dir: TempDir,
    user: u32,
    /// Whether this process may act as another user.
    is_root: bool,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let user = nobody();
        let is_root = chown(dir.path(), Some(user), None).is_ok();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let copy = dir.path().join("webmesh");
        std::fs::copy(env!("CARGO_BIN_EXE_webmesh"), &copy).unwrap();
        std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o755)).unwrap();
        Self { dir, user, is_root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `webmesh node` under a limit of `prlimit`, as a user without rights.
    fn node(&self, limit: &str, more: &[&str]) -> Command {
        let mut command = Command::new("prlimit");
        command.arg(limit);
        if self.is_root {
            let user = self.user.to_string();
            command.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
        }
        command.arg(self.path("webmesh")).args(["--json", "node", "--data"]).arg(self.path("data"));
        command.args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("RUST_LOG", "warn");
        command
    }
}

/// Whether the tools are there; else the test says loudly that it was skipped.
fn can_limit() -> bool {
    let there = |tool| Command::new(tool).arg("--version").stdout(Stdio::null()).status().is_ok();
    let can = there("prlimit") && there("setpriv");
    if !can {
        eprintln!(
            "SKIPPED: prlimit and setpriv (util-linux) are needed to limit what a process gets"
        );
    }
    can
}

struct Ended {
    /// What `ready` said, if the node got so far; it is ended then.
    ready: Option<Value>,
    code: Option<i32>,
    complaint: String,
}

fn outcome(mut process: Child) -> Ended {
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: Option<Value> = serde_json::from_str(&line).ok();
    let ready = said.filter(|said| said["event"] == "ready");
    if ready.is_some() {
        let pid = process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }
    let mut complaint = String::new();
    process.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
    Ended { ready, code: process.wait().unwrap().code(), complaint }
}

/// Starts a node under each of these limits: each either runs or says what to raise, and nothing panics.
fn starts_or_says(limits: impl Iterator<Item = String>, remedy: &str) -> (usize, usize) {
    let place = Place::new();
    let (mut ran, mut refused) = (0, BTreeMap::new());
    for limit in limits {
        let ended = outcome(place.node(&limit, &[]).spawn().unwrap());
        let complaint = &ended.complaint;
        assert!(!complaint.contains("panicked"), "{limit}: {complaint}");
        match ended.ready {
            Some(_) => {
                assert_eq!(ended.code, Some(0), "{limit}: {complaint}");
                ran += 1;
            }
            None => {
                assert_eq!(ended.code, Some(1), "{limit}: {complaint}");
                assert!(complaint.contains(remedy), "{limit}: {complaint}");
                refused.insert(limit, complaint.clone());
            }
        }
    }
    for (limit, complaint) in &refused {
        println!("{limit}: {}", complaint.trim());
    }
    (ran, refused.len())
}

#[test]
fn a_node_with_few_descriptors_starts_or_says_what_to_raise_and_never_panics() {
    if !can_limit() {
        return;
    }
    // Below this the system doesn't even load the command.
    let limits = (6..=40).chain([48, 64]).map(|n| format!("--nofile={n}:{n}"));
    let (ran, refused) = starts_or_says(limits, "ulimit -n");
    assert!(ran > 0 && refused > 0, "{ran} ran, {refused} didn't");
}

#[test]
fn a_node_with_few_threads_starts_or_says_what_to_raise_and_never_panics() {
    if !can_limit() {
        return;
    }
    let limits = (1..=4).map(|n| format!("--nproc={n}:{n}"));
    let (ran, refused) = starts_or_says(limits, "ulimit -u");
    assert!(refused > 0, "{ran} ran, {refused} didn't");
}

#[test]
fn a_node_says_how_many_descriptors_it_may_need_and_have() {
    if !can_limit() {
        return;
    }
    let place = Place::new();
    let few = outcome(place.node("--nofile=100:100", &[]).spawn().unwrap());
    let said = few.ready.unwrap()["descriptors"].clone();
    assert_eq!(said["limit"], 100);
    assert!(said["needed"].as_u64().unwrap() > 100, "{said}");
    assert!(few.complaint.contains("ulimit -n"), "{}", few.complaint);
    let many = outcome(place.node("--nofile=4000:4000", &[]).spawn().unwrap());
    assert!(many.ready.unwrap()["descriptors"]["needed"].as_u64().unwrap() < 4000);
    assert!(!many.complaint.contains("ulimit -n"), "{}", many.complaint);
}

fn ping(target: &str) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_webmesh"));
    command.args(["ping", "--count", "2", "--interval-ms", "100", target]);
    command.stdin(Stdio::null()).output().unwrap().status.success()
}

/// A port that is free at the moment.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn strangers_who_use_up_a_nodes_descriptors_keep_nobody_from_it_and_change_nothing_of_its_reference()
 {
    if !can_limit() {
        return;
    }
    let place = Place::new();
    let tls: SocketAddr = ([127, 0, 0, 1], free_port()).into();
    let mut command = place.node("--nofile=64:64", &["--relay-tls", &tls.to_string()]);
    let mut process = command.env("RUST_LOG", "info").spawn().unwrap();
    let mut out = BufReader::new(process.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap();
    let connect = |_| TcpStream::connect_timeout(&tls, Duration::from_secs(1)).ok();
    let strangers: Vec<_> = (0..200).filter_map(connect).collect();
    assert!(strangers.len() > 64, "{}", strangers.len());
    // As long as it takes to look at the interfaces again.
    std::thread::sleep(Duration::from_secs(3));
    let peer_ref = ready["peer_ref"].as_str().unwrap();
    assert!(ping(peer_ref));
    drop(strangers);
    assert!(ping(peer_ref));
    let pid = process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let mut log = String::new();
    process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0), "{log}");
    assert!(
        !log.contains("panicked") && !log.contains("addresses of this host have changed"),
        "{log}"
    );
    assert_eq!(log.matches("no tunnel is taken at the moment").count(), 1, "{log}");
}

/// What no process that this thread starts gets: sockets of netlink, as under systemd's `RestrictAddressFamilies=AF_INET AF_INET6`.
fn forbid_netlink() {
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule,
    };
    const AF_NETLINK: u64 = 16;
    const EAFNOSUPPORT: u32 = 97;
    let socket = if cfg!(target_arch = "aarch64") { 198 } else { 41 };
    let netlink =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, AF_NETLINK).unwrap();
    let rules = BTreeMap::from([(socket, vec![SeccompRule::new(vec![netlink]).unwrap()])]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(EAFNOSUPPORT),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
}

fn addresses(peer_ref: &str) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_webmesh"));
    let output = command.args(["--json", "inspect", peer_ref]).output().unwrap();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    found["addresses"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned()).collect()
}

fn started_in(data: &Path, forbidden: bool) -> Ended {
    let data = data.to_owned();
    let started = std::thread::spawn(move || {
        if forbidden {
            forbid_netlink();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_webmesh"));
        command.args(["--json", "node", "--listen", "0.0.0.0:0", "--data"]).arg(data);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        outcome(command.env("RUST_LOG", "info").spawn().unwrap())
    });
    started.join().unwrap()
}

#[test]
fn where_netlink_is_forbidden_a_node_names_the_address_from_which_it_sends_and_says_what_failed() {
    let dir = tempfile::tempdir().unwrap();
    let free = started_in(dir.path(), false);
    let named = addresses(free.ready.unwrap()["peer_ref"].as_str().unwrap());
    let confined = started_in(dir.path(), true);
    let log = confined.complaint;
    let there = addresses(confined.ready.unwrap()["peer_ref"].as_str().unwrap());
    assert_eq!(log.matches("AF_NETLINK").count(), 1, "{log}");
    assert!(!log.contains("have changed"), "{log}");
    let ip = |address: &String| address.rsplit_once(':').unwrap().0.to_owned();
    let ways_out: Vec<_> = there.iter().map(ip).collect();
    // A machine without a way to the internet has none to name.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    if socket.connect("192.0.2.1:9").is_ok() {
        assert_eq!(ways_out, [socket.local_addr().unwrap().ip().to_string()]);
        assert!(named.iter().map(ip).any(|ip| ip == ways_out[0]), "{named:?}");
    } else {
        eprintln!("SKIPPED in part: this machine has no way to the internet");
    }
}
