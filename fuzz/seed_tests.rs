//! Runs the seeds of fuzz targets, and seeded mutations of them, as ordinary tests. Each crate's tests/fuzz_seeds.rs takes
//! this file in by its path, so that what is fuzzed is also tested by every plain `cargo test`.

use std::fs;
use std::path::Path;

/// Mutations of each seed. A guess: some seconds for all targets, unoptimised.
const MUTATIONS: usize = 500;

/// Feeds every seed of every target, mutations of it, and what the fuzzer found, to that target, which panics when something is wrong.
#[allow(clippy::type_complexity, reason = "each crate has its own name for the type")]
pub(crate) fn run(targets: &[(&'static str, fn(&[u8]))]) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    for (name, target) in targets {
        let source = fuzz.join(format!("fuzz_targets/{name}.rs"));
        assert!(source.exists(), "{} is missing", source.display());
        let folder = fuzz.join("seeds").join(name);
        let mut paths: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{} has no seeds", folder.display());
        let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        target(&[]);
        for (number, seed) in seeds.iter().enumerate() {
            let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ number as u64);
            target(seed);
            for _ in 0..MUTATIONS {
                let mut input = seed.clone();
                for _ in 0..=random.below(3) {
                    mutate(&mut input, &seeds, &mut random);
                }
                target(&input);
            }
        }
        // What the fuzzer found, if it was ever kept.
        let corpus = fuzz.join("corpus").join(name).with_extension("hex");
        for line in fs::read_to_string(corpus).unwrap_or_default().lines() {
            target(&bytes(line));
        }
    }
}

/// The bytes that are written as these hexadecimal digits.
fn bytes(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "{digits}");
    let pair = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(pair).collect()
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let here = at.min(input.len().saturating_sub(1));
    match random.below(8) {
        0 => input.truncate(at),
        1 => input.insert(at, random.below(256) as u8),
        2 if !input.is_empty() => drop(input.remove(here)),
        // The numbers at which lengths and counts go wrong.
        3 if !input.is_empty() => input[here] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        4 if !input.is_empty() => {
            let end = (here + 1 + random.below(16)).min(input.len());
            input.extend_from_within(here..end);
        }
        5 => {
            let other = &seeds[random.below(seeds.len())];
            input.truncate(at);
            input.extend_from_slice(&other[at.min(other.len())..]);
        }
        _ if !input.is_empty() => input[here] ^= 1 << random.below(8),
        _ => {}
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014), so that a failure comes again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}
