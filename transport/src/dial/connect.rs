//! How an endpoint comes to a link: the one that stands, or a dial.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::{mpsc, oneshot};

use crate::{
    dial::{dial, tunnels::tunnels},
    ground::sanitize::Excerpt,
    identity::PeerId,
    link::{Link, connect_error::ConnectError},
    shared::{
        Shared,
        dial_targets::Places,
        newer::Newer,
        order::{Order, Waiter},
    },
};

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
    /// The link to `peer`, which may be elsewhere than its link leads.
    pub(crate) async fn renewed(
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
                    let tunnels = tunnels(&shared, &addresses, Vec::new(), late);
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
