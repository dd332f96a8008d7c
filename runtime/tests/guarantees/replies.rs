//! Replies of other meshes' actors.

use crate::actors::{Atomic, InActFuture, InFuture, PanicInFuture, Plain, Silence};
use crate::world::{Fetch, Speak, Text, far_desk, far_probe, host, host_builder, item, lossy_pair};
use std::time::Duration;
use webmesh::{AskError, MemoryNetwork, Mesh, TellError};

#[webmesh::test]
async fn all_four_kinds_of_response_answer_from_far_away() {
    let (_network, guest, host) = lossy_pair().await;
    let (probe, log) = far_probe(&host, &guest, 100).await;
    let (plain, future, act, atomic, next) = tokio::join!(
        probe.ask(Plain { n: 1 }),
        probe.ask(InFuture { n: 2, ms: 2000 }),
        probe.ask(InActFuture { n: 3, ms: 1000 }),
        probe.ask(Atomic { n: 4, ms: 5000 }),
        probe.ask(Plain { n: 5 }),
    );
    assert_eq!([plain, future, act, atomic, next], [1, 2, 3, 4, 5].map(Ok));
    let lines = log.take();
    assert_eq!(lines[..3], ["plain 1", "begin 4", "end 4"]);
    assert_eq!(lines.len(), 5);
}

#[webmesh::test]
async fn a_responder_that_is_dropped_far_away_reads_as_no_reply() {
    let (_network, guest, host) = lossy_pair().await;
    let (probe, _log) = far_probe(&host, &guest, 100).await;
    assert_eq!(probe.ask(Silence).await, Err(AskError::NoReply));
    assert_eq!(probe.ask(Plain { n: 1 }).await, Ok(1));
}

#[webmesh::test]
async fn a_panic_in_a_response_future_far_away_fails_that_ask_only() {
    let (_network, guest, host) = lossy_pair().await;
    let (probe, _log) = far_probe(&host, &guest, 100).await;
    let (act, panicking) =
        tokio::join!(probe.ask(InActFuture { n: 1, ms: 1000 }), probe.ask(PanicInFuture));
    assert_eq!((act, panicking), (Ok(1), Err(AskError::Panicked)));
    assert_eq!(probe.ask(Plain { n: 2 }).await, Ok(2));
}

#[webmesh::test]
async fn replies_of_any_size_come_back() {
    let (_network, guest, host) = lossy_pair().await;
    let (desk, _log) = far_desk(&host, &guest).await;
    for len in [0, 65_536, 65_537, 200_000, 5 << 20] {
        assert_eq!(desk.ask(Fetch { len }).await.map(|body| body.len()), Ok(len));
        assert_eq!(desk.ask(Text { len }).await.map(|text| text.len()), Ok(len));
    }
}

#[webmesh::test]
async fn what_is_too_large_is_refused_at_either_end_and_the_lane_goes_on() {
    const LIMIT: u64 = 1 << 20;
    let network = MemoryNetwork::new(1);
    let host = host_builder(&network, 1).body_max(LIMIT as usize).start().await.unwrap();
    let guest = host_builder(&network, 2).start().await.unwrap();
    let (desk, log) = far_desk(&host, &guest).await;
    let too_large = || Err(AskError::TooLarge { limit: LIMIT });
    // Once before the host's limit is known, and once after.
    assert_eq!(desk.tell(item(1, 2 << 20)).await, Err(TellError::TooLarge { limit: LIMIT }));
    assert_eq!(desk.ask(Plain { n: 1 }).await, Ok(1));
    assert_eq!(desk.tell(item(1, 2 << 20)).await, Err(TellError::TooLarge { limit: LIMIT }));
    assert_eq!(desk.ask(Fetch { len: 2 << 20 }).await, too_large());
    assert_eq!(desk.ask(Text { len: 2 << 20 }).await.map(|_| ()), too_large().map(drop));
    assert_eq!(desk.ask(Fetch { len: 900_000 }).await.map(|body| body.len()), Ok(900_000));
    assert_eq!(log.take(), ["plain 1"]);
}

#[webmesh::test]
async fn a_reply_beyond_the_askers_own_limit_is_too_large_and_the_link_goes_on() {
    const LIMIT: u64 = 1 << 20;
    let network = MemoryNetwork::new(1);
    let host = host_builder(&network, 1).start().await.unwrap();
    let guest = host_builder(&network, 2).body_max(LIMIT as usize).start().await.unwrap();
    let (desk, _log) = far_desk(&host, &guest).await;
    let pending = desk.ask(Fetch { len: 100_000 });
    let refused = desk.ask(Fetch { len: 2 << 20 }).await;
    assert_eq!(refused, Err(AskError::TooLarge { limit: LIMIT }));
    assert_eq!(pending.await.map(|body| body.len()), Ok(100_000));
    assert_eq!(desk.ask(Plain { n: 1 }).await, Ok(1));
}

#[webmesh::test]
async fn a_reply_that_cannot_be_encoded_is_a_bad_reply() {
    let (_network, guest, host) = lossy_pair().await;
    let (desk, _log) = far_desk(&host, &guest).await;
    let spoken = desk.ask(Speak).await;
    assert!(matches!(spoken, Err(AskError::BadReply(_))), "{spoken:?}");
    assert_eq!(desk.ask(Plain { n: 1 }).await, Ok(1));
}

/// Replies of a megabyte, to two megabytes of room.
async fn little_room() -> (MemoryNetwork, Mesh, Mesh) {
    let network = MemoryNetwork::new(9);
    network.set_latency(Duration::from_millis(5));
    let small = host_builder(&network, 1).body_max(1 << 20).replies_max(2 << 20, 2 << 20);
    let (guest, host) = (small.start().await.unwrap(), host(&network, 2).await);
    (network, guest, host)
}

#[webmesh::test]
async fn large_replies_that_come_together_wait_for_room_and_none_fails() {
    let (_network, guest, far_host) = little_room().await;
    let (desk, _) = far_desk(&far_host, &guest).await;
    const LEN: usize = (1 << 20) - 100;
    let fetch = |_| tokio::task::spawn_local(desk.ask(Fetch { len: LEN }));
    for fetched in (0..40).map(fetch).collect::<Vec<_>>() {
        assert_eq!(fetched.await.unwrap().map(|body| body.len()), Ok(LEN));
    }
    // The asks are there, but nobody looks at the first ones until the last one has its reply.
    let asks: Vec<_> = (0..4).map(|_| desk.ask(Fetch { len: LEN })).collect();
    for ask in asks.into_iter().rev() {
        assert_eq!(ask.await.map(|body| body.len()), Ok(LEN));
    }
    // However many nobody takes, the one that is waited for comes, be it large or small.
    let kept = (0..40).map(|_| desk.ask(Fetch { len: LEN })).collect::<Vec<_>>();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let other = far_host.spawn(|| crate::world::DeskActor { log: Default::default() });
    far_host.publish("other", &other).allow(webmesh::Anyone).await.unwrap();
    let other: webmesh::ActorRef<crate::world::Desk> =
        guest.resolve("other").at(&far_host.peer_ref()).await.unwrap();
    for len in [LEN, 100, LEN] {
        assert_eq!(other.ask(Fetch { len }).await.map(|body| body.len()), Ok(len));
    }
    drop(kept);
    assert_eq!(desk.ask(Fetch { len: LEN }).await.map(|body| body.len()), Ok(LEN));
}

#[webmesh::test]
async fn a_reply_that_waits_for_room_holds_up_nothing_else_on_its_link() {
    let network = MemoryNetwork::new(9);
    network.set_latency(Duration::from_millis(5));
    // Five of sixteen megabytes: more than the link's window, if nobody reads them.
    const LEN: usize = 16 << 20;
    let guest = host_builder(&network, 1).body_max(LEN + 1000).replies_max(0, 0);
    let (guest, far_host) = (guest.start().await.unwrap(), host(&network, 2).await);
    let (first, _) = far_desk(&far_host, &guest).await;
    let mut desks = vec![first];
    for n in 0..5 {
        let desk = far_host.spawn(|| crate::world::DeskActor { log: Default::default() });
        let name = format!("desk/{n}");
        far_host.publish(&name, &desk).allow(webmesh::Anyone).await.unwrap();
        desks.push(guest.resolve(&name).at(&far_host.peer_ref()).await.unwrap());
    }
    let other = desks.pop().unwrap();
    let asks: Vec<_> = desks.iter().map(|desk| desk.ask(Fetch { len: LEN })).collect();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let soon = Duration::from_secs(1);
    assert_eq!(other.ask(Plain { n: 7 }).timeout(soon).await, Ok(7));
    let inline = other.ask(Text { len: 60_000 }).timeout(soon).await;
    assert_eq!(inline.map(|text| text.len()), Ok(60_000));
    for (n, ask) in asks.into_iter().enumerate() {
        assert_eq!(ask.await.map(|body| body.len()), Ok(LEN), "{n}");
    }
}

/// Longer than any of this takes.
const LONG: Duration = Duration::from_secs(3600);

#[webmesh::test]
async fn a_reply_that_is_awaited_comes_however_many_before_it_nobody_looks_at() {
    let (_network, guest, far_host) = little_room().await;
    let mut desks = Vec::new();
    for n in 0..3 {
        let desk = far_host.spawn(|| crate::world::DeskActor { log: Default::default() });
        let name = format!("desk/{n}");
        far_host.publish(&name, &desk).allow(webmesh::Anyone).await.unwrap();
        let far: webmesh::ActorRef<crate::world::Desk> =
            guest.resolve(&name).at(&far_host.peer_ref()).await.unwrap();
        desks.push(far);
    }
    const LEN: usize = (1 << 20) - 100;
    let soon = Duration::from_secs(5);
    // More than there are streams for, all of which the actors answer at once.
    let fetch = |at: usize| desks[at % 2].ask(Fetch { len: LEN }).timeout(LONG);
    let mut left_alone: Vec<_> = (0..100).map(fetch).collect();
    tokio::time::sleep(Duration::from_secs(10)).await;
    for _ in 0..3 {
        let awaited = desks[2].ask(Fetch { len: LEN }).timeout(soon).await;
        assert_eq!(awaited.map(|body| body.len()), Ok(LEN));
    }
    // The last one first; none of those that had to wait is lost.
    while let Some(ask) = left_alone.pop() {
        let begun = tokio::time::Instant::now();
        assert_eq!(ask.await.map(|body| body.len()), Ok(LEN), "after {}", left_alone.len());
        assert!(begun.elapsed() < soon, "{:?}", begun.elapsed());
    }
}

#[webmesh::test]
async fn replies_that_nobody_reads_are_dropped_beyond_their_bound_and_say_so() {
    let network = MemoryNetwork::new(9);
    network.set_latency(Duration::from_millis(5));
    // The host keeps four of its largest size for the peer.
    let host = host_builder(&network, 2).body_max(2 << 20).start().await.unwrap();
    let guest = host_builder(&network, 1).start().await.unwrap();
    let (probe, _log) = far_desk(&host, &guest).await;
    probe.ask(Plain { n: 0 }).await.unwrap();
    const LEN: usize = 2 << 20;
    let asks: Vec<_> = (0..20).map(|_| probe.ask(Fetch { len: LEN })).collect();
    let answers = futures_util::future::join_all(asks).await;
    let dropped = answers.iter().filter(|answer| **answer == Err(AskError::ReplyDropped)).count();
    let read = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!((read + dropped, dropped > 0), (20, true), "{dropped} were dropped");
    assert_eq!(probe.ask(Plain { n: 1 }).await, Ok(1));
}

#[webmesh::test]
async fn four_replies_of_the_largest_size_wait_for_a_peer_to_read_them() {
    let network = MemoryNetwork::new(9);
    network.set_latency(Duration::from_millis(5));
    // More than a lane keeps anyway.
    const LEN: usize = 5 << 20;
    let host = host_builder(&network, 2).body_max(LEN).start().await.unwrap();
    let guest = host_builder(&network, 1).start().await.unwrap();
    let (probe, _log) = far_desk(&host, &guest).await;
    probe.ask(Plain { n: 0 }).await.unwrap();
    let asks: Vec<_> = (0..4).map(|_| probe.ask(Fetch { len: LEN })).collect();
    for answer in futures_util::future::join_all(asks).await {
        assert_eq!(answer.map(|body| body.len()), Ok(LEN));
    }
}

#[webmesh::test]
async fn whoever_sets_no_bound_to_a_message_gets_replies() {
    let network = MemoryNetwork::new(9);
    let host = host_builder(&network, 2).body_max(usize::MAX).start().await.unwrap();
    let guest = host_builder(&network, 1).body_max(usize::MAX).start().await.unwrap();
    let (desk, _log) = far_desk(&host, &guest).await;
    const LEN: usize = 5 << 20;
    assert_eq!(desk.ask(Fetch { len: LEN }).await.map(|body| body.len()), Ok(LEN));
    assert_eq!(desk.ask(Text { len: LEN }).await.map(|text| text.len()), Ok(LEN));
}
