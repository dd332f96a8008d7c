//! Silence: a peer that is cut off, comes back, restarts or moves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::{Heard, Host, echo, host_in_place, in_place};
use tokio::time::Instant;
use webmesh_transport::{InPlace, LinkDown, MemoryNetwork};

const SECOND: Duration = Duration::from_secs(1);

struct World {
    network: MemoryNetwork,
    a: Host,
    b: Host,
}

impl World {
    async fn new(placement: &std::sync::Arc<InPlace>) -> Self {
        let network = MemoryNetwork::new(1);
        network.set_latency(Duration::from_millis(10));
        let a = host_in_place(1, &network, placement, |_| {}).await;
        let b = host_in_place(2, &network, placement, |_| {}).await;
        Self { network, a, b }
    }

    fn cut(&self, cut: bool) {
        self.network.set_cut(self.a.address().ip(), self.b.address().ip(), cut);
    }
}

async fn unreachable(host: &Host) {
    let pick = |all: &[Heard]| all.iter().any(|h| matches!(h, Heard::Unreachable(_))).then_some(());
    host.diary.until("unreachable", pick).await;
}

async fn reachable(host: &Host) {
    let pick = |all: &[Heard]| all.iter().any(|h| matches!(h, Heard::Reachable(_))).then_some(());
    host.diary.until("reachable", pick).await;
}

#[test]
fn what_waits_for_a_silent_peer_is_told_within_six_seconds_and_all_goes_on_when_it_returns() {
    in_place(1, async |placement| {
        let world = World::new(&placement).await;
        let at_a = world.a.connect(&world.b).await;
        let at_b = world.b.diary.up().await;
        let _waiting = at_a.expect_answers();
        tokio::time::sleep(3 * SECOND).await;
        world.cut(true);
        let cut = Instant::now();
        // Something is in flight, and QUIC backs off meanwhile.
        let mut stream = at_a.quic().open_uni().await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        unreachable(&world.a).await;
        // Five seconds from its last sign of life, up to a probe's interval before.
        let told = cut.elapsed();
        assert!((9 * SECOND / 2..26 * SECOND / 5).contains(&told), "{told:?}");
        tokio::time::sleep(40 * SECOND).await;
        world.cut(false);
        let healed = Instant::now();
        reachable(&world.a).await;
        let mut stream = at_b.quic().accept_uni().await.unwrap();
        let mut got = [0; 5];
        stream.read_exact(&mut got).await.unwrap();
        assert!(healed.elapsed() < 2 * SECOND, "{:?}", healed.elapsed());
        assert_eq!(echo(&at_a, &at_b, &[3; 50_000]).await, [3; 50_000]);
        assert!(healed.elapsed() < 3 * SECOND, "{:?}", healed.elapsed());
    });
}

#[test]
fn a_peer_that_stays_away_is_gone_after_a_minute_though_nothing_waits_for_it() {
    in_place(1, async |placement| {
        let world = World::new(&placement).await;
        let at_a = world.a.connect(&world.b).await;
        let at_b = world.b.diary.up().await;
        tokio::time::sleep(100 * SECOND).await;
        world.cut(true);
        let cut = Instant::now();
        assert_eq!(world.a.diary.down(&at_a).await, LinkDown::Gone);
        assert_eq!(world.b.diary.down(&at_b).await, LinkDown::Gone);
        assert!((40 * SECOND..61 * SECOND).contains(&cut.elapsed()), "{:?}", cut.elapsed());
    });
}

#[test]
fn a_short_patience_notices_a_dead_idle_peer_in_time() {
    in_place(1, async |placement| {
        let network = MemoryNetwork::new(1);
        let short = |config: &mut webmesh_transport::EndpointConfig| {
            config.patience.gone_after = 8 * SECOND;
        };
        let a = host_in_place(1, &network, &placement, short).await;
        let b = host_in_place(2, &network, &placement, |_| {}).await;
        let at_a = a.connect(&b).await;
        tokio::time::sleep(100 * SECOND).await;
        network.set_cut(a.address().ip(), b.address().ip(), true);
        let cut = Instant::now();
        assert_eq!(a.diary.down(&at_a).await, LinkDown::Gone);
        assert!(cut.elapsed() < 10 * SECOND, "{:?}", cut.elapsed());
    });
}

#[test]
fn a_peer_that_restarted_behind_a_long_silence_is_recognised_as_soon_as_it_is_there() {
    in_place(1, async |placement| {
        let World { network, a, b } = World::new(&placement).await;
        let at_a = a.connect(&b).await;
        let _waiting = at_a.expect_answers();
        tokio::time::sleep(SECOND).await;
        let (from, to) = (a.address().ip(), b.address().ip());
        network.set_cut(from, to, true);
        let mut stream = at_a.quic().open_uni().await.unwrap();
        stream.write_all(&[1; 100_000]).await.unwrap();
        b.endpoint.close("nobody hears this").await;
        drop(b);
        tokio::time::sleep(15 * SECOND).await;
        let _b = host_in_place(2, &network, &placement, |_| {}).await;
        network.set_cut(from, to, false);
        let healed = Instant::now();
        assert_eq!(a.diary.down(&at_a).await, LinkDown::Restarted);
        assert!(healed.elapsed() < SECOND, "{:?}", healed.elapsed());
    });
}

#[test]
fn a_peer_whose_nat_gave_it_another_address_keeps_its_link() {
    for dialler_moves in [true, false] {
        in_place(1, async |placement| {
            let World { network, a, b } = World::new(&placement).await;
            let at_a = a.connect(&b).await;
            let at_b = b.diary.up().await;
            let _waiting = (at_a.expect_answers(), at_b.expect_answers());
            tokio::time::sleep(2 * SECOND).await;
            let mover = if dialler_moves { &a } else { &b };
            let public = "192.0.2.7:7777".parse().unwrap();
            network.set_mapping(mover.address(), public);
            tokio::time::sleep(2 * SECOND).await;
            let sees_it = if dialler_moves { &at_b } else { &at_a };
            assert_eq!(sees_it.via(), public);
            assert_eq!(echo(&at_a, &at_b, &[3; 50_000]).await, [3; 50_000]);
            assert_eq!(echo(&at_b, &at_a, &[3; 50_000]).await, [3; 50_000]);
            let unrest = |heard: &Heard| matches!(heard, Heard::Unreachable(_) | Heard::Down(..));
            assert!(![a.diary.all(), b.diary.all()].concat().iter().any(unrest));
        });
    }
}

#[test]
fn a_transfer_that_an_outage_interrupted_goes_on_soon_after_it() {
    for seconds in [2, 10, 40] {
        in_place(1, async |placement| {
            let world = World::new(&placement).await;
            let at_a = world.a.connect(&world.b).await;
            let at_b = world.b.diary.up().await;
            let _waiting = (at_a.expect_answers(), at_b.expect_answers());
            let (mut tx, _rx) = at_a.quic().open_bi().await.unwrap();
            let sender = tokio::task::spawn_local(async move {
                loop {
                    if tx.write_all(&[1; 10_000]).await.is_err() {
                        break;
                    }
                }
            });
            let (_tx, mut rx) = at_b.quic().accept_bi().await.unwrap();
            let mut buffer = vec![0; 1 << 20];
            let warm = Instant::now();
            while warm.elapsed() < SECOND / 2 {
                rx.read(&mut buffer).await.unwrap();
            }
            world.cut(true);
            let cut = Instant::now();
            // What had arrived by then doesn't count.
            while let Ok(read) = tokio::time::timeout(SECOND, rx.read(&mut buffer)).await {
                read.unwrap();
            }
            tokio::time::sleep_until(cut + seconds * SECOND).await;
            world.cut(false);
            let healed = Instant::now();
            let mut got = 0;
            while got < 5_000_000 {
                got += rx.read(&mut buffer).await.unwrap().unwrap();
            }
            println!("{seconds} s of outage: 5 MB after {:?}", healed.elapsed());
            assert!(healed.elapsed() < 3 * SECOND, "{:?}", healed.elapsed());
            sender.abort();
        });
    }
}
