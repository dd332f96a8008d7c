//! More busy actors of one host than a mesh keeps streams open to.

use crate::actors::{Plain, Probe, ProbeActor};
use crate::world::host_builder;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;
use webmesh::{ActorRef, Anyone, MemoryNetwork};

/// One way.
const LATENCY: Duration = Duration::from_millis(2);

/// Asks each of 65 actors in turn, again and again, between meshes with this cap. Which of them had to have their streams opened again,
/// and how often that happened.
async fn reopened(cap: usize) -> (BTreeSet<u64>, usize) {
    const ROUNDS: u64 = 40;
    let network = MemoryNetwork::new(1);
    network.set_latency(LATENCY);
    let start = |n| host_builder(&network, n).lanes_max(cap).start();
    let (guest, host) = (start(1).await.unwrap(), start(2).await.unwrap());
    let mut actors: Vec<ActorRef<Probe>> = Vec::new();
    for n in 0..65 {
        let name = format!("busy/{n}");
        let probe = host.spawn(ProbeActor::factory(&Default::default()));
        host.publish(&name, &probe).allow(Anyone).await.unwrap();
        actors.push(guest.resolve(&name).at(&host.peer_ref()).await.unwrap());
    }
    let (mut which, mut times) = (BTreeSet::new(), 0);
    for round in 0..ROUNDS {
        for (n, actor) in (0..).zip(&actors) {
            let asked = Instant::now();
            assert_eq!(actor.ask(Plain { n }).await, Ok(n));
            // Over a stream that is open it takes one round trip; to end one for it takes another.
            if round > 0 && asked.elapsed() > 3 * LATENCY {
                which.insert(n);
                times += 1;
            }
        }
    }
    (which, times)
}

#[webmesh::test]
async fn sixty_five_busy_actors_of_one_host_keep_their_streams_if_that_many_are_allowed() {
    assert_eq!(reopened(65).await, (BTreeSet::new(), 0));
}

#[webmesh::test]
async fn one_busy_actor_more_than_streams_makes_a_few_take_turns_and_the_others_keep_theirs() {
    let (which, times) = reopened(64).await;
    assert!((1..=3).contains(&which.len()) && times <= 3 * 40, "{times} times: {which:?}");
}
