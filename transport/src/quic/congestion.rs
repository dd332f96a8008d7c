//! Congestion control that starts anew when the road changes.
//!
//! What was learnt of a relay of 20 Mbit/s is wrong on a direct road of 150, and what is still lost or acknowledged on the
//! old road says nothing about the new one: with the old packets counted in, the new road is slower than without any
//! reset (docs/measurements.md). Nor does what is still in flight there take anything of the new road's window: a full one would
//! keep back even acknowledgements, for quinn sends them with data that is due or not at all, and both sides would wait for
//! their probe time-outs, which are as long as the outage was. quinn has no call for that, but hands out a copy of its controller, which shares the
//! word of a switch with the one in use, and tells what was acknowledged ([`Acks`]).

use std::{any::Any, sync::Arc, time::Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};

use crate::quic::acks::Acks;

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
            in_flight: 0,
            left: 0,
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
    /// Bytes in flight on all roads: what quinn said last, and what was sent since. Too many by bare acknowledgements.
    in_flight: u64,
    /// Those among them that went along former roads.
    left: u64,
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
            self.left = self.in_flight;
            self.inner = self.config.clone().build(self.since, self.mtu);
        }
    }
}

impl Controller for PerRoad {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.catch_up();
        self.in_flight = self.in_flight.saturating_add(bytes);
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
        } else {
            self.left = self.left.saturating_sub(bytes);
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
        self.in_flight = in_flight;
        self.left = self.left.min(in_flight);
        let here = in_flight - self.left;
        self.inner.on_end_acks(now, here, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.catch_up();
        self.in_flight = self.in_flight.saturating_sub(lost_bytes);
        // The oldest are lost first.
        self.left = self.left.saturating_sub(lost_bytes);
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
        let (window, left) = if self.is_behind() {
            // Asked before anything of the new road is known.
            (self.inner.initial_window(), self.in_flight)
        } else {
            (self.inner.window(), self.left)
        };
        window.saturating_add(left)
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
    fn what_is_in_flight_on_the_former_road_takes_nothing_of_the_new_ones_window() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut controller = controller(start);
        let fresh = controller.window();
        (0..20).for_each(|n| controller.on_sent(at(1), 1000, n));
        assert_eq!(controller.window(), fresh, "the road is the same");
        controller.acks.clone().switched(at(2));
        assert_eq!(controller.window(), fresh + 20_000, "before anything is sent");
        controller.on_sent(at(3), 1000, 20);
        assert_eq!(controller.window(), fresh + 20_000);
        // Some of it arrived after all.
        controller.on_end_acks(at(4), 16_000, true, Some(3));
        assert_eq!(controller.window(), fresh + 16_000);
        // The rest is lost, as quinn sees by what arrived along the new road.
        controller.on_end_acks(at(5), 16_000, true, Some(20));
        controller.on_congestion_event(at(5), at(1), true, 16_000);
        assert_eq!(controller.window(), fresh);
        controller.on_end_acks(at(6), 0, true, Some(21));
        assert_eq!(controller.window(), fresh);
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
