//! Where this host can't send the least that QUIC needs.

use std::{collections::VecDeque, net::SocketAddr, time::Instant};

/// What a datagram has that is longer than its way takes: EMSGSIZE.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) const TOO_LONG: i32 = 90;
#[cfg(windows)]
pub(crate) const TOO_LONG: i32 = 10040;
#[cfg(not(any(target_os = "linux", target_os = "android", windows)))]
pub(crate) const TOO_LONG: i32 = 40;

/// The least that every path must take (RFC 9000, section 14.1), in bytes of a datagram.
pub(crate) const NEEDED: usize = 1200;

/// Addresses that are remembered. A guess: those of a few dials.
const REMEMBERED_MAX: usize = 32;

/// The last addresses to which the system refused to send so little, and when it last did.
#[derive(Debug, Default)]
pub(super) struct Narrow {
    last: VecDeque<(SocketAddr, Instant)>,
}

impl Narrow {
    pub(super) fn add(&mut self, there: SocketAddr, now: Instant) {
        if let Some((_, last)) = self.last.iter_mut().find(|(known, _)| *known == there) {
            *last = now;
            return;
        }
        tracing::warn!(%there, "the way there takes no datagram of {NEEDED} bytes: raise the MTU of the interface that it leads through");
        if self.last.len() >= REMEMBERED_MAX {
            self.last.pop_front();
        }
        self.last.push_back((there, now));
    }

    /// The first of these addresses where that happened since then.
    pub(super) fn among(&self, addresses: &[SocketAddr], since: Instant) -> Option<SocketAddr> {
        let narrow = |address: &SocketAddr| {
            self.last.iter().any(|(known, last)| known == address && *last >= since)
        };
        addresses.iter().copied().find(narrow)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_last_ways_that_were_too_narrow_are_remembered() {
        let there = |n: u16| SocketAddr::from(([192, 0, 2, 1], n));
        let (mut narrow, now) = (Narrow::default(), Instant::now());
        (1..=1000).for_each(|n| narrow.add(there(n), now));
        assert_eq!(narrow.last.len(), REMEMBERED_MAX);
        assert_eq!(narrow.among(&[there(1), there(1000)], now), Some(there(1000)));
        assert_eq!(narrow.among(&[there(1)], now), None);
        // Somebody may have raised the MTU meanwhile.
        let later = now + Duration::from_secs(60);
        assert_eq!(narrow.among(&[there(1000)], later), None);
        narrow.add(there(1000), later);
        assert_eq!(narrow.among(&[there(1000)], later), Some(there(1000)));
    }
}
