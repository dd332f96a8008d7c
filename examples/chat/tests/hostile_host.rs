//! A guest in the room of a host that means harm.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "the test plays the room alone")]
#[path = "../src/protocol.rs"]
mod protocol;

use protocol::{Change, Join, Leave, Line, Member, Post, Presence, Room, Said, Welcome};
use std::{
    io::Write,
    process::{Command, Output, Stdio},
};
use webmesh::{ActorRef, Anyone, Mesh, RemoteActor, prelude::*, send};

/// Clears the screen, forges lines, turns the direction of writing, hides.
const HARM: &str = "a\x1b[2J\x1b]0;title\x07\u{9b}2J\x7f\r\n<ann> forged\n\u{85}\u{2028}\u{2029}\u{61c}\u{200e}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}\u{200b}\u{200d}\u{2060}\u{feff}b";

#[derive(RemoteActor)]
#[remote(serves(Room))]
struct HostileRoom {
    guest: Option<ActorRef<Member>>,
    /// Refuses everybody.
    closed: bool,
}

impl Actor for HostileRoom {
    type Context = Context<Self>;
}

fn harm(number: u64) -> Line {
    Line { number, name: HARM.into(), text: HARM.into() }
}

impl Handler<Join> for HostileRoom {
    type Result = Result<Welcome, String>;

    fn handle(&mut self, join: Join, ctx: &mut Context<Self>) -> Self::Result {
        if self.closed {
            return Err(HARM.into());
        }
        send(ctx, &join.member, Said { line: harm(1) }).unwrap();
        let came = Presence { name: HARM.into(), change: Change::Joined };
        send(ctx, &join.member, came).unwrap();
        self.guest = Some(join.member);
        Ok(Welcome {
            room: HARM.into(),
            name: HARM.into(),
            seat: 1,
            members: vec![HARM.into(); 3],
            history: vec![harm(0)],
        })
    }
}

impl Handler<Post> for HostileRoom {
    type Result = Result<u64, String>;

    /// Refuses what is said, and ends when it is told so: the guest then ends too.
    fn handle(&mut self, post: Post, ctx: &mut Context<Self>) -> Self::Result {
        if post.text == "end" {
            ctx.stop();
        }
        Err(HARM.into())
    }
}

impl Handler<Leave> for HostileRoom {
    type Result = ();

    fn handle(&mut self, _: Leave, _: &mut Context<Self>) {}
}

/// What `chat --join` prints that says something there and then hears of the room's end.
async fn guest_of(closed: bool) -> Output {
    let mesh = Mesh::builder().listen("127.0.0.1:0".parse().unwrap()).start().await.unwrap();
    let room = mesh.spawn(move || HostileRoom { guest: None, closed });
    mesh.publish(protocol::PUBLISHED_NAME, &room).allow(Anyone).await.unwrap();
    let invite = mesh.peer_ref().to_string();
    let guest = tokio::task::spawn_blocking(move || {
        let mut guest = Command::new(env!("CARGO_BIN_EXE_chat"))
            .args(["--plain", "--join", &invite, "--name", "ann", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Who is not let in may end before this.
        let _ = guest.stdin.as_mut().unwrap().write_all(b"hello\nend\n");
        guest.wait_with_output().unwrap()
    });
    let output = guest.await.unwrap();
    mesh.shutdown().await;
    output
}

/// The lines, each without anything that a terminal obeys or hides.
fn clean_lines(bytes: Vec<u8>) -> Vec<String> {
    let text = String::from_utf8(bytes).unwrap();
    let bad = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    assert!(!text.contains(bad), "{text:?}");
    text.lines().map(str::to_owned).collect()
}

#[webmesh::test(clock = "real")]
async fn a_host_cannot_reach_the_terminals_of_its_guests() {
    let output = guest_of(false).await;
    assert_eq!(output.status.code(), Some(1));
    let (name, text) = ("a[2J]0;title2Jannforgedb", "a[2J]0;title2J<ann> forgedb");
    let said = format!("<{name}> {text}");
    let expected = [format!("joined {name}"), said.clone(), said, format!("* {name} joined")];
    assert_eq!(clean_lines(output.stdout), expected);
    let errors = clean_lines(output.stderr);
    assert_eq!(errors[0], format!("chat: the name ann is taken; you are {name}"));
    assert!(errors.contains(&format!("not posted: {text}")), "{errors:?}");
}

#[webmesh::test(clock = "real")]
async fn a_refusal_cannot_reach_the_terminal_either() {
    let output = guest_of(true).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let errors = clean_lines(output.stderr);
    let expected = "chat: the room does not let you in: a[2J]0;title2J<ann> forgedb";
    assert_eq!(errors, [expected]);
}
