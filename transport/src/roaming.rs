//! Notices that this host has moved to another network, or has slept, and has every road looked at again at once.
//!
//! The addresses of the interfaces are compared every two seconds, which costs less than a tenth of a millisecond and works on
//! every system; netlink and its likes would tell a second sooner. Sleep shows in the wall clock, which goes on meanwhile
//! while the clock of timers stands still.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Weak,
    time::{Duration, Instant, SystemTime},
};

use crate::{endpoint::Shared, own_ref::interface_addresses};

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The wall clock went ahead by so much more than the other: the host slept. A guess, beyond what a correction of it does.
const SLEPT_MIN: Duration = Duration::from_secs(5);

/// What is looked at. A core: time and addresses come in.
#[derive(Debug)]
struct Watch {
    addresses: Vec<IpAddr>,
    at: Instant,
    wall: SystemTime,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Nothing,
    /// It slept, and its NATs may have forgotten it.
    Slept,
    /// It has other addresses than before.
    Moved,
}

impl Watch {
    fn look(&mut self, mut addresses: Vec<IpAddr>, at: Instant, wall: SystemTime) -> Change {
        addresses.sort_unstable();
        addresses.dedup();
        let ran = at.saturating_duration_since(self.at);
        let passed = wall.duration_since(self.wall).unwrap_or_default();
        let moved = addresses != self.addresses;
        *self = Self { addresses, at, wall };
        if moved {
            Change::Moved
        } else if passed >= ran + SLEPT_MIN {
            Change::Slept
        } else {
            Change::Nothing
        }
    }
}

/// Looks until the endpoint is gone. `locals` are the bound addresses.
pub(crate) async fn watch(shared: Weak<Shared>, locals: Vec<SocketAddr>) {
    let mut watch = Watch { addresses: Vec::new(), at: Instant::now(), wall: SystemTime::now() };
    watch.look(interface_addresses(), Instant::now(), SystemTime::now());
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(shared) = shared.upgrade() else { return };
        match watch.look(interface_addresses(), Instant::now(), SystemTime::now()) {
            Change::Nothing => {}
            Change::Slept => shared.look_again(),
            Change::Moved => {
                tracing::info!("the addresses of this host have changed");
                shared.moved(&locals);
            }
        }
    }
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

    #[test]
    fn another_address_and_a_sleep_are_noticed_and_the_passing_of_time_is_not() {
        let (at, wall) = (Instant::now(), SystemTime::now());
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut watch = Watch { addresses: vec![ip(1), ip(2)], at, wall };
        let second = |n| Duration::from_secs(n);
        let mut look = |addresses: &[IpAddr], ran, passed| {
            watch.look(addresses.to_vec(), at + second(ran), wall + second(passed))
        };
        assert_eq!(look(&[ip(2), ip(1), ip(1)], 2, 2), Change::Nothing);
        assert_eq!(look(&[ip(2), ip(1)], 4, 60), Change::Slept);
        assert_eq!(look(&[ip(2), ip(1)], 6, 62), Change::Nothing);
        assert_eq!(look(&[ip(3), ip(1)], 8, 64), Change::Moved);
        assert_eq!(look(&[], 10, 66), Change::Moved);
        // The wall clock was set back.
        assert_eq!(look(&[], 12, 0), Change::Nothing);
    }
}
