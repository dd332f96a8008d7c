//! The table, one line a case.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    LOSS_MAX,
    jobs::{Kind, Outcome, Outcomes},
    measure::load::Load,
};

/// No cell of `speed` may be slower than so much of plain quinn, nor their geometric mean.
const RATIO_MIN: f64 = 0.85;
const RATIO_MEAN_MIN: f64 = 0.95;

/// A line: whether it is as wanted, its text, and its figures.
struct Line {
    good: bool,
    text: String,
    figures: Value,
}

/// The table while it is printed.
#[derive(Default)]
pub(crate) struct Table {
    json: bool,
    good: usize,
    cases: usize,
    ratios: Vec<f64>,
    took: Duration,
}

impl Table {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, ..Self::default() }
    }

    /// Prints the line of a case.
    pub(crate) fn print(&mut self, case: &Outcomes) {
        let line = match case.kind {
            Kind::Stay { load, length } => stay(case, load, length),
            Kind::Cut { .. } => cut(case),
            Kind::Speed { .. } => speed(case, &mut self.ratios),
        };
        let failed = case.runs.iter().filter_map(|run| match run {
            Outcome::Failed(text) => Some(text),
            _ => None,
        });
        let failed: Vec<_> = failed.collect();
        let line_good = line.good && failed.is_empty();
        self.cases += 1;
        self.good += usize::from(line_good);
        self.took += case.took;
        if self.json {
            let mut object = json!({
                "case": case.case, "good": line_good, "runs": case.runs.len(), "failed": failed,
                "run_seconds": case.took.as_secs_f64(),
            });
            if let (Some(object), Value::Object(figures)) = (object.as_object_mut(), line.figures) {
                object.extend(figures);
            }
            println!("{object}");
        } else {
            let mark = if line_good { "  " } else { "✗ " };
            let more = failed.first().map(|text| format!("; {} failed: {text}", failed.len()));
            println!("{mark}{:56} {}{}", case.case, line.text, more.unwrap_or_default());
        }
    }

    /// Prints the last line; whether all is as wanted.
    pub(crate) fn end(self) -> bool {
        let Self { json, good, cases, ratios, took } = self;
        let mean = mean(&ratios);
        let fast = ratios.is_empty() || mean >= RATIO_MEAN_MIN;
        if json {
            let mean = (!ratios.is_empty()).then_some(mean);
            println!(
                "{}",
                json!({ "case": "all", "good": good, "cases": cases, "speed_mean": mean })
            );
        } else {
            if !ratios.is_empty() {
                println!("speed: {mean:.3} of plain quinn, geometric mean");
            }
            println!("{good} of {cases} cases as wanted; {:.0} s of runs", took.as_secs_f64());
        }
        good == cases && fast
    }
}

fn mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len().max(1) as f64).exp()
}

fn stay(case: &Outcomes, load: Load, length: Duration) -> Line {
    let runs: Vec<_> = case
        .runs
        .iter()
        .filter_map(|run| match run {
            Outcome::Stayed(run) => Some(run),
            _ => None,
        })
        .collect();
    let minutes = length.as_secs() / 60;
    let kept = runs.iter().filter(|run| run.was_kept()).count();
    let changes = [0, 1].map(|end| runs.iter().map(|run| run.changes[end]).sum::<u64>());
    let worst = runs.iter().flat_map(|run| run.changes).max().unwrap_or(0);
    let in_a_minute = runs.iter().map(|run| run.changes_per_minute_max).max().unwrap_or(0);
    let elsewhere: Duration = runs.iter().flat_map(|run| run.elsewhere).sum();
    let elsewhere = elsewhere.as_secs_f64() / (2 * runs.len().max(1)) as f64 / length.as_secs_f64();
    let large: u64 = runs.iter().map(|run| run.relayed_large).sum();
    let relayed: u64 = runs.iter().map(|run| run.relayed).sum();
    let bytes: u64 = runs.iter().map(|run| run.relayed_bytes).sum();
    let done: u64 = runs.iter().map(|run| run.done).sum();
    let wrong = runs.iter().find_map(|run| run.wrong.clone());
    let steady = match case.cell.loss > LOSS_MAX {
        true => worst <= minutes,
        false => kept == runs.len() && (load != Load::Bulk || large == 0),
    };
    let text = format!(
        "kept {kept}/{}, changes {}+{} (worst {worst}, {in_a_minute} in a minute), elsewhere {:.2}%, relayed {relayed} ({large} with data), {} KB{}",
        runs.len(),
        changes[0],
        changes[1],
        100.0 * elsewhere,
        bytes / 1024,
        wrong.as_ref().map(|wrong| format!("; {wrong}")).unwrap_or_default(),
    );
    let figures = json!({
        "kept": kept, "changes": changes, "changes_worst": worst, "changes_per_minute_max": in_a_minute,
        "elsewhere": elsewhere, "relayed": relayed, "relayed_large": large, "relayed_bytes": bytes,
        "done": done, "wrong": wrong,
    });
    Line { good: steady && wrong.is_none(), text, figures }
}

fn cut(case: &Outcomes) -> Line {
    let runs: Vec<_> = case
        .runs
        .iter()
        .filter_map(|run| match run {
            Outcome::Left(run) => Some(run),
            _ => None,
        })
        .collect();
    let good = runs.iter().filter(|run| run.is_good(case.cell)).count();
    let never = runs.iter().filter(|run| run.after.is_none()).count();
    let mut after: Vec<Duration> = runs.iter().filter_map(|run| run.after).collect();
    after.sort();
    let milliseconds = |at: Option<&Duration>| at.map_or(0, Duration::as_millis) as u64;
    let (median, longest) = (milliseconds(after.get(after.len() / 2)), milliseconds(after.last()));
    let limit = case.cell.leave_within().as_millis() as u64;
    let wrongs: Vec<_> = runs.iter().filter_map(|run| run.wrong.clone()).collect();
    let back: u64 = runs.iter().map(|run| run.came_back).sum();
    let each: Vec<_> =
        runs.iter().map(|run| run.each.map(|at| at.map(|at| at.as_millis() as u64))).collect();
    let text = format!(
        "good {good}/{}, left after {median} ms, at most {longest} of {limit} ms, never {never}, back {back}{}",
        runs.len(),
        wrongs
            .first()
            .map(|wrong| format!("; {} wrong: {wrong}", wrongs.len()))
            .unwrap_or_default(),
    );
    let figures = json!({
        "within": good, "left_ms_p50": median, "left_ms_max": longest, "limit_ms": limit, "never": never,
        "came_back": back, "left_ms_each_end": each, "wrong": wrongs,
    });
    Line { good: good == runs.len() && back == 0, text, figures }
}

fn speed(case: &Outcomes, ratios: &mut Vec<f64>) -> Line {
    let runs: Vec<_> = case
        .runs
        .iter()
        .filter_map(|run| match run {
            Outcome::Speed { ours, raw } => Some((ours, raw)),
            _ => None,
        })
        .collect();
    let count = runs.len().max(1) as f64;
    let ours = runs.iter().map(|(ours, _)| ours.megabits).sum::<f64>() / count;
    let raw = runs.iter().map(|(_, raw)| **raw).sum::<f64>() / count;
    let large: u64 = runs.iter().map(|(ours, _)| ours.relayed_large).sum();
    let changes: u64 = runs.iter().map(|(ours, _)| ours.changes).sum();
    let ratio = ours / raw;
    if ratio.is_finite() && ratio > 0.0 {
        ratios.push(ratio);
    }
    let text = format!(
        "{ours:.3} / {raw:.3} Mbit/s = {ratio:.3}, {large} datagrams with data relayed, {changes} changes"
    );
    let figures = json!({
        "webmesh": ours, "reference_value": raw, "reference": "plain quinn", "unit": "Mbit/s", "ratio": ratio,
        "relayed_large": large, "changes": changes,
    });
    Line { good: ratio >= RATIO_MIN && large == 0, text, figures }
}
