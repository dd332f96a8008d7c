//! How an endpoint comes to a link: the one that stands, or a dial.

use std::net::IpAddr;

use super::*;

/// A dial to addresses alone. Nobody waits for it in vain when it ends, though its thread should have ended before.
struct Begun {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
    over: bool,
}

impl Begun {
    /// Who waits for it; from now on the next one begins another.
    fn waiters(&mut self) -> Vec<Waiter> {
        if std::mem::replace(&mut self.over, true) {
            return Vec::new();
        }
        self.shared.at_addresses.lock().remove(&self.addresses).unwrap_or_default()
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        drop(self.waiters());
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
    pub(super) fn places(&self, peer: PeerId, hints: &[Hints]) -> Places {
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
    pub(super) fn newer(&self, link: &Link, given: Option<&SignedRef>) -> Option<Newer> {
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

    /// The link to `peer`, which may be elsewhere than its link leads.
    pub(super) async fn renewed(
        self: &Arc<Self>,
        peer: PeerId,
        newer: Newer,
    ) -> Result<Link, ConnectError> {
        let (waiter, outcome) = oneshot::channel();
        self.order(peer, Order::Renew { newer, waiter: Some(waiter) });
        outcome.await.unwrap_or(Err(ConnectError::Closed))
    }

    /// The link to `peer`, dialled if need be at `places` alone.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        peer: PeerId,
        places: Places,
    ) -> Result<Link, ConnectError> {
        if let Some(link) = self.up.get(&peer) {
            return Ok(link.clone());
        }
        let (waiter, outcome) = oneshot::channel();
        self.order(peer, Order::Dial { places, waiter });
        outcome.await.unwrap_or(Err(ConnectError::Closed))
    }

    /// The link to the host that answers at one of `addresses`; joins a dial under way to the same. To `insist` is to begin one handshake
    /// after the other, for a host that may just be coming back.
    pub(crate) async fn connect_address(
        self: &Arc<Self>,
        addresses: Vec<SocketAddr>,
        insist: bool,
    ) -> Result<Link, ConnectError> {
        // Who answered there and is still there need not be asked again.
        let there = |link: &Link| {
            let road = link.lease().road().filter(|road| road.flow.is_none());
            road.is_some_and(|road| addresses.contains(&road.remote)) && !link.is_closed()
        };
        if let Some(link) = self.up.iter().find(|link| there(link.value())) {
            return Ok(link.clone());
        }
        let (waiter, outcome) = oneshot::channel();
        if self.wait_at(&addresses, waiter) {
            let (shared, mut begun) =
                (self.clone(), Begun { shared: self.clone(), addresses, over: false });
            self.placement.spawn_network(Box::new(move || {
                Box::pin(async move {
                    let addresses = begun.addresses.clone();
                    tracing::debug!(?addresses, "dial of whoever answers");
                    let (late, roads) = mpsc::unbounded_channel();
                    let tunnels = places::tunnels(&shared, &addresses, Vec::new(), late);
                    shared.socket.spawn(tunnels);
                    let dialled = dial(&shared, None, (addresses, insist), roads, None).await;
                    match dialled {
                        Ok(authenticated) => shared.established(authenticated, begun.waiters()),
                        Err(e) => {
                            let (addresses, why) = (&begun.addresses, e.to_string());
                            tracing::debug!(?addresses, why = %Excerpt(&why), "dial failed");
                            begun.waiters().into_iter().for_each(|waiter| {
                                let _ = waiter.send(Err(e.clone()));
                            });
                        }
                    }
                })
            }));
        }
        outcome.await.unwrap_or(Err(ConnectError::Closed))
    }

    /// Waits for the dial to `addresses`; whether it must be begun.
    fn wait_at(&self, addresses: &[SocketAddr], waiter: Waiter) -> bool {
        let mut dials = self.at_addresses.lock();
        match dials.get_mut(addresses) {
            Some(waiters) => {
                waiters.retain(|waiter| !waiter.is_closed());
                waiters.push(waiter);
                false
            }
            None => {
                dials.insert(addresses.to_vec(), vec![waiter]);
                true
            }
        }
    }
}
