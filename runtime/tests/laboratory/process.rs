//! `webmesh` processes on the hosts of the laboratory.

use crate::namespace::Namespace;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The command under test on this host, printing JSON.
pub(crate) fn webmesh(host: &Namespace, args: &[&str]) -> Command {
    let mut command = host.command(env!("CARGO_BIN_EXE_webmesh"));
    command.arg("--json").args(args).stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

/// A running `webmesh node`; killed when dropped.
pub(crate) struct Node {
    process: Child,
    /// How others reach it.
    pub(crate) peer_ref: String,
    /// Kept while it runs, if it is its own.
    _identity: Option<tempfile::TempDir>,
}

/// How a process is ended from outside.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Signal {
    Terminate,
    Kill,
}

impl Node {
    /// Starts a node and waits until it says that it is ready.
    pub(crate) fn start(host: &Namespace, args: &[&str]) -> Node {
        let identity = tempfile::tempdir().unwrap();
        let node = Node::start_at(host, identity.path(), args);
        node.keeping(identity)
    }

    /// The same with the identity that is kept there.
    pub(crate) fn start_at(host: &Namespace, identity: &Path, args: &[&str]) -> Node {
        let mut command = webmesh(host, &["node", "--data", identity.to_str().unwrap()]);
        let mut process =
            command.args(args).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("{command:?} did not start"));
        let peer_ref = ready["peer_ref"].as_str().unwrap().to_owned();
        Node { process, peer_ref, _identity: None }
    }

    fn keeping(mut self, identity: tempfile::TempDir) -> Node {
        self._identity = Some(identity);
        self
    }

    /// Ends it, and waits until it is gone.
    pub(crate) fn end(mut self, signal: Signal) {
        match signal {
            Signal::Kill => self.process.kill().unwrap(),
            Signal::Terminate => {
                let id = self.process.id().to_string();
                assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
            }
        }
        self.process.wait().unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs `webmesh ping` to its end, and gives what it printed.
pub(crate) fn ping(host: &Namespace, args: &[&str]) -> Vec<Value> {
    run(host, "ping", args)
}

/// Runs a command to its end, and gives what it printed.
pub(crate) fn run(host: &Namespace, name: &str, args: &[&str]) -> Vec<Value> {
    let output = webmesh(host, &[name]).args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!text.is_empty(), "webmesh {name} {args:?}: {complaint}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The replies among what `webmesh ping` printed, in the order of the pings. `None` if one was lost; only the first ones may be, and only
/// because the peer, for the machine is busy, was met later than a ping waits. An error of the dial is no such reason.
pub(crate) fn answered(lines: &[Value]) -> Option<Vec<&Value>> {
    let late = |line: &Value| {
        line["event"] == "lost"
            && line["error"].as_str().is_some_and(|error| error.starts_with("no reply within"))
    };
    let mut pings: Vec<_> = lines.iter().filter(|line| line["event"] != "summary").collect();
    pings.sort_by_key(|line| line["seq"].as_u64());
    let pings: Vec<_> = pings.into_iter().skip_while(|line| late(line)).collect();
    (!pings.is_empty() && pings.iter().all(|line| line["event"] == "pong")).then_some(pings)
}

/// Pings until a reply comes without a relay, and says how long after the first reply that was; `None` if none did.
pub(crate) fn ping_until_direct(host: &Namespace, args: &[&str]) -> Option<Duration> {
    let mut command = webmesh(host, &["ping"]);
    let mut process = command.args(args).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut first = None;
    let mut found = None;
    for line in lines.map_while(Result::ok) {
        let pong: Value = serde_json::from_str(&line).unwrap();
        if pong["event"] == "pong" {
            let first = *first.get_or_insert_with(Instant::now);
            if pong["path"] == "direct" || pong["path"] == "punched" {
                found = Some(first.elapsed());
                break;
            }
        }
    }
    let _ = process.kill();
    let _ = process.wait();
    found
}
