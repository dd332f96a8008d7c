//! Programs that return from `main` with a mesh in their hands: what they were told is on its way leaves before they do.

use crate::host::Host;
use crate::teller::{Outcome, Sink, TELLS, Teller, Ticking, run_many};
use std::time::Duration;
use webmesh::{ActorRef, Down, DownReason, PeerRef, RemoteActor, prelude::*};

/// Long enough for a machine under load.
const LONG: Duration = Duration::from_secs(30);

fn on_runtime<F: Future<Output = ()>>(story: impl FnOnce() -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(story());
}

async fn all_arrive(how: &'static str) {
    let mut sink = Sink::start().await;
    let outcomes = run_many(how, Some(LONG), &sink.mesh.peer_ref(), 3, 3).await;
    let missed = |outcome: &Outcome| outcome.lost + outcome.unconfirmed;
    assert_eq!(outcomes.iter().map(missed).sum::<u64>(), 0, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| outcome.after_left.is_some()), "{outcomes:?}");
    assert_eq!(sink.arrived().await, 3 * TELLS);
    sink.mesh.shutdown().await;
}

#[test]
fn tells_that_were_accepted_arrive_though_main_returns_at_once() {
    on_runtime(|| all_arrive("threads"));
}

#[test]
fn tells_of_a_mesh_in_place_arrive_though_main_returns_at_once() {
    on_runtime(|| all_arrive("in-place"));
}

#[test]
fn tells_of_a_mesh_in_a_static_arrive() {
    on_runtime(|| all_arrive("static"));
}

#[test]
fn tells_of_a_mesh_in_a_task_that_never_ends_arrive() {
    on_runtime(|| all_arrive("task"));
    on_runtime(|| all_arrive("many-threads"));
}

#[test]
fn tells_of_several_meshes_arrive() {
    on_runtime(|| all_arrive("two"));
}

#[test]
fn a_program_with_a_runtime_of_its_own_says_when_it_ends() {
    on_runtime(|| all_arrive("own-runtime"));
}

#[test]
#[cfg(unix)]
fn what_cannot_leave_in_time_is_told_in_the_log_with_its_count() {
    on_runtime(|| async {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::start(dir.path(), "127.0.0.1:0");
        let mut teller = Teller::start("paused", None, &host.peer_ref);
        teller.ready();
        // It is there, and says nothing.
        host.signal("-STOP");
        teller.go_on();
        let outcome = teller.outcome();
        // Whether they arrive once it goes on, nobody knows: they aren't called lost.
        assert_eq!((outcome.lost, outcome.unconfirmed, outcome.after_left), (0, TELLS, None));
    });
}

/// Remembers how the watch ended.
#[derive(RemoteActor)]
#[remote(serves(Ticking))]
struct Watcher {
    of: ActorRef<Ticking>,
    ended: tokio::sync::mpsc::UnboundedSender<DownReason>,
    ready: tokio::sync::mpsc::UnboundedSender<()>,
}

impl Actor for Watcher {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Context<Self>) {
        webmesh::watch(ctx, &self.of);
        self.ready.send(()).unwrap();
    }
}

impl Handler<Down> for Watcher {
    type Result = ();
    fn handle(&mut self, down: Down, _: &mut Context<Self>) {
        self.ended.send(down.reason).unwrap();
    }
}

impl Handler<crate::teller::Tick> for Watcher {
    type Result = ();
    fn handle(&mut self, _: crate::teller::Tick, _: &mut Context<Self>) {}
}

impl Handler<crate::teller::Ticks> for Watcher {
    type Result = u64;
    fn handle(&mut self, _: crate::teller::Ticks, _: &mut Context<Self>) -> u64 {
        0
    }
}

#[test]
fn the_goodbye_of_a_program_that_returns_from_main_reaches_its_watchers() {
    on_runtime(|| async {
        let sink = Sink::start().await;
        for _ in 0..8 {
            let mut teller = Teller::start("actor", Some(LONG), &sink.mesh.peer_ref());
            let there: PeerRef = teller.ready().parse().unwrap();
            let own: ActorRef<Ticking> = sink.mesh.resolve("own").at(&there).await.unwrap();
            let (ended, mut end) = tokio::sync::mpsc::unbounded_channel();
            let (ready, mut is_ready) = tokio::sync::mpsc::unbounded_channel();
            sink.mesh.spawn({
                let of = own.clone();
                move || Watcher { of: of.clone(), ended: ended.clone(), ready: ready.clone() }
            });
            is_ready.recv().await.unwrap();
            // Behind the watch, on another stream of the same connection.
            own.ask(crate::teller::Ticks).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            teller.go_on();
            // Without a goodbye it would be `PeerGone`, a minute later.
            assert_eq!(end.recv().await, Some(DownReason::Stopped));
            assert_eq!(teller.outcome().lost, 0);
        }
        sink.mesh.shutdown().await;
    });
}

/// The median and the longest of them.
fn spread(times: impl Iterator<Item = Option<Duration>>) -> String {
    let mut times: Vec<_> = times.flatten().collect();
    times.sort_unstable();
    match times.last() {
        Some(longest) => format!("{:?}, {longest:?} at the most", times[times.len() / 2]),
        None => "-".to_owned(),
    }
}

/// What docs/decisions/0030 says. Run it by
/// `cargo test -p webmesh --all-features --test processes -- --ignored --nocapture --exact leaving::a_hundred_programs`.
#[test]
#[ignore = "takes minutes, and prints times that depend on the machine"]
fn a_hundred_programs() {
    on_runtime(|| async {
        let mut sink = Sink::start().await;
        let host = sink.mesh.peer_ref();
        let long = Some(Duration::from_secs(10));
        for (linger, runs, at_once) in [(None, 20, 100), (long, 20, 100), (long, 3, 4)] {
            for run in 1..=runs {
                let outcomes = run_many("threads", linger, &host, 100, at_once).await;
                let lost: u64 = outcomes.iter().map(|outcome| outcome.lost).sum();
                let unconfirmed: u64 = outcomes.iter().map(|outcome| outcome.unconfirmed).sum();
                tokio::time::sleep(Duration::from_secs(1)).await;
                let arrived = sink.arrived().await;
                println!(
                    "run {run}, linger {linger:?}: {arrived} arrived, {lost} logged as lost, {unconfirmed} as unconfirmed; from the \
                     last lane's draining to the mesh's end {}, to main's return {}, to the end {}",
                    spread(outcomes.iter().map(|outcome| outcome.over)),
                    spread(outcomes.iter().map(|outcome| outcome.returned)),
                    spread(outcomes.iter().map(|outcome| outcome.after_left)),
                );
                assert_eq!((arrived + lost, unconfirmed), (100 * TELLS, 0));
                assert!(linger.is_none() || lost == 0);
            }
        }
    });
}
