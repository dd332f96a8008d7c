//! Hosts behind every kind of NAT meet through a public node.

use std::time::Duration;

use crate::{
    common::{echo, in_place},
    world::{DIRECT, Kind, World, line, until},
};
use tokio::time::Instant;
use webmesh_transport::{ConnectError, PathKind, nat::Reachability, sim::Nat};

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

/// How long it takes two neighbours whose routers accept to reach each other directly, if they do within five minutes, and what
/// `explain` said before and after.
fn neighbours(seed: u64, forgets: Duration) -> (Option<Duration>, [String; 2]) {
    in_place(seed, async |placement| {
        let world = World::new(seed, placement);
        world.network.set_latency(Duration::from_millis(20));
        let (one, other) = (World::outside(2), World::outside(3));
        world.network.set_neighbours(one, other);
        world.network.set_link(one, other, line(1, 1000));
        let server = world.server(1).await;
        let served = world.site_behind(2, slow_to_forget(forgets), &[&server]).await;
        let caller = world.site_behind(3, slow_to_forget(forgets), &[]).await;
        let link = caller.endpoint.connect(&served.endpoint.peer_ref()).await.unwrap();
        let begun = Instant::now();
        let why = async || caller.endpoint.explain(&served.peer()).await.unwrap().reason;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(link.path(), PathKind::RelayUdp);
        let before = why().await;
        while link.path() == PathKind::RelayUdp && begun.elapsed() < Duration::from_secs(300) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let took = (link.path() == PathKind::Punched).then(|| begun.elapsed());
        assert_eq!(echo(&link, &served.diary.up().await, b"again").await, b"again");
        (took, [before, why().await])
    })
}

fn slow_to_forget(forgets: Duration) -> Nat {
    Nat { accepts: true, forgets, ..Nat::port_restricted() }
}

#[test]
fn neighbours_whose_routers_accept_what_is_for_nobody_take_turns_until_they_meet() {
    for (seed, forgets, at_most) in [(1, 30, 90), (2, 30, 90), (3, 60, 220)] {
        let (took, [before, after]) = neighbours(seed, Duration::from_secs(forgets));
        println!("routers that forget after {forgets} s: punched after {took:?}");
        assert!(before.contains("take turns"), "{before}");
        assert!(took.is_some_and(|took| took.as_secs() <= at_most), "{took:?}: {after}");
        assert!(!after.contains("take turns"), "{after}");
    }
    // Longer than any turn.
    let (took, [_, after]) = neighbours(4, Duration::from_secs(100));
    assert_eq!(took, None);
    assert!(after.contains("none of 4 turns"), "{after}");
}

#[test]
fn one_seed_gives_one_course_of_events_behind_nats() {
    for seed in 0..3 {
        let run = || meet(seed, Kind::PortRestricted, Kind::CarrierGrade);
        assert_eq!(run(), run(), "seed {seed}");
    }
}

#[test]
fn whoever_goes_away_or_is_full_names_others_and_its_hosts_go_there() {
    in_place(5, async |placement| {
        let world = World::new(5, placement);
        world.network.set_latency(20 * Duration::from_millis(1));
        let other = world.server(1).await;
        let leaving = world.server_with(2, |config| {
            config.join = vec![other.endpoint.peer_ref()];
        });
        let leaving = leaving.await;
        leaving.endpoint.attached().await;
        let full = world.server_with(3, |config| {
            config.join = vec![leaving.endpoint.peer_ref()];
            config.service.as_mut().unwrap().sessions_max = 0;
        });
        let full = full.await;
        full.endpoint.attached().await;
        // It was told of the one that is full alone.
        let served = world.site(4, Kind::PortRestricted, &[&full]).await;
        assert_eq!(served.endpoint.attached_to(), [leaving.peer()]);
        leaving.endpoint.close("an update").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(served.endpoint.attached_to(), [other.peer()]);
        let caller = world.site(5, Kind::Symmetric, &[]).await;
        let link = caller.endpoint.connect(&served.endpoint.peer_ref()).await.unwrap();
        assert_eq!(echo(&link, &served.diary.up().await, b"hello").await, b"hello");
    });
}

#[test]
fn a_dial_to_a_host_that_is_offline_ends_soon_and_says_so() {
    in_place(6, async |placement| {
        let world = World::new(6, placement);
        world.network.set_latency(Duration::from_millis(20));
        let server = world.server(1).await;
        let served = world.site(2, Kind::PortRestricted, &[&server]).await;
        let reference = served.endpoint.peer_ref();
        served.endpoint.close("going home").await;
        let caller = world.site(3, Kind::PortRestricted, &[]).await;
        let begun = Instant::now();
        let outcome = caller.endpoint.connect(&reference).await;
        assert!(matches!(outcome, Err(ConnectError::NotIntroduced(_))), "{outcome:?}");
        let took = begun.elapsed();
        println!("known to be offline after {took:?}");
        assert!(took < Duration::from_secs(4), "{took:?}");
    });
}

#[test]
fn hosts_learn_from_a_strangers_call_whether_strangers_reach_them() {
    in_place(8, async |placement| {
        let world = World::new(8, placement);
        world.network.set_latency(Duration::from_millis(20));
        let one = world.server(1).await;
        let two = world.server(2).await;
        // Two more, which the hosts here never hear of.
        let others = [world.server(3).await, world.server(4).await];
        let links = [one.connect(&others[0]).await, two.connect(&others[1]).await];
        for (n, kind, expected) in [
            (5, Kind::Public, Reachability::Reachable),
            (6, Kind::FullCone, Reachability::Reachable),
            (7, Kind::PortRestricted, Reachability::Filtered),
            (8, Kind::Firewall, Reachability::Filtered),
        ] {
            let host = world.site(n, kind, &[&one, &two]).await;
            tokio::time::sleep(Duration::from_secs(6)).await;
            let explained = host.endpoint.explain(&one.peer()).await.unwrap();
            assert_eq!(explained.own_nat.reachability, expected, "{kind:?}");
        }
        drop(links);
        // Where no rendezvous knows another one, nothing is known.
        let lonely = world.server(9).await;
        let host = world.site(10, Kind::PortRestricted, &[&lonely]).await;
        tokio::time::sleep(Duration::from_secs(6)).await;
        let explained = host.endpoint.explain(&lonely.peer()).await.unwrap();
        assert_eq!(explained.own_nat.reachability, Reachability::Unknown);
    });
}
