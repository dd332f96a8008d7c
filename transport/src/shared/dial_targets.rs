//! Where a peer may be dialled.

use std::{
    net::{IpAddr, SocketAddr},
    time::SystemTime,
};

use crate::{
    identity::PeerId,
    interfaces::{self, ranking},
    link::Link,
    path::candidates::CANDIDATES_MAX,
    peer_ref::{
        RendezvousPoint, SignedRef,
        hints::{Hints, Origin},
    },
    shared::{Shared, newer::Newer},
};

/// Where a peer may be found.
#[derive(Debug, Default, Clone)]
pub(crate) struct Places {
    /// Its own addresses.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Rendezvous that introduce callers to it.
    pub(crate) points: Vec<RendezvousPoint>,
    /// Where it says that it takes tunnels.
    pub(crate) tls: Vec<SocketAddr>,
    /// It may just be coming back: whoever dials doesn't wait for the back-off of one handshake.
    pub(crate) insist: bool,
}

impl Places {
    /// A rendezvous itself: one that must be met by another is none.
    pub(crate) fn of(point: &RendezvousPoint) -> Self {
        let (addresses, tls) = (point.addresses.clone(), point.tls.clone());
        Self { addresses, points: Vec::new(), tls, insist: true }
    }
}

impl Shared {
    /// Addresses of a peer, the most likely ones for this host first, if there are more than are tried at a time. Tens of
    /// microseconds for each.
    pub(crate) fn by_way(&self, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        if addresses.len() > CANDIDATES_MAX && self.config.kernel {
            ranking::by_way(addresses, interfaces::source)
        } else {
            addresses
        }
    }

    /// Where `peer` may be: as `hints` say, and as it is remembered.
    pub(crate) fn places(&self, peer: PeerId, hints: &[Hints]) -> Places {
        let (signed, learnt) = {
            let book = self.book.lock();
            let signed = book.signed(&peer, SystemTime::now());
            (signed.map(|(signed, origin)| (signed.clone(), origin)), book.learnt(&peer).to_vec())
        };
        let signed = signed.map(|(signed, origin)| self.whereabouts(&signed, origin));
        let mut places = Places::default();
        let hints = hints.iter().map(|hints| self.restricted(hints));
        let (mut points, mut addresses) = (Vec::new(), learnt);
        for hints in hints {
            places.addresses.extend(hints.addresses);
            points.extend(hints.rendezvous);
        }
        // What the peer signed before what others say of it.
        if let Some(signed) = signed {
            addresses.splice(0..0, signed.addresses);
            places.points.extend(signed.rendezvous);
        }
        places.addresses.extend(addresses);
        places.points.extend(points);
        places
    }

    /// Where a reference leads that came from `origin`.
    fn whereabouts(&self, signed: &SignedRef, origin: Origin) -> Hints {
        let (addresses, rendezvous) = (signed.addresses().to_vec(), signed.rendezvous().to_vec());
        self.restricted(&Hints { origin, addresses, rendezvous })
    }

    /// The rendezvous that `peer` signed.
    pub(crate) fn signed_points(&self, peer: &PeerId) -> Vec<RendezvousPoint> {
        let signed = {
            let book = self.book.lock();
            let signed = book.signed(peer, SystemTime::now());
            signed.map(|(signed, origin)| (signed.rendezvous().to_vec(), origin))
        };
        let (rendezvous, origin) = signed.unwrap_or_default();
        self.restricted(&Hints { origin, addresses: Vec::new(), rendezvous }).rendezvous
    }

    /// The same without what this host mustn't be led to by who said it. Tens of microseconds for each address that is neither public nor
    /// the user's word.
    pub(crate) fn restricted(&self, hints: &Hints) -> Hints {
        let may = |origin: Origin, address: SocketAddr| {
            let translated = self.nat64.lock().original(address).map(|inner| inner.ip());
            let may = origin.may_name(address, translated, |ip| self.leads_inside(ip));
            if !may {
                tracing::debug!(%address, ?origin, "an address isn't dialled on the word of who named it");
            }
            may
        };
        let origin = hints.origin;
        let addresses = hints.addresses.iter().copied().filter(|at| may(origin, *at)).collect();
        let points = hints.rendezvous.iter().map(|point| origin.restrict(point, may));
        Hints { origin, addresses, rendezvous: points.collect() }
    }

    /// Whether packets to `ip` leave by another route than the default one.
    fn leads_inside(&self, ip: IpAddr) -> bool {
        if self.config.kernel {
            return interfaces::leads_inside(ip);
        }
        // A simulated network has no routes, but neighbours.
        let locals = self.socket.wires().iter().map(|wire| wire.local_addr().ip());
        ranking::is_neighbour_of_any(ip, locals)
    }

    /// Where the host of a reference may be: as it is remembered, and then as the reference says, which may have expired.
    pub(crate) fn places_by(&self, signed: &SignedRef) -> Places {
        let mut places = self.places(signed.peer(), &[]);
        places.addresses.extend(signed.addresses());
        places.points.extend(signed.rendezvous().iter().cloned());
        places
    }

    /// What the peer of a link signed after the reference by which the link knows it.
    pub(crate) fn newer(&self, link: &Link, given: Option<&SignedRef>) -> Option<Newer> {
        let known = {
            let book = self.book.lock();
            let known = book.signed(&link.peer(), SystemTime::now());
            known.map(|(signed, origin)| (signed.clone(), origin))
        };
        let given = given.map(|signed| (signed.clone(), Origin::User));
        let newest = known.into_iter().chain(given);
        let (newest, origin) = newest.max_by_key(|(signed, by)| (signed.version(), *by))?;
        if newest.version() <= link.known_version() {
            return None;
        }
        let Hints { addresses, rendezvous, .. } = self.whereabouts(&newest, origin);
        let places = Places { addresses, points: rendezvous, ..Places::default() };
        Some(Newer::signed(&newest, places))
    }
}
