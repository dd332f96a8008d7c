//! Two clocks, one of which stands still while the host sleeps.

use std::time::Duration;

/// What both showed at one moment, each since a moment of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clocks {
    /// The clock of timers.
    pub(super) running: Duration,
    /// The clock that goes on.
    pub(super) passing: Duration,
}

impl Clocks {
    /// For how long the host slept between an earlier moment and this one.
    pub(super) fn slept_since(&self, earlier: &Self) -> Duration {
        let ran = self.running.saturating_sub(earlier.running);
        self.passing.saturating_sub(earlier.passing).saturating_sub(ran)
    }
}

/// Linux counts sleep: nobody sets either clock, so that the two part only then. A sleep as short as this is no matter to NATs,
/// which remember for half a minute at least, but to a radio it is. A guess.
#[cfg(target_os = "linux")]
pub(super) const SLEPT_MIN: Duration = Duration::from_secs(1);

/// The wall clock goes on too, and is corrected now and then. A guess, beyond what a correction does.
#[cfg(not(target_os = "linux"))]
pub(super) const SLEPT_MIN: Duration = Duration::from_secs(5);

#[cfg(target_os = "linux")]
pub(super) fn read() -> Clocks {
    use rustix::time::{ClockId, clock_gettime};
    let read = |id| Duration::try_from(clock_gettime(id)).unwrap_or_default();
    Clocks { running: read(ClockId::Monotonic), passing: read(ClockId::Boottime) }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn read() -> Clocks {
    use std::{
        sync::OnceLock,
        time::{Instant, SystemTime, UNIX_EPOCH},
    };
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let passing = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Clocks { running: FIRST.get_or_init(Instant::now).elapsed(), passing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passed_beyond_what_ran_was_slept() {
        let clocks = |running, passing| Clocks {
            running: Duration::from_secs(running),
            passing: Duration::from_secs(passing),
        };
        let earlier = clocks(100, 5_000);
        assert_eq!(clocks(102, 5_002).slept_since(&earlier), Duration::ZERO);
        assert_eq!(clocks(102, 5_062).slept_since(&earlier), Duration::from_secs(60));
        // Set back.
        assert_eq!(clocks(102, 10).slept_since(&earlier), Duration::ZERO);
    }

    #[test]
    fn awake_both_clocks_go_on_alike() {
        let earlier = read();
        std::thread::sleep(Duration::from_millis(20));
        let later = read();
        assert!(later.running > earlier.running && later.passing > earlier.passing);
        assert!(later.slept_since(&earlier) < SLEPT_MIN);
    }
}
