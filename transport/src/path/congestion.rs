//! Congestion control that starts anew when the road changes.
//!
//! What was learnt of a relay of 20 Mbit/s is wrong on a direct road of 150, and what is still lost or acknowledged on the
//! old road says nothing about the new one: with the old packets counted in, the new road is slower than without any
//! reset (docs/measurements.md). quinn has no call for that, but hands out a copy of its controller, which shares the
//! word of a switch with the one in use, and tells what was acknowledged ([`Acks`]).

use std::{any::Any, sync::Arc, time::Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};

use super::acks::Acks;

/// Makes controllers that start anew when the road changes.
#[derive(Debug, Default)]
pub(crate) struct PerRoadConfig {
    inner: Arc<CubicConfig>,
}

impl ControllerFactory for PerRoadConfig {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(PerRoad {
            inner: self.inner.clone().build(now, mtu),
            config: self.inner.clone(),
            acks: Arc::new(Acks::new(now)),
            seen: 0,
            since: now,
            newest: None,
            mtu,
        })
    }
}

/// quinn's CUBIC, once for each road.
struct PerRoad {
    inner: Box<dyn Controller>,
    config: Arc<CubicConfig>,
    acks: Arc<Acks>,
    /// Switches that `inner` knows of.
    seen: u64,
    /// When the present road was taken.
    since: Instant,
    /// When the last packet was sent that the present batch of acknowledgements names.
    newest: Option<Instant>,
    mtu: u16,
}

/// What is known of the acknowledgements of a connection whose controller is ours.
pub(crate) fn acks_of(connection: &quinn::Connection) -> Option<Arc<Acks>> {
    let controller = connection.congestion_state().into_any().downcast::<PerRoad>().ok()?;
    Some(controller.acks.clone())
}

impl PerRoad {
    fn is_behind(&self) -> bool {
        self.acks.switches() != self.seen
    }

    /// Starts anew if the road has changed since.
    fn catch_up(&mut self) {
        if self.is_behind() {
            self.seen = self.acks.switches();
            self.since = self.acks.taken();
            self.inner = self.config.clone().build(self.since, self.mtu);
        }
    }
}

impl Controller for PerRoad {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.catch_up();
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &quinn_proto::RttEstimator,
    ) {
        self.catch_up();
        self.newest = self.newest.max(Some(sent));
        if sent >= self.since {
            self.inner.on_ack(now, sent, bytes, app_limited, rtt);
        }
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.catch_up();
        if let Some(sent) = self.newest.take() {
            self.acks.acked(sent, now);
        }
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.catch_up();
        if sent >= self.since {
            self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.catch_up();
        self.mtu = new_mtu;
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        // Asked before anything of the new road is known.
        if self.is_behind() { self.inner.initial_window() } else { self.inner.window() }
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            inner: self.inner.clone_box(),
            config: self.config.clone(),
            acks: self.acks.clone(),
            ..*self
        })
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MTU: u16 = 1200;

    fn controller(now: Instant) -> Box<PerRoad> {
        let built = Arc::new(PerRoadConfig::default()).build(now, MTU);
        built.into_any().downcast().unwrap()
    }

    fn lose(controller: &mut PerRoad, sent: Instant, now: Instant) {
        controller.on_congestion_event(now, sent, false, 1200);
    }

    #[test]
    fn after_a_switch_the_window_is_a_new_one_at_once_and_old_losses_do_not_count() {
        let start = Instant::now();
        let mut controller = controller(start);
        let fresh = controller.window();
        let second = start + Duration::from_secs(1);
        lose(&mut controller, second, second);
        let small = controller.window();
        assert!(small < fresh);
        let switched = start + Duration::from_secs(2);
        let acks = controller.acks.clone();
        acks.switched(switched);
        assert_eq!(controller.window(), fresh, "before anything is sent");
        let later = switched + Duration::from_millis(50);
        lose(&mut controller, second, later);
        assert_eq!(controller.window(), fresh, "lost on the old road");
        lose(&mut controller, later, later);
        assert!(controller.window() < fresh, "lost on the new one");
    }

    #[test]
    fn a_copy_shares_the_word_of_a_switch() {
        let start = Instant::now();
        let mut controller = controller(start);
        let fresh = controller.window();
        lose(&mut controller, start, start + Duration::from_secs(1));
        let copy: Box<PerRoad> = controller.clone_box().into_any().downcast().unwrap();
        copy.acks.switched(start + Duration::from_secs(2));
        assert_eq!(controller.window(), fresh);
    }
}
