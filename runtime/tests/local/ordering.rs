//! Order, credit, and what happens to those who wait for it.

use crate::actors::{
    Atomic, InActFuture, InFuture, Log, Note, Plain, Probe, ProbeActor, mesh_in_place,
    probe_in_place,
};
use std::time::Duration;
use tokio::time::Instant;
use webmesh::{ActorRef, AskError, Mesh, TrySendError};

/// A mesh with a probe whose inlet has so many places.
async fn small_probe(places: usize) -> (Mesh, ActorRef<Probe>, Log) {
    let (mesh, log) = (mesh_in_place().await, Log::default());
    let probe = mesh.spawner().capacity(places).spawn(ProbeActor::factory(&log));
    (mesh, probe, log)
}

#[webmesh::test]
async fn tells_and_asks_of_one_sender_arrive_in_the_order_of_the_calls() {
    let (_mesh, probe, log) = small_probe(3).await;
    let mut waiting = Vec::new();
    let mut expected = Vec::new();
    for n in 0..100 {
        if n % 3 == 0 {
            waiting.push(tokio::task::spawn_local({
                let ask = probe.ask(Plain { n });
                async move { assert_eq!(ask.await, Ok(n)) }
            }));
            expected.push(format!("plain {n}"));
        } else {
            waiting.push(tokio::task::spawn_local({
                let tell = probe.tell(Note { n });
                async move { tell.await.unwrap() }
            }));
            expected.push(format!("note {n}"));
        }
    }
    for task in waiting {
        task.await.unwrap();
    }
    probe.flush().await.unwrap();
    assert_eq!(log.take(), expected);
}

#[webmesh::test]
async fn all_four_kinds_of_response_are_answered_and_keep_their_meaning() {
    let (_mesh, probe, log) = probe_in_place().await;
    let (plain, future, act, atomic, next) = tokio::join!(
        probe.ask(Plain { n: 1 }),
        probe.ask(InFuture { n: 2, ms: 20 }),
        probe.ask(InActFuture { n: 3, ms: 10 }),
        probe.ask(Atomic { n: 4, ms: 50 }),
        probe.ask(Plain { n: 5 }),
    );
    assert_eq!([plain, future, act, atomic, next], [1, 2, 3, 4, 5].map(Ok));
    // Nothing comes between the begin and the end of the atomic one; the future that had begun before it goes on later.
    let lines = log.take();
    assert_eq!(lines[..3], ["plain 1", "begin 4", "end 4"]);
    assert!(
        lines.contains(&"act 3".to_string()) && lines.contains(&"plain 5".to_string()),
        "{lines:?}"
    );
}

#[webmesh::test]
async fn atomic_responses_never_overlap_and_keep_their_order() {
    let (_mesh, probe, log) = probe_in_place().await;
    let asks: Vec<_> =
        (0..5).map(|n| (probe.ask(Atomic { n, ms: 5 }), probe.tell(Note { n }))).collect();
    for (n, (ask, tell)) in asks.into_iter().enumerate() {
        tell.await.unwrap();
        assert_eq!(ask.await, Ok(n as u64));
    }
    probe.flush().await.unwrap();
    let expected: Vec<_> = (0..5)
        .flat_map(|n| [format!("begin {n}"), format!("end {n}"), format!("note {n}")])
        .collect();
    assert_eq!(log.take(), expected);
}

#[webmesh::test]
async fn a_tell_takes_its_place_when_called_not_when_awaited() {
    let (_mesh, probe, log) = small_probe(1).await;
    let first = probe.tell(Note { n: 1 });
    let second = probe.tell(Note { n: 2 });
    let third = probe.tell(Note { n: 3 });
    third.await.unwrap();
    second.await.unwrap();
    first.await.unwrap();
    probe.flush().await.unwrap();
    assert_eq!(log.take(), ["note 1", "note 2", "note 3"]);
}

#[webmesh::test]
async fn a_waiting_tell_or_ask_is_withdrawn_when_it_is_dropped() {
    let (_mesh, probe, log) = small_probe(1).await;
    let first = probe.tell(Note { n: 1 });
    drop(probe.tell(Note { n: 2 }));
    drop(probe.ask(Plain { n: 3 }));
    let fourth = probe.tell(Note { n: 4 });
    first.await.unwrap();
    fourth.await.unwrap();
    probe.flush().await.unwrap();
    assert_eq!(log.take(), ["note 1", "note 4"]);
}

#[webmesh::test]
async fn an_accepted_tell_arrives_though_its_future_is_dropped() {
    let (_mesh, probe, log) = probe_in_place().await;
    drop(probe.tell(Note { n: 1 }));
    probe.flush().await.unwrap();
    assert_eq!(log.take(), ["note 1"]);
}

#[webmesh::test]
async fn try_tell_gives_the_message_back_when_full_and_never_overtakes() {
    let (_mesh, probe, log) = small_probe(2).await;
    probe.try_tell(Note { n: 1 }).unwrap();
    probe.try_tell(Note { n: 2 }).unwrap();
    assert_eq!(probe.try_tell(Note { n: 3 }), Err(TrySendError::Full(Note { n: 3 })));
    let waiting = probe.tell(Note { n: 4 });
    assert!(matches!(probe.try_tell(Note { n: 5 }), Err(TrySendError::Full(Note { n: 5 }))));
    waiting.await.unwrap();
    probe.flush().await.unwrap();
    probe.try_tell(Note { n: 6 }).unwrap();
    probe.flush().await.unwrap();
    assert_eq!(log.take(), ["note 1", "note 2", "note 4", "note 6"]);
}

#[webmesh::test]
async fn an_ask_ends_after_30_s_waiting_for_credit_included() {
    let (_mesh, probe, log) = small_probe(1).await;
    let blocker = probe.ask(Atomic { n: 0, ms: 100_000 }).timeout(Duration::from_secs(1000));
    let blocker = tokio::task::spawn_local(blocker);
    tokio::task::yield_now().await;
    let start = Instant::now();
    let (queued, in_line) = (probe.ask(Plain { n: 1 }), probe.ask(Plain { n: 2 }));
    let (queued, in_line) = tokio::join!(queued, in_line);
    assert_eq!((queued, in_line), (Err(AskError::Timeout), Err(AskError::Timeout)));
    assert_eq!(start.elapsed().as_secs(), 30);
    assert_eq!(blocker.await.unwrap(), Ok(0));
    probe.flush().await.unwrap();
    // Both were withdrawn, the one in the queue and the one in line.
    assert_eq!(log.take(), ["begin 0", "end 0"]);
}

#[webmesh::test]
async fn the_time_of_an_ask_can_be_set() {
    let (_mesh, probe, _log) = probe_in_place().await;
    let start = Instant::now();
    let hasty = probe.ask(InFuture { n: 1, ms: 5_000 }).timeout(Duration::from_millis(100));
    assert_eq!(hasty.await, Err(AskError::Timeout));
    assert_eq!(start.elapsed(), Duration::from_millis(100));
    let patient = probe.ask(InFuture { n: 2, ms: 50_000 }).timeout(Duration::MAX);
    assert_eq!(patient.await, Ok(2));
}

#[webmesh::test]
async fn a_flush_waits_until_the_handler_has_taken_all_earlier_messages() {
    let (_mesh, probe, log) = probe_in_place().await;
    probe.tell(Atomic { n: 1, ms: 1000 }).await.unwrap();
    probe.tell(Note { n: 2 }).await.unwrap();
    let start = Instant::now();
    probe.flush().await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 1);
    assert_eq!(log.take(), ["begin 1", "end 1", "note 2"]);
}

#[webmesh::test]
async fn a_slow_actor_slows_its_own_senders_only() {
    let mesh = mesh_in_place().await;
    let (slow_log, fast_log) = (Log::default(), Log::default());
    let slow = mesh.spawner().capacity(8).spawn(ProbeActor::factory(&slow_log));
    let fast = mesh.spawner().capacity(8).spawn(ProbeActor::factory(&fast_log));
    let to_slow = tokio::task::spawn_local(async move {
        for n in 0..100 {
            slow.tell(Atomic { n, ms: 100 }).await.unwrap();
        }
        slow.flush().await.unwrap();
    });
    let start = Instant::now();
    for n in 0..10_000 {
        fast.tell(Note { n }).await.unwrap();
    }
    fast.flush().await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    assert_eq!(fast_log.take().len(), 10_000);
    to_slow.await.unwrap();
    assert_eq!(start.elapsed().as_millis() / 100, 100);
    assert_eq!(slow_log.take().len(), 200);
}

#[webmesh::test]
async fn an_actor_that_floods_itself_lets_its_neighbours_run() {
    use crate::actors::{Stop, actix};
    use webmesh::prelude::*;

    #[derive(webmesh::RemoteActor)]
    #[remote(serves(Endless))]
    struct EndlessActor;
    #[derive(webmesh::Protocol)]
    #[protocol(id = "test.endless/1", accepts(Note, Stop))]
    struct Endless;
    impl Actor for EndlessActor {
        type Context = Context<Self>;
    }
    impl Handler<Note> for EndlessActor {
        type Result = ResponseActFuture<Self, ()>;
        fn handle(&mut self, note: Note, ctx: &mut Context<Self>) -> Self::Result {
            webmesh::send(ctx, &webmesh::this::<Endless>(ctx), Note { n: note.n + 1 }).unwrap();
            Box::pin(actix::fut::ready(()))
        }
    }
    impl Handler<Stop> for EndlessActor {
        type Result = ();
        fn handle(&mut self, _: Stop, ctx: &mut Context<Self>) {
            ctx.stop();
        }
    }

    let (mesh, probe, _log) = probe_in_place().await;
    let endless = mesh.spawn(|| EndlessActor);
    endless.tell(Note { n: 0 }).await.unwrap();
    for n in 0..100 {
        assert_eq!(probe.ask(Plain { n }).await, Ok(n));
    }
    endless.tell(Stop).await.unwrap();
}
