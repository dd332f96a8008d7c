//! Hosts that never answered, and how many probes each was sent: it may be somebody else's, and no peer can have it probed without end.

use std::net::IpAddr;

/// Probes to an address that never answered, whatever port of it is named (docs/architecture.md).
pub(super) const CHECKS_MAX: u32 = 5;

/// Hosts that never answered whose probes are remembered, for the life of a connection; further ones get none. A guess: more
/// than a peer that roams for a year leaves behind, and 6 KB.
pub(super) const SILENT_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct SilentHosts(Vec<(IpAddr, u32)>);

impl SilentHosts {
    /// Whether one more probe may go to `ip`, which is then counted.
    pub(super) fn ask(&mut self, ip: IpAddr) -> bool {
        let known = self.0.iter().position(|(silent, _)| *silent == ip);
        if known.is_none() && self.0.len() < SILENT_MAX {
            self.0.push((ip, 1));
            return true;
        }
        known.is_some_and(|index| {
            let asked = &mut self.0[index].1;
            *asked = asked.saturating_add(1);
            *asked <= CHECKS_MAX
        })
    }

    /// There is a reason to try once more, whatever was sent before.
    pub(super) fn allow_one(&mut self, ip: IpAddr) {
        for (silent, asked) in &mut self.0 {
            if *silent == ip {
                *asked = (*asked).min(CHECKS_MAX - 1);
            }
        }
    }

    /// It has answered.
    pub(super) fn forget(&mut self, ip: IpAddr) {
        self.0.retain(|(silent, _)| *silent != ip);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_five_and_there_is_an_end_of_hosts() {
        let mut hosts = SilentHosts::default();
        let ip = |n: u32| IpAddr::from(n.to_be_bytes());
        assert_eq!((0..9).filter(|_| hosts.ask(ip(0))).count(), 5);
        hosts.allow_one(ip(0));
        assert_eq!((0..9).filter(|_| hosts.ask(ip(0))).count(), 1);
        assert_eq!((1..2000).filter(|n| hosts.ask(ip(*n))).count(), SILENT_MAX - 1);
        hosts.forget(ip(0));
        assert!(hosts.ask(ip(5000)));
    }
}
