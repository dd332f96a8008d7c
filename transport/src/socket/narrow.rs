//! Where this host can't send the least that QUIC needs.

use std::{collections::VecDeque, net::SocketAddr};

/// What a datagram has that is longer than its way takes: EMSGSIZE.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) const TOO_LONG: i32 = 90;
#[cfg(windows)]
pub(super) const TOO_LONG: i32 = 10040;
#[cfg(not(any(target_os = "linux", target_os = "android", windows)))]
pub(super) const TOO_LONG: i32 = 40;

/// The least that every path must take (RFC 9000, section 14.1), in bytes of a datagram.
pub(super) const NEEDED: usize = 1200;

/// Addresses that are remembered. A guess: those of a few dials.
const REMEMBERED_MAX: usize = 32;

/// The last addresses to which the system refused to send so little.
#[derive(Debug, Default)]
pub(super) struct Narrow {
    last: VecDeque<SocketAddr>,
}

impl Narrow {
    pub(super) fn add(&mut self, there: SocketAddr) {
        if self.last.contains(&there) {
            return;
        }
        tracing::warn!(%there, "the way there takes no datagram of {NEEDED} bytes: raise the MTU of the interface that it leads through");
        if self.last.len() >= REMEMBERED_MAX {
            self.last.pop_front();
        }
        self.last.push_back(there);
    }

    /// The first of these addresses that it remembers.
    pub(super) fn among(&self, addresses: &[SocketAddr]) -> Option<SocketAddr> {
        addresses.iter().copied().find(|address| self.last.contains(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ways_that_were_too_narrow_are_remembered() {
        let there = |n: u16| SocketAddr::from(([192, 0, 2, 1], n));
        let mut narrow = Narrow::default();
        (1..=1000).for_each(|n| narrow.add(there(n)));
        assert_eq!(narrow.last.len(), REMEMBERED_MAX);
        assert_eq!(narrow.among(&[there(1), there(1000)]), Some(there(1000)));
        assert_eq!(narrow.among(&[there(1)]), None);
    }
}
