//! Simultaneous dials and restarts: one link on both sides in the end, and nothing lost on the way.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use common::{Heard, Host, host, host_in_place, host_with, in_place, patient_host_in_place};
use tokio::sync::mpsc;
use webmesh_transport::{InPlace, Link, LinkDown, MemoryNetwork};

fn slow_network(seed: u64, loss: f64) -> MemoryNetwork {
    let network = MemoryNetwork::new(seed);
    network.set_latency(Duration::from_millis(20));
    network.set_loss(loss);
    network
}

/// Two hosts 20 ms apart.
async fn pair(placement: &Arc<InPlace>, seed: u64, loss: f64) -> (Host, Host) {
    let network = slow_network(seed, loss);
    let a = host_in_place(1, &network, placement, |_| {}).await;
    let b = host_in_place(2, &network, placement, |_| {}).await;
    (a, b)
}

fn up(all: &[Heard]) -> Vec<Link> {
    let mut up = Vec::new();
    for heard in all {
        match heard {
            Heard::Up(link) => {
                up.retain(|other| other != link);
                up.push(link.clone());
            }
            Heard::Draining(link) | Heard::Down(link, _) => up.retain(|other| other != link),
            _ => {}
        }
    }
    up
}

#[test]
fn when_both_dial_one_link_stays_on_both_sides() {
    for seed in 0..20 {
        in_place(seed, async |placement| {
            let (a, b) = pair(&placement, seed, 0.05).await;
            let (at_a, at_b) = tokio::join!(a.connect(&b), b.connect(&a));
            assert_eq!((at_a.peer(), at_b.peer()), (b.peer(), a.peer()));
            tokio::time::sleep(Duration::from_secs(20)).await;
            let (up_a, up_b) = (up(&a.diary.all()), up(&b.diary.all()));
            assert_eq!((up_a.len(), up_b.len()), (1, 1), "{:?} {:?}", a.diary.all(), b.diary.all());
            // The same connection: one side dialled it.
            assert_ne!(up_a[0].dialled(), up_b[0].dialled());
            assert_eq!(up_a[0].dialled(), a.peer() < b.peer());
            for heard in [a.diary.all(), b.diary.all()].concat() {
                assert!(!matches!(heard, Heard::Down(_, why) if why != LinkDown::Duplicate));
            }
        });
    }
}

/// Streams of ours under way, by link.
type Busy = Rc<RefCell<HashMap<u64, usize>>>;

/// Sends `count` numbers, each on a stream of its own over the link that is up; the peer acknowledges
/// each by ending the other direction.
async fn talk(from: &Host, to: &Host, busy: &Busy, count: u32) {
    let mut sent = Vec::new();
    for n in 0..count {
        let link = from.connect(to).await;
        *busy.borrow_mut().entry(link.id()).or_default() += 1;
        let busy = busy.clone();
        sent.push(tokio::task::spawn_local(async move {
            let (mut tx, mut rx) = link.quic().open_bi().await.unwrap();
            tx.write_all(&n.to_be_bytes()).await.unwrap();
            tx.finish().unwrap();
            rx.read_to_end(0).await.unwrap();
            *busy.borrow_mut().get_mut(&link.id()).unwrap() -= 1;
        }));
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    for sent in sent {
        sent.await.unwrap();
    }
}

/// Takes numbers from every link that `host` hears of, and is done with a draining one when no stream of
/// ours is left on it.
fn listen(host: &Host, busy: &Busy) -> mpsc::UnboundedReceiver<u32> {
    let (found, numbers) = mpsc::unbounded_channel();
    let (diary, busy) = (host.diary.clone(), busy.clone());
    tokio::task::spawn_local(async move {
        let mut heard = 0;
        let mut served: Vec<Link> = Vec::new();
        loop {
            let next = diary.until("news", |all| all.get(heard).cloned()).await;
            heard += 1;
            if let Heard::Draining(link) = &next {
                let (link, busy) = (link.clone(), busy.clone());
                tokio::task::spawn_local(async move {
                    while busy.borrow().get(&link.id()).is_some_and(|streams| *streams > 0) {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    link.drained();
                });
            }
            let (Heard::Up(link) | Heard::Draining(link)) = next else { continue };
            if served.contains(&link) {
                continue;
            }
            served.push(link.clone());
            let found = found.clone();
            tokio::task::spawn_local(async move {
                while let Ok((mut tx, mut rx)) = link.quic().accept_bi().await {
                    let mut number = [0; 4];
                    rx.read_exact(&mut number).await.unwrap();
                    let _ = found.send(u32::from_be_bytes(number));
                    tx.finish().unwrap();
                }
            });
        }
    });
    numbers
}

#[test]
fn what_is_sent_while_both_dial_arrives_exactly_once() {
    for seed in 0..20 {
        in_place(seed, async |placement| {
            let network = slow_network(seed, 0.02);
            let a = patient_host_in_place(1, &network, &placement).await;
            let b = patient_host_in_place(2, &network, &placement).await;
            let (busy_a, busy_b) = (Busy::default(), Busy::default());
            let (mut at_a, mut at_b) = (listen(&a, &busy_a), listen(&b, &busy_b));
            tokio::join!(talk(&a, &b, &busy_a, 50), talk(&b, &a, &busy_b, 50));
            tokio::time::sleep(Duration::from_secs(5)).await;
            for numbers in [&mut at_a, &mut at_b] {
                let mut got = Vec::new();
                while let Ok(n) = numbers.try_recv() {
                    got.push(n);
                }
                got.sort_unstable();
                assert_eq!(got, (0..50).collect::<Vec<_>>());
            }
            assert_eq!((up(&a.diary.all()).len(), up(&b.diary.all()).len()), (1, 1));
        });
    }
}

#[tokio::test]
async fn a_restarted_peer_that_dials_from_its_old_port_replaces_its_old_link_at_once() {
    let (a, b) = (host(1).await, host(2).await);
    let old = b.connect(&a).await;
    let at_a = a.diary.up().await;
    let address = b.address();
    drop(old);
    b.kill();
    let b = host_with(2, |config| config.listen = vec![address]).await;
    b.connect(&a).await;
    assert_eq!(a.diary.down(&at_a).await, LinkDown::Restarted);
    let new = a.diary.up().await;
    assert_ne!(new, at_a);
    assert_eq!(new.instance(), b.endpoint.instance());
}

#[tokio::test]
async fn the_first_packet_to_a_restarted_peer_tells_that_it_restarted() {
    for dialler_restarts in [false, true] {
        let (a, b) = (host(1).await, host(2).await);
        drop(if dialler_restarts { b.connect(&a).await } else { a.connect(&b).await });
        let at_a = a.diary.up().await;
        b.diary.up().await;
        // QUIC has told its later connection ids, and with them the reset tokens.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let address = b.address();
        b.kill();
        let _b = host_with(2, |config| config.listen = vec![address]).await;
        let begun = std::time::Instant::now();
        let mut stream = at_a.quic().open_uni().await.unwrap_or_else(|_| panic!("no stream"));
        let _ = stream.write_all(b"are you there?").await;
        assert_eq!(a.diary.down(&at_a).await, LinkDown::Restarted);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn whoever_is_replaced_by_another_host_with_its_key_learns_that() {
    let (a, first) = (host(1).await, host(2).await);
    let at_first = first.connect(&a).await;
    let at_a = a.diary.up().await;
    let second = host(2).await;
    second.connect(&a).await;
    assert_eq!(first.diary.down(&at_first).await, LinkDown::KeyInUse);
    assert_eq!(
        a.diary.down(&at_a).await,
        LinkDown::Restarted,
        "which is all that can be seen there"
    );
}

#[test]
fn a_link_whose_peer_has_fallen_silent_gives_way_to_a_new_one_whoever_dialled_it() {
    for seed in 0..20 {
        in_place(seed, async |placement| {
            let network = slow_network(seed, 0.0);
            let a = host_in_place(1, &network, &placement, |_| {}).await;
            let b = host_in_place(2, &network, &placement, |_| {}).await;
            // Dialled by the lower key: between two that work it would be the one that stays.
            let (low, high) = if a.peer() < b.peer() { (&a, &b) } else { (&b, &a) };
            let old = low.connect(high).await;
            let _expecting = old.expect_answers();
            let hosts = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
            network.set_cut(hosts[0], hosts[1], true);
            low.diary
                .until("silence", |all| {
                    all.contains(&Heard::Unreachable(high.peer())).then_some(())
                })
                .await;
            high.endpoint.disconnect(&low.peer(), "done with it").await;
            network.set_cut(hosts[0], hosts[1], false);
            high.connect(low).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            let up = up(&low.diary.all());
            assert_eq!(up.len(), 1, "{up:?}");
            assert_ne!(up[0], old);
            assert!(!up[0].dialled());
            assert_eq!(low.endpoint.link(&high.peer()), Some(up[0].clone()));
            assert_eq!(low.diary.down(&old).await, LinkDown::Gone);
        });
    }
}
