//! The only public node of two hosts ends, and starts again under its key at its port.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    common::{Host, echo, in_place},
    world::{Kind, World},
};
use parking_lot::Mutex;
use tokio::time::Instant;
use webmesh_transport::{Link, PathKind, sim::Copied};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// After so long things go on.
const ON_WITHIN: Duration = Duration::from_secs(5);

/// The public node: where it is.
const NODE: u8 = 1;

fn node() -> SocketAddr {
    SocketAddr::new(World::outside(NODE), 4433)
}

/// How the node ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It says farewell, as after SIGTERM.
    Farewell,
    /// Without a word, as after SIGKILL.
    Abruptly,
}

/// Ends the node, which is as if it had never been.
async fn end(world: &World, node_host: Host, how: End) {
    if how == End::Farewell {
        node_host.endpoint.close("an update").await;
    }
    world.network.unplug(node());
    drop(node_host);
}

/// The time of each tenth of a second, written to one stream and read at its other end.
struct Ticks {
    /// When what arrived last was written.
    last: Arc<Mutex<Instant>>,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Ticks {
    async fn start(from: &Link, to: &Link) -> Self {
        let mut tx = from.quic().open_uni().await.unwrap();
        let (to, begun, last) = (to.clone(), Instant::now(), Arc::new(Mutex::new(Instant::now())));
        let told = last.clone();
        let write = tokio::task::spawn_local(async move {
            let mut count = 0_u64;
            while tx.write_all(&count.to_be_bytes()).await.is_ok() {
                tokio::time::sleep(100 * MS).await;
                count += 1;
            }
        });
        let read = tokio::task::spawn_local(async move {
            let mut rx = to.quic().accept_uni().await.unwrap();
            let (mut number, mut expected) = ([0; 8], 0);
            while rx.read_exact(&mut number).await.is_ok() {
                assert_eq!(u64::from_be_bytes(number), expected, "lost, doubled or out of order");
                *told.lock() = begun + 100 * MS * expected as u32;
                expected += 1;
            }
        });
        Self { last, tasks: [write, read] }
    }

    /// How long after `since` something arrives that was written later than that.
    async fn on_after(&self, since: Instant) -> Duration {
        while *self.last.lock() < since {
            tokio::time::sleep(10 * MS).await;
            assert!(since.elapsed() < 120 * SECOND, "it never goes on");
        }
        since.elapsed()
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// How long after the node is back a stream between two symmetric hosts goes on, in either direction.
fn restart(seed: u64, how: End, outage: Duration, loss: f64, attached: bool) -> Duration {
    in_place(seed, async |placement| {
        let world = World::new(seed, placement);
        world.network.set_latency(20 * MS);
        let first = world.server(NODE).await;
        let served = world.site(2, Kind::Symmetric, &[&first]).await;
        let own = if attached { vec![&first] } else { Vec::new() };
        let caller = world.site(3, Kind::Symmetric, &own).await;
        let link = caller.endpoint.connect(&served.endpoint.peer_ref()).await.unwrap();
        let other = served.diary.up().await;
        let there = Ticks::start(&link, &other).await;
        let back = Ticks::start(&other, &link).await;
        world.network.set_loss(loss);
        // Not at a moment that anything else keeps to.
        tokio::time::sleep(7 * SECOND + seed as u32 * 733 * MS).await;
        assert_eq!(link.path(), PathKind::RelayUdp);
        end(&world, first, how).await;
        tokio::time::sleep(outage).await;
        let _second = world.beside(seed + 1000).server(NODE).await;
        let since = Instant::now();
        let on = there.on_after(since).await.max(back.on_after(since).await);
        assert!(!link.is_closed() && !other.is_closed(), "it is the same connection");
        on
    })
}

#[test]
fn a_stream_goes_on_within_five_seconds_of_the_return_of_the_only_public_node() {
    let mut longest = Duration::ZERO;
    for how in [End::Farewell, End::Abruptly] {
        for outage in [0, 10, 30, 50] {
            for (seed, loss) in [(1, 0.0), (2, 0.0), (3, 0.03), (4, 0.03)] {
                let on = restart(seed, how, outage * SECOND, loss, seed % 2 == 0);
                println!("{how:?}, {outage} s, {loss} lost, seed {seed}: on after {on:?}");
                assert!(on <= ON_WITHIN, "{how:?}, {outage} s, {loss} lost, seed {seed}: {on:?}");
                longest = longest.max(on);
            }
        }
    }
    println!("the longest: {longest:?}");
}

#[test]
fn a_newcomer_is_introduced_within_five_seconds_of_the_return_of_the_node_that_said_farewell() {
    for outage in [0, 30, 55] {
        in_place(outage, async |placement| {
            let world = World::new(outage, placement);
            world.network.set_latency(20 * MS);
            let first = world.server(NODE).await;
            let served = world.site(2, Kind::Symmetric, &[&first]).await;
            let reference = served.endpoint.peer_ref();
            end(&world, first, End::Farewell).await;
            tokio::time::sleep(outage as u32 * SECOND).await;
            let _second = world.beside(outage + 1000).server(NODE).await;
            let since = Instant::now();
            while served.endpoint.attached_to().is_empty() {
                tokio::time::sleep(10 * MS).await;
            }
            let caller = world.site(3, Kind::Symmetric, &[]).await;
            let link = caller.endpoint.connect(&reference).await.unwrap();
            println!("{outage} s: introduced after {:?}", since.elapsed());
            assert!(since.elapsed() <= ON_WITHIN, "{:?}", since.elapsed());
            assert_eq!(echo(&link, &served.diary.up().await, b"hello").await, b"hello");
        });
    }
}

#[test]
fn an_idle_host_notices_by_its_next_sign_of_life_that_the_node_was_killed() {
    in_place(3, async |placement| {
        let world = World::new(3, placement);
        world.network.set_latency(20 * MS);
        let first = world.server(NODE).await;
        let served = world.site(2, Kind::Symmetric, &[&first]).await;
        tokio::time::sleep(25 * SECOND).await;
        let before = served.diary.up().await;
        end(&world, first, End::Abruptly).await;
        let second = world.beside(1003).server(NODE).await;
        let since = Instant::now();
        let after = served.diary.until("another link", |all| {
            all.iter().rev().find_map(|heard| match heard {
                crate::common::Heard::Up(link) if *link != before => Some(link.clone()),
                _ => None,
            })
        });
        assert_eq!(after.await.peer(), second.peer());
        println!("noticed after {:?}", since.elapsed());
        assert!(since.elapsed() <= 25 * SECOND, "{:?}", since.elapsed());
    });
}

/// A frame that says that a flow or a connection isn't known.
fn unknown(what: u8, name: &[u8]) -> Vec<u8> {
    [&[0x0c, what, 0, 0, 0, 0, 0, 0], name].concat()
}

#[test]
fn whoever_says_falsely_that_nothing_is_known_has_the_host_ask_once_a_second_and_no_more() {
    in_place(5, async |placement| {
        let world = World::new(5, placement);
        world.network.set_latency(20 * MS);
        let server = world.server(NODE).await;
        let served = world.site(2, Kind::PortRestricted, &[&server]).await;
        let caller = world.site(3, Kind::Symmetric, &[]).await;
        world.network.overhear();
        let link = caller.endpoint.connect(&served.endpoint.peer_ref()).await.unwrap();
        let other = served.diary.up().await;
        let to_node = |copy: &&Copied| copy.from.ip() == World::host(2) && copy.to == node();
        tokio::time::sleep(100 * SECOND).await;
        let copies = world.network.overhear();
        let sent: Vec<_> = copies.iter().filter(to_node).collect();
        let named = |first: u8, range: std::ops::Range<usize>| {
            let copy = sent.iter().find(|copy| copy.bytes[0] == first);
            let copy = copy.unwrap_or_else(|| panic!("nothing begins with {first}"));
            (copy.seen_at, copy.bytes[range].to_vec())
        };
        let ((seen_at, tag), (_, token)) = (named(1, 1..9), named(8, 8..16));
        let before = (served.endpoint.attached_to(), other.path(), link.path());
        let quiet = sent.len();
        let seconds = 10;
        for _ in 0..seconds * 50 {
            for frame in [unknown(1, &tag), unknown(8, &token), unknown(1, &token)] {
                world.network.inject(node(), seen_at, &frame);
                // Nor does it help to be somebody else.
                world.network.inject(SocketAddr::new(World::outside(9), 4433), seen_at, &frame);
            }
            tokio::time::sleep(20 * MS).await;
        }
        let copies = world.network.overhear();
        let asked = copies.iter().filter(to_node).filter(|copy| copy.bytes[0] == 1).count();
        println!("{asked} probes in {seconds} s; before, {quiet} datagrams in 100 s");
        // The node is watched each two seconds while a road through it carries something.
        assert!((8..=seconds + seconds / 2 + 2).contains(&asked), "{asked}");
        assert_eq!(before, (served.endpoint.attached_to(), other.path(), link.path()));
        assert!(!link.is_closed() && !other.is_closed());
        assert_eq!(echo(&link, &other, b"hello").await, b"hello");
        tokio::time::sleep(30 * SECOND).await;
        assert_eq!(served.endpoint.attached_to(), [server.peer()]);
        assert_eq!(served.diary.up().await, other, "no link is another one than before");
    });
}

#[test]
fn a_flood_of_unknown_flows_and_tags_draws_little_and_never_more_than_it_sent() {
    in_place(6, async |placement| {
        let world = World::new(6, placement);
        world.network.set_latency(20 * MS);
        let _server = world.server(NODE).await;
        world.network.overhear();
        let seconds = 3;
        for n in 0..seconds * 2000_u32 {
            let [_, a, b, c] = n.to_be_bytes();
            // Half of it in the name of one network.
            let ip = if n % 2 == 0 { [203, 0, 113, c] } else { [20, a, b, c] };
            let from = SocketAddr::from((ip, 5000));
            let mut data = vec![7; 60];
            data[..8].copy_from_slice(&[8, 0, 0, 0, 0, 0, 0, 0]);
            let mut probe = vec![7; 51];
            probe[0] = 1;
            probe[1..5].copy_from_slice(&n.to_be_bytes());
            world.network.inject(from, node(), if n % 3 == 0 { &probe } else { &data });
            if n % 20 == 0 {
                tokio::time::sleep(10 * MS).await;
            }
        }
        tokio::time::sleep(SECOND).await;
        let copies = world.network.overhear();
        let answers: Vec<_> = copies.iter().filter(|copy| copy.from == node()).collect();
        let one_network = |copy: &&&Copied| copy.to.ip().to_string().starts_with("203.0.113.");
        println!(
            "{} answers, {} to one network",
            answers.len(),
            answers.iter().filter(one_network).count()
        );
        assert!(!answers.is_empty());
        assert!(answers.iter().all(|copy| copy.bytes.len() == 16 && copy.bytes[0] == 0x0c));
        assert!(answers.len() <= (seconds as usize + 1) * 512, "{}", answers.len());
        let there = answers.iter().filter(one_network).count();
        assert!(there <= (seconds as usize + 1) * 32, "{there}");
    });
}

#[test]
fn a_stream_that_filled_its_window_goes_on_soon_after_the_only_road_is_back() {
    for seed in [1, 2, 3, 4] {
        // Longer than between two probes of a peer of which nobody expects anything.
        for outage in [30, 50] {
            in_place(seed, async |placement| {
                let world = World::new(seed, placement);
                world.network.set_latency(20 * MS);
                let (server, guest) = (world.server(NODE).await, world.server(2).await);
                let link = guest.endpoint.connect(&server.endpoint.peer_ref()).await.unwrap();
                let other = server.diary.up().await;
                let there = Ticks::start(&link, &other).await;
                let back = Ticks::start(&other, &link).await;
                tokio::time::sleep(7 * SECOND + seed as u32 * 733 * MS).await;
                let (a, b) = (World::outside(NODE), World::outside(2));
                world.network.set_cut(a, b, true);
                tokio::time::sleep(outage * SECOND).await;
                world.network.set_cut(a, b, false);
                let since = Instant::now();
                let on = there.on_after(since).await.max(back.on_after(since).await);
                println!("{outage} s, seed {seed}: on after {on:?}");
                assert!(!link.is_closed() && !other.is_closed(), "it is the same connection");
                assert!(on <= 2 * SECOND, "{outage} s, seed {seed}: {on:?}");
            });
        }
    }
}
