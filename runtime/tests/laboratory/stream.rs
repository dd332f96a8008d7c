//! A stream of numbered messages between two hosts of the laboratory, and what is lost or late in it.
//!
//! This binary plays both: the *counter* hosts an actor that counts, the *sender* sends to it and says by which road.

use crate::{namespace::Namespace, process::Node};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};
use webmesh::{ActorRef, Anyone, Mesh, Message, PeerRef, Protocol, RemoteActor, Reply, prelude::*};

/// The first arguments of a process that shall play a part.
pub(crate) const COUNTER: &str = "counter";
pub(crate) const SENDER: &str = "sender";

/// Far beyond what a change of road takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two messages.
const SEND_EVERY: Duration = Duration::from_millis(5);

/// How often the sender looks at its road.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// One in so many messages is an ask; another has so much beside its number.
const ASK_EVERY: u64 = 4;
const LONG_EVERY: u64 = 7;
const LONG_BYTES: usize = 4_000;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "lab.number")]
struct Number {
    number: u64,
    beside: webmesh::Bytes,
}

/// The same, with an answer.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "lab.question", reply = u64)]
struct Question {
    number: u64,
}

#[derive(Message, Serialize, Deserialize)]
#[message(id = "lab.report", reply = Report)]
struct Ask;

/// What the counter got since the last report.
#[derive(Reply, Serialize, Deserialize, Clone, Default)]
struct Report {
    received: u64,
    disorder: u64,
    longest_gap_ms: u64,
}

#[derive(Protocol)]
#[protocol(id = "lab.counter/1", accepts(Number, Question, Ask))]
struct Counter;

#[derive(Default, RemoteActor)]
#[remote(serves(Counter))]
struct CounterActor {
    report: Report,
    last: Option<Instant>,
}

impl Actor for CounterActor {
    type Context = Context<Self>;
}

impl CounterActor {
    fn count(&mut self, number: u64) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            let gap = u64::try_from((now - last).as_millis()).unwrap();
            self.report.longest_gap_ms = self.report.longest_gap_ms.max(gap);
        }
        if number != self.report.received {
            self.report.disorder += 1;
        }
        self.report.received += 1;
    }
}

impl Handler<Number> for CounterActor {
    type Result = ();

    fn handle(&mut self, Number { number, beside }: Number, _: &mut Context<Self>) {
        let long = if number % LONG_EVERY == 0 { LONG_BYTES } else { 0 };
        if beside.len() != long {
            self.report.disorder += 1;
        }
        self.count(number);
    }
}

impl Handler<Question> for CounterActor {
    type Result = u64;

    fn handle(&mut self, Question { number }: Question, _: &mut Context<Self>) -> u64 {
        self.count(number);
        number
    }
}

impl Handler<Ask> for CounterActor {
    type Result = Report;

    fn handle(&mut self, _: Ask, _: &mut Context<Self>) -> Report {
        let report = self.report.clone();
        self.report.longest_gap_ms = 0;
        report
    }
}

/// Plays a part until standard input ends.
pub(crate) fn play(part: &str, args: &[String]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let refs: Vec<PeerRef> = args.iter().map(|arg| arg.parse().unwrap()).collect();
    runtime.block_on(async {
        match part {
            COUNTER => counter(&refs).await,
            _ => sender(&refs[0]).await,
        }
        .map_err(|error| error.to_string())
    })
}

fn print(value: &Value) {
    println!("{value}");
}

async fn counter(nodes: &[PeerRef]) -> webmesh::Result<()> {
    let mut builder = Mesh::builder().serve(false).rendezvous(nodes.len());
    for node in nodes {
        builder = builder.join(node.clone());
    }
    let mesh = builder.start().await?;
    let counter = mesh.spawn(CounterActor::default);
    mesh.publish("counter", &counter).allow(Anyone).await?;
    mesh.attached().await;
    print(&json!({ "peer_ref": mesh.peer_ref().to_string() }));
    tokio::task::spawn_blocking(|| std::io::stdin().lines().for_each(drop)).await?;
    Ok(())
}

/// Sends numbers as fast as [`SEND_EVERY`] says, asks for a report on each line of standard input, and says when the road
/// has changed.
async fn sender(to: &PeerRef) -> webmesh::Result<()> {
    let mesh = Mesh::builder().serve(false).start().await?;
    let counter: ActorRef<Counter> = mesh.resolve("counter").at(to).await?;
    let (asked, mut questions) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| asked.send(line))
    });
    let (mut number, mut road) = (0, None);
    let mut pending = FuturesUnordered::new();
    let (mut answered, mut asked_so_far) = (0_u64, 0_u64);
    let mut every = tokio::time::interval(SEND_EVERY);
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        tokio::select! {
            // Asks first: each must be on its way before the next message is.
            biased;
            Some((number, reply)) = pending.next() => {
                if reply? != number {
                    return Err("the answer to another question".into());
                }
                answered += 1;
            }
            _ = every.tick() => {
                if number % ASK_EVERY == ASK_EVERY - 1 && number % LONG_EVERY != 0 {
                    asked_so_far += 1;
                    let counter = counter.clone();
                    pending.push(async move { (number, counter.ask(Question { number }).await) });
                } else {
                    let long = if number % LONG_EVERY == 0 { LONG_BYTES } else { 0 };
                    counter.tell(Number { number, beside: vec![7; long].into() }).await?;
                }
                number += 1;
            }
            _ = look.tick() => {
                let explanation = mesh.explain(to).await?;
                let now = (explanation.path.to_string(), explanation.via.to_string());
                if road.as_ref() != Some(&now) {
                    print(&json!({ "path": now.0, "via": now.1 }));
                    road = Some(now);
                }
            }
            question = questions.recv() => match question.as_deref() {
                Some("report") => {
                    while let Some((number, reply)) = pending.next().await {
                        if reply? != number {
                            return Err("the answer to another question".into());
                        }
                        answered += 1;
                    }
                    counter.flush().await?;
                    let report = counter.ask(Ask).await?;
                    print(&json!({
                        "sent": number,
                        "asked": asked_so_far,
                        "answered": answered,
                        "received": report.received,
                        "disorder": report.disorder,
                        "longest_gap_ms": report.longest_gap_ms,
                    }));
                }
                _ => return Ok(()),
            }
        }
    }
}

/// A process that plays a part; killed when dropped.
pub(crate) struct Player {
    process: Child,
    input: ChildStdin,
    output: Receiver<String>,
    /// The kind of the road that it said last, and where that leads.
    road: (String, String),
}

impl Player {
    fn start(host: &Namespace, part: &str, args: &[&str]) -> Player {
        let this = std::env::current_exe().unwrap();
        let mut command = host.command(this.to_str().unwrap());
        command.arg(part).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (said, output) = channel();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).try_for_each(|line| said.send(line))
        });
        let (input, road) = (process.stdin.take().unwrap(), Default::default());
        Player { input, output, process, road }
    }

    /// A counter that is met through these nodes, and its PeerRef.
    pub(crate) fn counter(host: &Namespace, nodes: &[&Node]) -> (Player, String) {
        let refs: Vec<&str> = nodes.iter().map(|node| node.peer_ref.as_str()).collect();
        let mut player = Player::start(host, COUNTER, &refs);
        let peer_ref = player.line()["peer_ref"].as_str().unwrap().to_owned();
        (player, peer_ref)
    }

    pub(crate) fn sender(host: &Namespace, to: &str) -> Player {
        Player::start(host, SENDER, &[to])
    }

    fn line(&mut self) -> Value {
        let line = self.output.recv_timeout(PATIENCE).expect("the process says nothing more");
        let line: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("the process ended: {line:?}"));
        if let (Some(path), Some(via)) = (line["path"].as_str(), line["via"].as_str()) {
            self.road = (path.to_owned(), via.to_owned());
        }
        line
    }

    /// Waits for a road of one of these kinds that leads elsewhere than `not`; where it leads.
    pub(crate) fn until(&mut self, paths: &[&str], not: &str) -> String {
        while !paths.contains(&self.road.0.as_str()) || self.road.1 == not {
            self.line();
        }
        self.via()
    }

    /// Where the road leads that it said last.
    pub(crate) fn via(&self) -> String {
        self.road.1.clone()
    }

    /// What arrived so far: it must be all, in order; the longest gap since the last report.
    pub(crate) fn report(&mut self) -> Duration {
        writeln!(self.input, "report").unwrap();
        loop {
            let line = self.line();
            if let Some(sent) = line["sent"].as_u64() {
                assert_eq!(line["received"].as_u64(), Some(sent), "lost or doubled: {line}");
                assert_eq!(line["disorder"].as_u64(), Some(0), "{line}");
                assert!(
                    line["asked"].as_u64() > Some(0) && line["asked"] == line["answered"],
                    "{line}"
                );
                return Duration::from_millis(line["longest_gap_ms"].as_u64().unwrap());
            }
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
