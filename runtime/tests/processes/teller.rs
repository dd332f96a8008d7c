//! A process that tells and returns from `main`, each in its own way, and the means to start it.

use serde::{Deserialize, Serialize};
use std::{
    fmt::Debug,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant, SystemTime},
};
use tracing::field::{Field, Visit};
use webmesh::{ActorRef, Anyone, Mesh, Message, PeerRef, Protocol, RemoteActor, prelude::*};

const ROLE: &str = "WEBMESH_TEST_TELLER";

/// How many tells each process sends.
pub(crate) const TELLS: u64 = 10;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.tick")]
pub(crate) struct Tick;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.ticks", reply = u64)]
pub(crate) struct Ticks;

#[derive(Protocol)]
#[protocol(id = "webmesh.test.ticking/1", accepts(Tick, Ticks))]
pub(crate) struct Ticking;

/// Counts.
#[derive(Default, RemoteActor)]
#[remote(serves(Ticking))]
pub(crate) struct TickingActor(u64);

impl Actor for TickingActor {
    type Context = Context<Self>;
}

impl Handler<Tick> for TickingActor {
    type Result = ();
    fn handle(&mut self, _: Tick, _: &mut Context<Self>) {
        self.0 += 1;
    }
}

impl Handler<Ticks> for TickingActor {
    type Result = u64;
    fn handle(&mut self, _: Ticks, _: &mut Context<Self>) -> u64 {
        self.0
    }
}

/// Prints what the log says of a mesh's end.
struct Log;

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("webmesh::mesh")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut said = Said::default();
        event.record(&mut said);
        if let Some(lost) = said.lost {
            println!("LOST {lost}");
        } else if let Some(unconfirmed) = said.unconfirmed {
            println!("UNCONFIRMED {unconfirmed}");
        } else if said.message.contains("has left") {
            println!("LEFT {}", now_us());
        } else if said.message.contains("has ended") {
            println!("OVER {}", now_us());
        }
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[derive(Default)]
struct Said {
    message: String,
    lost: Option<u64>,
    unconfirmed: Option<u64>,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "lost" => self.lost = Some(value),
            "unconfirmed" => self.unconfirmed = Some(value),
            _ => {}
        }
    }
}

fn now_us() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros()
}

/// Not a test of its own: the body of the process.
#[test]
fn teller_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    tracing::subscriber::set_global_default(Log).unwrap();
    match role.split(' ').next().unwrap() {
        "threads" | "static" | "task" | "two" | "paused" | "actor" => on_one_thread(),
        "in-place" => in_place(),
        "many-threads" => on_many_threads(),
        "own-runtime" => {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(tell());
            drop(runtime);
            webmesh::linger();
        }
        other => panic!("{other}"),
    }
    println!("RETURNED {}", now_us());
    // Not by way of the test harness, which takes its time.
    std::process::exit(0);
}

#[webmesh::main]
async fn on_one_thread() {
    tell().await;
}

#[webmesh::main]
async fn in_place() {
    tell().await;
}

#[webmesh::main(flavor = "multi_thread", worker_threads = 2)]
async fn on_many_threads() {
    tell().await;
}

/// Tells, and leaves the mesh where the role says.
async fn tell() {
    let role = std::env::var(ROLE).unwrap();
    let [how, linger, invite] = role.split(' ').collect::<Vec<_>>()[..] else { panic!("{role}") };
    let host: PeerRef = invite.parse().unwrap();
    let start = async || {
        let mesh = Mesh::builder().listen("127.0.0.1:0".parse().unwrap());
        let mesh = match linger.parse() {
            Ok(ms) => mesh.linger(Duration::from_millis(ms)),
            Err(_) => mesh,
        };
        if how == "in-place" { mesh.in_place() } else { mesh }.start().await.unwrap()
    };
    let meshes =
        if how == "two" { vec![start().await, start().await] } else { vec![start().await] };
    let count = TELLS / meshes.len() as u64;
    for mesh in &meshes {
        let sink: ActorRef<Ticking> = mesh.resolve("sink").at(&host).await.unwrap();
        if how == "paused" {
            // The stream is there, and the test stops the host meanwhile.
            sink.ask(Ticks).await.unwrap();
            println!("\nREADY");
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
        if how == "actor" {
            let own = mesh.spawn(TickingActor::default);
            mesh.publish("own", &own).allow(Anyone).await.unwrap();
            println!("\nREADY {}", mesh.peer_ref());
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
        for _ in 0..count {
            sink.tell(Tick).await.unwrap();
        }
    }
    match how {
        "static" => {
            static HELD: OnceLock<Vec<Mesh>> = OnceLock::new();
            HELD.set(meshes).unwrap();
        }
        "task" | "many-threads" => {
            tokio::spawn(async move {
                std::future::pending::<()>().await;
                drop(meshes);
            });
        }
        _ => {}
    }
}

/// A process that tells.
pub(crate) struct Teller {
    process: Child,
    stdin: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What it logged as lost.
    pub(crate) lost: u64,
    /// What it logged as unconfirmed.
    pub(crate) unconfirmed: u64,
    /// From its last lane's draining to the end of its mesh, on the network's thread.
    pub(crate) over: Option<Duration>,
    /// And to the return of its `main`.
    pub(crate) returned: Option<Duration>,
    /// And to its end, as this process sees it.
    pub(crate) after_left: Option<Duration>,
}

impl Teller {
    /// `linger`: `None` is the default.
    pub(crate) fn start(how: &str, linger: Option<Duration>, host: &PeerRef) -> Self {
        let linger = linger.map_or("default".to_owned(), |limit| limit.as_millis().to_string());
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "teller::teller_process", "--nocapture"])
            .env(ROLE, format!("{how} {linger} {host}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = process.stdin.take().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, stdin, lines }
    }

    /// Waits for its word, and returns what follows.
    pub(crate) fn ready(&mut self) -> String {
        loop {
            let line = self.lines.next().unwrap().unwrap();
            if let Some(rest) = line.strip_prefix("READY") {
                return rest.trim().to_owned();
            }
        }
    }

    pub(crate) fn go_on(&mut self) {
        writeln!(self.stdin).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn outcome(mut self) -> Outcome {
        let (mut lost, mut unconfirmed) = (0, 0);
        let (mut left, mut over, mut returned) = (None, None, None);
        for line in self.lines {
            // The harness writes its own before the first one.
            let line = line.unwrap();
            let number = |word: &str| line.split_once(word)?.1.trim().parse::<u128>().ok();
            lost += number("LOST ").unwrap_or(0) as u64;
            unconfirmed += number("UNCONFIRMED ").unwrap_or(0) as u64;
            left = number("LEFT ").or(left);
            over = number("OVER ").or(over);
            returned = number("RETURNED ").or(returned);
        }
        let status = self.process.wait().unwrap();
        let ended = now_us();
        assert!(status.success(), "{status}");
        let since_left = |end: u128| Some(Duration::from_micros(end.saturating_sub(left?) as u64));
        let (over, returned) = (over.and_then(since_left), returned.and_then(since_left));
        Outcome { lost, unconfirmed, over, returned, after_left: since_left(ended) }
    }
}

/// The host that counts, in this process.
pub(crate) struct Sink {
    pub(crate) mesh: Mesh,
    actor: ActorRef<Ticking>,
    counted: u64,
}

impl Sink {
    pub(crate) async fn start() -> Self {
        let mesh = Mesh::builder().listen("127.0.0.1:0".parse().unwrap()).start().await.unwrap();
        let actor = mesh.spawn(TickingActor::default);
        mesh.publish("sink", &actor).allow(Anyone).await.unwrap();
        Self { mesh, actor, counted: 0 }
    }

    /// How many arrived since this was last asked. What is in the inlet is counted too.
    pub(crate) async fn arrived(&mut self) -> u64 {
        let all = self.actor.ask(Ticks).await.unwrap();
        all - std::mem::replace(&mut self.counted, all)
    }
}

/// Runs so many processes, so many at a time.
pub(crate) async fn run_many(
    how: &'static str,
    linger: Option<Duration>,
    host: &PeerRef,
    count: usize,
    at_once: usize,
) -> Vec<Outcome> {
    let begun = Instant::now();
    let mut outcomes = Vec::new();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..count {
        if running.len() >= at_once {
            outcomes.push(running.join_next().await.unwrap().unwrap());
        }
        let host = host.clone();
        running.spawn_blocking(move || Teller::start(how, linger, &host).outcome());
    }
    outcomes.extend(running.join_all().await);
    println!("{count} processes, {at_once} at a time: {:?}", begun.elapsed());
    outcomes
}
