//! This host's own PeerRef: which addresses it names, and how it is kept current.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::{
    config::BindError,
    identity::{SecretKey, VersionCounter},
    path::candidates::canonical,
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
    addresses: Vec<SocketAddr>,
    /// The port that the router forwards here, which is among them.
    #[cfg_attr(not(feature = "port-mapping"), allow(dead_code))]
    mapped: Option<SocketAddr>,
    /// Whether somebody vouches for them.
    advertised: bool,
    rendezvous: Vec<RendezvousPoint>,
    signed: SignedRef,
    at: SystemTime,
}

impl OwnRef {
    /// Signs a reference to the advertised addresses, or else to those that were bound.
    pub(crate) fn new(
        secret: SecretKey,
        mut versions: VersionCounter,
        advertise: &[SocketAddr],
        locals: &[SocketAddr],
    ) -> Result<Self, BindError> {
        let addresses = addresses_of(advertise, locals);
        let at = SystemTime::now();
        let version = match versions.next(at) {
            Ok(version) => version,
            Err(e) => {
                // A full disk must not keep a host from running: the clock gives a version that is
                // higher than all before it unless it was set back.
                tracing::warn!("the version of the own PeerRef isn't kept on disk: {e}");
                versions = VersionCounter::in_memory();
                versions.next(at)?
            }
        };
        let rendezvous = Vec::new();
        let signed = sign(&secret, version, &addresses, &rendezvous, at)?;
        let advertised = !advertise.is_empty();
        let mapped = None;
        Ok(Self { secret, versions, addresses, mapped, advertised, rendezvous, signed, at })
    }

    /// The reference to hand out now.
    pub(crate) fn current(&mut self) -> PeerRef {
        let now = SystemTime::now();
        if now.duration_since(self.at).is_ok_and(|age| age > OWN_REF_RENEWED_AFTER) {
            self.renew(now);
        }
        PeerRef::Signed(self.signed.clone())
    }

    /// Where else this host can be met, from now on: the reference is signed anew if that changes it.
    pub(crate) fn set_rendezvous(&mut self, points: Vec<RendezvousPoint>) {
        if self.rendezvous != points {
            self.rendezvous = points;
            self.renew(SystemTime::now());
        }
    }

    /// The addresses of this host have changed, and these are the bound ones: the reference is signed anew, unless it names
    /// advertised ones.
    pub(crate) fn set_locals(&mut self, locals: &[SocketAddr]) {
        let mut addresses: Vec<_> = self.mapped.into_iter().collect();
        addresses.extend(addresses_of(&[], locals));
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
        let version = match self.versions.next(now) {
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

/// The addresses for our own PeerRef: the advertised ones, or else the bound ones.
fn addresses_of(advertise: &[SocketAddr], locals: &[SocketAddr]) -> Vec<SocketAddr> {
    if advertise.is_empty() { bound(locals, &interface_addresses()) } else { advertise.to_vec() }
}

/// The addresses at which sockets bound to `locals` are reached, where one on all addresses stands for those of the machine.
/// Not for loopback, which is another machine to whoever reads it, and whoever is on this one gets here by the others: only a
/// socket on loopback itself is named by it, or a machine that has nothing else.
fn bound(locals: &[SocketAddr], interfaces: &[IpAddr]) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for local in locals {
        let ips = if local.ip().is_unspecified() {
            let family = |ip: &&IpAddr| ip.is_ipv4() == local.is_ipv4();
            interfaces.iter().filter(family).copied().collect()
        } else {
            vec![local.ip()]
        };
        addresses.extend(ips.into_iter().map(|ip| canonical(SocketAddr::new(ip, local.port()))));
    }
    let meant = |address: &SocketAddr| !address.ip().is_loopback() || locals.contains(address);
    if addresses.iter().any(meant) {
        addresses.retain(meant);
    }
    addresses.sort_by_key(|address| address.ip().is_loopback());
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

/// The addresses of this machine that mean something to another: link-local ones don't without a scope.
pub(crate) fn interface_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    interfaces.into_iter().map(|interface| interface.ip()).filter(usable).collect()
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
}
