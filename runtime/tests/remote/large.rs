//! Messages so large that decoding them takes a while.

use crate::common::{mesh, run};
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::ThreadId;
use std::time::Duration;
use tokio::sync::Semaphore;
use webmesh::prelude::*;
use webmesh::{ActorRef, Anyone, AskError, Mesh, Message, Protocol, RemoteActor, TellError};

/// More than a frame of a lane holds.
const LEN: usize = 200_000;

static DECODING: Semaphore = Semaphore::const_new(0);
static OPEN: Mutex<bool> = Mutex::new(false);
static OPENED: Condvar = Condvar::new();

/// Takes its receiver until the test says so to decode.
#[derive(Debug)]
struct Gate;

impl Serialize for Gate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Gate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer)?;
        DECODING.add_permits(1);
        drop(OPENED.wait_while(OPEN.lock().unwrap(), |open| !*open).unwrap());
        Ok(Self)
    }
}

/// Where it is decoded.
#[derive(Debug)]
struct Here(ThreadId);

impl Serialize for Here {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Here {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer)?;
        Ok(Self(std::thread::current().id()))
    }
}

#[derive(Message, Serialize, Deserialize, Debug)]
#[message(id = "test.gated", reply = usize)]
struct Gated {
    text: String,
    gate: Gate,
}

#[derive(Message, Serialize, Deserialize, Debug)]
#[message(id = "test.where", reply = bool)]
struct Where {
    text: String,
    here: Here,
}

#[derive(Message, Serialize, Deserialize, Debug)]
#[message(id = "test.line", reply = usize)]
struct Line {
    text: String,
    /// Told of the line.
    next: Option<ActorRef<Book>>,
}

/// What another program takes a line for; or a decoder that panics.
#[derive(Message, Serialize, Deserialize, Debug)]
#[message(id = "test.line", reply = usize)]
struct OtherLine {
    title: String,
}

#[derive(Message, Serialize, Debug)]
#[message(id = "test.bad", reply = usize)]
struct Bad {
    text: String,
}

impl<'de> Deserialize<'de> for Bad {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("as expected")
    }
}

#[derive(Protocol)]
#[protocol(id = "test.book/1", accepts(Gated, Where, Line, Bad))]
struct Book;

#[derive(Protocol)]
#[protocol(id = "test.book/1", accepts(OtherLine))]
struct OtherBook;

#[derive(Default, RemoteActor)]
#[remote(serves(Book))]
struct BookActor {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Actor for BookActor {
    type Context = Context<Self>;
}

impl Handler<Gated> for BookActor {
    type Result = usize;
    fn handle(&mut self, gated: Gated, _: &mut Context<Self>) -> usize {
        gated.text.len()
    }
}

impl Handler<Where> for BookActor {
    type Result = bool;
    fn handle(&mut self, message: Where, _: &mut Context<Self>) -> bool {
        message.here.0 == std::thread::current().id()
    }
}

impl Handler<Line> for BookActor {
    type Result = usize;
    fn handle(&mut self, line: Line, ctx: &mut Context<Self>) -> usize {
        let text = line.text[..line.text.len().min(5)].to_owned();
        if let Some(next) = line.next {
            webmesh::send(ctx, &next, Line { text: text.clone(), next: None }).unwrap();
        }
        let mut lines = self.lines.lock().unwrap();
        lines.push(text);
        lines.len()
    }
}

impl Handler<Bad> for BookActor {
    type Result = usize;
    fn handle(&mut self, _: Bad, _: &mut Context<Self>) -> usize {
        0
    }
}

fn long(start: &str) -> String {
    format!("{start}{}", "-".repeat(LEN - start.len()))
}

fn line(text: String) -> Line {
    Line { text, next: None }
}

/// Reachable as `book` at the host; what it wrote down.
async fn book(host: &Mesh) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let made = lines.clone();
    let near = host.spawn(move || BookActor { lines: made.clone() });
    host.publish("book", &near).allow(Anyone).await.unwrap();
    lines
}

#[test]
fn a_large_message_that_takes_long_to_decode_holds_up_no_other_peer() {
    run(async {
        let (host, guest, other) = (mesh().await, mesh().await, mesh().await);
        book(&host).await;
        let far: ActorRef<Book> = guest.resolve("book").at(&host.peer_ref()).await.unwrap();
        let reply = tokio::spawn(far.ask(Gated { text: long("a"), gate: Gate }));
        drop(DECODING.acquire().await.unwrap());
        // The network's thread of the host has all of this to do: a handshake, a name.
        let at = host.peer_ref();
        let resolved = other.resolve::<Book>("book").at(&at).into_future();
        let resolved = tokio::time::timeout(Duration::from_secs(20), resolved).await;
        *OPEN.lock().unwrap() = true;
        OPENED.notify_all();
        assert!(matches!(&resolved, Ok(Ok(_))), "{resolved:?}");
        assert_eq!(reply.await.unwrap(), Ok(LEN));
    });
}

#[test]
fn a_large_message_is_decoded_where_it_is_handled() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        book(&host).await;
        let far: ActorRef<Book> = guest.resolve("book").at(&host.peer_ref()).await.unwrap();
        let here = Here(std::thread::current().id());
        assert_eq!(far.ask(Where { text: long("a"), here }).await, Ok(true));
    });
}

#[test]
fn large_and_small_messages_are_taken_in_order_and_bad_ones_are_told_to_their_sender() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let lines = book(&host).await;
        let far: ActorRef<Book> = guest.resolve("book").at(&host.peer_ref()).await.unwrap();
        let other: ActorRef<OtherBook> = guest.resolve("book").at(&host.peer_ref()).await.unwrap();
        for n in 0..40 {
            let text = format!("{n:5}");
            far.tell(line(if n % 3 == 0 { long(&text) } else { text })).await.unwrap();
        }
        for n in 40..42 {
            let bad = other.ask(OtherLine { title: long("") }).await;
            assert!(matches!(&bad, Err(AskError::BadPayload(why)) if why.contains("text")));
            let bad = far.ask(Bad { text: long("") }).await;
            assert!(matches!(&bad, Err(AskError::BadPayload(why)) if why.contains("panicked")));
            assert_eq!(far.ask(line(long(&format!("{n:5}")))).await, Ok(n + 1));
        }
        let expected: Vec<_> = (0..42).map(|n| format!("{n:5}")).collect();
        assert_eq!(*lines.lock().unwrap(), expected);
        // No flush behind a tell that came to nothing succeeds, and it is told once.
        for _ in 0..20 {
            far.tell(Bad { text: long("") }).await.unwrap();
            assert_eq!(far.flush().await, Err(TellError::LostTells { at_most: 1 }));
            far.flush().await.unwrap();
        }
        assert_eq!(far.ask(line(String::new())).await, Ok(43));
    });
}

#[test]
fn a_ref_in_a_large_message_belongs_to_the_mesh_that_took_it() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        book(&host).await;
        let far: ActorRef<Book> = guest.resolve("book").at(&host.peer_ref()).await.unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let made = lines.clone();
        let near = guest.spawn(move || BookActor { lines: made.clone() });
        assert_eq!(far.ask(Line { text: long("hello"), next: Some(near.clone()) }).await, Ok(1));
        // Written down as soon as it has come there.
        while lines.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(*lines.lock().unwrap(), ["hello"]);
    });
}
