//! A run in place repeats itself: the same seed gives the same events at the same times.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::{echo, host_in_place, in_place};
use tokio::time::Instant;
use webmesh_transport::MemoryNetwork;

/// Times in ms at which things happened between two hosts that lose 5% of all packets.
fn times(seed: u64) -> Vec<u128> {
    in_place(seed, async |placement| {
        let network = MemoryNetwork::new(seed);
        network.set_latency(Duration::from_millis(15));
        network.set_loss(0.05);
        let begun = Instant::now();
        let a = host_in_place(1, &network, &placement, |_| {}).await;
        let b = host_in_place(2, &network, &placement, |_| {}).await;
        let (at_a, _) = tokio::join!(a.connect(&b), b.connect(&a));
        let mut times = vec![begun.elapsed().as_millis()];
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (at_a, at_b) = (a.connect(&b).await, {
            drop(at_a);
            b.connect(&a).await
        });
        for n in 0..50 {
            echo(&at_a, &at_b, &vec![n; usize::from(n) * 1000]).await;
            times.push(begun.elapsed().as_millis());
            if n % 10 == 0 {
                at_b.ping().await.ok();
                times.push(begun.elapsed().as_millis());
            }
        }
        times
    })
}

#[test]
fn one_seed_gives_one_course_of_events() {
    for seed in 0..5 {
        assert_eq!(times(seed), times(seed), "seed {seed}");
    }
    assert_ne!(times(1), times(2));
}
