//! An actor that is open to anyone, its own program's senders, and hostile peers.

use crate::patient::{Break, Counts, Patience, Raw, Wait, Work, object_of, patient_of};
use crate::world::host;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;
use webmesh::{ActorRef, MemoryNetwork, Mesh};

/// How long senders are counted, in the paused clock's time.
const COUNTED: Duration = Duration::from_secs(20);

/// Works that eight senders of the actor's own process get done, each waiting for one before it asks for the next.
async fn done_near(near: &ActorRef<Patience>) -> usize {
    let (done, until) = (Rc::new(Cell::new(0)), Instant::now() + COUNTED);
    let senders: Vec<_> = (0..8)
        .map(|n| {
            let (near, done) = (near.clone(), done.clone());
            tokio::task::spawn_local(async move {
                while Instant::now() < until {
                    // One that a panic has torn is asked for again.
                    if near.ask(Work { n, us: 2_000, back: 8 }).await.is_ok() {
                        done.set(done.get() + 1);
                    }
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    done.get()
}

/// Asks for more than it ever reads.
async fn reads_nothing(mut raw: Raw) {
    raw.listen(Duration::from_millis(100)).await;
    for n in 0..400 {
        let (_, frame) = raw.ask(&Work { n: 1000 + n, us: 2_000, back: 60_000 });
        if raw.send.write_all(&frame).await.is_err() {
            break;
        }
    }
    // Until the link ends, its stream is there and is not read.
    raw.link.quic().closed().await;
}

/// Asks as much as it may, and gives all up as soon as it has left.
async fn gives_up(mut raw: Raw) {
    loop {
        raw.listen(Duration::from_millis(5)).await;
        let mut frames = Vec::new();
        for n in 0..raw.may_ask().min(256) {
            let (ask, frame) = if n % 2 == 0 {
                raw.ask(&Work { n: 2000 + n, us: 2_000, back: 8 })
            } else {
                raw.ask(&Wait { ms: 60_000, looks: false })
            };
            frames.extend(frame);
            if n % 3 > 0 {
                frames.extend(Raw::cancel(ask));
            }
        }
        if raw.send.write_all(&frames).await.is_err() {
            return;
        }
    }
}

/// Makes the actor panic as often as it can.
async fn breaks(mut raw: Raw) {
    loop {
        raw.listen(Duration::from_millis(5)).await;
        for _ in 0..raw.may_ask().min(64) {
            let (_, frame) = raw.ask(&Break);
            if raw.send.write_all(&frame).await.is_err() {
                return;
            }
        }
    }
}

async fn scene(
    places: usize,
) -> (MemoryNetwork, [Mesh; 2], ActorRef<Patience>, ActorRef<Patience>, Counts) {
    let network = MemoryNetwork::new(1);
    network.set_latency(Duration::from_millis(10));
    let (guest, far_host) = (host(&network, 1).await, host(&network, 2).await);
    let (near, far, counts) = patient_of(places, &far_host, &guest).await;
    far.ask(Wait { ms: 0, looks: false }).await.unwrap();
    (network, [guest, far_host], near, far, counts)
}

#[webmesh::test]
async fn three_hostile_peers_cost_an_actors_own_program_less_than_a_fifth() {
    // An inlet that they could fill, and one of the usual size.
    for places in [64, 4096] {
        beset_by_three(places).await;
    }
}

async fn beset_by_three(places: usize) {
    let (network, [_guest, far_host], near, far, _counts) = scene(places).await;
    let alone = done_near(&near).await;
    let (object, there) = (object_of(&far), far_host.peer_ref());
    let raw = |n, window| Raw::new(&network, n, &there, object, window);
    let hostile = [
        tokio::task::spawn_local(reads_nothing(raw(10, 4096).await)),
        tokio::task::spawn_local(gives_up(raw(11, 1 << 20).await)),
        tokio::task::spawn_local(breaks(raw(12, 1 << 20).await)),
    ];
    let beset = done_near(&near).await;
    println!(
        "{places} places: eight near senders get {alone} works done in {COUNTED:?}, beside three hostile peers {beset} ({:.2})",
        beset as f64 / alone as f64
    );
    assert!(beset * 10 >= alone * 8, "{beset} of {alone}");
    hostile.iter().for_each(|attack| attack.abort());
}

#[webmesh::test]
async fn peers_that_read_no_replies_keep_no_place_from_others() {
    let (network, [_guest, far_host], near, far, counts) = scene(64).await;
    let (object, there) = (object_of(&far), far_host.peer_ref());
    let mut hostile = Vec::new();
    for n in 10..16 {
        let raw = Raw::new(&network, n, &there, object, 4096).await;
        hostile.push(tokio::task::spawn_local(reads_nothing(raw)));
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    // What they were answered fills what may wait for each, and they got little further, though all of their asks are here.
    let handled = counts.works.lock().unwrap().len();
    assert!((6 * 60..6 * 140).contains(&handled), "{handled}");
    // Many more than all places.
    let near: Vec<_> = (0..2_000).map(|n| near.ask(Work { n, us: 0, back: 0 })).collect();
    for answer in near {
        answer.timeout(Duration::from_secs(600)).await.unwrap();
    }
    assert!(far.ask(Work { n: 0, us: 0, back: 0 }).await.is_ok());
}
