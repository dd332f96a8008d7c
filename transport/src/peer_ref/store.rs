//! What is known about how to reach peers. A core: bounded, without a clock of its own.
//!
//! The rule it keeps: *nothing unsigned or expired ever replaces something signed and valid.* Addresses that were merely
//! learnt stand behind the signed ones; a signed reference gives way only to a valid one of a higher version. And each keeps
//! with it whose word it came by: keys are free, so any number of peers may come with any number of references.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use super::{ExpiredError, PeerRef, SignedRef, SuccessionError, check_address};
use crate::{identity::PeerId, peer_ref::hints::Origin};

/// Learnt addresses kept for a peer, the latest first. A guess: a few networks between which a host moves.
const LEARNT_MAX: usize = 4;

/// What became of a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remembered {
    /// It is the first for its peer.
    New,
    /// It took the place of a lower version.
    Replaced,
    /// It was known already.
    Known,
    /// A higher version is known; it was left out.
    Older,
    /// It has expired; it was left out.
    Expired(ExpiredError),
    /// The peer signed another content under the same version, a fault of the peer's that should be reported. What was held is kept.
    Conflict(SuccessionError),
    /// It names no peer, so there is nothing to remember it by; dial it, and [`learn`](PeerRefStore::learn) who answered.
    Unsigned,
    /// The store is full of what the application gave, and this came from the network.
    Full,
}

#[derive(Debug)]
struct Known {
    /// With the one who gave it: the most trusted, if several gave the same.
    signed: Option<(SignedRef, Origin)>,
    /// Where this peer has answered and proved itself, the latest first. Unsigned, so only ever tried in addition.
    learnt: Vec<SocketAddr>,
    /// Whether the application has ever given a reference of the peer: what it gave is never forgotten in favour of what the network
    /// sends.
    by_user: bool,
    /// When it was last of use, by the store's own count.
    used: u64,
}

/// What is known about how to reach peers, for at most as many as it was made for (about 3 KB each at worst).
#[derive(Debug)]
pub struct PeerRefStore {
    peers: HashMap<PeerId, Known>,
    capacity: usize,
    uses: u64,
}

impl PeerRefStore {
    /// An empty store for at most `capacity` peers (at least one).
    pub fn new(capacity: usize) -> Self {
        Self { peers: HashMap::new(), capacity: capacity.max(1), uses: 0 }
    }

    /// Takes a reference in, if it is better than what is known.
    pub fn remember(&mut self, given: &PeerRef, origin: Origin, now: SystemTime) -> Remembered {
        let PeerRef::Signed(signed) = given else {
            return Remembered::Unsigned;
        };
        if let Err(expired) = signed.check_valid(now) {
            return Remembered::Expired(expired);
        }
        let Some(known) = self.entry(signed.peer(), origin, true, now) else {
            return Remembered::Full;
        };
        let outcome = match &mut known.signed {
            None => Remembered::New,
            Some((held, by)) => match signed.supersedes(held) {
                Ok(Ordering::Greater) => Remembered::Replaced,
                Ok(Ordering::Equal) => {
                    *by = (*by).max(origin);
                    return Remembered::Known;
                }
                Ok(Ordering::Less) => return Remembered::Older,
                Err(fault) => return Remembered::Conflict(fault),
            },
        };
        known.signed = Some((signed.clone(), origin));
        outcome
    }

    /// Notes that `peer` proved itself at `address`. An address that can't be anyone's is passed over.
    pub fn learn(&mut self, peer: PeerId, address: SocketAddr, now: SystemTime) {
        let Ok(address) = check_address(address) else { return };
        let Some(known) = self.entry(peer, Origin::Internet, false, now) else { return };
        known.learnt.retain(|other| *other != address);
        known.learnt.insert(0, address);
        known.learnt.truncate(LEARNT_MAX);
    }

    /// The reference of `peer`, if one is known that is valid at `now`, and by whom.
    pub fn signed(&self, peer: &PeerId, now: SystemTime) -> Option<(&SignedRef, Origin)> {
        let (signed, origin) = self.peers.get(peer)?.signed.as_ref()?;
        signed.check_valid(now).is_ok().then_some((signed, *origin))
    }

    /// Where `peer` has answered, the latest first.
    pub fn learnt(&self, peer: &PeerId) -> &[SocketAddr] {
        self.peers.get(peer).map_or(&[], |known| &known.learnt)
    }

    /// How many peers something is known about.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// The entry of `peer`, made if need be; `None` when no entry may be given up for it. For something `signed` any
    /// entry may be that isn't the application's (unless this is), for anything else only one without a valid reference.
    fn entry(
        &mut self,
        peer: PeerId,
        origin: Origin,
        signed: bool,
        now: SystemTime,
    ) -> Option<&mut Known> {
        self.uses += 1;
        let used = self.uses;
        if !self.peers.contains_key(&peer) && self.peers.len() >= self.capacity {
            let by_user = origin == Origin::User;
            let rank = |known: &Known| (known.is_valid(now), known.by_user, known.used);
            let (worst, _) = self
                .peers
                .iter()
                .filter(|(_, known)| known.by_user <= by_user && (signed || !known.is_valid(now)))
                .min_by_key(|(_, known)| rank(known))?;
            let worst = *worst;
            self.peers.remove(&worst);
        }
        let known = self.peers.entry(peer).or_insert(Known {
            signed: None,
            learnt: Vec::new(),
            by_user: false,
            used,
        });
        known.by_user |= origin == Origin::User;
        known.used = used;
        Some(known)
    }
}

impl Known {
    fn is_valid(&self, now: SystemTime) -> bool {
        self.signed.as_ref().is_some_and(|(signed, _)| signed.check_valid(now).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::identity::SecretKey;
    use crate::peer_ref::{AddressRef, RefContent};

    const NOW: u64 = 1_000_000;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn address(port: u16) -> SocketAddr {
        ([192, 0, 2, 1], port).into()
    }

    /// The signed addresses while they are valid, then the learnt ones.
    fn addresses(store: &PeerRefStore, peer: &PeerId, now: SystemTime) -> Vec<SocketAddr> {
        let signed = store.signed(peer, now).map_or(&[][..], |(signed, _)| signed.addresses());
        [signed, store.learnt(peer)].concat()
    }

    fn signed(key: u8, version: u64, port: u16, expires: u64) -> PeerRef {
        let secret = SecretKey::from_bytes([key; 32]);
        let content =
            RefContent { version, addresses: vec![address(port)], rendezvous: vec![], expires };
        SignedRef::sign(&secret, content).unwrap().into()
    }

    #[test]
    fn a_higher_version_replaces_a_lower_one_and_nothing_else_does() {
        let mut store = PeerRefStore::new(8);
        let peer = SecretKey::from_bytes([1; 32]).peer_id();
        let mut give = |given: &PeerRef| store.remember(given, Origin::Internet, now());
        assert_eq!(give(&signed(1, 5, 50, NOW + 1)), Remembered::New);
        assert_eq!(give(&signed(1, 5, 50, NOW + 1)), Remembered::Known);
        assert_eq!(give(&signed(1, 4, 40, NOW + 999)), Remembered::Older);
        assert_eq!(give(&signed(1, 7, 70, NOW + 1)), Remembered::Replaced);
        assert_eq!(
            give(&signed(1, 7, 71, NOW + 1)),
            Remembered::Conflict(SuccessionError::VersionConflict { peer, version: 7 })
        );
        assert!(matches!(give(&signed(1, 9, 90, NOW - 301)), Remembered::Expired(_)));
        assert_eq!(give(&AddressRef::new([address(1)]).unwrap().into()), Remembered::Unsigned);
        assert_eq!(addresses(&store, &peer, now()), [address(70)]);
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn learnt_addresses_stand_behind_signed_ones() {
        let mut store = PeerRefStore::new(8);
        let peer = SecretKey::from_bytes([1; 32]).peer_id();
        for port in [1, 2, 3, 4, 5, 50, 3, 0] {
            store.learn(peer, address(port), now());
        }
        assert_eq!(addresses(&store, &peer, now()), [3, 50, 5, 4].map(address));
        store.remember(&signed(1, 1, 50, NOW), Origin::Internet, now());
        assert_eq!(addresses(&store, &peer, now()), [50, 3, 50, 5, 4].map(address));
        // Once expired, the reference counts for nothing; what was learnt is left.
        let later = now() + Duration::from_secs(301);
        assert!(store.signed(&peer, later).is_none());
        assert_eq!(addresses(&store, &peer, later), [3, 50, 5, 4].map(address));
    }

    #[test]
    fn a_full_store_forgets_strangers_and_never_what_the_application_gave() {
        let mut store = PeerRefStore::new(2);
        let peer = |key| SecretKey::from_bytes([key; 32]).peer_id();
        let valid = |key| signed(key, 1, 50, NOW + 1);
        store.remember(&valid(1), Origin::User, now());
        store.learn(peer(2), address(1), now());
        // The one that isn't signed goes first, then strangers by age.
        assert_eq!(store.remember(&valid(3), Origin::Internet, now()), Remembered::New);
        assert!(addresses(&store, &peer(2), now()).is_empty());
        assert_eq!(store.remember(&valid(4), Origin::Internet, now()), Remembered::New);
        assert!(store.signed(&peer(3), now()).is_none());
        // What is merely learnt pushes out nothing that is signed and valid.
        store.learn(peer(5), address(1), now());
        assert!(store.signed(&peer(4), now()).is_some());
        assert_eq!(store.remember(&valid(5), Origin::User, now()), Remembered::New);
        assert_eq!(store.remember(&valid(6), Origin::Internet, now()), Remembered::Full);
        assert!(store.signed(&peer(1), now()).is_some() && store.signed(&peer(5), now()).is_some());
        assert_eq!(store.len(), 2);
    }

    #[test]
    fn a_reference_keeps_by_whom_it_came_and_the_users_word_counts_for_that_one_alone() {
        let mut store = PeerRefStore::new(2);
        let peer = SecretKey::from_bytes([1; 32]).peer_id();
        let mut give = |version, origin| {
            store.remember(&signed(1, version, 50, NOW + 1), origin, now());
            store.signed(&peer, now()).map(|(_, origin)| origin)
        };
        assert_eq!(give(1, Origin::PrivateNetwork), Some(Origin::PrivateNetwork));
        assert_eq!(give(1, Origin::User), Some(Origin::User));
        assert_eq!(give(1, Origin::Internet), Some(Origin::User));
        assert_eq!(give(2, Origin::Internet), Some(Origin::Internet));
    }
}
