//! Which roads are remembered: there is room for some, and none for lists of dead addresses.

use std::time::{Duration, Instant};

use super::{
    Roads,
    known::{Known, Origin},
    silent::CHECKS_MAX,
};
use crate::socket::handles::ROADS_MAX;

/// Unproven roads that only a source address speaks for. A guess; a moving peer has one or two.
pub(super) const OBSERVED_MAX: usize = 4;

/// Unproven roads that somebody named, the peer or a rendezvous: they leave room for those that were observed, and for two that work.
const NAMED_MAX: usize = ROADS_MAX - OBSERVED_MAX - 2;

/// An unproven road is given this long to answer before another may take its place. A guess, beyond most round trips.
const CHECK_TIME: Duration = Duration::from_secs(1);

impl Roads {
    /// Makes room for a road and takes it in, if there is any room to make.
    pub(super) fn insert(&mut self, newcomer: Known, now: Instant) -> Option<usize> {
        let (alike, share) = match newcomer.origin {
            Origin::Named => (Origin::Named, NAMED_MAX),
            Origin::Observed => (Origin::Observed, OBSERVED_MAX),
        };
        let unproven = |known: &&Known| !known.proven && known.origin == alike;
        let crowded = self.known.iter().filter(unproven).count() >= share;
        if crowded || self.known.len() >= ROADS_MAX {
            let index = self.dispensable(alike, crowded, now)?;
            self.known.remove(index);
            if index < self.active {
                self.active -= 1;
            }
        }
        self.known.push(newcomer);
        Some(self.known.len() - 1)
    }

    /// The road that is forgotten for one that `alike` speaks for: first one of the same kind that had its chance and didn't
    /// answer; then, unless that kind is `crowded`, one of the other kind, and then the one that has been dead for longest.
    fn dispensable(&self, alike: Origin, crowded: bool, now: Instant) -> Option<usize> {
        let oldest = |fits: &dyn Fn(&Known) -> bool| {
            let others = self.known.iter().enumerate().filter(|(i, _)| *i != self.active);
            let fitting = others.filter(|(_, known)| !known.proven && fits(known));
            fitting.min_by_key(|(_, known)| known.since).map(|(index, _)| index)
        };
        let waited = |known: &Known| now >= known.since + CHECK_TIME;
        // What somebody named is asked five times; what was observed pays for each time.
        let spent = |known: &Known| known.origin == Origin::Observed || known.next.is_none();
        let same = oldest(&|known| known.origin == alike && waited(known) && spent(known));
        if same.is_some() || crowded {
            return same;
        }
        let dead = || {
            let dead = self.others().filter(|(_, known)| known.unanswered >= CHECKS_MAX);
            dead.min_by_key(|(_, known)| known.heard).map(|(index, _)| index)
        };
        oldest(&|known| known.origin != alike && waited(known)).or_else(dead)
    }
}
