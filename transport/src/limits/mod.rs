//! What strangers may cost: rates, numbers and sizes before a peer has proved its key.
//!
//! - `bucket`: a number that refills with time
//! - `log_quota`: how many lines of the log others may bring about

pub(crate) mod bucket;
pub(crate) mod log_quota;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed, keyed::DashMapStateStore},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Limits on what peers that haven't proved their key may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Handshakes under way that others began, at most; more are ignored.
    pub half_open_max: usize,
    /// From this many on, a newcomer must first prove its address by a Retry.
    pub retry_from: usize,
    /// A handshake, HELLO included, takes at most this long, whoever began it.
    pub handshake_time_max: Duration,
    /// Handshakes per second and address prefix (/24 of IPv4, /48 of IPv6), after a burst of ten
    /// seconds' worth; loopback is exempt.
    pub handshakes_per_prefix: NonZeroU32,
    /// Connections at a time, whoever began them; from then on those that others begin are refused.
    pub connections_max: usize,
    /// First packets of handshakes per second that reach QUIC at all; as many again with a token.
    pub initials_per_second: NonZeroU32,
}

impl Default for Limits {
    /// Guesses, chosen so that a thousand peers behind one carrier-grade NAT reconnect in seconds, while
    /// a flood of spoofed Initials (~20 us each) takes a tenth of a core.
    fn default() -> Self {
        let per_second = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self {
            half_open_max: 1024,
            retry_from: 128,
            handshake_time_max: Duration::from_secs(10),
            handshakes_per_prefix: per_second(100),
            // At 35 KB each (docs/measurements.md) 350 MB.
            connections_max: 10_000,
            initials_per_second: per_second(4000),
        }
    }
}

/// The clock of all limits: tokio's, so that they work under a paused one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokioClock;

impl Clock for TokioClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Instant>>;
type Prefixes = RateLimiter<IpAddr, DashMapStateStore<IpAddr>, TokioClock, NoOpMiddleware<Instant>>;

/// How many first packets of handshakes reach QUIC. It derives keys for each, so a flood is thinned
/// before; those with a Retry token have a bucket of their own, so that a spoofer cannot crowd out
/// peers that proved their address.
pub(crate) struct InitialGate {
    plain: Bucket,
    with_token: Bucket,
}

impl InitialGate {
    pub(crate) fn new(limits: &Limits) -> Self {
        let bucket = || {
            let quota = Quota::per_second(limits.initials_per_second);
            RateLimiter::direct_with_clock(quota, TokioClock)
        };
        Self { plain: bucket(), with_token: bucket() }
    }

    pub(crate) fn admit(&self, token: bool) -> bool {
        if token { self.with_token.check().is_ok() } else { self.plain.check().is_ok() }
    }
}

/// Newcomers at a time that come from where a connection stands and can't prove their address. A guess: hosts that restart at once.
const BESIDE_MAX: usize = 32;

/// Counts a handshake as half open as long as it lives.
#[derive(Debug)]
pub(crate) struct Slot {
    _half_open: OwnedSemaphorePermit,
    _beside: Option<OwnedSemaphorePermit>,
}

/// What to do with a handshake that somebody begins.
pub(crate) enum Admission {
    /// Go on; the slot is kept until the handshake ends.
    Accept(Slot),
    /// Have it prove its address first.
    Retry,
    /// Don't answer.
    Ignore,
}

/// Prefixes remembered before old ones are forgotten; ~100 bytes each.
const PREFIXES_MAX: usize = 65_536;

/// Admits handshakes that others begin.
pub(crate) struct Admissions {
    slots: Arc<Semaphore>,
    beside: Arc<Semaphore>,
    limits: Limits,
    /// By the prefix of a source: those that proved it, and those that may be spoofed and must not use up what the real
    /// hosts there have.
    proven: Prefixes,
    unproven: Prefixes,
}

impl Admissions {
    pub(crate) fn new(limits: &Limits) -> Self {
        let rate = limits.handshakes_per_prefix;
        let burst = rate.saturating_mul(NonZeroU32::MIN.saturating_add(9));
        let quota = Quota::per_second(rate).allow_burst(burst);
        Self {
            slots: Arc::new(Semaphore::new(limits.half_open_max)),
            beside: Arc::new(Semaphore::new(BESIDE_MAX)),
            limits: limits.clone(),
            proven: RateLimiter::dashmap_with_clock(quota, TokioClock),
            unproven: RateLimiter::dashmap_with_clock(quota, TokioClock),
        }
    }

    /// Decides about a handshake from `source`, whose address is `proven` or not.
    pub(crate) fn admit(&self, source: IpAddr, proven: bool) -> Admission {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else { return Admission::Ignore };
        let half_open = self.limits.half_open_max - self.slots.available_permits();
        if half_open > self.limits.retry_from && !proven {
            return Admission::Retry;
        }
        let source = source.to_canonical();
        if !source.is_loopback() {
            let prefixes = if proven { &self.proven } else { &self.unproven };
            if prefixes.len() > PREFIXES_MAX {
                prefixes.retain_recent();
            }
            // Still too many: a flood of spoofed sources; only proven ones may add to the table.
            let crowded = prefixes.len() > PREFIXES_MAX && !proven;
            if crowded || prefixes.check_key(&prefix(source)).is_err() {
                return if proven { Admission::Ignore } else { Admission::Retry };
            }
        }
        Admission::Accept(Slot { _half_open: slot, _beside: None })
    }

    /// Decides about a handshake that would have to prove its address and can't, where a connection stands: somebody at that address
    /// has proved it before, and a host that restarts must get in under load too. A spoofer has to know of the connection, and
    /// takes a few slots at most.
    pub(crate) fn admit_beside(&self) -> Option<Slot> {
        let beside = self.beside.clone().try_acquire_owned().ok()?;
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        Some(Slot { _half_open: slot, _beside: Some(beside) })
    }
}

/// The network that is counted as one: /24 of IPv4, /48 of IPv6.
pub(crate) fn prefix(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(ip) => {
            let [a, b, c, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            half_open_max: 30,
            retry_from: 20,
            handshakes_per_prefix: NonZeroU32::new(1).unwrap(),
            initials_per_second: NonZeroU32::new(5).unwrap(),
            ..Limits::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_prefix_is_limited_and_another_is_not() {
        let admissions = Admissions::new(&limits());
        let admitted =
            |ip: &str| matches!(admissions.admit(ip.parse().unwrap(), true), Admission::Accept(_));
        assert_eq!((0..20).filter(|n| admitted(&format!("192.0.2.{n}"))).count(), 10);
        assert!(admitted("198.51.100.1"));
        assert!((0..20).all(|_| admitted("127.0.0.1")));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(admitted("192.0.2.1"));
    }

    #[tokio::test(start_paused = true)]
    async fn spoofed_sources_cannot_use_up_what_real_hosts_of_their_prefix_have() {
        let admissions = Admissions::new(&limits());
        let ip: IpAddr = [192, 0, 2, 1].into();
        let admitted = (0..100).filter(|_| {
            let verdict = admissions.admit(ip, false);
            assert!(!matches!(verdict, Admission::Ignore));
            matches!(verdict, Admission::Accept(_))
        });
        assert_eq!(admitted.count(), 10);
        assert!(matches!(admissions.admit(ip, true), Admission::Accept(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn half_open_handshakes_first_draw_retries_and_then_silence() {
        let admissions = Admissions::new(&limits());
        let localhost: IpAddr = Ipv4Addr::LOCALHOST.into();
        let mut open = Vec::new();
        for _ in 0..20 {
            let Admission::Accept(slot) = admissions.admit(localhost, false) else { panic!() };
            open.push(slot);
        }
        assert!(matches!(admissions.admit(localhost, false), Admission::Retry));
        for _ in 0..10 {
            let Admission::Accept(slot) = admissions.admit(localhost, true) else { panic!() };
            open.push(slot);
        }
        assert!(matches!(admissions.admit(localhost, true), Admission::Ignore));
        open.clear();
        assert!(matches!(admissions.admit(localhost, false), Admission::Accept(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn newcomers_beside_a_connection_need_no_proof_and_are_few() {
        let many = Limits { half_open_max: 100, retry_from: 0, ..limits() };
        let admissions = Admissions::new(&many);
        assert!(matches!(admissions.admit(Ipv4Addr::LOCALHOST.into(), false), Admission::Retry));
        let mut open: Vec<_> = std::iter::from_fn(|| admissions.admit_beside()).collect();
        assert_eq!(open.len(), BESIDE_MAX);
        open.pop();
        assert!(admissions.admit_beside().is_some());
        drop(open);
        // They count among all that are half open.
        let few = Admissions::new(&limits());
        assert_eq!(std::iter::from_fn(|| few.admit_beside().map(std::mem::forget)).count(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_initials_is_thinned_but_tokens_have_their_own_share() {
        let gate = InitialGate::new(&limits());
        assert_eq!((0..100).filter(|_| gate.admit(false)).count(), 5);
        assert!(gate.admit(true));
    }
}
