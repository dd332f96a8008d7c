//! How an endpoint comes to a link: the one that stands, or a dial.

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
    pub(super) fn places(&self, peer: PeerId, hints: &Hints) -> Places {
        let (book, now) = (self.book.lock(), SystemTime::now());
        let known = hints.addresses.iter().copied();
        let addresses = known.chain(book.addresses(&peer, now)).collect();
        // What the peer signed before what others say of it.
        let signed = book.signed(&peer, now).map(|signed| signed.rendezvous().to_vec());
        let mut points = signed.unwrap_or_default();
        points.extend(hints.rendezvous.iter().cloned());
        Places { addresses, points, ..Places::default() }
    }

    /// Where the host of a reference may be: as it is remembered, and then as the reference says, which may have expired.
    pub(crate) fn places_by(&self, signed: &SignedRef) -> Places {
        let mut places = self.places(signed.peer(), &Hints::default());
        places.addresses.extend(signed.addresses());
        places.points.extend(signed.rendezvous().iter().cloned());
        places
    }

    /// What the peer of a link signed after the reference by which the link knows it.
    pub(super) fn newer(&self, link: &Link, given: Option<&SignedRef>) -> Option<Newer> {
        let (book, now) = (self.book.lock(), SystemTime::now());
        let newest = book.signed(&link.peer(), now).into_iter().chain(given);
        let newest = newest.max_by_key(|signed| signed.version())?;
        (newest.version() > link.known_version()).then(|| Newer::signed(newest))
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
