//! What the log says at `RUST_LOG=webmesh=debug`: each thing that goes wrong has its line, on both sides, and others can't flood it.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "local/actors.rs"]
#[allow(dead_code)]
mod actors;
#[path = "guarantees/world.rs"]
#[allow(dead_code)]
mod world;

use actors::{Plain, Probe, ProbeActor, Stop};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};
use webmesh::{
    ActorRef, Anyone, AskError, MemoryNetwork, Mesh, Message, Only, Protocol, ResolveError,
};
use world::{address, host, host_builder, seconds, watcher};

/// Known to the newer program alone.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.newer", reply = u64)]
struct Newer;

/// What another program takes a note for.
#[derive(Message, Serialize, Deserialize)]
#[message(id = "test.plain", reply = u64)]
struct OtherPlain {
    title: String,
}

#[derive(Protocol)]
#[protocol(id = "test.probe/1", accepts(OtherPlain, Newer))]
struct OtherProbe;

#[derive(Protocol)]
#[protocol(id = "test.stranger/1", accepts(Newer))]
struct Stranger;

/// A log in memory.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    /// Writes down what this thread logs, with the filter that the documentation names.
    fn catch() -> (Self, tracing::subscriber::DefaultGuard) {
        let lines = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("webmesh=debug"))
            .with_writer(lines.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    /// What was written since the last call.
    fn take(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    /// There is exactly one line with all of these parts.
    #[track_caller]
    fn one(lines: &[String], parts: &[&str]) {
        let fits = |line: &&String| parts.iter().all(|part| line.contains(part));
        let found = lines.iter().filter(fits).count();
        assert_eq!(found, 1, "{parts:?} in\n{}", lines.join("\n"));
    }
}

/// How a line names a peer.
fn of(mesh: &Mesh) -> String {
    format!("peer={}", mesh.peer_id())
}

async fn probe(on: &Mesh) -> ActorRef<Probe> {
    on.spawn(ProbeActor::factory(&actors::Log::default()))
}

#[webmesh::test]
async fn each_refusal_and_each_end_has_one_line_on_either_side() {
    let (log, _caught) = Lines::catch();
    let network = MemoryNetwork::new(1);
    network.set_latency(Duration::from_millis(10));
    let guest = host(&network, 1).await;
    let host = host_builder(&network, 2).listen(address(3)).start().await.unwrap();
    let (by_guest, by_host) = (of(&guest), of(&host));
    let lines = log.take();
    Lines::one(&lines, &["INFO", "started", &by_guest, "10.0.0.1:4000"]);
    Lines::one(&lines, &["INFO", "started", &by_host, "10.0.0.2:4000", "10.0.0.3:4000"]);

    let open = probe(&host).await;
    let closed = probe(&host).await;
    host.publish("open", &open).allow(Anyone).await.unwrap();
    host.publish("closed", &closed).allow(Only::these([host.peer_id()])).await.unwrap();
    let at = host.peer_ref();
    let far: ActorRef<Probe> = guest.resolve("open").at(&at).await.unwrap();
    let lines = log.take();
    Lines::one(&lines, &["dial ", &by_host, "10.0.0.2:4000"]);
    Lines::one(&lines, &["link up", &by_host, "road=direct", "via=10.0.0.2:4000", "dialled=true"]);
    Lines::one(&lines, &["link up", &by_guest, "road=direct", "dialled=false"]);

    let unknown: Result<ActorRef<Probe>, _> = guest.resolve("closed").at(&at).await;
    assert_eq!(unknown.err(), Some(ResolveError::Unknown));
    let lines = log.take();
    Lines::one(&lines, &["refused", &by_guest, "the name closed", "isn't for this peer"]);
    Lines::one(&lines, &["not resolved", "name=closed"]);
    let unknown: Result<ActorRef<Probe>, _> = guest.resolve("nobody").at(&at).await;
    assert_eq!(unknown.err(), Some(ResolveError::Unknown));
    Lines::one(&log.take(), &["refused", &by_guest, "the name nobody", "nothing is published"]);
    let newer: Result<ActorRef<Probe>, _> = guest.resolve("open").at(&at).version("^7").await;
    assert!(newer.is_err());
    Lines::one(&log.take(), &["refused", &by_guest, "the name open ^7", "no version"]);
    let stranger: Result<ActorRef<Stranger>, _> = guest.resolve("open").at(&at).await;
    assert!(stranger.is_err());
    Lines::one(&log.take(), &["refused", &by_guest, "the name open", "another protocol"]);

    let other: ActorRef<OtherProbe> = guest.resolve("open").at(&at).await.unwrap();
    assert_eq!(other.ask(Newer).await, Err(AskError::UnknownMessage));
    let lines = log.take();
    Lines::one(&lines, &["refused", &by_guest, "the message test.newer of test.probe/1"]);
    Lines::one(&lines, &["the peer says no", &by_host, "an ask", "UnknownMessage"]);
    let bad = other.ask(OtherPlain { title: "x".into() }).await;
    assert!(matches!(bad, Err(AskError::BadPayload(_))), "{bad:?}");
    let lines = log.take();
    Lines::one(&lines, &["refused", &by_guest, "the message test.plain", "can't be decoded"]);
    Lines::one(&lines, &["the peer says no", &by_host, "BadPayload"]);
    // One that is so large that the actor decodes it says the same.
    let bad = other.ask(OtherPlain { title: "x".repeat(200_000) }).await;
    assert!(matches!(bad, Err(AskError::BadPayload(_))), "{bad:?}");
    Lines::one(&log.take(), &["refused", &by_guest, "the message test.plain", "can't be decoded"]);

    // The same is counted, by reason.
    let counted = serde_json::to_value(host.stats()).unwrap();
    for (reason, count) in [
        ("forbidden_name", 1),
        ("unknown_name", 1),
        ("no_matching_version", 1),
        ("wrong_protocol", 1),
        ("unknown_message", 1),
        ("bad_payload", 2),
        ("broken_protocol", 0),
    ] {
        assert_eq!(counted["refusals"][reason], count, "{reason} in {counted}");
    }
    assert_eq!(counted["links"][0]["peer"], guest.peer_id().to_string());
    assert_eq!(counted["links"][0]["path"], "direct");

    let _heard = watcher(&guest, &far).await;
    let lines = log.take();
    Lines::one(&lines, &["a watch begins", &by_host, "test.probe/1"]);
    Lines::one(&lines, &["a peer watches an actor", &by_guest, "test.probe/1"]);
    let cut = |n: u8, parted| network.set_cut(address(1).ip(), address(n).ip(), parted);
    cut(2, true);
    let pending = tokio::task::spawn_local(far.ask(Plain { n: 1 }));
    seconds(20).await;
    assert_eq!(pending.await.unwrap(), Ok(1));
    Lines::one(&log.take(), &["another road is taken", &by_host, "via=10.0.0.3:4000"]);
    cut(3, true);
    assert_eq!(far.ask(Plain { n: 2 }).await, Err(AskError::Unreachable));
    Lines::one(&log.take(), &["unreachable", &by_host]);
    cut(3, false);
    assert_eq!(far.ask(Plain { n: 3 }).await, Ok(3));
    Lines::one(&log.take(), &[" reachable", &by_host]);
    let _ = far.tell(Stop).await;
    seconds(1).await;
    let lines = log.take();
    Lines::one(&lines, &["a watch ended", &by_host, "Stopped"]);
    Lines::one(&lines, &["a peer's watch ended", &by_guest, "Stopped"]);
    host.shutdown().await;
    seconds(1).await;
    Lines::one(&log.take(), &["link down", &by_host, "shut down"]);
    assert!(guest.connect(&at).await.is_err());
    Lines::one(&log.take(), &["dial failed", &by_host, "why=the handshake failed"]);
    guest.shutdown().await;
}

#[webmesh::test]
async fn a_peer_that_is_refused_again_and_again_writes_a_few_lines_and_the_rest_is_counted() {
    let (log, _caught) = Lines::catch();
    let network = MemoryNetwork::new(1);
    let (guest, host) = (host(&network, 1).await, host(&network, 2).await);
    let near = probe(&host).await;
    host.publish("probe", &near).allow(Anyone).await.unwrap();
    let other: ActorRef<OtherProbe> = guest.resolve("probe").at(&host.peer_ref()).await.unwrap();
    let begun = tokio::time::Instant::now();
    for _ in 0..2000 {
        assert!(other.ask(OtherPlain { title: "\u{1b}[2J\n".repeat(100) }).await.is_err());
    }
    let refused = |lines: &[String]| lines.iter().filter(|l| l.contains("refused")).count() as u64;
    let lines = log.take();
    let most = 10 + begun.elapsed().as_secs() + 1;
    assert!((10..=most).contains(&refused(&lines)), "{} of {most}", refused(&lines));
    assert!(lines.iter().all(|line| line.len() < 1000 && !line.contains('\u{1b}')));
    seconds(20).await;
    assert!(other.ask(OtherPlain { title: "x".into() }).await.is_err());
    let lines = log.take();
    let left_out = lines.iter().find(|line| line.contains("refused")).unwrap();
    let count = left_out.split("left_out=").nth(1).unwrap().split_whitespace().next().unwrap();
    assert!(count.parse::<u64>().unwrap() >= 1900, "{left_out}");
}
