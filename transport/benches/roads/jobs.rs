//! Runs: one cell of the table, one seed; as many at a time as there are CPUs.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    time::{Duration, Instant},
};

use crate::measure::{
    bulk::{self, MEGABITS, Measure, Moved},
    cut::{self, Cut, Left},
    load::Load,
    road::{Cell, Relay},
    stay::{self, Stayed},
};

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Stay { load: Load, length: Duration },
    Cut { load: Load, cut: Cut, relay: Relay },
    Speed { shortened: u32 },
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) kind: Kind,
    pub(crate) cell: Cell,
    pub(crate) seed: u64,
}

/// What came out of one run.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Stayed(Stayed),
    Left(Left),
    Speed {
        ours: Moved,
        raw: f64,
    },
    /// The run ended early.
    Failed(String),
}

/// All runs of a case.
pub(crate) struct Outcomes {
    pub(crate) kind: Kind,
    pub(crate) cell: Cell,
    pub(crate) case: String,
    pub(crate) runs: Vec<Outcome>,
    /// The machine's time for all of them.
    pub(crate) took: Duration,
}

/// The name of a case: words apart.
pub(crate) fn case(kind: &Kind, cell: Cell) -> String {
    let jitter = if cell.jitter { "third" } else { "no" };
    let road = format!("rtt={} jitter={jitter} loss={}", cell.rtt, cell.loss);
    match kind {
        Kind::Stay { load, .. } => format!("stay {load} {road}"),
        Kind::Cut { load, cut, relay } => {
            format!("cut {load} {cut} {} {road}", format!("{relay:?}").to_lowercase())
        }
        Kind::Speed { .. } => format!("speed {road}"),
    }
}

fn run_one(Job { kind, cell, seed }: Job) -> Outcome {
    let run = || match kind {
        Kind::Stay { load, length } => Outcome::Stayed(stay::stay(cell, load, length, seed)),
        Kind::Cut { load, cut, relay } => Outcome::Left(cut::cut(cell, load, cut, relay, seed)),
        Kind::Speed { shortened } => {
            let measure = Measure { megabits: MEGABITS, shortened };
            let raw = bulk::raw(cell, measure, seed);
            Outcome::Speed { ours: bulk::ours(cell, measure, seed), raw }
        }
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Outcome::Failed(text.unwrap_or_default())
    })
}

/// Runs them all. The outcomes are in the order of the jobs.
pub(crate) fn run(jobs: Vec<Job>) -> Vec<Outcomes> {
    // What takes longest goes first, so that no CPU is left alone with it.
    let mut order: Vec<(usize, Job)> = jobs.iter().copied().enumerate().collect();
    order.sort_by_key(|(_, job)| match job.kind {
        Kind::Speed { .. } => 0,
        Kind::Stay { load: Load::Bulk, .. } => 1,
        _ => 2,
    });
    let next = Mutex::new(order.into_iter());
    let done = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
        for _ in 0..cpus {
            scope.spawn(|| {
                loop {
                    let Some((index, job)) = next.lock().unwrap().next() else { return };
                    let begun = Instant::now();
                    let outcome = run_one(job);
                    done.lock().unwrap().insert(index, (outcome, begun.elapsed()));
                }
            });
        }
    });
    let mut outcomes: Vec<Outcomes> = Vec::new();
    for (job, (outcome, took)) in jobs.into_iter().zip(done.into_inner().unwrap().into_values()) {
        let (kind, cell, case) = (job.kind, job.cell, case(&job.kind, job.cell));
        if outcomes.last().is_none_or(|last| last.case != case) {
            outcomes.push(Outcomes { kind, cell, case, runs: Vec::new(), took: Duration::ZERO });
        }
        let last = outcomes.last_mut().unwrap();
        last.runs.push(outcome);
        last.took += took;
    }
    outcomes
}
