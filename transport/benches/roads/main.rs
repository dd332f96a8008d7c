//! Whether roads hold under loss and at any distance: kept while they work, left in time when they are cut, and as fast as plain quinn.
//!
//! `cargo bench -p webmesh-transport --bench roads` prints the whole table, `-- --json` one JSON object a line, a case as
//! soon as its last run has ended. Whole endpoints run in
//! simulated time on a simulated network: two hosts behind routers (full cone or port-restricted, as the seed says), a punched
//! road between them, and a relay that stands by. Everything follows from the seeds, which are the numbers from 0 on.
//!
//! - `stay`: ten minutes of a load on a road of a round trip of 1, 20, 100, 300 or 600 ms, loss of 0, 1, 3, 10 or 20% each way, without
//!   jitter or with up to a sixth or a third of the round trip on each datagram (`jitter=sixth`: what answers vary by is a third). Counted at both ends: changes of road, and the time on another one.
//!   Wanted: none up to 10%; at 20% no more changes than minutes at either end.
//! - `cut`: the road is cut both ways, or for the datagrams of one side. Wanted: from the first datagram along it after the cut, the road
//!   is left by those whose datagrams are lost within 1 s up to 100 ms, else within 300 ms and 5 round trips; nothing is
//!   lost, doubled or out of place on the streams, and they go on. Half of the seeds have a relay that is clean, the others one as bad as
//!   the road.
//! - `speed`: bulk on a road of 100 Mbit/s with a queue of one bandwidth-delay product, against plain quinn with the same settings.
//!   Wanted: a geometric mean of 0.95 or more, no cell under 0.85, and none of it through the relay.
//!
//! Arguments: `--seeds N` for each cell (20; 5 for `speed` at most), `--minutes M` for `stay` (10), `--quick` for a part of the table within
//! two minutes, `--check` to end with an error if a cell isn't as wanted; and words that a case must have, such as
//! `stay`, `asks`, `rtt=100`, `loss=3`, `jitter=no`, `both`, `alike`, or a whole line's. The loads `pings-50ms`, `pings-1s`, `pings-20s` and
//! `asks-5s` are measured only where they are named.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that fails should say so and end"
)]

#[path = "../../tests/hostile/attacker.rs"]
#[allow(dead_code, unreachable_pub)]
mod attacker;
#[path = "../../tests/common/mod.rs"]
mod common;
mod jobs;
mod measure;
mod table;
#[path = "../../tests/simulated/world.rs"]
#[allow(dead_code)]
mod world;

use std::time::Duration;

use jobs::{Job, Kind};
use measure::{
    cut::Cut,
    load::Load,
    road::{Cell, Jitter, Relay},
};

const RTTS: [u64; 5] = [1, 20, 100, 300, 600];
const LOSSES: [u32; 5] = [0, 1, 3, 10, 20];

/// Beyond that a road may be left.
pub(crate) const LOSS_MAX: u32 = 10;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);
const LOADS: [Load; 3] =
    [Load::Pings(SECOND.saturating_mul(5)), Load::Asks(MS.saturating_mul(500)), Load::Bulk];
const MORE_LOADS: [Load; 5] = [
    Load::Pings(MS.saturating_mul(50)),
    Load::Pings(SECOND),
    Load::Pings(SECOND.saturating_mul(20)),
    Load::Asks(SECOND.saturating_mul(5)),
    Load::Watch,
];

/// Seeds for the cells of `speed`.
const SPEED_SEEDS: u64 = 5;

struct Options {
    json: bool,
    check: bool,
    quick: bool,
    seeds: u64,
    minutes: u64,
    words: Vec<String>,
}

impl Options {
    fn read() -> Self {
        let mut args = std::env::args().skip(1);
        let mut options = Self {
            json: false,
            check: false,
            quick: false,
            seeds: 0,
            minutes: 0,
            words: Vec::new(),
        };
        while let Some(arg) = args.next() {
            let mut number = || args.next().expect("a number").parse().expect("a number");
            match arg.as_str() {
                "--json" => options.json = true,
                "--check" => options.check = true,
                "--quick" => options.quick = true,
                "--seeds" => options.seeds = number(),
                "--minutes" => options.minutes = number(),
                // What cargo itself says.
                "--bench" => {}
                word => options.words.push(word.to_owned()),
            }
        }
        let (seeds, minutes) = if options.quick { (2, 1) } else { (20, 10) };
        options.seeds = if options.seeds == 0 { seeds } else { options.seeds };
        options.minutes = if options.minutes == 0 { minutes } else { options.minutes };
        options
    }

    /// Whether `case` has all the words.
    fn picks(&self, case: &str) -> bool {
        self.words.iter().all(|word| {
            let whole = case.contains(' ') && word == case;
            whole
                || case.split(' ').any(|has| {
                    has == word
                        || has.strip_prefix(word.as_str()).is_some_and(|rest| rest.starts_with('-'))
                })
        })
    }

    fn jobs(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        let length = Duration::from_secs(60 * self.minutes);
        let speed_shortened = if self.quick { 5 } else { 1 };
        let mut push = |kind: Kind, cell: Cell, named: bool, seeds: u64| {
            let case = jobs::case(&kind, cell);
            let quick = !self.quick
                || match cell.jitter {
                    Jitter::No => [20, 100, 300].contains(&cell.rtt),
                    Jitter::Sixth => false,
                    Jitter::Third => cell.rtt == 100,
                };
            if self.picks(&case)
                && (quick || !self.words.is_empty())
                && (!named || self.names(&kind))
            {
                jobs.extend((0..seeds).map(|seed| Job { kind, cell, seed }));
            }
        };
        for cell in cells() {
            for (load, named) in LOADS
                .map(|load| (load, false))
                .into_iter()
                .chain(MORE_LOADS.map(|load| (load, true)))
            {
                push(Kind::Stay { load, length }, cell, named, self.seeds);
                if cell.loss > LOSS_MAX {
                    continue;
                }
                for cut in Cut::ALL {
                    for relay in [Relay::Clean, Relay::Alike] {
                        // Half of them with either relay.
                        let seeds = self.seeds.div_ceil(2);
                        push(Kind::Cut { load, cut, relay }, cell, named, seeds);
                    }
                }
            }
            if cell.loss <= LOSS_MAX {
                let seeds = if self.quick { 1 } else { self.seeds.min(SPEED_SEEDS) };
                push(Kind::Speed { shortened: speed_shortened }, cell, false, seeds);
            }
        }
        jobs
    }

    fn names(&self, kind: &Kind) -> bool {
        let load = match kind {
            Kind::Stay { load, .. } | Kind::Cut { load, .. } => load.to_string(),
            Kind::Speed { .. } => return true,
        };
        self.words.contains(&load)
    }
}

fn cells() -> impl Iterator<Item = Cell> {
    RTTS.into_iter().flat_map(|rtt| {
        [Jitter::No, Jitter::Sixth, Jitter::Third]
            .into_iter()
            .flat_map(move |jitter| LOSSES.map(|loss| Cell { rtt, loss, jitter }))
    })
}

fn main() {
    let options = Options::read();
    let mut table = table::Table::new(options.json);
    jobs::run(options.jobs(), |case| table.print(case));
    let good = table.end();
    if options.check && !good {
        std::process::exit(1);
    }
}
