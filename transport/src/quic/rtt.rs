//! How long answers take on one road: a smoothed round trip and its variation, as RFC 6298 estimates them.

use std::time::Duration;

/// Samples that are counted; more say nothing new.
const SAMPLES_MAX: u32 = 1 << 16;

/// An estimate of round trips; empty at first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rtt {
    smoothed: Duration,
    variation: Duration,
    samples: u32,
}

impl Rtt {
    /// An estimate that was made elsewhere.
    #[cfg(test)]
    pub(crate) fn of(smoothed: Duration, variation: Duration, samples: u32) -> Self {
        Self { smoothed, variation, samples }
    }

    /// One more round trip took so long.
    pub(crate) fn sample(&mut self, rtt: Duration) {
        if self.samples == 0 {
            (self.smoothed, self.variation) = (rtt, rtt / 2);
        } else {
            let off = self.smoothed.abs_diff(rtt);
            self.variation = (self.variation * 3 + off) / 4;
            self.smoothed = (self.smoothed * 7 + rtt) / 8;
        }
        self.samples = (self.samples + 1).min(SAMPLES_MAX);
    }

    /// The smoothed round trip; `None` before the first sample.
    pub(crate) fn smoothed(&self) -> Option<Duration> {
        (self.samples > 0).then_some(self.smoothed)
    }

    /// The smoothed deviation from it.
    pub(crate) fn variation(&self) -> Duration {
        self.variation
    }

    /// How many round trips were measured.
    pub(crate) fn samples(&self) -> u32 {
        self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_round_trips_and_how_much_they_vary() {
        let ms = Duration::from_millis;
        let mut rtt = Rtt::default();
        assert_eq!(rtt.smoothed(), None);
        rtt.sample(ms(100));
        assert_eq!((rtt.smoothed(), rtt.variation()), (Some(ms(100)), ms(50)));
        (0..100).for_each(|_| rtt.sample(ms(100)));
        assert!(rtt.variation() < ms(1), "{rtt:?}");
        (0..100).for_each(|n| rtt.sample(ms(if n % 2 == 0 { 200 } else { 300 })));
        let smoothed = rtt.smoothed().unwrap();
        assert!(smoothed > ms(235) && smoothed < ms(265), "{smoothed:?}");
        assert!(rtt.variation() > ms(35) && rtt.variation() < ms(65), "{rtt:?}");
        assert_eq!(rtt.samples(), 201);
    }
}
