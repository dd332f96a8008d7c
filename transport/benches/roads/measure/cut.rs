//! Whether a road that is cut is left in time, and all goes on.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::{
    load::{Load, Running},
    road::{AT_CALLER, AT_SERVED, Cell, Relay, Road, is_direct},
};

/// Whose datagrams are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Both,
    /// The caller's.
    Out,
    /// Those to the caller.
    In,
}

impl Cut {
    pub(crate) const ALL: [Self; 3] = [Self::Both, Self::Out, Self::In];

    fn ends(self) -> [bool; 2] {
        let mut ends = [false; 2];
        ends[AT_CALLER] = self != Self::In;
        ends[AT_SERVED] = self != Self::Out;
        ends
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Both => "both",
            Self::Out => "out",
            Self::In => "in",
        })
    }
}

/// What became of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Left {
    /// After what time, from the first datagram along the road after the cut, the ends had left it whose datagrams were lost.
    pub(crate) after: Option<Duration>,
    /// The same for each end.
    pub(crate) each: [Option<Duration>; 2],
    /// How often an end came back to it while it was cut.
    pub(crate) came_back: u64,
    /// What was lost, doubled, out of place or didn't go on.
    pub(crate) wrong: Option<String>,
}

impl Left {
    /// Whether it was left within the time that the cell allows, and nothing was lost.
    pub(crate) fn is_good(&self, cell: Cell) -> bool {
        self.after.is_some_and(|after| after <= cell.leave_within()) && self.wrong.is_none()
    }
}

/// What bulk has, in Mbit/s: enough that it is never idle, and affordable.
const BULK_MEGABITS: u64 = 10;

/// Before the cut, for things to settle.
const SETTLED_AFTER: Duration = Duration::from_secs(3);

/// The cut comes at some time within so many milliseconds after that, so that it isn't in step with pings each five seconds; bulk has no step.
const WITHIN: u64 = 5000;
const WITHIN_BULK: u64 = 500;

/// How exactly it is looked when a road is left.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// After the first datagram it is looked so many times the limit for the road to be left.
const PATIENCE: u32 = 5;

/// What is never sent along a road needn't be noticed; but each load sends within this.
const SENT_WITHIN: Duration = Duration::from_secs(60);

/// Within what time the rest of a stream arrives: bulk that was under way, at a few packets a round trip.
const RESTS_WITHIN: Duration = Duration::from_secs(1800);

/// How many numbers are exchanged before and after the cut where a load has no stream.
const NUMBERS: u32 = 10;

/// Cuts a direct road in mid-use.
pub(crate) fn cut(cell: Cell, load: Load, cut: Cut, relay: Relay, seed: u64) -> Left {
    let megabits = (load == Load::Bulk).then_some(BULK_MEGABITS);
    let product = BULK_MEGABITS * 1_000_000 / 8 * cell.rtt / 1000;
    let window = (2 * product).max(128 << 10);
    Road::run(cell, relay, megabits, seed, async |road| {
        let mut left = Left::default();
        if let Load::Pings(_) = load {
            left.wrong = numbers(road).await;
        }
        let running = Running::start(load, road, window);
        // Any number that differs from seed to seed; the golden ratio spreads them.
        let within = if load == Load::Bulk { WITHIN_BULK } else { WITHIN };
        let phase = Duration::from_millis(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) % within);
        tokio::time::sleep(SETTLED_AFTER + 10 * cell.rtt() + phase).await;
        if !road.until_direct(Duration::from_secs(60)).await {
            left.wrong.get_or_insert("the direct road wasn't kept, nor found again".into());
            return left;
        }
        road.cut(cut.ends());
        let before = Instant::now();
        let first = watch(road, cut, before, &mut left).await;
        let done = running.progress.done.get();
        // On the other road for a while.
        tokio::time::sleep(Duration::from_secs(3) + 20 * cell.rtt()).await;
        if first.is_some() && load == Load::Bulk && running.progress.done.get() == done {
            left.wrong.get_or_insert("nothing arrives any more".into());
        }
        let mut wrong = running.finish(RESTS_WITHIN).await;
        if wrong.is_none()
            && let Load::Pings(_) = load
        {
            wrong = numbers(road).await;
        }
        left.wrong = left.wrong.take().or(wrong);
        left.came_back = came_back(road, cut, &left);
        left
    })
}

/// Ends that left a road which is still cut and use it again.
fn came_back(road: &Road, cut: Cut, left: &Left) -> u64 {
    let back =
        |end: &usize| cut.ends()[*end] && left.each[*end].is_some() && is_direct(&road.ends[*end]);
    [AT_CALLER, AT_SERVED].iter().filter(|end| back(end)).count() as u64
}

/// Looks when the road is left; when it was first used after the cut.
async fn watch(road: &Road, cut: Cut, before: Instant, left: &mut Left) -> Option<Instant> {
    let mut at = [None; 2];
    let concerned = |end: usize| cut.ends()[end];
    let first = loop {
        for (end, at) in at.iter_mut().enumerate() {
            if at.is_none() && !is_direct(&road.ends[end]) {
                *at = Some(Instant::now());
            }
        }
        let seen = road.seen();
        let first = seen.swallowed.into_iter().chain(seen.passed).flatten().min();
        let all =
            [AT_CALLER, AT_SERVED].into_iter().all(|end| !concerned(end) || at[end].is_some());
        let over = match first {
            Some(first) => first.elapsed() > PATIENCE * road.cell.leave_within(),
            None => before.elapsed() > SENT_WITHIN,
        };
        if all || over {
            break first;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let after = |at: Option<Instant>| Some(at?.saturating_duration_since(first.unwrap_or(before)));
    left.each = at.map(after);
    let judged = || [AT_CALLER, AT_SERVED].into_iter().filter(|end| concerned(*end));
    if judged().all(|end| left.each[end].is_some()) {
        left.after = judged().filter_map(|end| left.each[end]).max();
    }
    first
}

/// A few numbers there and back, in order; what went wrong.
async fn numbers(road: &Road) -> Option<String> {
    let running = Running::start(Load::Asks(Duration::from_millis(100)), road, 0);
    tokio::time::sleep(NUMBERS * Duration::from_millis(100)).await;
    running.finish(RESTS_WITHIN).await
}
