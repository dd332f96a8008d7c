//! Arrivals between two ticks of tokio's timers.
//!
//! Those have a resolution of 1 ms, which is a round trip of 2 ms on a road of 1 ms, and makes datagrams arrive in bursts.
//! A real socket is read when something arrives, whatever timers do. So whoever drives a paused clock is told, each time that the
//! runtime is about to wait, how far the clock may go.

use std::time::Duration;

use tokio::time::Instant;

use super::network::MemoryNetwork;

/// The resolution of tokio's timers.
const TICK: Duration = Duration::from_millis(1);

/// The ticks of a runtime's timers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks {
    /// When the runtime was made.
    start: Instant,
}

impl Ticks {
    /// The last tick at or before `at`; `None` before the first.
    pub(super) fn before(&self, at: Instant) -> Option<Instant> {
        let since = at.checked_duration_since(self.start)?;
        let part = since.as_nanos() % TICK.as_nanos();
        Some(at - Duration::from_nanos(part as u64))
    }
}

impl MemoryNetwork {
    /// From now on datagrams are received when they arrive, and not at the next tick of the timers of a runtime that was made
    /// at `start`. That needs [`MemoryNetwork::before_park`].
    pub fn receive_between_ticks(&self, start: Instant) {
        self.inner.lock().ticks = Some(Ticks { start });
    }

    /// To be called whenever a runtime of one thread with a paused clock has nothing to do and is about to wait
    /// (`tokio::runtime::Builder::on_thread_park`): `advance` has to move the clock on by so much, and the receivers of
    /// what arrives then are woken. Does nothing until [`MemoryNetwork::receive_between_ticks`].
    pub fn before_park(&self, advance: impl FnOnce(Duration)) {
        let (now, inner) = (Instant::now(), self.inner.lock());
        let Some(ticks) = inner.ticks else { return };
        let arrivals = inner.ports.values().filter(|port| port.waker.is_some());
        let first = arrivals.filter_map(|port| Some(port.queue.first_key_value()?.0.0)).min();
        drop(inner);
        let Some(tick) = ticks.before(now) else { return };
        let following = tick + TICK;
        // One that has arrived already is nobody's reason to wait.
        let next = first.filter(|first| *first > now && *first < following);
        if let Some(next) = next {
            advance(next - now);
        } else if tick < now {
            // Timers that are due then go first; and tokio moves the clock by whole ticks from where it stands.
            advance(following - now);
        }
        self.wake_receivers();
    }

    fn wake_receivers(&self) {
        let (now, mut inner) = (Instant::now(), self.inner.lock());
        for port in inner.ports.values_mut() {
            if port.queue.first_key_value().is_some_and(|(key, _)| key.0 <= now)
                && let Some(waker) = port.waker.take()
            {
                waker.wake();
            }
        }
    }
}
