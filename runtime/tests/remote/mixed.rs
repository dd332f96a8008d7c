//! Ten thousand tells and asks, mixed, of all sizes, from several senders to several actors, one of them slow.

use crate::common::*;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use webmesh::ActorRef;

const SENDERS: u32 = 4;
const TARGETS: usize = 4;
const MESSAGES: u64 = 625; // of each sender to each target: 10,000 in all

/// Mostly small, now and then large, once 8 MiB.
fn len(number: u64) -> usize {
    match number {
        300 => 8 << 20,
        n if n % 200 == 0 => 1 << 20,
        n if n % 50 == 0 => 100_000,
        n if n % 20 == 0 => 60_000,
        n => (n * 37 % 1000) as usize,
    }
}

/// Of the slow actor before each note: what it gets takes 100 s, and all that the others get a few seconds on an idle machine.
const PAUSE: Duration = Duration::from_millis(40);

async fn talk(sender: u32, far: ActorRef<Recorder>) -> Duration {
    let start = Instant::now();
    for number in 0..MESSAGES {
        let note = note(sender, number, len(number));
        if number % 3 == 0 {
            assert_eq!(far.ask(note).await, Ok(number));
        } else {
            far.tell(note).await.unwrap();
        }
    }
    far.flush().await.unwrap();
    start.elapsed()
}

#[test]
fn ten_thousand_messages_arrive_once_and_in_order_and_a_slow_actor_holds_up_nobody_else() {
    run(async {
        let host = mesh().await;
        let guests = [mesh().await, mesh().await];
        let mut logs = Vec::new();
        let hurry = Arc::new(AtomicBool::new(false));
        let slowest = Arc::new(AtomicU64::new(0));
        let mut slow = Vec::new();
        let mut fast = Vec::new();
        for target in 0..TARGETS {
            let pause = if target == 0 { PAUSE } else { Duration::ZERO };
            let (_, log) = (0, Log::default());
            let (made, told) = (log.clone(), hurry.clone());
            let near = host.spawn(move || RecorderActor {
                log: made.clone(),
                slow: pause,
                hurry: told.clone(),
                ..Default::default()
            });
            let name = format!("mixed/{target}");
            host.publish(&name, &near).allow(webmesh::Anyone).await.unwrap();
            for sender in 0..SENDERS {
                let guest = &guests[sender as usize % 2];
                let far = guest.resolve(&name).at(&host.peer_ref()).await.unwrap();
                let slowest = slowest.clone();
                let talking = tokio::spawn(async move {
                    let took = talk(sender, far).await;
                    slowest.fetch_max(took.as_millis() as u64, Ordering::Relaxed);
                });
                if target == 0 { slow.push(talking) } else { fast.push(talking) }
            }
            logs.push(log);
        }
        for talking in fast {
            talking.await.unwrap();
        }
        // The slow one is still busy when all others are long done.
        let behind = logs[0].lock().unwrap().len();
        assert!(behind < 2500, "the fast actors' messages took as long as the slow one's");
        hurry.store(true, Ordering::Relaxed);
        for talking in slow {
            talking.await.unwrap();
        }
        for log in logs {
            let log = log.lock().unwrap();
            assert_eq!(log.len() as u64, u64::from(SENDERS) * MESSAGES);
            let mut next = HashMap::<u32, u64>::new();
            for &(sender, number, size) in log.iter() {
                let next = next.entry(sender).or_default();
                assert_eq!((number, size), (*next, len(number)), "of sender {sender}");
                *next += 1;
            }
        }
    });
}

#[test]
fn lanes_beyond_the_cap_are_evicted_without_loss_or_reordering() {
    run(async {
        let (host, guest) = (mesh().await, mesh().await);
        let mut targets = Vec::new();
        for number in 0..150 {
            let log = Log::default();
            let made = log.clone();
            let near =
                host.spawn(move || RecorderActor { log: made.clone(), ..Default::default() });
            let name = format!("many/{number}");
            host.publish(&name, &near).allow(webmesh::Anyone).await.unwrap();
            let far: ActorRef<Recorder> = guest.resolve(&name).at(&host.peer_ref()).await.unwrap();
            targets.push((far, log));
        }
        for number in 0..20 {
            for (far, _) in &targets {
                far.tell(note(1, number, 10)).await.unwrap();
            }
        }
        for (far, log) in &targets {
            far.flush().await.unwrap();
            let expected: Vec<_> = (0..20).map(|number| (1, number, 10)).collect();
            assert_eq!(*log.lock().unwrap(), expected);
        }
    });
}

#[test]
fn two_meshes_that_dial_each_other_at_once_lose_nothing() {
    for _ in 0..5 {
        run(async {
            let (one, other) = (mesh().await, mesh().await);
            let make = |host: &webmesh::Mesh| {
                let log = Log::default();
                let made = log.clone();
                (host.spawn(move || RecorderActor { log: made.clone(), ..Default::default() }), log)
            };
            let ((near_one, log_one), (near_other, log_other)) = (make(&one), make(&other));
            one.publish("it", &near_one).allow(webmesh::Anyone).await.unwrap();
            other.publish("it", &near_other).allow(webmesh::Anyone).await.unwrap();
            let (ref_one, ref_other) = (one.peer_ref(), other.peer_ref());
            let talk = async |from: webmesh::Mesh, to: webmesh::PeerRef| {
                let far: ActorRef<Recorder> = from.resolve("it").at(&to).await.unwrap();
                for number in 0..500 {
                    far.tell(note(1, number, 50)).await.unwrap();
                    if number % 50 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                far.flush().await.unwrap();
            };
            tokio::join!(talk(one.clone(), ref_other), talk(other.clone(), ref_one));
            let expected: Vec<_> = (0..500).map(|number| (1, number, 50)).collect();
            assert_eq!(*log_one.lock().unwrap(), expected);
            assert_eq!(*log_other.lock().unwrap(), expected);
        });
    }
}
