//! Whether a road that works is kept.

use std::time::Duration;

use tokio::time::Instant;
use webmesh_transport::PathKind;

use super::{
    load::{Load, Running},
    road::{Cell, Relay, Road, is_direct},
};

/// What bulk has, so that ten minutes of it are affordable; Mbit/s.
const BULK_MEGABITS: u64 = 4;

/// Bulk beyond what has arrived: more than two bandwidth-delay products and a queue at any round trip of the table.
const WINDOW_BYTES: u64 = 4 << 20;

/// How often it is looked which road is in use.
const LOOK_EVERY: Duration = Duration::from_millis(50);

const MINUTE: Duration = Duration::from_secs(60);

/// What became of the direct road.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stayed {
    /// Changes of road at each end after the direct one was first taken.
    pub(crate) changes: [u64; 2],
    /// The most of them at one end within one minute of the clock.
    pub(crate) changes_per_minute_max: u64,
    /// For how long each end sent along another road.
    pub(crate) elsewhere: [Duration; 2],
    /// The roads in the end.
    pub(crate) end: [Option<PathKind>; 2],
    /// Datagrams that the relay sent to the hosts, those of them with data, and bytes that it forwarded.
    pub(crate) relayed: u64,
    pub(crate) relayed_large: u64,
    pub(crate) relayed_bytes: u64,
    /// Pings or asks that were answered, or megabytes that arrived.
    pub(crate) done: u64,
    /// What was lost, doubled or out of place on the streams.
    pub(crate) wrong: Option<String>,
}

impl Stayed {
    /// Whether the road was never left.
    pub(crate) fn was_kept(&self) -> bool {
        let direct =
            self.end.iter().all(|kind| matches!(kind, Some(PathKind::Direct | PathKind::Punched)));
        self.changes == [0, 0] && self.elsewhere == [Duration::ZERO; 2] && direct
    }
}

/// Uses a direct road for so long.
pub(crate) fn stay(cell: Cell, load: Load, length: Duration, seed: u64) -> Stayed {
    let megabits = (load == Load::Bulk).then_some(BULK_MEGABITS);
    Road::run(cell, Relay::of(seed), megabits, seed, async |road| {
        let (before, bytes, seen) = (road.changes(), road.relayed_bytes(), road.seen());
        let running = Running::start(load, road, WINDOW_BYTES);
        let mut stayed = Stayed::default();
        let since = |earlier: [u64; 2]| {
            let changes = road.changes();
            [changes[0] - earlier[0], changes[1] - earlier[1]]
        };
        let begun = Instant::now();
        let (mut minute, mut at_minute) = (begun, before);
        while begun.elapsed() < length {
            tokio::time::sleep(LOOK_EVERY).await;
            for (end, elsewhere) in road.ends.iter().zip(&mut stayed.elsewhere) {
                if !is_direct(end) {
                    *elsewhere += LOOK_EVERY;
                }
            }
            let most = since(at_minute).into_iter().max().unwrap_or(0);
            stayed.changes_per_minute_max = stayed.changes_per_minute_max.max(most);
            if minute.elapsed() >= MINUTE {
                (minute, at_minute) = (minute + MINUTE, road.changes());
            }
        }
        let now = road.seen();
        stayed.changes = since(before);
        stayed.end = [0, 1].map(|end| Some(road.ends[end].path()));
        stayed.relayed = now.relayed - seen.relayed;
        stayed.relayed_large = now.relayed_large - seen.relayed_large;
        stayed.relayed_bytes = road.relayed_bytes() - bytes;
        let done = running.progress.done.get();
        stayed.done = if load == Load::Bulk { (done * 8) >> 20 } else { done };
        stayed.wrong = running.progress.wrong.borrow().clone();
        stayed
    })
}
