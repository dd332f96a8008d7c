//! How a mesh ends: what is in hand is answered, what was accepted leaves, and peers are told.

use crate::actors::{Atomic, InActFuture, InFuture, Log, Note, Plain, Probe, ProbeActor, Silence};
use crate::spy::Spy;
use crate::world::{address, far_probe, host, host_builder, lossy_pair, seconds, watcher};
use std::time::Duration;
use tokio::time::Instant;
use webmesh::{ActorRef, Anyone, AskError, Mesh, TellError, TrySendError};

fn asking<M>(
    probe: &ActorRef<Probe>,
    message: M,
) -> tokio::task::JoinHandle<Result<M::Result, AskError>>
where
    M: webmesh::Message,
    Probe: webmesh::Accepts<M>,
{
    tokio::task::spawn_local(probe.ask(message))
}

#[webmesh::test]
async fn a_mesh_that_is_shut_down_answers_what_is_in_hand_near_and_far_alike() {
    let (_network, guest, far_host) = lossy_pair().await;
    let (far, log) = far_probe(&far_host, &guest, 100).await;
    let near: ActorRef<Probe> = far_host.resolve("probe").await.unwrap();
    let asks = [&near, &far].map(|probe| {
        (asking(probe, InFuture { n: 1, ms: 4000 }), asking(probe, InActFuture { n: 2, ms: 4000 }))
    });
    seconds(1).await;
    // Whatever is behind an `AtomicResponse` waits in the queue.
    let begun = asking(&far, Atomic { n: 3, ms: 2000 });
    seconds(1).await;
    let behind = [asking(&near, Plain { n: 4 }), asking(&far, Plain { n: 5 })];
    seconds(1).await;
    let begins = Instant::now();
    let shutdown = tokio::task::spawn_local({
        let far_host = far_host.clone();
        async move { far_host.shutdown().await }
    });
    for ask in behind {
        assert_eq!(ask.await.unwrap(), Err(AskError::Stopped));
    }
    assert!(begins.elapsed() < Duration::from_millis(500), "{:?}", begins.elapsed());
    assert_eq!(near.ask(Plain { n: 6 }).await, Err(AskError::Stopped));
    for (future, act_future) in asks {
        assert_eq!((future.await.unwrap(), act_future.await.unwrap()), (Ok(1), Ok(2)));
    }
    assert_eq!(begun.await.unwrap(), Ok(3));
    shutdown.await.unwrap();
    assert!(begins.elapsed() < Duration::from_secs(3), "{:?}", begins.elapsed());
    assert_eq!(log.take(), ["begin 3", "end 3", "act 2", "act 2"]);
}

#[webmesh::test]
async fn who_takes_longer_than_a_shutdown_has_gets_no_answer() {
    let (_network, guest, far_host) = lossy_pair().await;
    let (far, _) = far_probe(&far_host, &guest, 100).await;
    let ask = asking(&far, InActFuture { n: 1, ms: 60_000 });
    seconds(1).await;
    let begins = Instant::now();
    far_host.shutdown_within(Duration::from_secs(2)).await;
    let took = begins.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(ask.await.unwrap(), Err(AskError::Stopped));
}

#[webmesh::test]
async fn a_shutdown_goes_on_though_nobody_waits_for_it_or_holds_the_mesh() {
    let (_network, guest, far_host) = lossy_pair().await;
    let (far, log) = far_probe(&far_host, &guest, 100).await;
    let near: ActorRef<Probe> = far_host.resolve("probe").await.unwrap();
    let asks = [&near, &far].map(|probe| asking(probe, InActFuture { n: 1, ms: 10_000 }));
    seconds(1).await;
    let begun = far_host.shutdown_within(Duration::from_secs(30));
    assert!(tokio::time::timeout(Duration::from_secs(1), begun).await.is_err());
    drop(far_host);
    for ask in asks {
        assert_eq!(ask.await.unwrap(), Ok(1));
    }
    assert_eq!(log.take(), ["act 1", "act 1"]);
}

#[webmesh::test]
async fn a_shutdown_may_have_all_the_time_of_the_world() {
    let (_network, guest, far_host) = lossy_pair().await;
    let (far, _) = far_probe(&far_host, &guest, 100).await;
    let ask = asking(&far, InActFuture { n: 1, ms: 10_000 });
    seconds(1).await;
    far_host.shutdown_within(Duration::MAX).await;
    assert_eq!(ask.await.unwrap(), Ok(1));
}

#[webmesh::test]
async fn a_shutdown_does_not_wait_for_askers_that_have_gone() {
    let (_network, guest, far_host) = lossy_pair().await;
    let (far, _) = far_probe(&far_host, &guest, 100).await;
    let near: ActorRef<Probe> = far_host.resolve("probe").await.unwrap();
    let asks =
        [asking(&far, InFuture { n: 1, ms: 60_000 }), asking(&near, InFuture { n: 2, ms: 60_000 })];
    seconds(1).await;
    guest.shutdown().await;
    for ask in asks {
        ask.abort();
    }
    seconds(1).await;
    let begins = Instant::now();
    far_host.shutdown().await;
    assert!(begins.elapsed() < Duration::from_secs(2), "{:?}", begins.elapsed());
}

#[webmesh::test]
async fn a_mesh_that_is_dropped_leaves_behind_nothing_that_it_accepted() {
    let (network, guest, far_host) = lossy_pair().await;
    network.set_loss(0.2);
    let (_, log) = far_probe(&far_host, &guest, 4096).await;
    for many in [1, 10, 1000] {
        let sender = host(&network, 3).await;
        let probe: ActorRef<Probe> =
            sender.resolve("probe").at(&far_host.peer_ref()).await.unwrap();
        let heard = watcher(&guest, &{
            let own = sender.spawn(ProbeActor::factory(&Log::default()));
            sender.publish("own", &own).allow(Anyone).await.unwrap();
            guest.resolve("own").at(&sender.peer_ref()).await.unwrap()
        })
        .await;
        for n in 0..many {
            probe.tell(Note { n }).await.unwrap();
        }
        drop(sender);
        // Who told may be told at once that nothing more is taken; what was accepted goes on.
        seconds(2).await;
        assert_eq!(log.take().len() as u64, many);
        assert_eq!(heard.take(), ["down Stopped"]);
        assert_eq!(probe.tell(Note { n: 0 }).await, Err(TellError::ShutDown));
    }
}

/// How many tells the log calls lost, and how many unconfirmed, since the last call.
fn told(spy: &Spy) -> (u64, u64) {
    let lines = spy.take();
    let sum = |name| {
        let words = lines.iter().flat_map(|line| line.split(' '));
        words.filter_map(|word| word.strip_prefix(name)?.parse::<u64>().ok()).sum()
    };
    (sum("lost="), sum("unconfirmed="))
}

#[webmesh::test]
async fn what_a_busy_actor_has_no_room_for_when_its_sender_ends_is_lost_and_counted_exactly() {
    let (network, guest, far_host) = lossy_pair().await;
    let sender = host_builder(&network, 9).linger(Duration::from_secs(1)).start().await.unwrap();
    let (_, log) = far_probe(&far_host, &guest, 8).await;
    let own: ActorRef<Probe> = far_host.resolve("probe").await.unwrap();
    let busy = asking(&own, Atomic { n: 0, ms: 60_000 });
    let probe: ActorRef<Probe> = sender.resolve("probe").at(&far_host.peer_ref()).await.unwrap();
    for n in 0..50 {
        probe.tell(Note { n }).await.unwrap();
    }
    let spy = Spy::default();
    let listening = spy.listen();
    drop(sender);
    seconds(5).await;
    drop(listening);
    let (lost, unconfirmed) = told(&spy);
    assert!(busy.await.unwrap().is_err(), "it takes longer than an ask has");
    seconds(60).await;
    let arrived: Vec<_> = log.take().into_iter().filter(|line| line.starts_with("note")).collect();
    assert!(!arrived.is_empty() && lost > 0, "{arrived:?}, {lost} lost");
    assert_eq!((arrived.len() as u64 + lost, unconfirmed), (50, 0));
}

#[webmesh::test]
async fn what_is_shut_down_is_counted_exactly_too() {
    let (network, guest, far_host) = lossy_pair().await;
    let sender = host(&network, 9).await;
    let (_, log) = far_probe(&far_host, &guest, 8).await;
    let own: ActorRef<Probe> = far_host.resolve("probe").await.unwrap();
    let busy = asking(&own, Atomic { n: 0, ms: 20_000 });
    let probe: ActorRef<Probe> = sender.resolve("probe").at(&far_host.peer_ref()).await.unwrap();
    for n in 0..50 {
        probe.tell(Note { n }).await.unwrap();
    }
    let spy = Spy::default();
    let listening = spy.listen();
    sender.shutdown().await;
    drop(listening);
    let (lost, unconfirmed) = told(&spy);
    assert_eq!(busy.await.unwrap(), Ok(0));
    seconds(1).await;
    let arrived: Vec<_> = log.take().into_iter().filter(|line| line.starts_with("note")).collect();
    assert!(!arrived.is_empty() && lost > 0, "{arrived:?}, {lost} lost");
    assert_eq!((arrived.len() as u64 + lost, unconfirmed), (50, 0));
}

#[webmesh::test]
async fn a_ref_that_is_used_first_while_its_mesh_takes_back_what_it_told_takes_nothing() {
    let (network, guest, far_host) = lossy_pair().await;
    let sender = host(&network, 9).await;
    let (_, log) = far_probe(&far_host, &guest, 8).await;
    let own: ActorRef<Probe> = far_host.resolve("probe").await.unwrap();
    let busy = asking(&own, Atomic { n: 0, ms: 20_000 });
    let probe: ActorRef<Probe> = sender.resolve("probe").at(&far_host.peer_ref()).await.unwrap();
    let another = far_host.spawn(ProbeActor::factory(&Log::default()));
    let unused: ActorRef<Probe> =
        sender.bind(serde_json::from_value(serde_json::to_value(&another).unwrap()).unwrap());
    for n in 0..50 {
        probe.tell(Note { n }).await.unwrap();
    }
    let spy = Spy::default();
    let listening = spy.listen();
    // So that the peer's word takes its time.
    network.set_loss(0.0);
    network.set_latency(Duration::from_millis(150));
    let shutdown = tokio::task::spawn_local({
        let sender = sender.clone();
        async move { sender.shutdown().await }
    });
    // A second for what was sent to arrive.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert!(!shutdown.is_finished());
    let refused = Err(TrySendError::Failed(TellError::ShutDown));
    assert_eq!(unused.try_tell(Note { n: 50 }), refused);
    shutdown.await.unwrap();
    drop(listening);
    let (lost, unconfirmed) = told(&spy);
    assert_eq!(busy.await.unwrap(), Ok(0));
    seconds(1).await;
    let arrived = log.take().into_iter().filter(|line| line.starts_with("note")).count() as u64;
    assert_eq!((arrived + lost, unconfirmed, lost > 0), (50, 0, true));
}

#[webmesh::test]
async fn what_a_mesh_without_time_to_linger_loses_is_counted_exactly() {
    let (network, guest, far_host) = lossy_pair().await;
    network.set_loss(0.2);
    let (_, log) = far_probe(&far_host, &guest, 4096).await;
    let spy = Spy::default();
    let _listening = spy.listen();
    for (n, many) in [(3, 1), (4, 10), (5, 60), (6, 1000)] {
        let sender = host_builder(&network, n).linger(Duration::ZERO).start().await.unwrap();
        let probe: ActorRef<Probe> =
            sender.resolve("probe").at(&far_host.peer_ref()).await.unwrap();
        for n in 0..many {
            probe.tell(Note { n }).await.unwrap();
        }
        drop(sender);
        seconds(10).await;
        let (lost, unconfirmed) = told(&spy);
        assert_eq!((log.take().len() as u64 + lost, unconfirmed), (many, 0));
    }
}

#[webmesh::test]
async fn a_mesh_that_is_dropped_waits_no_longer_than_it_may() {
    let (network, _guest, far_host) = lossy_pair().await;
    let sender = Mesh::builder()
        .in_place()
        .memory_network(&network)
        .listen(address(9))
        .linger(Duration::from_secs(4))
        .start()
        .await
        .unwrap();
    let (probe, log) = far_probe(&far_host, &sender, 100).await;
    assert_eq!(probe.ask(Plain { n: 0 }).await, Ok(0));
    network.set_cut(address(9).ip(), address(2).ip(), true);
    probe.tell(Note { n: 1 }).await.unwrap();
    let ask = asking(&probe, Silence);
    let spy = Spy::default();
    let _listening = spy.listen();
    let begins = Instant::now();
    drop(sender);
    assert_eq!(ask.await.unwrap(), Err(AskError::ShutDown));
    assert_eq!(begins.elapsed().as_secs(), 4);
    // Nobody can know whether it arrived.
    assert_eq!(told(&spy), (0, 1));
    assert_eq!(log.take(), ["plain 0"]);
}

#[webmesh::test]
async fn a_mesh_that_is_aborted_is_silent_at_once() {
    let (_network, guest, far_host) = lossy_pair().await;
    let (probe, log) = far_probe(&far_host, &guest, 100).await;
    assert_eq!(probe.ask(Plain { n: 0 }).await, Ok(0));
    let own = guest.spawn(ProbeActor::factory(&Log::default()));
    guest.publish("own", &own).allow(Anyone).await.unwrap();
    let own_far = far_host.resolve("own").at(&guest.peer_ref()).await.unwrap();
    let heard = watcher(&far_host, &own_far).await;
    let ask = asking(&probe, InFuture { n: 1, ms: 1000 });
    seconds(0).await;
    guest.abort();
    assert_eq!(ask.await.unwrap(), Err(AskError::ShutDown));
    assert_eq!(own.ask(Plain { n: 1 }).await, Err(AskError::Stopped));
    assert_eq!(probe.tell(Note { n: 1 }).await, Err(TellError::ShutDown));
    drop(guest);
    // Its watcher finds out as if it had crashed: by its silence.
    seconds(4).await;
    assert_eq!(heard.take(), [""; 0]);
    seconds(90).await;
    assert_eq!(heard.take(), ["unreachable", "down PeerGone"]);
    assert_eq!(log.take(), ["plain 0"]);
}
