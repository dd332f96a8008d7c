//! An actor ends, another one is published under its name: who resolves the name then has to do with that one alone.

use crate::actors::{Note, Plain, Probe, ProbeActor, Stop};
use crate::world::{far_probe, host, lossy_pair, part, seconds, watcher};
use std::time::Duration;
use webmesh::{ActorRef, Anyone, MemoryNetwork, Mesh, TellError};

/// Puts another actor behind the name, and resolves it anew.
async fn succeed(on: &Mesh, from: &Mesh) -> (ActorRef<Probe>, crate::actors::Log) {
    // A name is free as soon as the host has seen the end.
    let log = crate::actors::Log::default();
    let probe = on.spawn(ProbeActor::factory(&log));
    while on.publish("probe", &probe).allow(Anyone).await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    (from.resolve("probe").at(&on.peer_ref()).await.unwrap(), log)
}

#[webmesh::test]
async fn the_first_ask_through_a_ref_that_was_resolved_later_is_answered_by_the_successor() {
    let network = MemoryNetwork::new(1);
    network.set_latency(Duration::from_millis(10));
    let (guest, far_host) = (host(&network, 1).await, host(&network, 2).await);
    let (mut probe, mut log) = far_probe(&far_host, &guest, 100).await;
    for n in 0..20 {
        assert_eq!(probe.ask(Plain { n }).await, Ok(n));
        assert_eq!(log.take(), [format!("plain {n}")]);
        probe.tell(Stop).await.unwrap();
        (probe, log) = succeed(&far_host, &guest).await;
    }
}

#[webmesh::test]
async fn what_the_predecessor_lost_is_told_to_its_own_refs_and_watchers() {
    let (_network, guest, far_host) = lossy_pair().await;
    let (old, _) = far_probe(&far_host, &guest, 100).await;
    assert_eq!(old.ask(Plain { n: 0 }).await, Ok(0));
    old.tell(Stop).await.unwrap();
    for n in 1..=5 {
        old.tell(Note { n }).await.unwrap();
    }
    let (new, log) = succeed(&far_host, &guest).await;
    let heard = watcher(&guest, &new).await;
    new.tell(Note { n: 6 }).await.unwrap();
    new.flush().await.unwrap();
    assert_eq!(new.ask(Plain { n: 7 }).await, Ok(7));
    assert_eq!(log.take(), ["note 6", "plain 7"]);
    assert_eq!(old.tell(Note { n: 8 }).await, Err(TellError::LostTells { at_most: 5 }));
    // From then on the old ref reaches the successor as well.
    assert_eq!(old.ask(Plain { n: 9 }).await, Ok(9));
    assert_eq!(heard.take(), [] as [&str; 0]);
    new.tell(Stop).await.unwrap();
    seconds(2).await;
    assert_eq!(heard.take(), ["down Stopped"]);
}

#[webmesh::test]
async fn what_a_link_loses_of_the_predecessors_is_not_told_to_a_ref_of_the_successor() {
    let (network, guest, far_host) = lossy_pair().await;
    let (old, _) = far_probe(&far_host, &guest, 100).await;
    assert_eq!(old.ask(Plain { n: 0 }).await, Ok(0));
    part(&network, true);
    for n in 1..=5 {
        old.tell(Note { n }).await.unwrap();
    }
    let near: ActorRef<Probe> = far_host.resolve("probe").await.unwrap();
    near.tell(Stop).await.unwrap();
    seconds(90).await;
    part(&network, false);
    let (new, log) = succeed(&far_host, &guest).await;
    new.tell(Note { n: 6 }).await.unwrap();
    new.flush().await.unwrap();
    assert_eq!(log.take(), ["note 6"]);
    assert_eq!(old.tell(Note { n: 8 }).await, Err(TellError::LostTells { at_most: 5 }));
}

#[webmesh::test]
async fn a_watch_whose_link_was_replaced_does_not_pass_to_the_successor() {
    for succeeded in [true, false] {
        let (network, guest, far_host) = lossy_pair().await;
        network.set_loss(0.0);
        let (probe, _) = far_probe(&far_host, &guest, 100).await;
        let near: ActorRef<Probe> = far_host.resolve("probe").await.unwrap();
        let heard = watcher(&guest, &probe).await;
        // The host gives the link up, which the guest can't hear.
        part(&network, true);
        assert!(far_host.disconnect(&guest.peer_id()).await);
        let mut log = crate::actors::Log::default();
        if succeeded {
            near.tell(Stop).await.unwrap();
            let successor = far_host.spawn(ProbeActor::factory(&log));
            while far_host.publish("probe", &successor).allow(Anyone).await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        part(&network, false);
        far_host.connect(&guest.peer_ref()).await.unwrap();
        seconds(10).await;
        if succeeded {
            assert_eq!(heard.take(), ["down NoSuchActor"]);
            // Whoever watches now watches the one that has the name.
            log = watcher(&guest, &probe).await;
        } else {
            assert_eq!(heard.take(), [] as [&str; 0]);
        }
        probe.tell(Stop).await.unwrap();
        seconds(2).await;
        let told = if succeeded { log } else { heard };
        assert_eq!(told.take(), ["down Stopped"]);
    }
}

#[webmesh::test]
async fn a_name_that_is_resolved_again_and_again_costs_no_stream_each_time() {
    let network = MemoryNetwork::new(1);
    network.set_latency(Duration::from_millis(10));
    let (guest, far_host) = (host(&network, 1).await, host(&network, 2).await);
    let (first, log) = far_probe(&far_host, &guest, 100).await;
    // Asks that are never answered keep their streams open at the other side: were there one for each, they would be
    // too many.
    let mut unanswered = Vec::new();
    for n in 0..300 {
        let again: ActorRef<Probe> = guest.resolve("probe").at(&far_host.peer_ref()).await.unwrap();
        unanswered.push(again.ask(crate::actors::InFuture { n, ms: 3_600_000 }));
        again.tell(Note { n }).await.unwrap();
    }
    first.flush().await.unwrap();
    assert_eq!(log.take().len(), 300);
}
