//! Two hosts behind routers, a direct road between them, and a relay that stands by.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;
use webmesh_transport::{
    InPlace, Link, MemoryNetwork, PathKind,
    sim::{self, Fate, Sent},
};

use crate::{
    common::{Host, in_exact_time},
    world::{Kind, World},
};

/// What a road is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cell {
    /// The round trip in milliseconds, without jitter.
    pub(crate) rtt: u64,
    /// The share of datagrams that is lost each way, in percent.
    pub(crate) loss: u32,
    pub(crate) jitter: Jitter,
}

/// How much longer than the others a datagram may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Jitter {
    No,
    /// A sixth of the round trip: answers vary by a third of it.
    #[allow(dead_code, reason = "the tests that share this don't use it")]
    Sixth,
    /// A third of the round trip: answers vary by two thirds of it.
    Third,
}

impl Jitter {
    /// In sixths of the round trip.
    pub(crate) fn sixths(self) -> u32 {
        match self {
            Self::No => 0,
            Self::Sixth => 1,
            Self::Third => 2,
        }
    }
}

/// How the links between the relay and the hosts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relay {
    /// Each as the direct road is.
    Alike,
    /// Without loss and jitter, and as quick over both as the direct road.
    Clean,
}

impl Relay {
    /// They take turns.
    pub(crate) fn of(seed: u64) -> Self {
        if seed.is_multiple_of(2) { Self::Clean } else { Self::Alike }
    }
}

/// A queue that holds no more than this drops what is sent at once, as nobody builds them: eight packets.
const QUEUE_BYTES_MIN: u64 = 8 * 1500;

impl Cell {
    pub(crate) fn rtt(&self) -> Duration {
        Duration::from_millis(self.rtt)
    }

    /// As long as an answer can take.
    pub(crate) fn rtt_max(&self) -> Duration {
        self.rtt() + self.rtt() * self.jitter.sixths() / 3
    }

    /// Within what time a road must be left (issue: roads that hold).
    pub(crate) fn leave_within(&self) -> Duration {
        if self.rtt <= 100 {
            Duration::from_secs(1)
        } else {
            Duration::from_millis(300) + 5 * self.rtt()
        }
    }

    /// Such a road that carries so many Mbit/s, with a queue of one bandwidth-delay product; `None`: any number.
    pub(crate) fn link(&self, megabits: Option<u64>) -> sim::Link {
        let bits_per_second = megabits.map(|megabits| megabits * 1_000_000);
        let product = bits_per_second.unwrap_or(0) / 8 * self.rtt / 1000;
        sim::Link {
            latency: self.rtt() / 2,
            jitter: self.rtt() * self.jitter.sixths() / 6,
            loss: f64::from(self.loss) / 100.0,
            bits_per_second,
            queue_bytes: product.max(QUEUE_BYTES_MIN),
            ..sim::Link::default()
        }
    }
}

const SERVER: u8 = 1;
const SERVED: u8 = 2;
const CALLER: u8 = 3;

/// A relayed datagram that is longer carries somebody's data; probes and acknowledgements are shorter.
const LARGE: usize = 600;

/// What a relay puts in front of a datagram, which begins with the first of these, and the first byte of a datagram that only asks how long one
/// may be, which is as long (docs/wire-transport.md). What the relay itself says to a host isn't relayed.
const RELAY_HEADER: usize = 16;
const DATA: u8 = 0x08;
const SIZING: u8 = 0x03;

fn carries_data(relayed: &[u8]) -> bool {
    let forwarded = relayed.first() == Some(&DATA);
    forwarded && relayed.len() > LARGE && relayed.get(RELAY_HEADER) != Some(&SIZING)
}

/// Which end of the link.
pub(crate) const AT_CALLER: usize = 0;
pub(crate) const AT_SERVED: usize = 1;

/// What has been seen on the network.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    /// Datagrams from the relay to the hosts, and those of them that are large.
    pub(crate) relayed: u64,
    pub(crate) relayed_large: u64,
    /// Since [`Road::cut`]: when each end first sent something along the direct road that the cut swallowed, and when that came
    /// through, after answers to what came before the cut.
    pub(crate) swallowed: [Option<Instant>; 2],
    pub(crate) passed: [Option<Instant>; 2],
    /// Before that, what passes answers what came before the cut.
    trailing: Option<Instant>,
}

impl Seen {
    fn see(&mut self, sent: &Sent<'_>) {
        let end = match (sent.from, sent.to) {
            (from, to) if from == World::outside(CALLER) && to == World::outside(SERVED) => {
                AT_CALLER
            }
            (from, to) if from == World::outside(SERVED) && to == World::outside(CALLER) => {
                AT_SERVED
            }
            (from, _) if from == World::outside(SERVER) => {
                self.relayed += 1;
                self.relayed_large += u64::from(carries_data(sent.payload));
                return;
            }
            _ => return,
        };
        let Some(trailing) = self.trailing else { return };
        if sent.fate == Fate::Cut {
            self.swallowed[end].get_or_insert(sent.at);
        } else if sent.at > trailing {
            self.passed[end].get_or_insert(sent.at);
        }
    }
}

/// A link along a direct road.
pub(crate) struct Road {
    pub(crate) cell: Cell,
    pub(crate) network: MemoryNetwork,
    /// The caller's end, and the other.
    pub(crate) ends: [Link; 2],
    seen: Arc<Mutex<Seen>>,
    hosts: [Host; 3],
}

pub(crate) fn is_direct(link: &Link) -> bool {
    matches!(link.path(), PathKind::Direct | PathKind::Punched)
}

/// A direct road is found within a few seconds, or something is wrong.
const FOUND_WITHIN: Duration = Duration::from_secs(60);

impl Road {
    /// Runs `scenario` in simulated time on a road whose direct link carries so many Mbit/s.
    pub(crate) fn run<T>(
        cell: Cell,
        relay: Relay,
        megabits: Option<u64>,
        seed: u64,
        scenario: impl AsyncFnOnce(&Self) -> T,
    ) -> T {
        let network = MemoryNetwork::new(seed);
        in_exact_time(seed, &network.clone(), async |placement| {
            let road = Self::up(cell, relay, megabits, seed, network, placement).await;
            scenario(&road).await
        })
    }

    async fn up(
        cell: Cell,
        relay: Relay,
        megabits: Option<u64>,
        seed: u64,
        network: MemoryNetwork,
        placement: Arc<InPlace>,
    ) -> Self {
        let world = World::of(network.clone(), placement);
        let outside = World::outside;
        let set = |link: &sim::Link| {
            let relayed = match relay {
                Relay::Alike => sim::Link { bits_per_second: None, ..link.clone() },
                Relay::Clean => sim::Link::of(link.latency / 2),
            };
            network.set_links(relayed);
            network.set_link(outside(SERVED), outside(CALLER), link.clone());
        };
        let link = cell.link(megabits);
        // Dialling over a bad road is another matter.
        set(&sim::Link { loss: 0.0, ..link.clone() });
        let kinds = [Kind::FullCone, Kind::PortRestricted];
        let kind = |n: u64| kinds[(seed >> n) as usize % 2];
        let server = world.server(SERVER).await;
        let served = world.site(SERVED, kind(1), &[&server]).await;
        let caller = world.site(CALLER, kind(2), &[&server]).await;
        let link_out = caller.endpoint.connect(&served.endpoint.peer_ref()).await.unwrap();
        let ends = [link_out, served.diary.up().await];
        let seen = Arc::<Mutex<Seen>>::default();
        network.observe({
            let seen = seen.clone();
            move |sent| seen.lock().unwrap().see(sent)
        });
        let road =
            Self { cell, network: network.clone(), ends, seen, hosts: [server, served, caller] };
        assert!(road.until_direct(FOUND_WITHIN).await, "no direct road was found");
        // What was sent through the relay before that is still on its way.
        tokio::time::sleep(3 * cell.rtt()).await;
        set(&link);
        road
    }

    /// Waits until both ends send along the direct road. `false`: in vain.
    pub(crate) async fn until_direct(&self, limit: Duration) -> bool {
        let begun = Instant::now();
        while !self.ends.iter().all(is_direct) {
            if begun.elapsed() > limit {
                return false;
            }
            let ping = self.ends[AT_CALLER].clone();
            tokio::task::spawn_local(async move {
                let _ = ping.ping().await;
            });
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }

    pub(crate) fn seen(&self) -> Seen {
        *self.seen.lock().unwrap()
    }

    /// Bytes that the relay has forwarded so far.
    pub(crate) fn relayed_bytes(&self) -> u64 {
        self.hosts[0].endpoint.relayed()
    }

    pub(crate) fn changes(&self) -> [u64; 2] {
        [0, 1].map(|end| self.ends[end].road_changes())
    }

    /// Nothing that the ends named here send along the direct road arrives from now on.
    pub(crate) fn cut(&self, ends: [bool; 2]) {
        let places: [IpAddr; 2] = [World::outside(CALLER), World::outside(SERVED)];
        let trailing = Some(Instant::now() + 2 * self.cell.rtt_max());
        let (swallowed, passed) = Default::default();
        let mut seen = self.seen.lock().unwrap();
        *seen = Seen { trailing, swallowed, passed, ..*seen };
        drop(seen);
        for (end, cut) in ends.into_iter().enumerate() {
            self.network.set_cut_towards(places[end], places[1 - end], cut);
        }
    }
}
