//! Refs that travel.

use crate::actors::{Plain, Probe, ProbeActor, Who};
use crate::world::{Introduce, far_desk, far_probe, host};
use std::time::Duration;
use webmesh::{ActorRef, Anyone, AskError, MemoryNetwork};

#[webmesh::test]
async fn a_ref_passed_to_a_third_host_works_though_it_never_met_the_target() {
    let network = MemoryNetwork::new(3);
    network.set_latency(Duration::from_millis(10));
    let (first, second, third) =
        (host(&network, 1).await, host(&network, 2).await, host(&network, 3).await);
    let (at_second, _) = far_desk(&second, &first).await;
    // Not published: all that `second` will ever know of it is the ref.
    let log = Default::default();
    let target = third.spawn(ProbeActor::factory(&log));
    let (at_third, _) = far_desk(&third, &first).await;
    let text = serde_json::to_string(&target).unwrap();
    let target: ActorRef<Probe> = first.bind(serde_json::from_str(&text).unwrap());
    let (answer, back) =
        at_second.ask(Introduce { to: target.clone(), n: 7 }).await.unwrap().unwrap();
    assert_eq!((answer, &back), (7, &target));
    // To the target's own host it comes home.
    let (answer, home) = at_third.ask(Introduce { to: back, n: 8 }).await.unwrap().unwrap();
    assert_eq!((answer, &home), (8, &target));
    // And whoever calls is known by its own key, whoever handed out the ref.
    assert_eq!(home.ask(Who).await, Ok(Some(first.peer_id())));
    assert_eq!(log.take(), ["plain 7", "plain 8"]);
}

#[webmesh::test]
async fn a_published_ref_lives_on_when_its_host_starts_anew_and_a_private_one_does_not() {
    let network = MemoryNetwork::new(3);
    let guest = host(&network, 1).await;
    let old = host(&network, 2).await;
    let (published, _) = far_probe(&old, &guest, 10).await;
    let private = old.spawn(ProbeActor::factory(&Default::default()));
    let private: ActorRef<Probe> =
        guest.bind(serde_json::from_str(&serde_json::to_string(&private).unwrap()).unwrap());
    assert_eq!(published.ask(Plain { n: 1 }).await, Ok(1));
    assert_eq!(private.ask(Plain { n: 1 }).await, Ok(1));
    old.shutdown().await;
    drop(old);
    let new = host(&network, 2).await;
    let probe = new.spawn(ProbeActor::factory(&Default::default()));
    new.publish("probe", &probe).allow(Anyone).await.unwrap();
    assert_eq!(published.ask(Plain { n: 2 }).await, Ok(2));
    assert_eq!(private.ask(Plain { n: 2 }).await, Err(AskError::NoSuchActor));
}

#[webmesh::test]
async fn a_ref_from_before_an_actor_was_published_is_the_same_actor_by_another_name() {
    let network = MemoryNetwork::new(3);
    let (guest, far_host) = (host(&network, 1).await, host(&network, 2).await);
    let log = Default::default();
    let probe = far_host.spawn(ProbeActor::factory(&log));
    let text = serde_json::to_string(&probe).unwrap();
    let before: ActorRef<Probe> = guest.bind(serde_json::from_str(&text).unwrap());
    far_host.publish("probe", &probe).allow(Anyone).await.unwrap();
    let by_name: ActorRef<Probe> = guest.resolve("probe").at(&far_host.peer_ref()).await.unwrap();
    assert_ne!(before, by_name);
    assert_eq!(before.ask(Plain { n: 1 }).await, Ok(1));
    assert_eq!(by_name.ask(Plain { n: 2 }).await, Ok(2));
    assert_eq!(log.take(), ["plain 1", "plain 2"]);
}
