//! Rendezvous that introduce hosts to each other and relay nothing.

use std::time::Duration;

use crate::{
    common::{Host, echo, in_place},
    world::{Kind, World},
};
use tokio::time::Instant;
use webmesh_transport::{ConnectError, PathKind, PeerRef};

/// A public node that doesn't relay.
async fn introducer(world: &World, n: u8) -> Host {
    world.server_with(n, |config| config.service.as_mut().unwrap().relaying = None).await
}

/// How two kinds reach each other by way of one, and after which time that is settled.
fn meet(from: Kind, to: Kind) -> (Result<PathKind, ConnectError>, Duration) {
    in_place(1, async |placement| {
        let world = World::new(1, placement);
        world.network.set_latency(Duration::from_millis(20));
        let server = introducer(&world, 1).await;
        let served = world.site(2, to, &[&server]).await;
        let caller = world.site(3, from, &[]).await;
        let begun = Instant::now();
        let outcome = caller.endpoint.connect(&served.endpoint.peer_ref()).await;
        let took = begun.elapsed();
        let path = match outcome {
            Ok(link) => {
                assert_eq!(echo(&link, &served.diary.up().await, b"hello").await, b"hello");
                Ok(link.path())
            }
            Err(e) => Err(e),
        };
        (path, took)
    })
}

#[test]
fn every_pair_of_plain_nats_meets_without_a_relay_and_the_others_hear_that_there_is_none() {
    for from in Kind::ALL {
        for to in Kind::ALL {
            let (outcome, took) = meet(from, to);
            println!("{from:?} to {to:?}: {outcome:?} after {took:?}");
            // Whose NAT is symmetric is seen by the rendezvous at another port than by the caller, who has nothing else to go by.
            let hopeless = to == Kind::Symmetric || from == Kind::Symmetric && to.is_strict();
            if !hopeless {
                assert!(outcome.is_ok(), "{from:?} to {to:?}: {outcome:?}");
                assert!(took <= Duration::from_secs(2), "{from:?} to {to:?}: {took:?}");
            } else {
                assert!(
                    matches!(outcome, Err(ConnectError::NoRelay)),
                    "{from:?} to {to:?}: {outcome:?}"
                );
                assert!(took <= Duration::from_secs(5), "{from:?} to {to:?}: {took:?}");
            }
        }
    }
}

#[test]
fn a_private_host_looks_for_two_relays_and_its_reference_says_which_of_its_rendezvous_relay() {
    in_place(2, async |placement| {
        let world = World::new(2, placement);
        world.network.set_latency(Duration::from_millis(20));
        let (one, two) = (introducer(&world, 1).await, introducer(&world, 2).await);
        let (three, four) = (world.server(3).await, world.server(4).await);
        let nodes = [&one, &two, &three, &four];
        let host = world.site_wanting(5, Kind::PortRestricted, &nodes, 2).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let PeerRef::Signed(signed) = host.endpoint.peer_ref() else { unreachable!() };
        let said: Vec<_> = signed.rendezvous().iter().map(|p| (p.peer, p.relays())).collect();
        let expected =
            [(three.peer(), true), (four.peer(), true), (one.peer(), false), (two.peer(), false)];
        assert_eq!(said, expected, "those that relay first");
        // One that only introduces is said to be no relay to others, too, and a caller gets through by those that are.
        let caller = world.site(6, Kind::Symmetric, &[]).await;
        let link = caller.endpoint.connect(&host.endpoint.peer_ref()).await.unwrap();
        assert_eq!(link.path(), PathKind::RelayUdp);
    });
}

#[test]
fn a_rendezvous_that_lies_about_callers_draws_few_datagrams_upon_others() {
    in_place(3, async |placement| {
        let world = World::new(3, placement);
        world.network.set_latency(Duration::from_millis(20));
        let server = introducer(&world, 1).await;
        let served = world.site(2, Kind::PortRestricted, &[&server]).await;
        // Callers that are introduced again and again, and never call.
        let reference = served.endpoint.peer_ref();
        let caller = world.site(3, Kind::Symmetric, &[]).await;
        let before = world.network.carried().datagrams;
        for _ in 0..20 {
            let _ = tokio::time::timeout(
                Duration::from_millis(200),
                caller.endpoint.connect(&reference),
            )
            .await;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        let drawn = world.network.carried().datagrams - before;
        println!("{drawn} datagrams for 20 dials that were given up");
        assert!(drawn < 2000, "{drawn}");
        assert!(caller.endpoint.link(&served.peer()).is_none());
    });
}
