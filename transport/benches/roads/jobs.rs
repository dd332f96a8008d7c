//! Runs: one cell of the table, one seed; as many at a time as there are CPUs.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, mpsc},
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
    let jitter = format!("{:?}", cell.jitter).to_lowercase();
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

/// Runs them all and hands each case to `told` as soon as its last run has ended.
pub(crate) fn run(jobs: Vec<Job>, mut told: impl FnMut(&Outcomes)) {
    let mut cases: Vec<Outcomes> = Vec::new();
    // How many runs each case has, and those that ended, in the order of their seeds.
    let mut wanted: Vec<usize> = Vec::new();
    let mut ended: Vec<BTreeMap<u64, Outcome>> = Vec::new();
    let mut order: Vec<(usize, Job)> = Vec::new();
    for job in jobs {
        let case = case(&job.kind, job.cell);
        if cases.last().is_none_or(|last| last.case != case) {
            let (kind, cell) = (job.kind, job.cell);
            cases.push(Outcomes { kind, cell, case, runs: Vec::new(), took: Duration::ZERO });
            wanted.push(0);
            ended.push(BTreeMap::new());
        }
        wanted[cases.len() - 1] += 1;
        order.push((cases.len() - 1, job));
    }
    // What takes longest goes first, so that no CPU is left alone with it.
    order.sort_by_key(|(_, job)| match job.kind {
        Kind::Speed { .. } => 0,
        Kind::Stay { load: Load::Bulk, .. } => 1,
        _ => 2,
    });
    let next = Mutex::new(order.into_iter());
    let (sender, outcomes) = mpsc::channel();
    std::thread::scope(|scope| {
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
        for _ in 0..cpus {
            let (next, sender) = (&next, sender.clone());
            scope.spawn(move || {
                loop {
                    let Some((case, job)) = next.lock().unwrap().next() else { return };
                    let begun = Instant::now();
                    let outcome = run_one(job);
                    sender.send((case, job.seed, outcome, begun.elapsed())).unwrap();
                }
            });
        }
        drop(sender);
        for (case, seed, outcome, took) in outcomes {
            cases[case].took += took;
            ended[case].insert(seed, outcome);
            if ended[case].len() == wanted[case] {
                cases[case].runs = std::mem::take(&mut ended[case]).into_values().collect();
                told(&cases[case]);
            }
        }
    });
}
