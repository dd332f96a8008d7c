//! A thin slice of the table of roads (`benches/roads`): kept while they work, left in time when they are cut, as fast as plain quinn.

use std::time::Duration;

use crate::measure::{
    bulk::{self, Measure},
    cut::{self, Cut},
    load::Load,
    road::{Cell, Jitter, Relay},
    stay,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

const PINGS: Load = Load::Pings(Duration::from_secs(5));
const ASKS: Load = Load::Asks(Duration::from_millis(500));

const fn cell(rtt: u64, loss: u32, jitter: Jitter) -> Cell {
    Cell { rtt, loss, jitter }
}

/// Uses such roads for so long, each with several seeds.
fn keeps(load: Load, length: Duration, cells: &[Cell], seeds: u64) {
    for cell in cells {
        for seed in 0..seeds {
            let stayed = stay::stay(*cell, load, length, seed);
            println!("{cell:?} {seed}: {stayed:?}");
            assert!(stayed.was_kept(), "{load}, {cell:?}, seed {seed}: {stayed:?}");
            assert_eq!(stayed.wrong, None);
            assert!(stayed.done > 0, "nothing was sent");
            if load == Load::Bulk {
                assert_eq!(stayed.relayed_large, 0, "{cell:?}, seed {seed}: {stayed:?}");
            }
        }
    }
}

/// Cuts such roads, each with several seeds.
fn leaves(load: Load, cells: &[Cell], seeds: u64) {
    for cell in cells {
        for cut in Cut::ALL {
            for seed in 0..seeds {
                let left = cut::cut(*cell, load, cut, Relay::of(seed), seed);
                println!("{cell:?} {cut} {seed}: {left:?}");
                assert!(left.is_good(*cell), "{load}, {cell:?}, {cut}, seed {seed}: {left:?}");
            }
        }
    }
}

#[test]
fn a_road_that_works_is_kept_at_ten_percent_loss_while_little_is_sent() {
    let cells = [
        cell(1, 10, Jitter::No),
        cell(20, 3, Jitter::Third),
        cell(100, 10, Jitter::Third),
        cell(600, 10, Jitter::No),
    ];
    keeps(PINGS, 10 * MINUTE, &cells, 2);
}

#[test]
fn a_road_that_works_is_kept_at_ten_percent_loss_while_its_peer_is_watched() {
    let cells = [
        cell(1, 10, Jitter::Third),
        cell(20, 10, Jitter::No),
        cell(100, 10, Jitter::Third),
        cell(600, 10, Jitter::No),
    ];
    keeps(Load::Watch, 10 * MINUTE, &cells, 2);
}

#[test]
fn a_road_that_works_is_kept_at_ten_percent_loss_while_answers_are_awaited() {
    let cells = [
        cell(1, 10, Jitter::Third),
        cell(20, 10, Jitter::No),
        cell(100, 3, Jitter::No),
        cell(300, 10, Jitter::Third),
    ];
    keeps(ASKS, 3 * MINUTE, &cells, 2);
}

#[test]
fn a_road_that_works_is_kept_by_bulk_and_none_of_it_is_relayed() {
    keeps(Load::Bulk, 20 * SECOND, &[cell(20, 10, Jitter::Third), cell(100, 3, Jitter::No)], 1);
    keeps(Load::Bulk, 120 * SECOND, &[cell(300, 10, Jitter::No)], 1);
}

#[test]
fn a_road_that_is_cut_either_way_is_left_in_time_and_nothing_is_lost() {
    leaves(PINGS, &[cell(20, 3, Jitter::No), cell(300, 10, Jitter::No)], 2);
    leaves(
        ASKS,
        &[cell(20, 10, Jitter::Third), cell(100, 0, Jitter::No), cell(600, 3, Jitter::No)],
        2,
    );
    leaves(Load::Bulk, &[cell(100, 10, Jitter::No)], 1);
}

#[test]
fn bulk_is_as_fast_as_plain_quinn_on_the_same_road() {
    // A slice of the table; there it is 100 Mbit/s, several seeds, and for longer.
    let measure = Measure { megabits: 10, shortened: 2 };
    for (cell, least) in [(cell(20, 0, Jitter::No), 0.95), (cell(100, 1, Jitter::Third), 0.8)] {
        let (ours, raw) = (bulk::ours(cell, measure, 1), bulk::raw(cell, measure, 1));
        println!("{cell:?}: {ours:?}, plain quinn {raw:.3} Mbit/s");
        assert!(ours.megabits >= least * raw, "{cell:?}: {ours:?} of {raw:.3} Mbit/s");
        assert_eq!(ours.relayed_large, 0);
    }
}
