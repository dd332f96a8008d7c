//! The dial of a peer: one at a time, and who waits for it.

use actix::{AsyncContext, Context};
use tokio::sync::mpsc;

use super::Connection;
use crate::{
    dial::{dial, tunnels::tunnels},
    ground::sanitize::Excerpt,
    link::connect_error::ConnectError,
    shared::{
        dial_targets::Places,
        order::{Order, Waiter},
    },
};

/// Addresses that wait for the dial under way to fail.
const UNTRIED_MAX: usize = 16;

impl Connection {
    pub(super) fn dial(&mut self, places: Places, waiter: Waiter, ctx: &mut Context<Self>) {
        if let Some(up) = self.up.and_then(|id| self.position(id)) {
            let _ = waiter.send(Ok(self.entries[up].link.clone()));
            return;
        }
        self.waiters.push(waiter);
        if self.dialling {
            self.keep_untried(places);
        } else {
            self.start_dial(places, ctx);
        }
    }

    /// Keeps places for when the dial under way fails.
    pub(super) fn keep_untried(&mut self, places: Places) {
        fn add<T: PartialEq>(to: &mut Vec<T>, more: Vec<T>) {
            for place in more {
                if to.len() < UNTRIED_MAX && !to.contains(&place) {
                    to.push(place);
                }
            }
        }
        add(&mut self.untried.addresses, places.addresses);
        add(&mut self.untried.points, places.points);
        add(&mut self.untried.tls, places.tls);
    }

    pub(super) fn start_dial(&mut self, places: Places, ctx: &mut Context<Self>) {
        self.dialling = true;
        let Places { addresses, points, tls, insist } = places;
        tracing::debug!(peer = %self.peer, ?addresses, rendezvous = points.len(), "dial");
        self.recovery.learn(&points);
        let (late, roads) = mpsc::unbounded_channel();
        self.shared.socket.spawn(tunnels(&self.shared, &addresses, tls, late.clone()));
        self.late = Some(late);
        self.meet(points, ctx);
        let (shared, peer, actor) = (self.shared.clone(), self.peer, ctx.address());
        let wanted = self.dial_wanted();
        self.shared.socket.spawn(async move {
            let order = match dial(&shared, Some(peer), (addresses, insist), roads, wanted).await {
                Ok(authenticated) => Order::Established {
                    authenticated: Box::new(authenticated),
                    waiters: Vec::new(),
                },
                Err(e) => Order::DialFailed(e),
            };
            actor.do_send(order);
        });
    }

    pub(super) fn dial_failed(&mut self, mut error: ConnectError, ctx: &mut Context<Self>) {
        self.dialling = false;
        let untried = std::mem::take(&mut self.untried);
        self.waiters.retain(|waiter| !waiter.is_closed());
        let more = !untried.addresses.is_empty() || !untried.points.is_empty();
        if more && !self.waiters.is_empty() {
            self.start_dial(untried, ctx);
            return;
        }
        self.beside_failed();
        let (refusal, unrelayed) = (self.refusal.take(), std::mem::take(&mut self.unrelayed));
        if !error.is_telling() {
            match refusal {
                _ if unrelayed => error = ConnectError::NoRelay,
                Some(why) => error = ConnectError::NotIntroduced(why.to_string()),
                None => {}
            }
        }
        tracing::debug!(peer = %self.peer, why = %Excerpt(&error.to_string()), "dial failed");
        self.late = None;
        // There may be a link all the same: one beside which it was dialled, or that the peer dialled.
        let up = self.up.and_then(|id| self.position(id));
        let outcome = match up {
            Some(up) => Ok(self.entries[up].link.clone()),
            None => Err(error),
        };
        for waiter in self.waiters.drain(..) {
            let _ = waiter.send(outcome.clone());
        }
    }
}
