//! Chat between processes, by lines.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::UdpSocket,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    time::{Duration, Instant},
};
use webmesh::Mesh;

/// Longer than it takes to notice that a host is silent (10 s), on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

struct Chat {
    process: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Chat {
    fn start(args: &[&str]) -> Chat {
        Self::start_read_ahead(args, 100_000)
    }

    /// Of what it prints, so many lines are read before the test asks for them.
    fn start_read_ahead(args: &[&str], lines: usize) -> Chat {
        Self::start_with(args, lines, Stdio::inherit())
    }

    fn start_with(args: &[&str], lines: usize, errors: Stdio) -> Chat {
        let mut process = Command::new(env!("CARGO_BIN_EXE_chat"))
            .arg("--plain")
            .args(args)
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .unwrap();
        let (sender, lines) = sync_channel(lines);
        let out = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Chat { input: process.stdin.take().unwrap(), process, lines }
    }

    /// A room, and its invite.
    fn host(room: &str) -> (Chat, String) {
        let host = Chat::start(&["--name", "host", "--room", room]);
        let invite = host.line().strip_prefix("chat --join ").unwrap().to_owned();
        (host, invite)
    }

    fn guest(invite: &str, name: &str, room: &str) -> Chat {
        let guest = Chat::start(&["--join", invite, "--name", name]);
        assert_eq!(guest.line(), format!("joined {room}"));
        guest
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    fn say(&mut self, text: &str) {
        writeln!(self.input, "{text}").unwrap();
    }

    /// The exit code, or a panic when the process does not end.
    fn code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the process does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill")
                .args([signal, &self.process.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn everybody_reads_the_same_in_the_same_order_and_a_late_comer_gets_the_history() {
    let (mut host, invite) = Chat::host("attic");
    let mut ann = Chat::guest(&invite, "ann", "attic");
    assert_eq!(host.line(), "* ann joined");
    ann.say("hello from ann");
    assert_eq!(host.line(), "<ann> hello from ann");
    assert_eq!(ann.line(), "<ann> hello from ann");
    host.say("hello ann");
    assert_eq!(ann.line(), "<host> hello ann");
    assert_eq!(host.line(), "<host> hello ann");

    let bob = Chat::guest(&invite, "bob", "attic");
    assert_eq!(bob.line(), "<ann> hello from ann");
    assert_eq!(bob.line(), "<host> hello ann");
    assert_eq!(ann.line(), "* bob joined");
    for number in 0..50 {
        ann.say(&format!("number {number}"));
    }
    assert_eq!(host.line(), "* bob joined");
    for chat in [&host, &ann, &bob] {
        for number in 0..50 {
            assert_eq!(chat.line(), format!("<ann> number {number}"));
        }
    }
}

#[test]
fn guests_who_pour_in_lines_at_the_same_time_keep_their_seats() {
    const LINES: usize = 2_000; // more than wait for a guest anywhere on the way
    let (host, invite) = Chat::host("lobby");
    let names = ["ann", "bob", "cid"];
    let mut guests: Vec<Chat> =
        names.iter().map(|name| Chat::guest(&invite, name, "lobby")).collect();
    std::thread::scope(|scope| {
        for guest in &mut guests {
            scope.spawn(|| (0..LINES).for_each(|number| guest.say(&number.to_string())));
        }
    });
    let said = |chat: &Chat| -> Vec<String> {
        let lines = std::iter::from_fn(|| Some(chat.line()));
        lines.filter(|line| !line.ends_with(" joined")).take(names.len() * LINES).collect()
    };
    let heard = said(&host);
    for name in names {
        let prefix = format!("<{name}> ");
        let own: Vec<&str> = heard.iter().filter_map(|line| line.strip_prefix(&prefix)).collect();
        assert!(own.iter().enumerate().all(|(at, text)| *text == at.to_string()), "{name}");
    }
    for guest in &guests {
        assert!(said(guest) == heard, "everybody reads the same");
    }
}

#[test]
fn lines_that_are_no_text_or_too_long_end_nobodys_chat() {
    let (mut host, invite) = Chat::host("lobby");
    let mut guest = Chat::guest(&invite, "ann", "lobby");
    assert_eq!(host.line(), "* ann joined");
    for chat in [&mut host, &mut guest] {
        chat.input.write_all(b"bad \xff\xfe bytes\n").unwrap();
        chat.say(&"long ".repeat(20_000));
        chat.say("\x1b[31mred");
    }
    let mut heard: Vec<String> = (0..4).map(|_| host.line()).collect();
    heard.sort_by_key(|line| !line.starts_with("<host>"));
    let expected = ["<host>", "<ann>"]
        .map(|name| [format!("{name} bad \u{fffd}\u{fffd} bytes"), format!("{name} [31mred")]);
    assert_eq!(heard, expected.concat());
}

#[test]
fn a_guest_who_reads_nothing_has_to_go_and_learns_it() {
    let (mut host, invite) = Chat::host("lobby");
    let mut guest = Chat::start_read_ahead(&["--join", &invite, "--name", "ann"], 1);
    assert_eq!(host.line(), "* ann joined");
    let text = "x".repeat(4_000);
    loop {
        host.say(&text);
        match host.line().as_str() {
            "* ann was too slow and had to go" => break,
            line => assert!(line.starts_with("<host> x"), "{line}"),
        }
    }
    while guest.lines.recv_timeout(PATIENCE).is_ok() {}
    assert_eq!(guest.code(), Some(1));
}

#[test]
fn a_host_whose_output_nobody_reads_ends_when_it_is_asked() {
    let mut host = Chat::start_read_ahead(&["--name", "host", "--room", "attic"], 1);
    let invite = host.line().strip_prefix("chat --join ").unwrap().to_owned();
    let mut guest = Chat::guest(&invite, "ann", "attic");
    // More than a pipe holds, so that the host's output is full long before the end; its room goes on.
    let text = "x".repeat(4_000);
    for _ in 0..100 {
        guest.say(&text);
        assert_eq!(guest.line(), format!("<ann> {text}"));
    }
    host.signal("-TERM");
    assert_eq!(host.code(), Some(0));
    assert_eq!(guest.code(), Some(1));
}

#[cfg(target_os = "linux")]
#[test]
fn a_chat_goes_on_when_its_complaints_cannot_be_written() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into();
    let mut host = Chat::start_with(&["--name", "host"], 100, full());
    assert!(host.line().starts_with("chat --join wm1"));
    for text in ["first", &"too long ".repeat(1_000), "last"] {
        host.say(text);
    }
    assert_eq!(host.line(), "<host> first");
    assert_eq!(host.line(), "<host> last");
    host.signal("-TERM");
    assert_eq!(host.code(), Some(0));
    let mut wrong = Chat::start_with(&["--join", "127.0.0.1:1", "--data", "/dev/null"], 1, full());
    assert_eq!(wrong.code(), Some(1));
}

#[test]
fn who_dials_a_silent_address_ends_when_it_is_asked() {
    for signal in ["-INT", "-TERM"] {
        // Asked for its room, or to let others reach a room here.
        for room in [&[][..], &["--room", "attic"]] {
            let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
            silent.set_read_timeout(Some(PATIENCE)).unwrap();
            let address = silent.local_addr().unwrap().to_string();
            let mut chat = Chat::start(&[&["--join", &address], room].concat());
            silent.recv_from(&mut [0; 2_000]).unwrap();
            chat.signal(signal);
            assert_eq!(chat.code(), Some(0), "{signal} {room:?}");
        }
    }
}

#[webmesh::test(clock = "real")]
async fn who_joins_a_node_without_a_room_learns_that_one_was_opened() {
    let node = Mesh::builder().listen("127.0.0.1:0".parse().unwrap()).start().await.unwrap();
    let address = node.peer_ref().to_string();
    let opened = tokio::task::spawn_blocking(move || {
        // No session is wanted, so that none is waited for.
        let args = ["--join", &address, "--name", "bob", "--rendezvous", "0"];
        let mut bob = Chat::start_with(&args, 100, Stdio::piped());
        assert!(bob.line().starts_with("chat --join wm1"));
        let mut errors = bob.process.stderr.take().unwrap();
        bob.signal("-TERM");
        assert_eq!(bob.code(), Some(0));
        let mut complaints = String::new();
        errors.read_to_string(&mut complaints).unwrap();
        complaints
    });
    let expected = "chat: there is no room where --join leads to; the room lobby was opened here\n";
    assert_eq!(opened.await.unwrap(), expected);
    node.shutdown().await;
}

#[test]
fn an_invite_may_be_copied_with_line_ends_in_it() {
    let (_host, invite) = Chat::host("lobby");
    let (head, rest) = invite.split_at(80);
    Chat::guest(&format!("  {head}\r\n{rest}\n"), "ann", "lobby");
}

#[cfg(unix)]
#[test]
fn the_printed_invite_is_a_command_that_can_be_pasted() {
    let host = Chat::start(&["--name", "host"]);
    let command = host.line();
    let binaries = std::path::Path::new(env!("CARGO_BIN_EXE_chat")).parent().unwrap();
    let mut pasted = std::process::Command::new("sh");
    pasted.args(["-c", &command]).env("PATH", format!("{}:/usr/bin:/bin", binaries.display()));
    let mut pasted = pasted.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    assert_eq!(host.line(), "* guest joined");
    host.signal("-TERM");
    pasted.wait().unwrap();
}

#[test]
fn a_name_that_is_taken_gets_a_number() {
    let (host, invite) = Chat::host("lobby");
    let mut second = Chat::guest(&invite, "host", "lobby");
    assert_eq!(host.line(), "* host-2 joined");
    second.say("me too");
    assert_eq!(host.line(), "<host-2> me too");
}

#[test]
fn who_leaves_and_who_is_lost_is_told_apart() {
    let (host, invite) = Chat::host("lobby");
    let mut polite = Chat::guest(&invite, "polite", "lobby");
    let crashing = Chat::guest(&invite, "crashing", "lobby");
    assert_eq!(host.line(), "* polite joined");
    assert_eq!(host.line(), "* crashing joined");
    polite.signal("-TERM");
    assert_eq!(host.line(), "* polite left");
    assert_eq!(crashing.line(), "* polite left");
    assert_eq!(polite.code(), Some(0));
    crashing.signal("-KILL");
    assert_eq!(host.line(), "* crashing was lost");
}

#[test]
fn a_guest_ends_with_an_error_when_its_host_goes() {
    let (host, invite) = Chat::host("lobby");
    let mut guest = Chat::guest(&invite, "ann", "lobby");
    host.signal("-TERM");
    assert_eq!(guest.code(), Some(1));
}

#[test]
fn a_wrong_invite_is_wrong_usage_and_a_dead_one_a_failure() {
    let (host, invite) = Chat::host("lobby");
    drop(host);
    for (join, code) in [("wm1nonsense", 2), (invite.as_str(), 1)] {
        let mut guest = Chat::start(&["--join", join]);
        assert_eq!(guest.code(), Some(code), "{join}");
    }
}

#[test]
fn the_cost_of_being_met_can_be_chosen() {
    let (_host, invite) = Chat::host("lobby");
    // No session is wanted, so that none is waited for.
    let joins = ["--room", "attic", "--join", &invite, "--rendezvous", "0"];
    let hermit = Chat::start(&joins);
    assert!(hermit.line().starts_with("chat --join wm1"));
}
