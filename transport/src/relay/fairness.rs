//! Core: who gets how much of a relay that everybody wants.
//!
//! Time is cut into windows. In each, a user may send up to a level that is found by filling up what the users sent, or
//! wanted to send, in the window before: whoever wants little gets it all, and the others share the rest equally
//! (max-min fairness). While all of it fits there is no level but the capacity.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

/// Length of a window. A guess: as short as a queue that users wouldn't notice.
const WINDOW: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Fairness<User> {
    /// Bytes per window.
    capacity: u64,
    level: u64,
    since: Instant,
    passed: u64,
    wanted: HashMap<User, u64>,
}

impl<User: Eq + Hash + Copy> Fairness<User> {
    pub(crate) fn new(bytes_per_second: u64, now: Instant) -> Self {
        let per_window = u128::from(bytes_per_second) * WINDOW.as_millis() / 1000;
        let capacity = u64::try_from(per_window).unwrap_or(u64::MAX).max(1);
        Self { capacity, level: capacity, since: now, passed: 0, wanted: HashMap::new() }
    }

    /// Whether `user` may send so many bytes now.
    pub(crate) fn take(&mut self, user: User, bytes: u64, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= WINDOW {
            self.turn(now);
        }
        let wanted = self.wanted.entry(user).or_default();
        // However many share it, a level below the size of one datagram would let nobody through.
        let fits = *wanted == 0 || wanted.saturating_add(bytes) <= self.level;
        *wanted = wanted.saturating_add(bytes);
        let passes = fits && self.passed.saturating_add(bytes) <= self.capacity.max(bytes);
        if passes {
            self.passed += bytes;
        }
        passes
    }

    /// A new window begins.
    fn turn(&mut self, now: Instant) {
        let stale = now.saturating_duration_since(self.since) >= WINDOW * 2;
        let mut wanted: Vec<u64> = self.wanted.drain().map(|(_, wanted)| wanted).collect();
        (self.since, self.passed, self.level) = (now, 0, self.capacity);
        if stale || wanted.iter().sum::<u64>() <= self.capacity {
            return;
        }
        wanted.sort_unstable();
        let (mut left, mut users) = (self.capacity, wanted.len() as u64);
        for wanted in wanted {
            if wanted > left / users {
                break;
            }
            (left, users) = (left - wanted, users - 1);
        }
        self.level = left / users.max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each of `rates` (datagrams of 1,000 bytes per ms and user) gets through in a second, in bytes.
    fn run(rates: &[usize], capacity: u64) -> Vec<u64> {
        let start = Instant::now();
        let mut fairness = Fairness::new(capacity, start);
        let mut passed = vec![0; rates.len()];
        for ms in 0..1000 {
            let now = start + Duration::from_millis(ms);
            for (user, rate) in rates.iter().enumerate() {
                for _ in 0..*rate {
                    if fairness.take(user, 1000, now) {
                        passed[user] += 1000;
                    }
                }
            }
        }
        passed
    }

    #[test]
    fn all_of_it_passes_while_it_fits() {
        assert_eq!(run(&[1, 2, 3], 10_000_000), [1_000_000, 2_000_000, 3_000_000]);
    }

    #[test]
    fn whoever_wants_little_gets_it_and_the_greedy_share_the_rest() {
        let [small, greedy, greedier] = run(&[1, 20, 100], 10_000_000)[..] else { panic!() };
        assert!(small >= 900_000, "{small}");
        assert!(greedy.abs_diff(greedier) < 1_200_000, "{greedy} {greedier}");
        let sum = small + greedy + greedier;
        assert!((9_000_000..=10_100_000).contains(&sum), "{sum}");
    }

    #[test]
    fn no_datagram_is_too_large_for_ever() {
        assert!(Fairness::new(1, Instant::now()).take(1, 1000, Instant::now()));
    }
}
