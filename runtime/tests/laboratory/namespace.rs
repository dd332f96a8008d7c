//! One network namespace: a computer or a router of the laboratory.

use crate::agent;
use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// A namespace lives as long as the agent in it, and that one as long as this value.
pub(crate) struct Namespace {
    agent: Child,
    conversation: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Namespace {
    /// A namespace that forwards packets.
    pub(crate) fn router() -> Namespace {
        let namespace = Namespace::host();
        assert_eq!(namespace.ask("forward"), "forwarding");
        namespace
    }

    /// A namespace with nothing but its loopback interface.
    pub(crate) fn host() -> Namespace {
        let mut agent = Command::new("unshare")
            .args(["--net", "--"])
            .arg(std::env::current_exe().unwrap())
            .arg(agent::ROLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let requests = agent.stdin.take().unwrap();
        let mut answers = BufReader::new(agent.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the agent of a namespace did not start");
        let namespace = Namespace { agent, conversation: Mutex::new((requests, answers)) };
        namespace.ip("link set dev lo up");
        namespace
    }

    /// The process whose namespaces are this namespace.
    pub(crate) fn pid(&self) -> u32 {
        self.agent.id()
    }

    /// A command to be run in this namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.pid().to_string(), "-n", "--", program]);
        command
    }

    /// Runs lines of `ip -batch`.
    pub(crate) fn ip(&self, lines: &str) {
        let mut ip = self.command("ip");
        ip.args(["-batch", "-"]);
        feed(ip, lines);
    }

    /// Adds rules, and gives what nft echoes with handles.
    pub(crate) fn nft(&self, rules: &str) -> String {
        let mut nft = self.command("nft");
        nft.args(["--echo", "--handle", "--file", "-"]);
        feed(nft, rules)
    }

    /// Binds a UDP socket.
    pub(crate) fn bind(&self, local: SocketAddr) {
        assert_eq!(self.ask(&format!("bind {local}")), "bound");
    }

    /// Sends one word from `local`, which is bound if it was not.
    pub(crate) fn send(&self, local: SocketAddr, remote: SocketAddr, word: &str) {
        assert_eq!(self.ask(&format!("send {local} {remote} {word}")), "sent");
    }

    /// The same with this time to live.
    pub(crate) fn send_short(&self, local: SocketAddr, remote: SocketAddr, hops: u32, word: &str) {
        assert_eq!(self.ask(&format!("short {local} {remote} {hops} {word}")), "sent");
    }

    /// The next word that came to `local` and who sent it, if one comes in time.
    pub(crate) fn receive(
        &self,
        local: SocketAddr,
        within: Duration,
    ) -> Option<(SocketAddr, String)> {
        let answer = self.ask(&format!("receive {local} {}", within.as_millis()));
        let (from, word) = answer.strip_prefix("from ")?.split_once(' ')?;
        Some((from.parse().unwrap(), word.to_owned()))
    }

    /// Accepts TCP connections.
    pub(crate) fn listen(&self, local: SocketAddr) {
        assert_eq!(self.ask(&format!("listen {local}")), "listening");
    }

    /// Whether a TCP connection comes about in time.
    pub(crate) fn connects(&self, remote: SocketAddr, within: Duration) -> bool {
        self.ask(&format!("connect {remote} {}", within.as_millis())) == "connected"
    }

    fn ask(&self, request: &str) -> String {
        let mut conversation = self.conversation.lock().unwrap_or_else(PoisonError::into_inner);
        let (requests, answers) = &mut *conversation;
        writeln!(requests, "{request}").unwrap();
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let answer = line.trim_end();
        assert!(!answer.is_empty() && !answer.starts_with("error"), "{request}: {answer}");
        answer.to_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// Joins two namespaces by a cable, with a plug of the given name in each. What goes through it are single datagrams, as on a real one: a
/// batch that the kernel carries in one piece (GSO) would be lost, or too long for a road, as a whole.
pub(crate) fn cable((one, its): (&Namespace, &str), (other, others): (&Namespace, &str)) {
    let mut ip = Command::new("ip");
    ip.args(["-batch", "-"]);
    let (one, other) = (one.pid(), other.pid());
    feed(
        ip,
        &format!(
            "link add {its} netns {one} gso_max_segs 1 type veth peer name {others} netns {other} gso_max_segs 1"
        ),
    );
}

/// Runs a command on this input; what it prints is the result, and failure is fatal.
fn feed(mut command: Command, input: &str) -> String {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}\n{input}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
