//! Order and credit between two meshes.

use crate::actors::{Atomic, Note, Plain};
use crate::world::{far_desk, far_probe, item, lossy_pair, seconds};
use std::time::Duration;
use tokio::time::Instant;
use webmesh::{AskError, TrySendError};

#[webmesh::test]
async fn bodies_of_all_sizes_keep_their_order_over_a_lossy_network() {
    let (_network, guest, host) = lossy_pair().await;
    let (desk, log) = far_desk(&host, &guest).await;
    let sizes = [0, 100, 65_536, 65_537, 10, 300_000, 1, 1 << 20, 70_000, 2];
    let mut expected = Vec::new();
    for n in 0..100_u64 {
        let len = sizes[n as usize % sizes.len()];
        if n % 7 == 3 {
            assert_eq!(desk.ask(Plain { n }).await, Ok(n));
            expected.push(format!("plain {n}"));
        } else {
            desk.tell(item(n, len)).await.unwrap();
            expected.push(format!("item {n} {len}"));
        }
    }
    desk.flush().await.unwrap();
    assert_eq!(log.take(), expected);
}

#[webmesh::test]
async fn a_call_takes_its_place_when_it_is_made_and_try_tell_never_overtakes() {
    let (_network, guest, host) = lossy_pair().await;
    let (probe, log) = far_probe(&host, &guest, 4).await;
    probe.ask(Plain { n: 0 }).await.unwrap();
    // Nothing moves for 20 s, so inlet and lane fill up.
    probe.tell(Atomic { n: 0, ms: 20_000 }).await.unwrap();
    let mut sent = 0;
    let returned = loop {
        match probe.try_tell(Note { n: sent }) {
            Ok(()) => sent += 1,
            Err(TrySendError::Full(note)) if sent > 500 => break note,
            // The lane has only begun: its credit is on the way.
            Err(TrySendError::Full(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(error) => panic!("{error:?}"),
        }
        assert!(sent < 20_000, "no bound");
    };
    assert_eq!(returned.n, sent);
    let (ask, tell) = (probe.ask(Plain { n: 1 }), probe.tell(Note { n: sent }));
    assert!(matches!(probe.try_tell(Note { n: 77_777 }), Err(TrySendError::Full(_))));
    // Awaited the other way round.
    tell.await.unwrap();
    assert_eq!(ask.await, Ok(1));
    probe.flush().await.unwrap();
    let mut expected = vec!["plain 0".into(), "begin 0".into(), "end 0".into()];
    expected.extend((0..sent).map(|n| format!("note {n}")));
    expected.extend(["plain 1".into(), format!("note {sent}")]);
    assert_eq!(log.take(), expected);
}

#[webmesh::test]
async fn an_ask_of_a_far_actor_ends_in_its_time_waiting_for_credit_included() {
    let (_network, guest, host) = lossy_pair().await;
    let (probe, log) = far_probe(&host, &guest, 2).await;
    probe.ask(Plain { n: 0 }).await.unwrap();
    probe.tell(Atomic { n: 0, ms: 100_000 }).await.unwrap();
    let mut sent = 0;
    let mut refused = 0;
    while refused < 20 {
        match probe.try_tell(Note { n: sent }) {
            Ok(()) => sent += 1,
            Err(_) => {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    let begun = Instant::now();
    assert_eq!(probe.ask(Plain { n: 1 }).await, Err(AskError::Timeout));
    assert_eq!(begun.elapsed().as_secs(), 30);
    let hasty = probe.ask(Plain { n: 2 }).timeout(Duration::from_secs(3)).await;
    assert_eq!(hasty, Err(AskError::Timeout));
    seconds(100).await;
    probe.flush().await.unwrap();
    // Whether they are handled later isn't said, but none is handled twice.
    let lines = log.take();
    for n in 1..=2 {
        assert!(lines.iter().filter(|line| **line == format!("plain {n}")).count() <= 1);
    }
}

#[webmesh::test]
async fn a_slow_actor_slows_its_own_senders_only_though_all_share_a_link() {
    let (_network, guest, host) = lossy_pair().await;
    let (slow, slow_log) = far_probe(&host, &guest, 2).await;
    let (fast, fast_log) = far_desk(&host, &guest).await;
    slow.tell(Atomic { n: 0, ms: 1_000_000 }).await.unwrap();
    let to_slow = tokio::task::spawn_local(async move {
        for n in 0..20_000 {
            slow.tell(Note { n }).await.unwrap();
        }
        slow.flush().await.unwrap();
    });
    seconds(10).await;
    for n in 0..3_000 {
        fast.tell(item(n, if n % 100 == 0 { 100_000 } else { 10 })).await.unwrap();
    }
    fast.flush().await.unwrap();
    assert_eq!(fast_log.take().len(), 3_000);
    assert_eq!(slow_log.take(), ["begin 0"]);
    assert!(!to_slow.is_finished());
    to_slow.await.unwrap();
    assert_eq!(slow_log.take().len(), 20_001);
}
