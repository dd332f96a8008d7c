//! What becomes of tells when the network, or the actor, fails them.

use crate::actors::{Atomic, Note, Plain, Stop};
use crate::world::{far_probe, host, lossy_pair, part, seconds, watcher};
use webmesh::{AskError, TellError};

#[webmesh::test]
async fn tells_lost_with_the_connection_are_told_once_at_the_next_use() {
    let (network, guest, far_host) = lossy_pair().await;
    let (probe, log) = far_probe(&far_host, &guest, 100).await;
    assert_eq!(probe.ask(Plain { n: 0 }).await, Ok(0));
    part(&network, true);
    for n in 1..=5 {
        probe.tell(Note { n }).await.unwrap();
    }
    seconds(90).await;
    part(&network, false);
    assert_eq!(probe.tell(Note { n: 6 }).await, Err(TellError::LostTells { at_most: 5 }));
    probe.tell(Note { n: 7 }).await.unwrap();
    assert_eq!(probe.ask(Plain { n: 8 }).await, Ok(8));
    // Lost they are, not late; and the one that told wasn't sent.
    assert_eq!(log.take(), ["plain 0", "note 7", "plain 8"]);
}

#[webmesh::test]
async fn an_ask_tells_of_lost_tells_too_and_is_not_sent_itself() {
    let (network, guest, far_host) = lossy_pair().await;
    let (probe, log) = far_probe(&far_host, &guest, 100).await;
    assert_eq!(probe.ask(Plain { n: 0 }).await, Ok(0));
    part(&network, true);
    probe.tell(Note { n: 1 }).await.unwrap();
    seconds(90).await;
    part(&network, false);
    assert_eq!(probe.ask(Plain { n: 2 }).await, Err(AskError::LostTells { at_most: 1 }));
    assert_eq!(probe.ask(Plain { n: 3 }).await, Ok(3));
    assert_eq!(log.take(), ["plain 0", "plain 3"]);
}

#[webmesh::test]
async fn a_restart_of_the_peer_tells_of_tells_that_may_be_lost() {
    let (network, guest, far_host) = lossy_pair().await;
    let (probe, log) = far_probe(&far_host, &guest, 100).await;
    assert_eq!(probe.ask(Plain { n: 0 }).await, Ok(0));
    // The old process is cut off in the middle of its work; the new one has its key and address.
    part(&network, true);
    for n in 1..=3 {
        probe.tell(Note { n }).await.unwrap();
    }
    far_host.shutdown().await;
    drop(far_host);
    seconds(1).await;
    part(&network, false);
    let again = host(&network, 2).await;
    let (_, fresh_log) = far_probe(&again, &again, 100).await;
    let mut outcomes = Vec::new();
    for n in 4..=6 {
        outcomes.push(probe.ask(Plain { n }).await);
    }
    assert!(outcomes.contains(&Err(AskError::LostTells { at_most: 3 })), "{outcomes:?}");
    assert_eq!(outcomes.last(), Some(&Ok(6)));
    assert!(fresh_log.take().iter().all(|line| line.starts_with("plain")));
    assert_eq!(log.take(), ["plain 0"]);
}

#[webmesh::test]
async fn the_end_of_a_far_actor_is_told_to_watchers_and_to_later_tells() {
    let (_network, guest, far_host) = lossy_pair().await;
    let (probe, log) = far_probe(&far_host, &guest, 100).await;
    let heard = watcher(&guest, &probe).await;
    assert_eq!(probe.ask(Plain { n: 0 }).await, Ok(0));
    probe.tell(Atomic { n: 1, ms: 10_000 }).await.unwrap();
    probe.tell(Stop).await.unwrap();
    for n in 1..=5 {
        probe.tell(Note { n }).await.unwrap();
    }
    let behind_them = probe.flush();
    assert_eq!(behind_them.await, Err(TellError::Stopped));
    seconds(20).await;
    assert_eq!(log.take(), ["plain 0", "begin 1", "end 1"]);
    let heard = heard.take();
    assert_eq!(heard.last().map(String::as_str), Some("down Stopped"));
    assert!(heard.contains(&"lost 5".into()), "{heard:?}");
    let mut outcomes = Vec::new();
    for n in 6..=9 {
        outcomes.push(probe.tell(Note { n }).await);
        seconds(1).await;
    }
    assert_eq!(outcomes[0], Err(TellError::LostTells { at_most: 5 }));
    assert_eq!(outcomes.last(), Some(&Err(TellError::NoSuchActor)), "{outcomes:?}");
}

#[webmesh::test]
async fn a_dropped_tell_that_waits_for_credit_is_withdrawn() {
    let (_network, guest, far_host) = lossy_pair().await;
    let (probe, log) = far_probe(&far_host, &guest, 2).await;
    probe.ask(Plain { n: 0 }).await.unwrap();
    probe.tell(Atomic { n: 0, ms: 20_000 }).await.unwrap();
    let mut refused = 0;
    while refused < 20 {
        if probe.try_tell(Note { n: 1 }).is_err() {
            refused += 1;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    drop(probe.tell(Note { n: 2 }));
    probe.tell(Note { n: 3 }).await.unwrap();
    probe.flush().await.unwrap();
    let lines = log.take();
    assert!(!lines.contains(&"note 2".into()));
    assert_eq!(lines.last().map(String::as_str), Some("note 3"));
}
