//! A token bucket without a clock of its own.

use std::time::Instant;

/// So much at once, and so much a second.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn full(burst: u64, now: Instant) -> Self {
        Self { left: burst as f64, at: now }
    }

    /// What is in it.
    pub(crate) fn level(&self, burst: u64, per_second: f64, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.left + passed * per_second).min(burst as f64)
    }

    /// Whether so much is in it.
    pub(crate) fn has(&self, amount: u64, burst: u64, per_second: u64, now: Instant) -> bool {
        self.level(burst, per_second as f64, now) >= amount as f64
    }

    /// Takes so much out of it, or all there is.
    pub(crate) fn take(&mut self, amount: u64, burst: u64, per_second: u64, now: Instant) {
        let level = self.level(burst, per_second as f64, now);
        *self = Self { left: (level - amount as f64).max(0.0), at: now };
    }

    /// Takes one out of it, if there is one.
    pub(crate) fn take_one(&mut self, burst: u64, per_second: f64, now: Instant) -> bool {
        let level = self.level(burst, per_second, now);
        let granted = level >= 1.0;
        *self = Self { left: if granted { level - 1.0 } else { level }, at: now };
        granted
    }
}
