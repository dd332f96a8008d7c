//! Whose messages made an actor panic, and who is refused for it. A core: the time comes in as an argument.
//!
//! A panic over another host's message counts against that host's key and against the network that it comes from, for keys
//! are free. A relayed host shows the relay's network, which others share, so that one is charged less.

use crate::refs::caller::{Caller, Source};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use webmesh_transport::PeerId;

/// Panics within [`WITHIN`] for which a key or a network is refused. So are the two figures below: docs/guarantees.md.
const PANICS_MAX: usize = 3;

/// The same for the network of a relay. A guess: four hosts behind it.
const RELAYED_MAX: usize = 4 * PANICS_MAX;

/// See [`PANICS_MAX`].
const WITHIN: Duration = Duration::from_secs(10);

/// How long the refusal lasts.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// Keys that one actor remembers, and networks likewise, ~100 bytes each. A guess: with the pauses between restarts, few hosts
/// can have an entry at a time; those of hosts that aren't refused go first.
const ENTRIES_MAX: usize = 256;

/// What one actor knows of those that made it panic.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    /// Whether anybody may be refused: what a message costs where nobody is.
    any: AtomicBool,
    table: Mutex<Option<Box<Table>>>,
}

#[derive(Debug, Default)]
struct Table {
    keys: Ledger<PeerId>,
    networks: Ledger<Source>,
}

impl Quarantine {
    /// A message of this caller has made the actor panic. `true`: it is refused from now on.
    pub(crate) fn blame(&self, caller: &Caller, now: Instant) -> bool {
        let mut table = self.table.lock();
        let table = table.get_or_insert_default();
        let by_key = table.keys.blame(caller.peer(), PANICS_MAX, now);
        let (source, panics_max) = match caller.source() {
            relay if relay.is_relay() => (relay, RELAYED_MAX),
            network => (network, PANICS_MAX),
        };
        let by_network = source.is_known() && table.networks.blame(source, panics_max, now);
        let refused = by_key || by_network;
        if refused {
            self.any.store(true, Ordering::Release);
        }
        refused
    }

    /// For how long a caller is refused, if it is.
    #[inline]
    pub(crate) fn refuses(&self, caller: &Caller) -> Option<Duration> {
        if !self.any.load(Ordering::Relaxed) || caller.source() == Source::NEAR {
            return None;
        }
        self.look_up(caller, Instant::now())
    }

    #[cold]
    fn look_up(&self, caller: &Caller, now: Instant) -> Option<Duration> {
        let mut table = self.table.lock();
        let table = table.as_mut()?;
        let left =
            table.keys.left(&caller.peer(), now).max(table.networks.left(&caller.source(), now));
        if left.is_none() && !table.keys.refuses_any(now) && !table.networks.refuses_any(now) {
            self.any.store(false, Ordering::Release);
        }
        left
    }
}

/// Panics by what they count against.
#[derive(Debug)]
struct Ledger<K> {
    entries: BTreeMap<K, Entry>,
}

impl<K> Default for Ledger<K> {
    fn default() -> Self {
        Self { entries: BTreeMap::new() }
    }
}

#[derive(Debug, Default)]
struct Entry {
    /// When, the oldest first.
    panics: Vec<Instant>,
    refused_until: Option<Instant>,
}

impl Entry {
    fn left(&self, now: Instant) -> Option<Duration> {
        let until = self.refused_until?;
        (until > now).then(|| until - now)
    }

    /// When nothing need be known of it any more.
    fn expires(&self) -> Option<Instant> {
        self.panics.last().map(|last| *last + WITHIN).max(self.refused_until)
    }
}

impl<K: Ord + Copy> Ledger<K> {
    fn blame(&mut self, whom: K, panics_max: usize, now: Instant) -> bool {
        if !self.entries.contains_key(&whom) {
            self.make_room(now);
        }
        let entry = self.entries.entry(whom).or_default();
        entry.panics.retain(|then| now.duration_since(*then) < WITHIN);
        entry.panics.push(now);
        if entry.panics.len() < panics_max {
            return false;
        }
        entry.panics = Vec::new();
        entry.refused_until = Some(now + REFUSED_FOR);
        true
    }

    fn make_room(&mut self, now: Instant) {
        if self.entries.len() < ENTRIES_MAX {
            return;
        }
        self.entries.retain(|_, entry| entry.expires().is_some_and(|then| then > now));
        if self.entries.len() >= ENTRIES_MAX {
            // Those who aren't refused first, then by age.
            let first =
                self.entries.iter().min_by_key(|(_, entry)| (entry.left(now), entry.expires()));
            if let Some((&first, _)) = first {
                self.entries.remove(&first);
            }
        }
    }

    fn left(&self, whom: &K, now: Instant) -> Option<Duration> {
        self.entries.get(whom)?.left(now)
    }

    fn refuses_any(&self, now: Instant) -> bool {
        self.entries.values().any(|entry| entry.left(now).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};
    use webmesh_transport::SecretKey;

    fn caller(key: u8, network: &str) -> Caller {
        caller_by(key, network, false)
    }

    fn caller_by(key: u8, network: &str, relayed: bool) -> Caller {
        let peer = SecretKey::from_bytes([key; 32]).peer_id();
        let network: IpAddr = network.parse().unwrap();
        Caller::far(peer, Some((network, relayed)))
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn three_panics_within_ten_seconds_have_a_key_refused_for_a_minute_wherever_it_goes() {
        let (quarantine, start) = (Quarantine::default(), Instant::now());
        let guilty = caller(1, "198.51.100.0");
        assert!(!quarantine.blame(&guilty, start));
        assert!(!quarantine.blame(&guilty, start + seconds(9)));
        // The first is forgotten by now.
        assert!(!quarantine.blame(&guilty, start + seconds(10)));
        assert_eq!(quarantine.refuses(&guilty), None);
        assert!(quarantine.blame(&guilty, start + seconds(11)));
        let moved = caller(1, "203.0.113.0");
        for caller in [guilty, moved] {
            assert_eq!(quarantine.look_up(&caller, start + seconds(11)), Some(seconds(60)));
            assert_eq!(quarantine.look_up(&caller, start + seconds(70)), Some(seconds(1)));
        }
        assert!(quarantine.any.load(Ordering::Relaxed));
        assert_eq!(quarantine.look_up(&moved, start + seconds(71)), None);
        assert!(!quarantine.any.load(Ordering::Relaxed), "nobody is looked up any more");
    }

    #[test]
    fn fresh_keys_do_not_help_a_host_but_another_network_goes_on() {
        let (quarantine, now) = (Quarantine::default(), Instant::now());
        assert!(!quarantine.blame(&caller(1, "198.51.100.0"), now));
        assert!(!quarantine.blame(&caller(2, "198.51.100.0"), now));
        assert!(quarantine.blame(&caller(3, "198.51.100.0"), now));
        assert_eq!(quarantine.refuses(&caller(4, "198.51.100.0")).map(|_| ()), Some(()));
        assert_eq!(quarantine.refuses(&caller(4, "203.0.113.0")), None);
        let near = Caller::near(SecretKey::from_bytes([3; 32]).peer_id());
        assert_eq!(quarantine.refuses(&near), None);
    }

    #[test]
    fn a_relay_is_charged_less_than_a_host_that_is_seen() {
        let (quarantine, now) = (Quarantine::default(), Instant::now());
        for key in 1..12 {
            assert!(!quarantine.blame(&caller_by(key, "198.51.100.0", true), now));
        }
        assert_eq!(quarantine.refuses(&caller_by(99, "198.51.100.0", true)), None);
        assert!(quarantine.blame(&caller_by(12, "198.51.100.0", true), now));
        assert!(quarantine.refuses(&caller_by(99, "198.51.100.0", true)).is_some());
        assert_eq!(quarantine.refuses(&caller(99, "198.51.100.0")), None, "the relay's own host");
    }

    #[test]
    fn whoever_is_refused_stays_so_while_crowds_of_others_come_by() {
        let (quarantine, now) = (Quarantine::default(), Instant::now());
        let guilty = caller(0, "192.0.2.0");
        for _ in 0..3 {
            quarantine.blame(&guilty, now);
        }
        for n in 0..2 * ENTRIES_MAX as u32 {
            let mut key = [0xff; 32];
            key[..4].copy_from_slice(&n.to_be_bytes());
            let peer = SecretKey::from_bytes(key).peer_id();
            let network = Ipv4Addr::from(0x0a00_0000 | n << 8);
            quarantine.blame(&Caller::far(peer, Some((network.into(), false))), now);
        }
        assert!(quarantine.refuses(&guilty).is_some());
        let table = quarantine.table.lock();
        let table = table.as_ref().unwrap();
        assert!(table.keys.entries.len() <= ENTRIES_MAX);
        assert!(table.networks.entries.len() <= ENTRIES_MAX);
    }
}
