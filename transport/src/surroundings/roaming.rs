//! Notices that this host has moved to another network, or has slept, and has every road looked at again at once.
//!
//! On Linux the system tells (netlink) that something about interfaces, addresses or routes has changed; then, and every ten
//! seconds in case that a notice was lost, it is looked whether the addresses of the interfaces are others, or the way to the internet.
//! Elsewhere the addresses alone are compared, every two seconds. Sleep shows in a clock that goes on meanwhile, while that
//! of timers stands still. A virtual machine that was frozen from outside can't see it in Linux' clocks.
//!
//! What the system doesn't answer (descriptors ran out, netlink is forbidden) is no answer: what was known stands, and it is asked again.
//!
//! - `clocks`: two clocks, to tell sleep by
//! - `notices`: the system's word that something has changed
//! - `trouble`: what can't be seen of this host, said once
//! - `ways`: where packets to the internet leave this host

mod clocks;
mod notices;
mod trouble;
mod ways;

pub(crate) use trouble::Trouble;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Weak,
    time::{Duration, Instant},
};

use clocks::Clocks;
use notices::Notices;
use ways::Ways;

use crate::{interfaces, limits::bucket::Bucket, shared::Shared};

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

/// What was seen of this host at one moment; `None`: the system didn't say.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    addresses: Option<Vec<IpAddr>>,
    ways: Ways,
}

impl Seen {
    fn now() -> Self {
        let addresses = interfaces::addresses().map(|found| found.all);
        let unknown =
            |e: &io::Error| tracing::debug!("the addresses of this host can't be looked at: {e}");
        Self { addresses: addresses.inspect_err(unknown).ok(), ways: ways::ask() }
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
        if let Some(addresses) = &mut seen.addresses {
            sort(addresses);
        }
        Self { seen, clocks }
    }

    /// Compares what is seen now, if it was looked for, with what was known.
    fn look(&mut self, seen: Option<Seen>, clocks: Clocks) -> Change {
        let slept = clocks.slept_since(&self.clocks) >= clocks::SLEPT_MIN;
        self.clocks = clocks;
        let mut change = if slept { Change::Slept } else { Change::Nothing };
        if let Some(Seen { mut addresses, ways }) = seen {
            if let Some(addresses) = &mut addresses {
                sort(addresses);
            }
            let moved = differs(&mut self.seen.addresses, addresses);
            let known = self.seen.ways.iter_mut().zip(ways);
            // Each of them is to be noted.
            let rerouted = known.fold(false, |other, (known, way)| differs(known, way) || other);
            if moved {
                change = Change::Moved;
            } else if rerouted {
                change = Change::Rerouted;
            }
        }
        change
    }
}

/// Whether something is seen that differs from what was known, which it then replaces; what isn't seen changes nothing.
fn differs<T: PartialEq>(known: &mut Option<T>, seen: Option<T>) -> bool {
    let Some(seen) = seen else { return false };
    let before = known.replace(seen);
    before.is_some() && before != *known
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

fn subscribe() -> Option<Notices> {
    let silent =
        |e: &io::Error| tracing::debug!("the system doesn't tell of changes of addresses: {e}");
    Notices::subscribe().inspect_err(silent).ok()
}

/// Looks until the endpoint is gone. `locals` are the bound addresses; `trouble` is what stood in the way of finding those of the machine.
pub(crate) async fn watch(shared: Weak<Shared>, locals: Vec<SocketAddr>, mut trouble: Trouble) {
    let mut notices = subscribe();
    let mut looks = Bucket::full(TOLD_LOOKS, Instant::now());
    let mut watch = Watch::new(Seen::now(), clocks::read());
    for round in 1u32.. {
        if notices.is_none() && round % TOLD_ROUNDS == 0 {
            notices = subscribe();
        }
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
        let change = watch.look(everything.then(Seen::now), clocks::read());
        match change {
            Change::Nothing => {}
            Change::Slept => tracing::info!("this host has slept"),
            Change::Rerouted => {
                tracing::info!("the way from this host to the internet has changed")
            }
            Change::Moved => tracing::info!("the addresses of this host have changed"),
        }
        // After another way another address is the one to name first.
        if (matches!(change, Change::Rerouted | Change::Moved) || trouble.is_owed())
            && let Some(machine) = trouble.of(interfaces::addresses_by_use())
        {
            shared.own_ref.lock().set_locals(&locals, &machine);
        }
        if change != Change::Nothing {
            shared.look_again();
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn seen(addresses: &[IpAddr], way: u8) -> Option<Seen> {
        Some(Seen { addresses: Some(addresses.to_vec()), ways: [Some(vec![way]), Some(vec![])] })
    }

    fn clocks(running: u64, passing: u64) -> Clocks {
        Clocks { running: Duration::from_secs(running), passing: Duration::from_secs(passing) }
    }

    #[test]
    fn another_address_another_way_and_a_sleep_are_noticed_and_the_passing_of_time_is_not() {
        let here = seen(&[ip(2), ip(1)], 1);
        let mut watch = Watch::new(here.unwrap(), clocks(0, 100));
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
    fn what_the_system_does_not_say_changes_nothing_and_what_it_says_then_does() {
        let mut watch = Watch::new(seen(&[ip(1)], 1).unwrap(), clocks(0, 0));
        let unknown = || Seen { addresses: None, ways: [None, None] };
        for _ in 0..3 {
            assert_eq!(watch.look(Some(unknown()), clocks(2, 2)), Change::Nothing);
            assert_eq!(watch.look(seen(&[ip(1)], 1), clocks(2, 2)), Change::Nothing);
        }
        assert_eq!(watch.look(Some(unknown()), clocks(4, 4)), Change::Nothing);
        assert_eq!(watch.look(seen(&[ip(1)], 2), clocks(4, 4)), Change::Rerouted);
        assert_eq!(watch.look(Some(unknown()), clocks(6, 6)), Change::Nothing);
        assert_eq!(
            watch.look(seen(&[], 2), clocks(6, 6)),
            Change::Moved,
            "there are none: an answer"
        );
        // Nothing was known to begin with.
        let mut watch = Watch::new(unknown(), clocks(0, 0));
        assert_eq!(watch.look(seen(&[ip(1)], 1), clocks(2, 2)), Change::Nothing);
        assert_eq!(watch.look(seen(&[ip(2)], 1), clocks(4, 4)), Change::Moved);
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
