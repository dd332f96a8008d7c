//! Hosts behind every kind of NAT meet through a public node.

use std::time::Duration;

use crate::{
    common::{echo, in_place},
    world::{DIRECT, Kind, World, until},
};
use tokio::time::Instant;
use webmesh_transport::PathKind;

/// How long it takes two kinds to talk, and then to talk directly, if they come to.
fn meet(seed: u64, from: Kind, to: Kind) -> (Duration, Option<Duration>) {
    in_place(seed, async |placement| {
        let world = World::new(seed, placement);
        world.network.set_latency(Duration::from_millis(20));
        let server = world.server(1).await;
        let served = world.site(2, to, &[&server]).await;
        let caller = world.site(3, from, &[]).await;
        let begun = Instant::now();
        let link = caller.endpoint.connect(&served.endpoint.peer_ref()).await.unwrap();
        assert_eq!(echo(&link, &served.diary.up().await, b"hello").await, b"hello");
        let talked = begun.elapsed();
        let symmetric = |kind| kind == Kind::Symmetric;
        let punchable = !(symmetric(from) && to.is_strict() || symmetric(to) && from.is_strict());
        let direct = if punchable {
            until(&link, &DIRECT).await;
            Some(begun.elapsed())
        } else {
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(link.path(), PathKind::RelayUdp);
            None
        };
        assert_eq!(echo(&link, &served.diary.up().await, b"again").await, b"again");
        (talked, direct)
    })
}

#[test]
fn every_pair_of_kinds_talks_within_a_second_and_directly_within_two_where_that_is_possible() {
    for from in Kind::ALL {
        for to in Kind::ALL {
            let (talked, direct) = meet(1, from, to);
            println!("{from:?} to {to:?}: {talked:?}, direct after {direct:?}");
            assert!(talked <= Duration::from_secs(1), "{from:?} to {to:?}: {talked:?}");
            assert!(direct <= Some(Duration::from_secs(2)), "{from:?} to {to:?}: {direct:?}");
        }
    }
}

#[test]
fn one_seed_gives_one_course_of_events_behind_nats() {
    for seed in 0..3 {
        let run = || meet(seed, Kind::PortRestricted, Kind::CarrierGrade);
        assert_eq!(run(), run(), "seed {seed}");
    }
}
