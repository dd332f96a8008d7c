//! More busy actors of one host than a mesh keeps streams open to.

use crate::actors::{Plain, Probe, ProbeActor};
use crate::world::host_builder;
use std::time::Duration;
use webmesh::{ActorRef, Anyone, MemoryNetwork};

const ACTORS: u64 = 65;
const ROUNDS: u64 = 40;

/// Bytes that cross the network while each of 65 actors is asked in turn, 40 times, between meshes with this cap. They are the same in each run.
async fn carried(cap: usize) -> u64 {
    let network = MemoryNetwork::new(1);
    network.set_latency(Duration::from_millis(2));
    let start = |n| host_builder(&network, n).lanes_max(cap).start();
    let (guest, host) = (start(1).await.unwrap(), start(2).await.unwrap());
    let mut actors: Vec<ActorRef<Probe>> = Vec::new();
    for n in 0..ACTORS {
        let name = format!("busy/{n}");
        let probe = host.spawn(ProbeActor::factory(&Default::default()));
        host.publish(&name, &probe).allow(Anyone).await.unwrap();
        actors.push(guest.resolve(&name).at(&host.peer_ref()).await.unwrap());
    }
    let round = async || {
        for (n, actor) in (0..).zip(&actors) {
            assert_eq!(actor.ask(Plain { n }).await, Ok(n));
        }
    };
    round().await;
    let before = network.carried().bytes;
    for _ in 0..ROUNDS {
        round().await;
    }
    network.carried().bytes - before
}

#[webmesh::test]
async fn sixty_five_busy_actors_of_one_host_keep_their_streams_and_of_one_too_many_a_few_take_turns()
 {
    let (all, plenty) = (carried(65).await, carried(1_000).await);
    // With a single stream, each ask ends it and opens the next one.
    let each = (carried(1).await - plenty) as f64 / (ACTORS * ROUNDS) as f64;
    let reopened = |bytes: u64| (bytes as f64 - plenty as f64) / each / ROUNDS as f64;
    let (all, one_too_many) = (reopened(all), reopened(carried(64).await));
    println!(
        "a stream that is opened again costs {each:.0} bytes; of 65, {one_too_many:.2} are in each round, with room for all {all:.2}"
    );
    assert!(all.abs() < 0.1, "{all}");
    assert!((0.5..6.0).contains(&one_too_many), "{one_too_many}");
}
