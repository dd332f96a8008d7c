//! What happens to datagrams between two places.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};
use tokio::time::Instant;

/// The properties of a link; the same in both directions, each with a queue of its own.
#[derive(Debug, Clone)]
pub struct Link {
    /// How long a datagram travels. It is received at the next tick of tokio's timers, which have a resolution of 1 ms, unless the
    /// clock is driven as [`super::MemoryNetwork::before_park`] says.
    pub latency: Duration,
    /// Up to so much longer, evenly distributed. Datagrams don't overtake each other by that.
    pub jitter: Duration,
    /// The share of datagrams that is lost, 0 to 1.
    pub loss: f64,
    /// The share of datagrams, 0 to 1, that those behind them overtake: they take twice the latency, and a millisecond.
    pub reordered: f64,
    /// Bits that pass in a second; `None`: any number.
    pub bits_per_second: Option<u64>,
    /// Bytes that wait in front of a link that is busy; more are dropped.
    pub queue_bytes: u64,
    /// The longest payload of a datagram that passes, in bytes.
    pub mtu: usize,
}

/// The usual queue, enough for 150 Mbit/s and 50 ms. A guess; home routers have from 64 KB to several MB.
const QUEUE_BYTES: u64 = 1 << 20;

/// What fits into a frame of Ethernet behind the headers of IPv4 and UDP.
const MTU: usize = 1472;

impl Default for Link {
    /// Nothing is lost or late.
    fn default() -> Self {
        Self {
            latency: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            reordered: 0.0,
            bits_per_second: None,
            queue_bytes: QUEUE_BYTES,
            mtu: MTU,
        }
    }
}

impl Link {
    /// One that only takes so long.
    pub fn of(latency: Duration) -> Self {
        Self { latency, ..Self::default() }
    }
}

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It arrives at this time, if somebody listens there.
    Arrives(Instant),
    /// It is lost by chance.
    Lost,
    /// The link is cut in this direction.
    Cut,
    /// The queue has no room for it.
    Full,
    /// It is longer than what passes.
    TooLong,
}

/// One direction of a link in use.
#[derive(Debug)]
pub(super) struct Channel {
    /// When all that was sent will have left.
    free: Instant,
    /// When the last that kept its place arrives.
    last: Instant,
}

impl Channel {
    pub(super) fn new(now: Instant) -> Self {
        Self { free: now, last: now }
    }

    /// What becomes of a datagram of so many bytes.
    pub(super) fn send(
        &mut self,
        link: &Link,
        bytes: usize,
        now: Instant,
        rng: &mut StdRng,
    ) -> Fate {
        // Drawn for every datagram, so that what is lost depends on their order alone.
        let lost = rng.random::<f64>() < link.loss;
        let overtaken = link.reordered > 0.0 && rng.random::<f64>() < link.reordered;
        let late = link.jitter.mul_f64(if link.jitter.is_zero() { 0.0 } else { rng.random() });
        if bytes > link.mtu {
            return Fate::TooLong;
        }
        if lost {
            return Fate::Lost;
        }
        let start = self.free.max(now);
        if let Some(bits) = link.bits_per_second.map(|bits| bits.max(1)) {
            let waiting = (start - now).as_secs_f64() * bits as f64 / 8.0;
            if waiting + bytes as f64 > link.queue_bytes as f64 {
                return Fate::Full;
            }
            self.free = start + Duration::from_secs_f64(bytes as f64 * 8.0 / bits as f64);
        } else {
            self.free = start;
        }
        let arrival = self.free + link.latency + late;
        if overtaken {
            return Fate::Arrives(arrival + link.latency + Duration::from_millis(1));
        }
        self.last = self.last.max(arrival);
        Fate::Arrives(self.last)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn arrivals(link: &Link, count: usize, bytes: usize) -> Vec<Option<Duration>> {
        let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
        let mut channel = Channel::new(now);
        let mut send = || match channel.send(link, bytes, now, &mut rng) {
            Fate::Arrives(at) => Some(at - now),
            _ => None,
        };
        (0..count).map(|_| send()).collect()
    }

    #[test]
    fn a_narrow_link_spaces_datagrams_and_drops_what_its_queue_cannot_hold() {
        let link =
            Link { bits_per_second: Some(8_000_000), queue_bytes: 3000, ..Link::of(20 * MS) };
        let arrivals = arrivals(&link, 5, 1000);
        assert_eq!(arrivals, [Some(21 * MS), Some(22 * MS), Some(23 * MS), None, None]);
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_does_not() {
        let in_order = |arrivals: &[Option<Duration>]| arrivals.is_sorted();
        let late = |arrival: &Option<Duration>| arrival.unwrap() > 20 * MS;
        let jittery = arrivals(&Link { jitter: 10 * MS, ..Link::of(20 * MS) }, 100, 100);
        assert!(in_order(&jittery) && jittery.iter().all(|at| at.unwrap() <= 30 * MS));
        assert!(jittery.iter().any(late));
        let reordered = arrivals(&Link { reordered: 0.2, ..Link::of(20 * MS) }, 100, 100);
        assert!(!in_order(&reordered));
        assert!((10..30).contains(&reordered.iter().filter(|at| late(at)).count()));
    }

    #[test]
    fn what_is_lost_or_too_long_never_arrives() {
        let lossy = arrivals(&Link { loss: 0.3, ..Link::default() }, 1000, 100);
        assert!((250..350).contains(&lossy.iter().filter(|at| at.is_none()).count()));
        let small = Link { mtu: 1280, ..Link::default() };
        assert_eq!(arrivals(&small, 1, 1281), [None]);
        assert_eq!(arrivals(&small, 1, 1280), [Some(Duration::ZERO)]);
    }
}
