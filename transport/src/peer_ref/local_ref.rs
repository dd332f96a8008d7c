//! This host's own PeerRef: which addresses it names, and how it is kept current.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

use crate::{
    ground::address::canonical,
    identity::{SecretKey, VersionCounter, VersionError},
    peer_ref::{ADDRESSES_MAX, ContentError, PeerRef, RefContent, RendezvousPoint, SignedRef},
};

/// How long our own PeerRef is valid, and after which part of that a new one is signed. A guess: an
/// invitation should outlive a holiday.
const OWN_REF_VALID: Duration = Duration::from_secs(30 * 24 * 3600);
const OWN_REF_RENEWED_AFTER: Duration = Duration::from_secs(10 * 24 * 3600);

/// Signs the PeerRef of this host, and signs it anew in time.
pub(crate) struct OwnRef {
    secret: SecretKey,
    versions: VersionCounter,
    /// The last version isn't on the disk, which was said.
    unkept: bool,
    addresses: Vec<SocketAddr>,
    /// The port that the router forwards here, which is among them.
    #[cfg_attr(not(feature = "port-mapping"), allow(dead_code))]
    mapped: Option<SocketAddr>,
    /// Whether somebody vouches for them.
    advertised: bool,
    rendezvous: Vec<RendezvousPoint>,
    signed: SignedRef,
    at: SystemTime,
    news: watch::Sender<PeerRef>,
}

/// Why this host has no PeerRef of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OwnRefError {
    /// No version for it was had.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// It can't be signed.
    #[error(transparent)]
    Content(#[from] ContentError),
}

impl OwnRef {
    /// Signs a reference to the advertised addresses, or else to those that were bound, `locals`, where one on all addresses stands for
    /// those of the machine.
    pub(crate) fn new(
        secret: SecretKey,
        mut versions: VersionCounter,
        advertise: &[SocketAddr],
        (locals, machine): (&[SocketAddr], &[IpAddr]),
    ) -> Result<Self, OwnRefError> {
        let addresses =
            if advertise.is_empty() { bound(locals, machine) } else { advertise.to_vec() };
        let at = SystemTime::now();
        let mut unkept = false;
        let version = next_version(&mut versions, at, &mut unkept)?;
        let rendezvous = Vec::new();
        let signed = sign(&secret, version, &addresses, &rendezvous, at)?;
        let advertised = !advertise.is_empty();
        let mapped = None;
        let news = watch::Sender::new(PeerRef::Signed(signed.clone()));
        Ok(Self {
            secret,
            versions,
            unkept,
            addresses,
            mapped,
            advertised,
            rendezvous,
            signed,
            at,
            news,
        })
    }

    /// The reference to hand out now.
    pub(crate) fn current(&mut self) -> PeerRef {
        let now = SystemTime::now();
        if now.duration_since(self.at).is_ok_and(|age| age > OWN_REF_RENEWED_AFTER) {
            self.renew(now);
        }
        PeerRef::Signed(self.signed.clone())
    }

    /// Tells of each new signature from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<PeerRef> {
        self.news.subscribe()
    }

    /// Where else this host can be met, from now on: the reference is signed anew if that changes it.
    pub(crate) fn set_rendezvous(&mut self, points: Vec<RendezvousPoint>) {
        if self.rendezvous != points {
            self.rendezvous = points;
            self.renew(SystemTime::now());
        }
    }

    /// The addresses of the machine may have changed, and `locals` are the bound ones: the reference is signed anew if they have, unless
    /// it names advertised ones.
    pub(crate) fn set_locals(&mut self, locals: &[SocketAddr], machine: &[IpAddr]) {
        let mut addresses: Vec<_> = self.mapped.into_iter().collect();
        addresses.extend(bound(locals, machine));
        addresses.truncate(ADDRESSES_MAX);
        if !self.advertised && addresses != self.addresses {
            self.addresses = addresses;
            self.renew(SystemTime::now());
        }
    }

    /// The router forwards this port here from now on, or none: the reference is signed anew if that changes it.
    #[cfg(feature = "port-mapping")]
    pub(crate) fn set_mapped(&mut self, mapped: Option<SocketAddr>) {
        if self.mapped == mapped {
            return;
        }
        let before = std::mem::replace(&mut self.mapped, mapped);
        self.addresses.retain(|address| Some(*address) != before && Some(*address) != mapped);
        self.addresses.splice(..0, mapped);
        self.addresses.truncate(ADDRESSES_MAX);
        self.renew(SystemTime::now());
    }

    /// The addresses that it names.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    fn renew(&mut self, now: SystemTime) {
        let version = match next_version(&mut self.versions, now, &mut self.unkept) {
            Ok(version) => version,
            Err(e) => {
                tracing::warn!("the own PeerRef isn't signed anew: {e}");
                return;
            }
        };
        // Rendezvous first, for they lead here from everywhere; then as many addresses as there is room for.
        let mut points = self.rendezvous.as_slice();
        let mut addresses = self.addresses.as_slice();
        loop {
            match sign(&self.secret, version, addresses, points, now) {
                Ok(signed) => {
                    (self.signed, self.at) = (signed, now);
                    self.news.send_replace(PeerRef::Signed(self.signed.clone()));
                    return;
                }
                Err(ContentError::TooLarge { .. }) if addresses.len() > 1 => {
                    addresses = &addresses[..addresses.len() - 1];
                }
                Err(_) if points.len() > 1 => points = &points[..points.len() - 1],
                Err(e) => {
                    tracing::warn!("the own PeerRef isn't signed anew: {e}");
                    return;
                }
            }
        }
    }
}

/// The next version, on the disk if that can be written. A full disk, or a lack of descriptors, must not keep a host from running, nor its
/// reference from following it. `unkept` is whether that was said.
fn next_version(
    versions: &mut VersionCounter,
    now: SystemTime,
    unkept: &mut bool,
) -> Result<u64, VersionError> {
    match versions.next(now) {
        Ok(version) => {
            *unkept = false;
            Ok(version)
        }
        Err(e) => {
            if !std::mem::replace(unkept, true) {
                tracing::warn!("the version of the own PeerRef isn't kept on disk: {e}");
            }
            versions.next_unkept(now)
        }
    }
}

/// The addresses at which sockets bound to `locals` are reached, where one on all addresses stands for those of the machine; an
/// address that was chosen to be bound goes first. As many as a reference holds: those that are left out are the least useful.
/// Not for loopback, which is another machine to whoever reads it, and whoever is on this one gets here by the others: only a
/// socket on loopback itself is named by it, or a machine that has nothing else.
fn bound(locals: &[SocketAddr], interfaces: &[IpAddr]) -> Vec<SocketAddr> {
    let (everywhere, chosen): (Vec<_>, Vec<_>) =
        locals.iter().copied().partition(|local| local.ip().is_unspecified());
    let mut addresses: Vec<_> = chosen.into_iter().map(canonical).collect();
    for ip in interfaces {
        let family = everywhere.iter().filter(|local| local.is_ipv4() == ip.is_ipv4());
        addresses.extend(family.map(|local| canonical(SocketAddr::new(*ip, local.port()))));
    }
    let meant = |address: &SocketAddr| !address.ip().is_loopback() || locals.contains(address);
    if addresses.iter().any(meant) {
        addresses.retain(meant);
    }
    addresses.sort_by_key(|address| address.ip().is_loopback());
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

fn sign(
    secret: &SecretKey,
    version: u64,
    addresses: &[SocketAddr],
    rendezvous: &[RendezvousPoint],
    now: SystemTime,
) -> Result<SignedRef, ContentError> {
    let expires = now + OWN_REF_VALID;
    let content = RefContent {
        version,
        addresses: addresses.to_vec(),
        rendezvous: rendezvous.to_vec(),
        expires: expires.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
    };
    SignedRef::sign(secret, content)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn loopback_is_named_only_where_it_is_meant_or_all_there_is() {
        let addresses = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let named = |locals: &[&str], interfaces: &[&str]| {
            let interfaces: Vec<IpAddr> = interfaces.iter().map(|ip| ip.parse().unwrap()).collect();
            bound(&addresses(locals), &interfaces)
        };
        let all = ["127.0.0.1", "10.0.0.5", "::1", "2001:db8::5"];
        let both = ["0.0.0.0:7", "[::]:7"];
        assert_eq!(named(&both, &all), addresses(&["10.0.0.5:7", "[2001:db8::5]:7"]));
        assert_eq!(named(&both, &["127.0.0.1", "::1"]), addresses(&["127.0.0.1:7", "[::1]:7"]));
        assert_eq!(named(&both, &["127.0.0.1", "10.0.0.5", "::1"]), addresses(&["10.0.0.5:7"]));
        assert_eq!(named(&["127.0.0.1:7"], &all), addresses(&["127.0.0.1:7"]));
        let mixed = ["127.0.0.1:8", "0.0.0.0:7"];
        assert_eq!(named(&mixed, &all), addresses(&["10.0.0.5:7", "127.0.0.1:8"]));
    }

    #[test]
    fn a_reference_follows_its_host_though_its_version_can_not_be_kept() {
        let dir = tempfile::tempdir().unwrap();
        // No key is there: the counter can neither be locked nor written.
        let versions = VersionCounter::beside(dir.path().join("gone.key"));
        let locals = ["0.0.0.0:7".parse().unwrap()];
        let here = [IpAddr::from([10, 0, 0, 5])];
        let secret = SecretKey::from_bytes([1; 32]);
        let mut own = OwnRef::new(secret, versions, &[], (&locals, &here)).unwrap();
        let version = |own: &mut OwnRef| match own.current() {
            PeerRef::Signed(signed) => signed.version(),
            PeerRef::Addresses(_) => unreachable!(),
        };
        let first = version(&mut own);
        own.set_locals(&locals, &here);
        assert_eq!(version(&mut own), first, "nothing has changed");
        own.set_locals(&locals, &[IpAddr::from([10, 0, 0, 6])]);
        assert!(version(&mut own) > first);
        assert_eq!(own.addresses(), ["10.0.0.6:7".parse().unwrap()]);
    }

    #[test]
    fn the_most_useful_of_two_thousand_addresses_are_named_whatever_their_family() {
        let mut interfaces: Vec<IpAddr> =
            ["2001:db8::7", "203.0.113.7"].map(|ip| ip.parse().unwrap()).into();
        interfaces.extend((0..2000).map(|n| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, n])));
        let locals = ["0.0.0.0:7", "[::]:8", "192.0.2.1:9"].map(|text| text.parse().unwrap());
        let named = bound(&locals, &interfaces);
        let first = ["192.0.2.1:9", "[2001:db8::7]:8", "203.0.113.7:7", "[fd00::]:8"];
        assert_eq!(named[..4], first.map(|text| text.parse().unwrap()));
        assert_eq!(named.len(), ADDRESSES_MAX);
        // They fit beside rendezvous, and what doesn't is the last.
        let secret = SecretKey::from_bytes([1; 32]);
        let mut own = OwnRef::new(secret, VersionCounter::in_memory(), &named, (&[], &[])).unwrap();
        let point = |n: u8| RendezvousPoint {
            peer: SecretKey::from_bytes([n; 32]).peer_id(),
            addresses: (0..8)
                .map(|port| SocketAddr::from((Ipv6Addr::from([n; 16]), 1 + port)))
                .collect(),
            tls: Vec::new(),
        };
        own.set_rendezvous((2..6).map(point).collect());
        let current = own.current();
        assert!(current.to_bytes().len() <= 1000);
        let kept = current.addresses();
        assert!(!kept.is_empty() && kept.len() < ADDRESSES_MAX, "{}", kept.len());
        assert_eq!(*kept, named[..kept.len()]);
    }
}
