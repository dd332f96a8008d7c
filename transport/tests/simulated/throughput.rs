//! Bulk over a road that was found late, beside one that was there from the start.

use std::time::Duration;

use crate::{
    common::in_place,
    world::{DIRECT, Kind, World, line, until},
};
use tokio::time::Instant;
use webmesh_transport::Link;

/// Sends without end; counts what arrives in each 100 ms.
async fn bulk(from: &Link, to: &Link) -> std::rc::Rc<std::cell::RefCell<Vec<(Instant, usize)>>> {
    let mut tx = from.quic().open_uni().await.unwrap();
    let (arrived, to) = (std::rc::Rc::<std::cell::RefCell<Vec<_>>>::default(), to.clone());
    tokio::task::spawn_local(async move {
        let chunk = vec![7; 1 << 16];
        while tx.write_all(&chunk).await.is_ok() {}
    });
    let counted = arrived.clone();
    tokio::task::spawn_local(async move {
        let mut rx = to.quic().accept_uni().await.unwrap();
        while let Ok(Some(chunk)) = rx.read_chunk(1 << 20, true).await {
            counted.borrow_mut().push((Instant::now(), chunk.bytes.len()));
        }
    });
    arrived
}

/// Mbit/s that arrive in the two seconds after `begin`, on a connection that is direct from the start or from later on.
fn direct(seed: u64, relayed_first: bool) -> (f64, f64) {
    in_place(seed, async |placement| {
        let world = World::new(seed, placement);
        let network = &world.network;
        let outside = World::outside;
        network.set_links(line(20, 20));
        network.set_link(outside(2), outside(3), line(10, 150));
        let server = world.server(1).await;
        let served = world.site(2, Kind::PortRestricted, &[&server]).await;
        let caller = world.site(3, Kind::PortRestricted, &[&server]).await;
        network.set_cut(outside(2), outside(3), relayed_first);
        let link = caller.endpoint.connect(&served.endpoint.peer_ref()).await.unwrap();
        let other = served.diary.up().await;
        let mut relayed = 0.0;
        let arrived = if relayed_first {
            let arrived = bulk(&link, &other).await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            relayed = rate(&arrived.borrow(), Instant::now() - Duration::from_secs(2));
            network.set_cut(outside(2), outside(3), false);
            until(&link, &DIRECT).await;
            arrived
        } else {
            until(&link, &DIRECT).await;
            bulk(&link, &other).await
        };
        let begin = Instant::now() + Duration::from_secs(1);
        tokio::time::sleep(Duration::from_secs(4)).await;
        let direct = rate(&arrived.borrow(), begin);
        (relayed, direct)
    })
}

fn rate(arrived: &[(Instant, usize)], begin: Instant) -> f64 {
    let window = begin..begin + Duration::from_secs(2);
    let bytes: usize = arrived.iter().filter(|(at, _)| window.contains(at)).map(|(_, n)| n).sum();
    bytes as f64 * 8.0 / 2.0 / 1e6
}

#[test]
fn a_second_after_an_upgrade_bulk_is_nine_tenths_as_fast_as_if_it_had_been_direct_from_the_start() {
    for seed in 0..3 {
        let (relayed, upgraded) = direct(seed, true);
        let (_, plain) = direct(seed, false);
        println!("relayed {relayed:.1}, upgraded {upgraded:.1}, direct {plain:.1} Mbit/s");
        assert!(relayed > 10.0 && relayed < 20.0, "{relayed}");
        assert!(upgraded >= 0.9 * plain, "{upgraded} of {plain} Mbit/s");
    }
}
