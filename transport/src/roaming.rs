//! Notices that this host has moved to another network, or has slept, and has every road looked at again at once.
//!
//! On Linux the system tells (netlink) that something about interfaces, addresses or routes has changed; then, and every ten
//! seconds in case that a notice was lost, it is looked whether the addresses of the interfaces are others, or the way to the internet.
//! Elsewhere the addresses alone are compared, every two seconds. Sleep shows in a clock that goes on meanwhile, while that
//! of timers stands still. A virtual machine that was frozen from outside can't see it in Linux' clocks.
//!
//! - `clocks`: two clocks, to tell sleep by
//! - `notices`: the system's word that something has changed
//! - `ways`: where packets to the internet leave this host

mod clocks;
mod notices;
mod ways;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Weak,
    time::{Duration, Instant},
};

use clocks::Clocks;
use notices::Notices;
use ways::Ways;

use crate::{bucket::Bucket, endpoint::Shared, interfaces};

/// How often the clocks are looked at, and everything where the system tells nothing: a look takes less than a tenth of a
/// millisecond.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where the system tells, everything is looked at in one of so many rounds.
const TOLD_ROUNDS: u32 = 5;

/// A change of network makes several notices within milliseconds; they are one look together. A guess.
const GATHERED_FOR: Duration = Duration::from_millis(50);

/// So many looks follow notices at once: a move to another network is link, IPv4, routes and IPv6, some of them seconds apart. From
/// then on it is about one look a second, however many notices there are (a router of the internet's routes has no end of them).
const TOLD_LOOKS: u64 = 10;
const STORM_LOOK_EVERY: Duration = Duration::from_secs(1);

/// So many a second become free again.
const TOLD_LOOKS_PER_SECOND: f64 = 0.2;

/// What was seen of this host at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    addresses: Vec<IpAddr>,
    ways: Ways,
}

impl Seen {
    fn now() -> Self {
        Self { addresses: interfaces::addresses(), ways: ways::ask() }
    }
}

/// What is looked at. A core: time and addresses come in.
#[derive(Debug)]
struct Watch {
    seen: Seen,
    clocks: Clocks,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Nothing,
    /// It slept, and its NATs may have forgotten it.
    Slept,
    /// Packets leave it another way, whose NATs don't know it.
    Rerouted,
    /// It has other addresses than before.
    Moved,
}

impl Watch {
    fn new(mut seen: Seen, clocks: Clocks) -> Self {
        sort(&mut seen.addresses);
        Self { seen, clocks }
    }

    /// Compares what is seen now, if it was looked for.
    fn look(&mut self, seen: Option<Seen>, clocks: Clocks) -> Change {
        let slept = clocks.slept_since(&self.clocks) >= clocks::SLEPT_MIN;
        self.clocks = clocks;
        let mut change = if slept { Change::Slept } else { Change::Nothing };
        if let Some(mut seen) = seen {
            sort(&mut seen.addresses);
            if seen.addresses != self.seen.addresses {
                change = Change::Moved;
            } else if seen.ways != self.seen.ways {
                change = Change::Rerouted;
            }
            self.seen = seen;
        }
        change
    }
}

fn sort(addresses: &mut Vec<IpAddr>) {
    addresses.sort_unstable();
    addresses.dedup();
}

/// How long notices are gathered until a look follows them.
fn gathered_for(looks: &mut Bucket, now: Instant) -> Duration {
    if looks.take_one(TOLD_LOOKS, TOLD_LOOKS_PER_SECOND, now) {
        GATHERED_FOR
    } else {
        STORM_LOOK_EVERY
    }
}

/// Looks until the endpoint is gone. `locals` are the bound addresses.
pub(crate) async fn watch(shared: Weak<Shared>, locals: Vec<SocketAddr>) {
    let mut notices = Notices::subscribe()
        .inspect_err(|e| tracing::debug!("the system doesn't tell of changes of addresses: {e}"))
        .ok();
    let mut looks = Bucket::full(TOLD_LOOKS, Instant::now());
    let mut watch = Watch::new(Seen::now(), clocks::read());
    for round in 1u32.. {
        let told = match &notices {
            Some(some) => tokio::time::timeout(LOOK_EVERY, gathered(some, &mut looks)).await.ok(),
            None => {
                tokio::time::sleep(LOOK_EVERY).await;
                None
            }
        };
        let Some(shared) = shared.upgrade() else { return };
        if let Some(Err(e)) = &told {
            tracing::debug!("the system doesn't tell of changes of addresses any more: {e}");
            notices = None;
        }
        let everything = told.is_some() || notices.is_none() || round % TOLD_ROUNDS == 0;
        match watch.look(everything.then(Seen::now), clocks::read()) {
            Change::Nothing => {}
            Change::Slept => {
                tracing::info!("this host has slept");
                shared.look_again();
            }
            Change::Rerouted => {
                tracing::info!("the way from this host to the internet has changed");
                // Another of its addresses is the one to name first.
                shared.moved(&locals);
            }
            Change::Moved => {
                tracing::info!("the addresses of this host have changed");
                shared.moved(&locals);
            }
        }
    }
}

/// Waits until the system tells something, and what else it has to tell.
async fn gathered(notices: &Notices, looks: &mut Bucket) -> io::Result<()> {
    notices.some().await?;
    tokio::time::sleep(gathered_for(looks, Instant::now())).await;
    notices.take().await
}

impl Shared {
    /// Every road of every link is asked, whoever it leads to.
    fn look_again(&self) {
        // What was seen of the NAT was that of another network, perhaps.
        self.socket.nat().clear();
        self.nat64.lock().clear();
        let links: Vec<_> = self.up.iter().map(|link| link.value().clone()).collect();
        for link in links {
            link.pulse().suspect();
        }
    }

    fn moved(&self, locals: &[SocketAddr]) {
        self.own_ref.lock().set_locals(locals);
        self.look_again();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn seen(addresses: &[IpAddr], way: u8) -> Option<Seen> {
        Some(Seen { addresses: addresses.to_vec(), ways: [vec![way], vec![]] })
    }

    fn clocks(running: u64, passing: u64) -> Clocks {
        Clocks { running: Duration::from_secs(running), passing: Duration::from_secs(passing) }
    }

    #[test]
    fn another_address_another_way_and_a_sleep_are_noticed_and_the_passing_of_time_is_not() {
        let here = Seen { addresses: vec![ip(2), ip(1)], ways: [vec![1], vec![]] };
        let mut watch = Watch::new(here, clocks(0, 100));
        let mut look = |seen, ran, passed: u64| watch.look(seen, clocks(ran, 100 + passed));
        assert_eq!(look(seen(&[ip(2), ip(1), ip(1)], 1), 2, 2), Change::Nothing);
        assert_eq!(look(seen(&[ip(2), ip(1)], 1), 4, 60), Change::Slept);
        assert_eq!(look(seen(&[ip(2), ip(1)], 1), 6, 62), Change::Nothing);
        assert_eq!(look(seen(&[ip(3), ip(1)], 1), 8, 64), Change::Moved);
        assert_eq!(look(seen(&[], 2), 10, 66), Change::Moved);
        assert_eq!(look(seen(&[], 3), 12, 68), Change::Rerouted);
        assert_eq!(look(seen(&[], 3), 14, 70), Change::Nothing);
        // The clocks alone are looked at, and what was seen before is still known.
        assert_eq!(look(None, 16, 72), Change::Nothing);
        assert_eq!(look(None, 18, 90), Change::Slept);
        assert_eq!(look(seen(&[], 3), 20, 92), Change::Nothing);
        // A wall clock was set back.
        assert_eq!(look(seen(&[], 3), 22, 0), Change::Nothing);
    }

    #[test]
    fn a_storm_of_notices_is_looked_into_about_once_a_second() {
        let start = Instant::now();
        let (mut now, mut looks) = (start, Bucket::full(TOLD_LOOKS, start));
        let mut count = 0;
        while now < start + Duration::from_secs(60) {
            now += gathered_for(&mut looks, now);
            count += 1;
        }
        assert!((60..=90).contains(&count), "{count} looks a minute");
        // After quiet, a look follows at once again.
        let later = now + Duration::from_secs(60);
        assert_eq!(gathered_for(&mut looks, later), GATHERED_FOR);
    }
}
