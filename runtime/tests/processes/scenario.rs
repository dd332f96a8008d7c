//! The scenarios, and the actors they use.

use crate::host::{Host, peak_mib};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;
use webmesh::{
    ActorRef, AskError, Bytes, Down, Mesh, Message, Protocol, RemoteActor, Reply, WatchId,
    prelude::*,
};

/// A numbered message of one sender: as a tell, or as an ask.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.note")]
struct Note {
    sender: u32,
    number: u64,
    body: Bytes,
}

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.work", reply = u64)]
struct Work {
    sender: u32,
    number: u64,
    body: Bytes,
}

/// Is answered when the host opens the gate.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.wait", reply = u64)]
struct Wait;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.open-gate")]
struct OpenGate;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.private", reply = Option<ActorRef<Worker>>)]
struct GivePrivate;

#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.report", reply = Report)]
struct GetReport;

/// Panics.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.crash", reply = u64)]
struct Crash;

#[derive(Debug, Serialize, Deserialize, Reply)]
struct Report {
    received: u64,
    bytes: u64,
    out_of_order: u64,
    peak_mib: u64,
}

#[derive(Protocol)]
#[protocol(
    id = "webmesh.test.worker/1",
    accepts(Note, Work, Wait, OpenGate, GivePrivate, GetReport, Crash)
)]
pub(crate) struct Worker;

/// Closed until somebody opens it.
#[derive(Clone)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

impl Default for Gate {
    fn default() -> Self {
        Gate(Arc::new(watch::Sender::new(false)))
    }
}

impl Gate {
    async fn passed(self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// Checks that each sender's messages come in order; the slow one first waits at the gate.
#[derive(RemoteActor)]
#[remote(serves(Worker))]
pub(crate) struct WorkerActor {
    gate: Gate,
    private: Option<ActorRef<Worker>>,
    pub(crate) waits_at_gate: bool,
    next: HashMap<u32, u64>,
    report: Report,
}

impl WorkerActor {
    pub(crate) fn new(gate: Gate, private: Option<ActorRef<Worker>>) -> Self {
        let report = Report { received: 0, bytes: 0, out_of_order: 0, peak_mib: 0 };
        Self { gate, private, waits_at_gate: false, next: HashMap::new(), report }
    }

    fn take(&mut self, sender: u32, number: u64, body: &Bytes) -> u64 {
        let next = self.next.entry(sender).or_default();
        self.report.out_of_order += u64::from(*next != number);
        *next = number + 1;
        self.report.received += 1;
        self.report.bytes += body.len() as u64;
        // The first byte says what all the others must be: a body of another message would show.
        let fill = body.first().copied().unwrap_or_default();
        assert!(
            body.iter().step_by(4093).all(|byte| *byte == fill)
                && (body.is_empty() || fill == number as u8)
        );
        number
    }

    fn after_gate<T: 'static>(&self, value: T) -> AtomicResponse<Self, T> {
        let (gate, waits) = (self.gate.clone(), self.waits_at_gate);
        let passed = async move {
            if waits {
                gate.passed().await;
            }
            value
        };
        AtomicResponse::new(Box::pin(passed.into_actor(self)))
    }
}

impl Actor for WorkerActor {
    type Context = Context<Self>;
}

impl Handler<Note> for WorkerActor {
    type Result = AtomicResponse<Self, ()>;
    fn handle(&mut self, note: Note, _: &mut Context<Self>) -> Self::Result {
        self.take(note.sender, note.number, &note.body);
        self.after_gate(())
    }
}

impl Handler<Work> for WorkerActor {
    type Result = AtomicResponse<Self, u64>;
    fn handle(&mut self, work: Work, _: &mut Context<Self>) -> Self::Result {
        let number = self.take(work.sender, work.number, &work.body);
        self.after_gate(number)
    }
}

impl Handler<Wait> for WorkerActor {
    type Result = ResponseFuture<u64>;
    fn handle(&mut self, _: Wait, _: &mut Context<Self>) -> Self::Result {
        let gate = self.gate.clone();
        Box::pin(async move {
            gate.passed().await;
            1
        })
    }
}

impl Handler<OpenGate> for WorkerActor {
    type Result = ();
    fn handle(&mut self, _: OpenGate, _: &mut Context<Self>) {
        self.gate.0.send_replace(true);
    }
}

impl Handler<GivePrivate> for WorkerActor {
    type Result = Option<ActorRef<Worker>>;
    fn handle(&mut self, _: GivePrivate, _: &mut Context<Self>) -> Self::Result {
        self.private.clone()
    }
}

impl Handler<GetReport> for WorkerActor {
    type Result = Report;
    fn handle(&mut self, _: GetReport, _: &mut Context<Self>) -> Report {
        let Report { received, bytes, out_of_order, .. } = self.report;
        Report { received, bytes, out_of_order, peak_mib: peak_mib() }
    }
}

impl Handler<Crash> for WorkerActor {
    type Result = u64;
    fn handle(&mut self, _: Crash, _: &mut Context<Self>) -> u64 {
        panic!("asked to crash")
    }
}

/// Watches another actor and remembers every final word about it.
#[derive(RemoteActor)]
#[remote(serves(Watching))]
struct Watcher {
    target: ActorRef<Worker>,
    seen: tokio::sync::mpsc::UnboundedSender<(WatchId, String)>,
}

#[derive(Protocol)]
#[protocol(id = "webmesh.test.watcher/1", accepts(OpenGate))]
struct Watching;

impl Actor for Watcher {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        webmesh::watch(ctx, &self.target);
    }
}

impl Handler<OpenGate> for Watcher {
    type Result = ();
    fn handle(&mut self, _: OpenGate, _: &mut Context<Self>) {}
}

impl Handler<Down> for Watcher {
    type Result = ();
    fn handle(&mut self, down: Down, _: &mut Context<Self>) {
        self.seen.send((down.watch, format!("{:?}", down.reason))).unwrap();
    }
}

fn on_runtime<F: Future>(scenario: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(scenario());
}

async fn guest() -> Mesh {
    Mesh::builder().listen("127.0.0.1:0".parse().unwrap()).start().await.unwrap()
}

async fn worker(mesh: &Mesh, host: &Host, name: &str) -> ActorRef<Worker> {
    mesh.resolve(name).at(&host.peer_ref).await.unwrap()
}

/// From 0 B to 8 MiB: mostly small, some beside the lane, a few huge.
fn body(number: u64) -> Bytes {
    let length = match number {
        n if n % 500 == 250 => 8 << 20,
        n if n % 100 == 50 => 1 << 20,
        n if n % 10 == 5 => (64 << 10) + 1,
        n if n % 10 == 6 => 64 << 10,
        n => (n % 7 * 150) as usize,
    };
    Bytes::from(vec![number as u8; length])
}

#[test]
fn ten_thousand_tells_and_asks_arrive_once_and_in_order_while_one_actor_is_slow() {
    on_runtime(|| async {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::start(dir.path(), "127.0.0.1:0");
        let mesh = guest().await;
        const SENDERS: u32 = 4;
        // To the slow actor fewer, for nothing of it moves before the gate opens.
        let plan = [("fast-1", 1_000), ("fast-2", 1_000), ("slow", 500)];
        let mut tasks = HashMap::new();
        for (name, count) in plan {
            let target = worker(&mesh, &host, name).await;
            for sender in 0..SENDERS {
                let target = target.clone();
                let task = tokio::spawn(async move {
                    let mut asks = Vec::new();
                    for number in 0..count {
                        if number % 3 == 0 {
                            let work = Work { sender, number, body: body(number) };
                            let ask =
                                target.ask(work).timeout(Duration::from_secs(120)).into_future();
                            asks.push((number, tokio::spawn(ask)));
                        } else {
                            target.tell(Note { sender, number, body: body(number) }).await.unwrap();
                        }
                        if asks.len() == 8 {
                            for (number, ask) in asks.drain(..) {
                                assert_eq!(ask.await.unwrap().unwrap(), number);
                            }
                        }
                    }
                    for (number, ask) in asks {
                        assert_eq!(ask.await.unwrap().unwrap(), number);
                    }
                    target.flush().await.unwrap();
                });
                tasks.entry(name).or_insert_with(Vec::new).push(task);
            }
        }
        let start = Instant::now();
        for name in ["fast-1", "fast-2"] {
            for task in tasks.remove(name).unwrap() {
                task.await.unwrap();
            }
        }
        println!(
            "the fast actors were done after {:?}, while the slow one stood at its gate",
            start.elapsed()
        );
        assert!(tasks["slow"].iter().all(|task| !task.is_finished()));
        worker(&mesh, &host, "fast-1").await.tell(OpenGate).await.unwrap();
        for task in tasks.remove("slow").unwrap() {
            task.await.unwrap();
        }
        println!("and the slow one after {:?}", start.elapsed());
        let mut peak = 0;
        for (name, count) in plan {
            let report = worker(&mesh, &host, name).await.ask(GetReport).await.unwrap();
            let bytes: u64 = (0..count).map(|number| body(number).len() as u64).sum();
            let sent = (u64::from(SENDERS) * count, u64::from(SENDERS) * bytes, 0);
            assert_eq!((report.received, report.bytes, report.out_of_order), sent, "{name}");
            peak = peak.max(report.peak_mib);
        }
        println!("peak resident memory: host {peak} MiB, guest {} MiB", peak_mib());
        mesh.shutdown().await;
    });
}

#[test]
fn killing_the_host_ends_every_pending_ask_and_a_restart_restores_published_refs_only() {
    on_runtime(|| async {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::start(dir.path(), "127.0.0.1:0");
        let address = host.address();
        let mesh = guest().await;
        let published = worker(&mesh, &host, "fast-1").await;
        let private = published.ask(GivePrivate).await.unwrap().unwrap();
        let (seen, mut downs) = tokio::sync::mpsc::unbounded_channel();
        let _watcher = mesh.spawn({
            let target = private.clone();
            move || Watcher { target: target.clone(), seen: seen.clone() }
        });
        private.ask(Work { sender: 1, number: 0, body: Bytes::new() }).await.unwrap();

        // Some wait for an answer that will not come, others are in the middle of their traffic.
        let mut pending = Vec::new();
        for _ in 0..20 {
            let waiting = published.clone();
            pending.push(tokio::spawn(async move { waiting.ask(Wait).await.map(drop) }));
            let busy = private.clone();
            pending.push(tokio::spawn(async move {
                loop {
                    busy.ask(Work { sender: 9, number: 0, body: Bytes::from(vec![0; 100_000]) })
                        .await?;
                }
            }));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        host.kill();
        let killed = Instant::now();
        for ask in pending {
            let ended: Result<(), AskError> = ask.await.unwrap();
            assert!(ended.is_err(), "nobody was there to answer");
        }
        println!("every pending ask ended {:?} after the kill", killed.elapsed());
        // The promise is 6 s; a machine under load gets some more before this counts as hanging.
        assert!(killed.elapsed() < Duration::from_secs(12));

        let _again = Host::start(dir.path(), &address);
        assert_eq!(published.ask(Work { sender: 5, number: 0, body: Bytes::new() }).await, Ok(0));
        assert_eq!(
            private.ask(Work { sender: 5, number: 0, body: Bytes::new() }).await,
            Err(AskError::NoSuchActor)
        );
        let (watch, reason) = downs.recv().await.unwrap();
        assert_eq!(reason, "Stale");
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(downs.try_recv().is_err(), "{watch:?} ends once");
        mesh.shutdown().await;
    });
}

#[test]
fn an_idle_watcher_of_a_process_that_was_killed_is_told_of_its_restart() {
    on_runtime(|| async {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::start(dir.path(), "127.0.0.1:0");
        let address = host.address();
        let mesh = guest().await;
        let target = worker(&mesh, &host, "fast-1").await;
        let (seen, mut downs) = tokio::sync::mpsc::unbounded_channel();
        let _watcher = mesh.spawn({
            let target = target.clone();
            move || Watcher { target: target.clone(), seen: seen.clone() }
        });
        target.ask(Work { sender: 1, number: 0, body: Bytes::new() }).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        host.kill();
        let _again = Host::start(dir.path(), &address);
        let started = Instant::now();
        // As a rule within 2 s; a machine under load gets some more before this counts as hanging.
        let told = tokio::time::timeout(Duration::from_secs(15), downs.recv()).await;
        assert_eq!(told.unwrap().unwrap().1, "Stale");
        println!("told {:?} after the new process was ready", started.elapsed());
        let again = loop {
            let outcome = target.ask(Work { sender: 1, number: 1, body: Bytes::new() }).await;
            // The stream to the former process may hear of its end a moment after the watch does.
            if outcome != Err(AskError::PeerRestarted) {
                break outcome;
            }
        };
        assert_eq!(again, Ok(1), "the name is there again");
        mesh.shutdown().await;
    });
}

#[test]
fn a_guest_that_is_killed_leaves_the_host_serving_others() {
    on_runtime(|| async {
        let (host_dir, guest_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let host = Host::start(host_dir.path(), "127.0.0.1:0");
        // The guest that is killed is a host too: this process asks it, so that its end is seen from both sides.
        let victim = Host::start(guest_dir.path(), "127.0.0.1:0");
        let mesh = guest().await;
        let (alive, dead) =
            (worker(&mesh, &host, "fast-1").await, worker(&mesh, &victim, "fast-1").await);
        let waiting = tokio::spawn({
            let dead = dead.clone();
            async move { dead.ask(Wait).await }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        victim.kill();
        for number in 0..1_000 {
            assert_eq!(
                alive
                    .ask(Work { sender: 1, number, body: Bytes::from(vec![number as u8; 200]) })
                    .await,
                Ok(number)
            );
        }
        assert!(waiting.await.unwrap().is_err());
        mesh.shutdown().await;
    });
}

#[test]
fn a_panicking_actor_keeps_its_ref_and_its_queue_for_remote_senders() {
    on_runtime(|| async {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::start(dir.path(), "127.0.0.1:0");
        let mesh = guest().await;
        let target = worker(&mesh, &host, "fast-2").await;
        let mut asks = Vec::new();
        for number in 0..1_000_u64 {
            // A third crash within ten seconds would have this host refused.
            if number % 500 == 499 {
                asks.push((number, tokio::spawn(target.ask(Crash).into_future())));
            } else {
                let work = Work { sender: 1, number, body: Bytes::from(vec![number as u8; 10]) };
                asks.push((number, tokio::spawn(target.ask(work).into_future())));
            }
        }
        for (number, ask) in asks {
            match ask.await.unwrap() {
                Ok(answer) => assert_eq!(answer, number),
                Err(error) => {
                    assert_eq!(error, AskError::Panicked);
                    assert_eq!(number % 500, 499, "only the crashing message itself is lost");
                }
            }
        }
        mesh.shutdown().await;
    });
}
