//! How actors and meshes end.

use crate::actors::{
    Atomic, Log, Note, Panic, Plain, ProbeActor, Stop, actix, mesh_in_place, probe_in_place,
};
use webmesh::prelude::*;
use webmesh::{AskError, TellError, TrySendError};

#[webmesh::test]
async fn a_stop_answers_what_is_queued_and_everything_later() {
    let (_mesh, probe, log) = probe_in_place().await;
    let (before, stop, behind) =
        (probe.ask(Plain { n: 1 }), probe.tell(Stop), probe.ask(Plain { n: 2 }));
    stop.await.unwrap();
    assert_eq!((before.await, behind.await), (Ok(1), Err(AskError::Stopped)));
    assert_eq!(probe.ask(Plain { n: 3 }).await, Err(AskError::Stopped));
    assert_eq!(probe.tell(Note { n: 4 }).await, Err(TellError::Stopped));
    assert_eq!(probe.try_tell(Note { n: 5 }), Err(TrySendError::Failed(TellError::Stopped)));
    assert_eq!(probe.flush().await, Err(TellError::Stopped));
    assert_eq!(log.take(), ["plain 1"]);
}

#[webmesh::test]
async fn whoever_waits_in_line_learns_of_the_stop() {
    let (mesh, log) = (mesh_in_place().await, Log::default());
    let probe = mesh.spawner().capacity(1).spawn(ProbeActor::factory(&log));
    let (stop, ask, tell, flush) =
        (probe.tell(Stop), probe.ask(Plain { n: 1 }), probe.tell(Note { n: 2 }), probe.flush());
    stop.await.unwrap();
    let (ask, tell, flush) = tokio::join!(ask, tell, flush);
    assert_eq!(
        (ask, tell, flush),
        (Err(AskError::Stopped), Err(TellError::Stopped), Err(TellError::Stopped))
    );
}

#[webmesh::test]
async fn an_atomic_response_in_flight_when_the_actor_stops_reads_as_stopped() {
    let (mesh, probe, _log) = probe_in_place().await;
    let atomic = tokio::task::spawn_local(probe.ask(Atomic { n: 1, ms: 60_000 }));
    tokio::task::yield_now().await;
    mesh.shutdown().await;
    assert_eq!(atomic.await.unwrap(), Err(AskError::Stopped));
}

#[webmesh::test]
async fn a_mesh_that_is_shut_down_stops_its_actors_and_starts_no_more() {
    let (mesh, probe, log) = probe_in_place().await;
    assert_eq!(probe.ask(Plain { n: 1 }).await, Ok(1));
    mesh.shutdown().await;
    assert_eq!(probe.ask(Plain { n: 2 }).await, Err(AskError::Stopped));
    let late = mesh.spawn(ProbeActor::factory(&log));
    assert_eq!(late.ask(Plain { n: 3 }).await, Err(AskError::Stopped));
    mesh.shutdown().await;
}

#[webmesh::test]
async fn an_exposed_actor_is_reached_by_refs_and_by_its_address() {
    let (mesh, log) = (mesh_in_place().await, Log::default());
    let address = ProbeActor::new(&log).start();
    let probe = mesh.expose(&address);
    assert_eq!(probe.ask(Plain { n: 1 }).await, Ok(1));
    assert_eq!(address.send(Plain { n: 2 }).await.unwrap(), 2);
    assert_eq!(probe.ask(Atomic { n: 3, ms: 10 }).await, Ok(3));
    assert_eq!(log.take(), ["plain 1", "plain 2", "begin 3", "end 3"]);
}

#[webmesh::test]
async fn an_exposed_actor_ends_by_its_stop_or_its_panic() {
    let (mesh, log) = (mesh_in_place().await, Log::default());
    let stopped = mesh.expose(&ProbeActor::new(&log).start());
    stopped.tell(Stop).await.unwrap();
    assert_eq!(stopped.ask(Plain { n: 1 }).await, Err(AskError::Stopped));
    let panicked = mesh.expose(&ProbeActor::new(&log).start());
    let (panicking, behind) =
        tokio::join!(panicked.ask(Panic::InHandler), panicked.ask(Plain { n: 2 }));
    assert_eq!((panicking, behind), (Err(AskError::Panicked), Err(AskError::Panicked)));
}

#[webmesh::test]
async fn an_actor_that_is_gone_before_it_is_exposed_reads_as_stopped() {
    let (mesh, log) = (mesh_in_place().await, Log::default());
    let address = ProbeActor::new(&log).start();
    address.send(Stop).await.unwrap();
    while address.connected() {
        tokio::task::yield_now().await;
    }
    assert_eq!(mesh.expose(&address).ask(Plain { n: 1 }).await, Err(AskError::Stopped));
}

#[webmesh::test]
async fn an_exposed_actor_outlives_the_mesh() {
    let (mesh, log) = (mesh_in_place().await, Log::default());
    let address: actix::Addr<ProbeActor> = ProbeActor::new(&log).start();
    let probe = mesh.expose(&address);
    assert_eq!(probe.ask(Plain { n: 1 }).await, Ok(1));
    mesh.shutdown().await;
    assert_eq!(probe.ask(Plain { n: 2 }).await, Err(AskError::Stopped));
    assert_eq!(address.send(Plain { n: 3 }).await.unwrap(), 3);
}
