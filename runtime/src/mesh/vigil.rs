//! For how long a mesh that ends waits for the word of its peers about tells in doubt: a core, without clock or network.

use crate::net::network::InDoubt;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long it waits in all. A guess: a host that takes longer for two words is as good as silent.
pub(super) const VIGIL_MAX: Duration = Duration::from_secs(5);

/// How long a peer may be silent meanwhile that has always answered quickly. A guess: QUIC has sent what was lost on the way
/// several times by then.
const SILENCE_MIN: Duration = Duration::from_millis(500);

/// How many of the longest times for which it let this side wait before. A guess: it may be busier at the end.
const SILENCE_TRIPS: u32 = 4;

/// What was heard of a peer over its link.
struct Heard {
    datagrams: u64,
    at: Instant,
}

/// Waits for peers as long as they give signs of life.
pub(super) struct Vigil {
    begun: Instant,
    of: HashMap<u64, Heard>,
}

impl Vigil {
    pub(super) fn new(now: Instant) -> Self {
        Self { begun: now, of: HashMap::new() }
    }

    /// Whether to go on waiting, as it looks now.
    pub(super) fn goes_on(&mut self, now: Instant, in_doubt: &[InDoubt]) -> bool {
        let mut any_alive = false;
        for peer in in_doubt {
            let heard = Heard { datagrams: peer.heard, at: now };
            let last = self.of.entry(peer.link).or_insert(Heard { at: self.begun, ..heard });
            if last.datagrams != peer.heard {
                *last = heard;
            }
            let patience = (SILENCE_TRIPS * peer.trip).max(SILENCE_MIN);
            any_alive |= now.saturating_duration_since(last.at) < patience;
        }
        any_alive && now.saturating_duration_since(self.begun) < VIGIL_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(link: u64, heard: u64, trip_ms: u64) -> InDoubt {
        InDoubt { link, heard, trip: Duration::from_millis(trip_ms) }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn nobody_is_waited_for_once_all_have_said_what_became_of_it() {
        assert!(!Vigil::new(Instant::now()).goes_on(Instant::now(), &[]));
    }

    #[test]
    fn a_peer_is_waited_for_as_long_as_it_gives_signs_of_life_and_no_longer() {
        let begun = Instant::now();
        let mut vigil = Vigil::new(begun);
        for (at, heard, goes_on) in
            [(0, 7, true), (499, 7, true), (499, 8, true), (998, 8, true), (999, 8, false)]
        {
            assert_eq!(vigil.goes_on(begun + ms(at), &[peer(1, heard, 1)]), goes_on, "{at}");
        }
        // Another one still does.
        assert!(vigil.goes_on(begun + ms(1000), &[peer(1, 8, 1), peer(2, 1, 251)]));
    }

    #[test]
    fn a_peer_that_was_slow_before_has_more_time_and_none_has_it_without_end() {
        let begun = Instant::now();
        let mut vigil = Vigil::new(begun);
        let busy = |heard| [peer(1, heard, 800)];
        assert!(vigil.goes_on(begun, &busy(1)));
        assert!(vigil.goes_on(begun + ms(3199), &busy(1)));
        assert!(!vigil.goes_on(begun + ms(3200), &busy(1)));
        assert!(vigil.goes_on(begun + ms(4999), &busy(2)));
        assert!(!vigil.goes_on(begun + VIGIL_MAX, &busy(3)));
    }
}
