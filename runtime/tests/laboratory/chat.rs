//! The chat example between two NATs.

use crate::{
    internet::{Internet, Site},
    kind::Kind,
    process::Node,
};
use std::{
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

/// The example's binary, if it was built: by `cargo test --workspace`, say.
pub(crate) fn binary() -> Option<PathBuf> {
    let test = std::env::current_exe().ok()?;
    let binary = test.parent()?.parent()?.join("chat");
    binary.exists().then_some(binary)
}

struct Chat {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Chat {
    fn start(site: &Site, args: &[&str]) -> Chat {
        let mut command = site.host().command(binary().unwrap().to_str().unwrap());
        command.arg("--plain").args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        Chat { input: process.stdin.take().unwrap(), output, process }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Reads on until somebody says this.
    fn hears(&mut self, expected: &str) {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "the chat ended before {expected:?}");
            if line == expected {
                return;
            }
        }
    }

    fn says(&mut self, text: &str) {
        writeln!(self.input, "{text}").unwrap();
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A host behind a symmetric NAT opens a room, one behind a port-restricted NAT enters it by the invite alone.
pub(crate) fn two_hosts_behind_nats_chat_by_the_printed_invite_alone(internet: &Internet) {
    let server = internet.site(Kind::Public);
    let node = Node::start(server.host(), &["--listen", &format!("{}:4433", server.outside[0])]);
    for (host, guest) in
        [(Kind::Symmetric, Kind::PortRestricted), (Kind::PortRestricted, Kind::Symmetric)]
    {
        let (here, there) = (internet.site(host), internet.site(guest));
        let mut host = Chat::start(&here, &["--name", "ada", "--join", &node.peer_ref]);
        let invite = host.line().strip_prefix("chat --join ").unwrap().to_owned();
        let mut guest = Chat::start(&there, &["--name", "bob", "--join", &invite]);
        assert_eq!(guest.line(), "joined lobby");
        guest.says("hello from behind my router");
        host.hears("<bob> hello from behind my router");
        host.says("and from behind mine");
        guest.hears("<ada> and from behind mine");
    }
}
