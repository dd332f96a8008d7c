//! Asks that end at the asker, before their answer is there.

use crate::actors::{Atomic, Plain};
use crate::patient::{Raw, Wait, Work, object_of, patient, patient_of};
use crate::world::{far_probe, host, seconds};
use std::time::Duration;
use webmesh::{AskError, MemoryNetwork, Mesh};

async fn pair() -> (MemoryNetwork, Mesh, Mesh) {
    let network = MemoryNetwork::new(1);
    network.set_latency(Duration::from_millis(10));
    let (guest, far_host) = (host(&network, 1).await, host(&network, 2).await);
    (network, guest, far_host)
}

async fn ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

#[webmesh::test]
async fn an_ask_that_is_given_up_before_its_turn_is_never_handled_near_or_far() {
    let (_network, guest, far_host) = pair().await;
    let (far, log) = far_probe(&far_host, &guest, 100).await;
    let near = far_host.resolve("probe").await.unwrap();
    for probe in [near, far] {
        probe.ask(Plain { n: 0 }).await.unwrap();
        let before = probe.ask(Atomic { n: 1, ms: 1_000 });
        let timely = probe.ask(Plain { n: 2 });
        drop(probe.ask(Plain { n: 3 }));
        let late = probe.ask(Plain { n: 4 }).timeout(Duration::from_millis(100)).await;
        assert_eq!(late, Err(AskError::Timeout));
        let selected = tokio::select! {
            answer = probe.ask(Plain { n: 5 }) => Some(answer),
            () = ms(100) => None,
        };
        assert_eq!(selected, None);
        let last = probe.ask(Plain { n: 6 });
        assert_eq!((before.await, timely.await, last.await), (Ok(1), Ok(2), Ok(6)));
        assert_eq!(log.take(), ["plain 0", "begin 1", "end 1", "plain 2", "plain 6"]);
    }
}

#[webmesh::test]
async fn asks_that_wait_in_the_lane_for_places_are_taken_out_of_it() {
    let (_network, guest, far_host) = pair().await;
    let (far, log) = far_probe(&far_host, &guest, 1).await;
    far.ask(Plain { n: 0 }).await.unwrap();
    // The inlet has one place: what follows waits in the lane.
    let before = far.ask(Atomic { n: 1, ms: 1_000 });
    let held: Vec<_> = (2..20).map(|n| far.ask(Plain { n })).collect();
    ms(100).await;
    drop(held);
    let last = far.ask(Plain { n: 20 });
    assert_eq!((before.await, last.await), (Ok(1), Ok(20)));
    let log = log.take();
    assert!(log.len() <= 5 && log.last().is_some_and(|line| line == "plain 20"), "{log:?}");
}

#[webmesh::test]
async fn a_handler_learns_that_its_asker_has_given_up_near_and_far() {
    let (_network, guest, far_host) = pair().await;
    let (near, far, counts) = patient(&far_host, &guest).await;
    for (times, actor) in [near, far].into_iter().enumerate() {
        let wait = || Wait { ms: 60_000, looks: true };
        let outcome = actor.ask(wait()).timeout(Duration::from_secs(1)).await;
        assert_eq!(outcome, Err(AskError::Timeout));
        ms(20).await;
        assert_eq!(counts.get(), (3 * times + 1, 0, 3 * times + 1));
        assert!(counts.asker().is_cancelled());
        let asked = tokio::task::spawn_local(actor.ask(wait()));
        seconds(1).await;
        assert!(!counts.asker().is_cancelled());
        asked.abort();
        ms(20).await;
        assert_eq!(counts.get(), (3 * times + 2, 0, 3 * times + 2));
        tokio::select! {
            _ = actor.ask(wait()) => unreachable!(),
            () = seconds(1) => {}
        }
        ms(20).await;
        assert_eq!(counts.get(), (3 * times + 3, 0, 3 * times + 3));
    }
}

#[webmesh::test]
async fn an_ask_that_was_answered_and_a_tell_are_never_given_up() {
    let (_network, guest, far_host) = pair().await;
    let (near, far, counts) = patient(&far_host, &guest).await;
    for actor in [near, far] {
        assert_eq!(actor.ask(Wait { ms: 5, looks: true }).await, Ok(5));
        ms(100).await;
        assert!(!counts.asker().is_cancelled());
        actor.tell(Wait { ms: 5, looks: true }).await.unwrap();
        ms(100).await;
        assert!(!counts.asker().is_cancelled());
    }
    assert_eq!(counts.get(), (4, 0, 0));
}

#[webmesh::test]
async fn the_end_of_its_connection_gives_an_ask_up_as_well() {
    let (_network, guest, far_host) = pair().await;
    let (_near, far, counts) = patient(&far_host, &guest).await;
    let asked = tokio::task::spawn_local(far.ask(Wait { ms: 60_000, looks: true }));
    seconds(1).await;
    assert_eq!(counts.get(), (1, 1, 0));
    guest.shutdown().await;
    assert!(asked.await.unwrap().is_err());
    seconds(1).await;
    assert_eq!(counts.get(), (1, 0, 1));
}

#[webmesh::test]
async fn a_hundred_thousand_asks_that_are_given_up_in_select_leave_a_far_ref_as_it_was() {
    let (_network, guest, far_host) = pair().await;
    let (_near, far, counts) = patient(&far_host, &guest).await;
    assert_eq!(far.ask(Wait { ms: 0, looks: false }).await, Ok(0));
    for round in 0..1000 {
        let given_up = (0..100).map(|_| {
            let far = far.clone();
            async move {
                tokio::select! {
                    answer = far.ask(Wait { ms: 3_600_000, looks: true }) => panic!("{answer:?}"),
                    () = ms(round % 40) => {}
                }
            }
        });
        futures_util::future::join_all(given_up).await;
    }
    ms(100).await;
    let (begun, at_work, given_up) = counts.get();
    // Those that were given up before they had arrived were not even begun.
    assert_eq!((at_work, begun - 1), (0, given_up));
    assert!(given_up < 100_000, "{given_up}");
    let asked = tokio::time::Instant::now();
    assert_eq!(far.ask(Wait { ms: 1, looks: true }).await, Ok(1));
    far.tell(Wait { ms: 1, looks: false }).await.unwrap();
    assert_eq!(far.try_tell(Wait { ms: 1, looks: false }).map_err(|_| ()), Ok(()));
    far.flush().await.unwrap();
    assert!(asked.elapsed() < Duration::from_millis(100), "{:?}", asked.elapsed());
}

#[webmesh::test]
async fn more_asks_than_may_be_in_hand_can_be_given_up_one_after_the_other() {
    let (_network, guest, far_host) = pair().await;
    let (_near, far, counts) = patient(&far_host, &guest).await;
    // Twice what a lane or a peer may have in hand, of handlers that don't look.
    for _ in 0..64 {
        let asks: Vec<_> = (0..512).map(|_| far.ask(Wait { ms: 50, looks: false })).collect();
        ms(25).await;
        drop(asks);
        ms(75).await;
    }
    assert!(counts.get().0 > 10_000, "{:?}", counts.get());
    assert_eq!(far.ask(Wait { ms: 1, looks: false }).await, Ok(1));
}

#[webmesh::test]
async fn a_peer_that_asks_gives_up_and_asks_again_piles_up_no_work_beyond_a_bound() {
    let (network, guest, far_host) = pair().await;
    let (near, far, counts) = patient(&far_host, &guest).await;
    far.ask(Wait { ms: 0, looks: false }).await.unwrap();
    let object = object_of(&far);
    let there = far_host.peer_ref();
    let mut attacker = Raw::new(&network, 10, &there, object, 1 << 20).await;
    let attack = tokio::task::spawn_local(async move {
        loop {
            attacker.listen(Duration::from_millis(40)).await;
            let first = attacker.number();
            let mut frames = Vec::new();
            for _ in 0..attacker.may_ask().min(200) {
                frames.extend(attacker.ask(&Wait { ms: 86_400_000, looks: false }).1);
            }
            attacker.send.write_all(&frames).await.unwrap();
            // Given up when the actor has them.
            attacker.listen(Duration::from_millis(40)).await;
            let cancels: Vec<_> = (first..attacker.number()).flat_map(Raw::cancel).collect();
            attacker.send.write_all(&cancels).await.unwrap();
        }
    });
    seconds(30).await;
    // The first bound that a peer meets, and what it had in the line by then.
    let (begun, at_work, _) = counts.get();
    assert!((16_384..16_384 + 256).contains(&at_work), "{at_work} of {begun}");
    // Others go on as before.
    assert_eq!(far.ask(Wait { ms: 1, looks: false }).await, Ok(1));
    assert_eq!(near.ask(Wait { ms: 1, looks: false }).await, Ok(1));
    attack.abort();
}

#[webmesh::test]
async fn a_peer_that_ends_its_streams_in_order_and_opens_others_piles_up_no_work_beyond_a_bound() {
    // On one connection after the other, each left with what it had asked; or on one, whose streams wait for their answers.
    for (connections, streams) in [(50, 12), (1, 70)] {
        let (network, guest, far_host) = pair().await;
        let (near, far, counts) = patient(&far_host, &guest).await;
        far.ask(Wait { ms: 0, looks: false }).await.unwrap();
        let (object, there) = (object_of(&far), far_host.peer_ref());
        let mut attacker = Raw::new(&network, 10, &there, object, 1 << 20).await;
        // As the window grows, a single connection has more than the bound.
        let most = if connections == 1 { 600 } else { 64 };
        for connection in 0..connections {
            let mut kept = Vec::new();
            for _ in 0..streams {
                attacker.listen(Duration::from_millis(30)).await;
                let mut frames = Vec::new();
                for _ in 0..attacker.may_ask().min(most) {
                    frames.extend(attacker.ask(&Wait { ms: 86_400_000, looks: false }).1);
                }
                let _ = attacker.send.write_all(&frames).await;
                let _ = attacker.send.finish();
                attacker.listen(Duration::from_millis(60)).await;
                kept.push(attacker.next_stream(object).await);
            }
            if connection + 1 < connections {
                attacker.reconnect(&there, object).await;
            }
        }
        seconds(1).await;
        let (begun, at_work, _) = counts.get();
        assert!((16_384..16_384 + 1024).contains(&at_work), "{at_work} of {begun}");
        assert_eq!(far.ask(Wait { ms: 1, looks: false }).await, Ok(1));
        assert_eq!(near.ask(Wait { ms: 1, looks: false }).await, Ok(1));
    }
}

#[webmesh::test]
async fn a_whole_window_of_asks_that_wait_in_the_lane_goes_on() {
    let (network, guest, far_host) = pair().await;
    let (near, far, _) = patient_of(8, &far_host, &guest).await;
    far.ask(Wait { ms: 0, looks: false }).await.unwrap();
    let (object, there) = (object_of(&far), far_host.peer_ref());
    let mut raw = Raw::new(&network, 10, &there, object, 1 << 20).await;
    raw.listen(Duration::from_millis(50)).await;
    // The window grows whenever it is in the way and the handler keeps up.
    for _ in 0..8 {
        let mut frames = raw.ask(&Wait { ms: 0, looks: false }).1;
        frames.extend([3, 5, 1, 60]);
        raw.send.write_all(&frames).await.unwrap();
        raw.listen(Duration::from_millis(100)).await;
    }
    assert_eq!(raw.may_ask(), 16_384);
    // All places are taken while they arrive, so that none of them is with the actor.
    let busy: Vec<_> = (0..20).map(|n| near.ask(Work { n, us: 100_000, back: 0 })).collect();
    ms(10).await;
    let first = raw.number();
    let mut frames = Vec::new();
    for _ in 0..16_384 {
        frames.extend(raw.ask(&Wait { ms: 0, looks: false }).1);
    }
    raw.send.write_all(&frames).await.unwrap();
    raw.listen(Duration::from_secs(60)).await;
    drop(busy);
    assert_eq!(raw.answered() - first, 16_384);
}

#[webmesh::test]
async fn works_that_were_given_up_cost_the_actor_nothing() {
    let (_network, guest, far_host) = pair().await;
    let (_near, far, counts) = patient(&far_host, &guest).await;
    let first = far.ask(Work { n: 0, us: 100_000, back: 0 });
    let rest: Vec<_> = (1..50).map(|n| far.ask(Work { n, us: 100_000, back: 0 })).collect();
    ms(50).await;
    drop(rest);
    let begun = tokio::time::Instant::now();
    let last = far.ask(Work { n: 50, us: 0, back: 0 });
    assert!(first.await.is_ok() && last.await.is_ok());
    assert!(begun.elapsed() < Duration::from_millis(200), "{:?}", begun.elapsed());
    assert_eq!(*counts.works.lock().unwrap(), [0, 50]);
}
