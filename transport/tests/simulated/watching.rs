//! A peer is watched: how soon its death and its restart are noticed, and what that costs.

use std::{net::SocketAddr, time::Duration};

use crate::{
    common::{Heard, Host, in_place},
    world::World,
};
use tokio::time::Instant;
use webmesh_transport::{Link, LinkDown, Patience};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Hosts 1 and 2, both public, and 2's link to 1.
async fn pair(world: &World) -> (Host, Host, Link) {
    world.network.set_latency(20 * MS);
    let (first, second) = (world.server(1).await, world.server(2).await);
    let link = second.endpoint.connect(&first.endpoint.peer_ref()).await.unwrap();
    (first, second, link)
}

/// The same, while 2 watches 1; then 1 is killed, at another moment between two questions for each seed. The third keeps watching.
async fn watched_and_killed(world: &World, seed: u64) -> (Host, Link, impl Sized) {
    let (first, second, link) = pair(world).await;
    let watching = link.watch();
    tokio::time::sleep(20 * SECOND + seed as u32 * 173 * MS).await;
    kill(world, first, 1);
    (second, link, watching)
}

/// Ends a host without a word.
fn kill(world: &World, host: Host, n: u8) {
    world.network.unplug(SocketAddr::new(World::outside(n), 4433));
    drop(host);
}

#[test]
fn the_death_of_a_watched_peer_is_noticed_within_five_seconds_and_one_pause() {
    for seed in 0..20 {
        in_place(seed, async |placement| {
            let world = World::new(seed, placement);
            let (second, _link, _watching) = watched_and_killed(&world, seed).await;
            let killed = Instant::now();
            let silent = |all: &[Heard]| {
                all.iter().find(|heard| matches!(heard, Heard::Unreachable(_))).map(|_| ())
            };
            second.diary.until("silence", silent).await;
            println!("after {:?}", killed.elapsed());
            assert!(killed.elapsed() <= 7 * SECOND + 40 * MS, "{:?}", killed.elapsed());
        });
    }
}

#[test]
fn the_restart_of_a_watched_peer_is_noticed_within_one_pause_and_two_round_trips() {
    for seed in 0..20 {
        in_place(seed, async |placement| {
            let world = World::new(seed, placement);
            let (second, link, _watching) = watched_and_killed(&world, seed).await;
            // At once, or while this host has noticed nothing yet but that it isn't answered.
            tokio::time::sleep(seed as u32 * 200 * MS).await;
            let _again = world.beside(seed + 1000).server(1).await;
            let started = Instant::now();
            assert_eq!(second.diary.down(&link).await, LinkDown::Restarted);
            println!("after {:?}", started.elapsed());
            assert!(started.elapsed() <= 2 * SECOND + 100 * MS, "{:?}", started.elapsed());
        });
    }
}

/// Datagrams and bytes of IPv4 that both sides send each other in an hour, nothing else being done.
fn hour(watched: bool, every: Duration) -> (u64, u64) {
    in_place(1, async |placement| {
        let world = World::new(1, placement);
        world.network.set_latency(20 * MS);
        let first = world.server(1).await;
        let second = world
            .server_with(2, |config| {
                config.patience = Patience { watch_every: every, ..Patience::default() };
            })
            .await;
        let link = second.endpoint.connect(&first.endpoint.peer_ref()).await.unwrap();
        let _watching = watched.then(|| link.watch());
        tokio::time::sleep(60 * SECOND).await;
        let before = world.network.carried();
        tokio::time::sleep(3600 * SECOND).await;
        let after = world.network.carried();
        let datagrams = after.datagrams - before.datagrams;
        (datagrams, after.bytes - before.bytes + 28 * datagrams)
    })
}

#[test]
fn a_watch_costs_what_the_page_says() {
    let idle = hour(false, 2 * SECOND);
    let mut costs = Vec::new();
    for every in [1, 2, 5, 20] {
        let (datagrams, bytes) = hour(true, every * SECOND);
        println!("each {every} s: {datagrams} datagrams, {bytes} bytes; idle {idle:?}");
        costs.push((u64::from(every), datagrams, bytes));
    }
    for (every, datagrams, bytes) in costs {
        // The other side asks each 20 s as before, and so does an idle one in place of the watcher.
        let expected = 2 * 3600 / every + 2 * 3600 / 20;
        assert!(datagrams.abs_diff(expected) <= expected / 20, "each {every} s: {datagrams}");
        assert_eq!(bytes / datagrams, 79);
    }
}
