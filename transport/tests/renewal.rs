//! A peer that is elsewhere than its link leads, and says so by a newer reference; and links that are no longer wanted.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use common::{Heard, Host, echo, host_in_place, in_place, key};
use tokio::time::Instant;
use webmesh_transport::{
    EndpointConfig, Hints, InPlace, LinkDown, MemoryNetwork, Origin, PeerRef,
    peer_ref::{RefContent, Remembered, SignedRef},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A reference that host `n` signs later than all that it has signed so far.
fn newer(n: u8, version: u64, addresses: &[SocketAddr]) -> PeerRef {
    let version = u64::MAX / 2 + version;
    let content = RefContent {
        version,
        addresses: addresses.to_vec(),
        rendezvous: Vec::new(),
        expires: 4_000_000_000,
    };
    PeerRef::Signed(SignedRef::sign(&key(n), content).unwrap())
}

fn at(n: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], port))
}

/// Host 2 is killed: nobody hears a word of it.
async fn kill(network: &MemoryNetwork, host: Host) {
    let ip = host.address().ip();
    network.set_cut(at(1, 0).ip(), ip, true);
    host.endpoint.close("nobody hears this").await;
    drop(host);
    tokio::time::sleep(10 * MS).await;
    network.set_cut(at(1, 0).ip(), ip, false);
}

async fn world(placement: &Arc<InPlace>, latency: Duration) -> (MemoryNetwork, Host, Host) {
    let network = MemoryNetwork::new(1);
    network.set_latency(latency);
    let a = host_in_place(1, &network, placement, |_| {}).await;
    let b = host_in_place(2, &network, placement, |_| {}).await;
    (network, a, b)
}

/// Host 2 anew, at another port. Chance, which tells one start of a host from another, has another seed.
async fn started_at(port: u16, network: &MemoryNetwork) -> Host {
    let placement = Arc::new(InPlace::new(2).unwrap());
    host_in_place(2, network, &placement, |config: &mut EndpointConfig| {
        config.listen = vec![at(2, port)];
    })
    .await
}

#[test]
fn a_peer_killed_and_started_elsewhere_is_reached_by_its_newer_reference_at_once() {
    // Also right after its death, which nobody has noticed yet, and long after.
    for (latency, dead) in
        [(MS, 1), (MS, 30_000), (50 * MS, 1), (50 * MS, 4_000), (150 * MS, 200), (150 * MS, 30_000)]
    {
        in_place(1, async |placement| {
            let (network, a, b) = world(&placement, latency).await;
            let at_a = a.connect(&b).await;
            let _waiting = at_a.expect_answers();
            kill(&network, b).await;
            tokio::time::sleep(dead * MS).await;
            let b = started_at(2000, &network).await;
            let begun = Instant::now();
            let link = a.endpoint.connect(&newer(2, 1, &[b.address()])).await.unwrap();
            assert!(begun.elapsed() < SECOND, "{:?} at {latency:?}", begun.elapsed());
            assert_eq!((link.via(), link.instance()), (b.address(), b.endpoint.instance()));
            assert_eq!(a.diary.down(&at_a).await, LinkDown::Restarted);
            assert_eq!(echo(&link, &b.diary.up().await, &[3; 5_000]).await, [3; 5_000]);
        });
    }
}

#[test]
fn what_is_remembered_counts_for_a_dial_by_key_too() {
    in_place(1, async |placement| {
        let (network, a, b) = world(&placement, 10 * MS).await;
        a.connect(&b).await;
        let peer = b.peer();
        kill(&network, b).await;
        let b = started_at(2000, &network).await;
        let news = newer(2, 1, &[b.address()]);
        assert_eq!(a.endpoint.remember(&news), Remembered::Replaced);
        let begun = Instant::now();
        let link = a.endpoint.connect_peer(peer, &[]).await.unwrap();
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
        assert_eq!(link.instance(), b.endpoint.instance());
    });
}

#[test]
fn a_link_that_works_is_kept_whatever_a_newer_reference_names() {
    for lossy in [false, true] {
        in_place(1, async |placement| {
            let (network, a, b) = world(&placement, 20 * MS).await;
            let at_a = a.connect(&b).await;
            network.set_loss(if lossy { 0.2 } else { 0.0 });
            // Nobody is there; and then it itself is, and would take longer to answer a handshake than a ping.
            for (version, address) in [(1, at(9, 1)), (2, at(2, 2000)), (3, b.address())] {
                if lossy && address == b.address() {
                    continue;
                }
                let begun = Instant::now();
                let link = a.endpoint.connect(&newer(2, version, &[address])).await.unwrap();
                assert_eq!(link, at_a);
                assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
            }
            tokio::time::sleep(60 * SECOND).await;
            let ups = |host: &Host| {
                host.diary.all().iter().filter(|heard| matches!(heard, Heard::Up(_))).count()
            };
            assert_eq!((ups(&a), ups(&b)), (1, 1));
            assert!(!a.diary.all().iter().any(|heard| matches!(heard, Heard::Down(..))));
        });
    }
}

#[test]
fn a_moved_peer_takes_its_link_along() {
    in_place(1, async |placement| {
        let (network, a, b) = world(&placement, 10 * MS).await;
        let at_a = a.connect(&b).await;
        let moved = at(7, 1000);
        network.readdress(b.address().ip(), moved.ip());
        let begun = Instant::now();
        let link = a.endpoint.connect(&newer(2, 1, &[moved])).await.unwrap();
        assert_eq!(link.instance(), at_a.instance());
        assert_eq!(echo(&link, &b.diary.up().await, &[3; 5_000]).await, [3; 5_000]);
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
        assert!(!a.diary.all().iter().any(|heard| matches!(heard, Heard::Unreachable(_))));
    });
}

#[test]
fn a_peer_that_signs_without_end_has_nobody_dialled_without_end() {
    in_place(1, async |placement| {
        let (network, a, b) = world(&placement, MS).await;
        let at_a = a.connect(&b).await;
        kill(&network, b).await;
        // Nobody is there either: it is dialled for ten seconds, and the link that doesn't answer is all there is.
        for version in 0..100 {
            let victim = at(20 + version as u8, 1000);
            let news = newer(2, version, &[victim]);
            let dialled = a.endpoint.connect(&news);
            if let Ok(link) = tokio::time::timeout(50 * MS, dialled).await {
                assert_eq!(link.unwrap(), at_a);
            }
        }
        let carried = network.carried();
        tokio::time::sleep(30 * SECOND).await;
        let after = network.carried();
        assert!(after.datagrams - carried.datagrams < 300, "{carried:?} {after:?}");
    });
}

#[test]
fn hints_that_nobody_signed_count_only_while_the_peer_is_silent() {
    in_place(1, async |placement| {
        let (network, a, b) = world(&placement, 10 * MS).await;
        let at_a = a.connect(&b).await;
        let peer = b.peer();
        let addresses = vec![at(2, 2000)];
        let elsewhere = Hints { origin: Origin::User, addresses, rendezvous: Vec::new() };
        tokio::time::sleep(10 * SECOND).await;
        let before = network.carried().datagrams;
        a.endpoint.look_for(peer, std::slice::from_ref(&elsewhere));
        tokio::time::sleep(SECOND).await;
        assert_eq!(network.carried().datagrams, before, "it isn't silent");
        let _waiting = at_a.expect_answers();
        kill(&network, b).await;
        tokio::time::sleep(6 * SECOND).await;
        let b = started_at(2000, &network).await;
        let begun = Instant::now();
        a.endpoint.look_for(peer, std::slice::from_ref(&elsewhere));
        assert_eq!(a.diary.down(&at_a).await, LinkDown::Restarted);
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
        assert_eq!(a.diary.up().await.instance(), b.endpoint.instance());
    });
}

#[test]
fn a_link_is_ended_on_purpose_also_in_silence_and_the_next_use_dials_anew() {
    for silent in [false, true] {
        in_place(1, async |placement| {
            let (network, a, b) = world(&placement, 10 * MS).await;
            let at_a = a.connect(&b).await;
            let at_b = b.diary.up().await;
            network.set_cut(a.address().ip(), b.address().ip(), silent);
            assert!(a.endpoint.disconnect(&b.peer(), "enough").await);
            assert!(!a.endpoint.disconnect(&b.peer(), "enough").await);
            let reason = "enough".to_owned();
            assert_eq!(a.diary.down(&at_a).await, LinkDown::Local { reason: reason.clone() });
            if !silent {
                assert_eq!(b.diary.down(&at_b).await, LinkDown::Closed { reason });
            }
            network.set_cut(a.address().ip(), b.address().ip(), false);
            let again = a.connect(&b).await;
            assert_ne!(again, at_a);
            assert_eq!(again.instance(), at_a.instance());
        });
    }
}
