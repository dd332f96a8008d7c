//! The class of reference that its own host has signed: versions, expiry, and what may take its place.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::address::{AddressFault, check_addresses};
use super::codec::{self, DecodeError, Unverified};
use super::{ADDRESSES_MAX, PEER_REF_LEN_MAX, RENDEZVOUS_ADDRESSES_MAX, RENDEZVOUS_MAX};
use crate::identity::{PeerId, SecretKey};

/// What the signature of a PeerRef is given for.
const CONTEXT: &str = "webmesh/1 peer-ref";

/// What a host says about how to reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefContent {
    /// Higher replaces lower. A host takes them from a [`VersionCounter`](crate::identity::VersionCounter).
    pub version: u64,
    /// Direct addresses, the preferred one first; at most [`ADDRESSES_MAX`], and there may be none.
    pub addresses: Vec<SocketAddr>,
    /// Where the host can be met, the preferred one first; at most [`RENDEZVOUS_MAX`].
    pub rendezvous: Vec<RendezvousPoint>,
    /// Not to be believed after this, in Unix seconds.
    pub expires: u64,
}

/// A publicly reachable peer that introduces callers to the host, and relays between them unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RendezvousPoint {
    /// Its key: only that may answer.
    pub peer: PeerId,
    /// Its UDP addresses, and the remark that it doesn't relay ([`RendezvousPoint::relays`]); at most [`RENDEZVOUS_ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
    /// Where it takes TLS over TCP, for callers whose network blocks UDP; as many. One of the two lists isn't empty.
    pub tls: Vec<SocketAddr>,
}

/// Stands in the list of a point's addresses for the remark that it doesn't relay. Nobody is dialled there, by readers of before this remark
/// either: the network is one that this crate means sockets of its own process by, and never sends to.
const NO_RELAY: SocketAddr =
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd77, 0x6562, 0x6d0f, 0, 0, 0, 0, 1)), 1);

impl RendezvousPoint {
    /// Whether it relays between callers and the host, rather than only introducing them; as far as is known, for points of before that
    /// was said don't say it.
    pub fn relays(&self) -> bool {
        !self.addresses.contains(&NO_RELAY)
    }

    /// The same, with the remark that it doesn't relay in the place of the last address, if there is no room beside it.
    pub fn without_relay(mut self) -> Self {
        if self.relays() {
            self.addresses.truncate(RENDEZVOUS_ADDRESSES_MAX - 1);
            self.addresses.push(NO_RELAY);
        }
        self
    }

    /// Its UDP addresses without any remark.
    pub fn dialled_at(&self) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().copied().filter(|address| *address != NO_RELAY)
    }
}

/// Why a content can't be signed, or wasn't accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentError {
    /// A reference of addresses, or a rendezvous point, without any.
    #[error("it names no address")]
    NoAddress,
    /// More addresses in one list than a reference may hold. Name the best ones only.
    #[error("it names more than {limit} addresses")]
    TooManyAddresses {
        /// How many there may be.
        limit: usize,
    },
    /// More rendezvous points than a reference may hold. Name the best ones only.
    #[error("it names more than {RENDEZVOUS_MAX} rendezvous points")]
    TooManyRendezvous,
    /// An address that can't be anyone's.
    #[error("it names {address}: {fault}")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What is wrong with it.
        fault: AddressFault,
    },
    /// The same address twice in one list.
    #[error("it names {address} twice")]
    DuplicateAddress {
        /// The address.
        address: SocketAddr,
    },
    /// The same rendezvous peer twice.
    #[error("it names the rendezvous {peer} twice")]
    DuplicateRendezvous {
        /// The rendezvous.
        peer: PeerId,
    },
    /// A host can't introduce callers to itself.
    #[error("it names the host as its own rendezvous")]
    OwnRendezvous,
    /// Within each limit, but too much together. Name fewer addresses or rendezvous points.
    #[error("it takes {size} bytes and may take {PEER_REF_LEN_MAX}")]
    TooLarge {
        /// The size it would have, in bytes.
        size: usize,
    },
}

/// A reference whose host said it would no longer be right. A dial by it may succeed all the same; ask the host, or whoever gave it, for a newer
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the PeerRef expired {} ago; ask for a newer one", in_words(*.ago))]
pub struct ExpiredError {
    /// How long ago it expired, without the tolerance.
    pub ago: Duration,
}

/// Two references can't be put in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    /// They are of different hosts, so that neither follows on the other.
    #[error("the two PeerRefs are of different hosts")]
    OtherPeer,
    /// The host signed two contents under one version: its key is in use twice, or was copied. Neither can be told to
    /// be the newer; keep the one held, and tell the user.
    #[error(
        "peer {peer} signed two different PeerRefs as version {version}; is its key in use on two hosts?"
    )]
    VersionConflict {
        /// Whose fault it is.
        peer: PeerId,
        /// The version used twice.
        version: u64,
    },
}

impl RefContent {
    /// The same content with all addresses in their plain form, if it is one that `peer` may sign.
    pub(super) fn checked(&self, peer: PeerId) -> Result<Self, ContentError> {
        if self.rendezvous.len() > RENDEZVOUS_MAX {
            return Err(ContentError::TooManyRendezvous);
        }
        let mut rendezvous: Vec<RendezvousPoint> = Vec::with_capacity(self.rendezvous.len());
        for point in &self.rendezvous {
            let addresses = check_addresses(&point.addresses, RENDEZVOUS_ADDRESSES_MAX)?;
            let tls = check_addresses(&point.tls, RENDEZVOUS_ADDRESSES_MAX)?;
            if addresses.is_empty() && tls.is_empty() {
                return Err(ContentError::NoAddress);
            }
            if point.peer == peer {
                return Err(ContentError::OwnRendezvous);
            }
            if rendezvous.iter().any(|other| other.peer == point.peer) {
                return Err(ContentError::DuplicateRendezvous { peer: point.peer });
            }
            rendezvous.push(RendezvousPoint { peer: point.peer, addresses, tls });
        }
        let addresses = check_addresses(&self.addresses, ADDRESSES_MAX)?;
        Ok(Self { version: self.version, addresses, rendezvous, expires: self.expires })
    }
}

/// A reference with the signature of the host that it names. The signature of every value of this type has been
/// verified; whether it has expired depends on when one asks ([`check_valid`](Self::check_valid)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRef {
    peer: PeerId,
    content: RefContent,
    signature: [u8; 64],
}

impl SignedRef {
    /// How far two hosts' clocks may differ: a reference counts as valid for this long after it expired.
    /// From Kerberos (RFC 4120, section 1.6: "typically 5 minutes"); hosts without network time drift by seconds a day.
    pub const CLOCK_SKEW_TOLERANCE: Duration = Duration::from_secs(300);

    /// Signs what the holder of `secret` says about itself. IPv4-mapped addresses become IPv4, scopes and flow labels are dropped.
    ///
    /// # Errors
    /// See [`ContentError`]; nothing was signed.
    pub fn sign(secret: &SecretKey, content: RefContent) -> Result<Self, ContentError> {
        let peer = secret.peer_id();
        let content = content.checked(peer)?;
        let body = codec::encode_body(&peer, &content);
        let size = body.len() + codec::SIGNATURE_LEN;
        if size > PEER_REF_LEN_MAX {
            return Err(ContentError::TooLarge { size });
        }
        let signature = secret.sign(CONTEXT, &body);
        Ok(Self { peer, content, signature })
    }

    /// Takes what was decoded from `bytes`, if its signature is right.
    pub(super) fn verify(unverified: Unverified, bytes: &[u8]) -> Result<Self, DecodeError> {
        let Unverified { peer, content, signature } = unverified;
        let body = &bytes[..bytes.len().saturating_sub(codec::SIGNATURE_LEN)];
        peer.verify(CONTEXT, body, &signature).map_err(|_| DecodeError::Signature { peer })?;
        Ok(Self { peer, content, signature })
    }

    /// The host, which is also the signer.
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// All that the host signed.
    pub fn content(&self) -> &RefContent {
        &self.content
    }

    /// See [`RefContent::version`].
    pub fn version(&self) -> u64 {
        self.content.version
    }

    /// See [`RefContent::addresses`].
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.content.addresses
    }

    /// See [`RefContent::rendezvous`].
    pub fn rendezvous(&self) -> &[RendezvousPoint] {
        &self.content.rendezvous
    }

    /// See [`RefContent::expires`].
    pub fn expires(&self) -> u64 {
        self.content.expires
    }

    /// The one encoding of this reference, at most [`PEER_REF_LEN_MAX`] bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = codec::encode_body(&self.peer, &self.content);
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Whether the reference may be believed at `now`, with a tolerance of [`CLOCK_SKEW_TOLERANCE`](Self::CLOCK_SKEW_TOLERANCE).
    ///
    /// # Errors
    /// [`ExpiredError`] after that.
    pub fn check_valid(&self, now: SystemTime) -> Result<(), ExpiredError> {
        check_expiry(self.content.expires, now)
    }

    /// How this reference follows on another of the same host: `Greater` replaces it, `Equal` is the same content,
    /// `Less` is out of date. Expiry isn't looked at; [`PeerRefStore`](super::PeerRefStore) has the whole rule.
    ///
    /// # Errors
    /// See [`SuccessionError`]: in each case keep what is held.
    pub fn supersedes(&self, held: &SignedRef) -> Result<Ordering, SuccessionError> {
        if self.peer != held.peer {
            return Err(SuccessionError::OtherPeer);
        }
        let order = self.content.version.cmp(&held.content.version);
        // The signature isn't compared: a host may sign the same content twice.
        if order == Ordering::Equal && self.content != held.content {
            return Err(SuccessionError::VersionConflict {
                peer: self.peer,
                version: self.content.version,
            });
        }
        Ok(order)
    }
}

pub(super) fn check_expiry(expires: u64, now: SystemTime) -> Result<(), ExpiredError> {
    // In whole seconds, so that no expiry is too far away for `SystemTime`. A clock before 1970 takes all as valid.
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let ago = now.saturating_sub(expires);
    if ago > SignedRef::CLOCK_SKEW_TOLERANCE.as_secs() {
        return Err(ExpiredError { ago: Duration::from_secs(ago) });
    }
    Ok(())
}

/// A time as people say it, to two units: `1 y 163 d`, `3 d 4 h`, `59 s`. A year has 365 days.
pub fn in_words(time: Duration) -> String {
    const UNITS: [(u64, &str); 5] =
        [(365 * 86_400, "y"), (86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut left = time.as_secs();
    let first = UNITS.iter().position(|(unit, _)| left >= *unit).unwrap_or(UNITS.len() - 1);
    let mut words = Vec::new();
    for (unit, name) in UNITS.iter().skip(first).take(2) {
        let count = left / unit;
        left %= unit;
        if count > 0 || words.is_empty() {
            words.push(format!("{count} {name}"));
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_two_largest_units() {
        for (seconds, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_661, "1 h 1 min"),
            (86_400 + 59, "1 d"),
            (45_570_108, "1 y 162 d"),
            (u64::MAX, "584942417355 y 26 d"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
        let expired = ExpiredError { ago: Duration::from_secs(3 * 86_400 + 7_200) };
        assert_eq!(expired.to_string(), "the PeerRef expired 3 d 2 h ago; ask for a newer one");
    }

    #[test]
    fn a_point_that_does_not_relay_says_so_in_a_way_that_readers_of_before_take_and_pass_over() {
        let secret = SecretKey::from_bytes([1; 32]);
        let addresses = (1..=8).map(|port| ([192, 0, 2, 1], port).into()).collect();
        let peer = SecretKey::from_bytes([2; 32]).peer_id();
        let point = RendezvousPoint { peer, addresses, tls: Vec::new() };
        assert!(point.relays());
        let mute = point.without_relay();
        assert!(!mute.relays() && mute.addresses.len() == RENDEZVOUS_ADDRESSES_MAX);
        assert_eq!(mute.dialled_at().count(), RENDEZVOUS_ADDRESSES_MAX - 1);
        assert_eq!(mute.clone().without_relay(), mute);
        let rendezvous = vec![mute.clone()];
        let content = RefContent { version: 1, addresses: vec![], rendezvous, expires: 9 };
        let signed = SignedRef::sign(&secret, content).unwrap();
        let read = super::super::PeerRef::from_bytes(&signed.to_bytes()).unwrap();
        assert_eq!(read, signed.into());
        // To them it is an address like others, of a network that none of them dials.
        assert_eq!(super::super::check_address(NO_RELAY), Ok(NO_RELAY));
        let handles =
            crate::socket::handles::Handles::new(vec!["[::]:1".parse().unwrap()], Some(1));
        assert!(crate::path::candidates::roads(&handles, [NO_RELAY]).is_empty());
    }
}
