//! Options, statistics and the printed lines.

/// Which direction is good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// One line of the benchmark.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) workload: &'static str,
    pub(crate) webmesh: &'static str,
    pub(crate) reference: &'static str,
    /// Keep the CPUs awake by busy loops of idle priority (latency cases).
    pub(crate) quiet_cpu: bool,
}

/// What the command line asked for.
pub(crate) struct Options {
    pub(crate) rounds: usize,
    json: bool,
    filter: Option<String>,
}

impl Options {
    pub(crate) fn from_args() -> Options {
        let mut options = Options { rounds: 5, json: false, filter: None };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--json" => options.json = true,
                "--bench" => {} // cargo passes it
                "--rounds" => match args.next().and_then(|n| n.parse().ok()).filter(|n| *n >= 3) {
                    Some(rounds) => options.rounds = rounds,
                    None => usage("--rounds takes a number of at least 3"),
                },
                flag if flag.starts_with('-') => usage(&format!("unknown option {flag}")),
                word => options.filter = Some(word.to_owned()),
            }
        }
        options
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.filter.as_ref().is_none_or(|word| name.contains(word.as_str()))
    }

    pub(crate) fn print_machine(&self) {
        if self.json {
            return;
        }
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let cpus = std::thread::available_parallelism().map_or(1, |n| n.get());
        println!(
            "{cpus} CPUs; net.core.rmem_max {}, wmem_max {}; {} interleaved rounds a case\n",
            read("/proc/sys/net/core/rmem_max"),
            read("/proc/sys/net/core/wmem_max"),
            self.rounds
        );
    }

    /// Prints a case from its paired figures (webmesh, reference).
    pub(crate) fn print(&self, case: &Case, pairs: &[(f64, f64)]) {
        let ours = Spread::of(pairs.iter().map(|p| p.0));
        let theirs = Spread::of(pairs.iter().map(|p| p.1));
        let ratios: Vec<f64> = pairs.iter().map(|p| p.0 / p.1).collect();
        let ratio = Spread::of(ratios.iter().copied());
        let (low, high) = confidence(&ratios);
        if self.json {
            let line = serde_json::json!({
                "case": case.name, "webmesh": ours.median, "reference": case.reference, "reference_value": theirs.median,
                "unit": case.unit, "ratio": ratio.median, "ratio_low": low, "ratio_high": high,
                "webmesh_spread": [ours.min, ours.max], "reference_spread": [theirs.min, theirs.max], "rounds": pairs.len(),
                "better": if case.better == Better::Lower { "lower" } else { "higher" },
            });
            println!("{line}");
            return;
        }
        let better =
            if case.better == Better::Lower { "lower is better" } else { "higher is better" };
        println!("{} ({}, {better})", case.name, case.unit);
        println!("  webmesh    {ours}");
        println!("  {:<10} {theirs}", case.reference);
        println!(
            "  ratio      {:.3}  95% of bootstrapped medians within [{low:.3}, {high:.3}]\n",
            ratio.median
        );
    }
}

fn usage(problem: &str) -> ! {
    eprintln!("{problem}\nusage: messaging [--json] [--rounds N] [WORD]");
    std::process::exit(2)
}

/// Median and range of a few runs.
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        Spread { median: median(&sorted), min: sorted[0], max: sorted[sorted.len() - 1] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.median < 1000.0 { 2 } else { 0 };
        write!(f, "{:.digits$}  [{:.digits$} .. {:.digits$}]", self.median, self.min, self.max)
    }
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// The 95% interval of the median by 2,000 bootstrap samples (seeded, so that a report is a function of its figures).
fn confidence(ratios: &[f64]) -> (f64, f64) {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand::rngs::SmallRng::seed_from_u64(1);
    let mut medians: Vec<f64> = (0..2000)
        .map(|_| {
            let mut sample: Vec<f64> =
                ratios.iter().map(|_| ratios[rng.random_range(0..ratios.len())]).collect();
            sample.sort_by(f64::total_cmp);
            median(&sample)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    (medians[50], medians[1949])
}
