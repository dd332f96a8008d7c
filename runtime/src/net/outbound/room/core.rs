//! Who may hold a large reply, and who waits: no clock, no task.
//!
//! A reply is *waiting* from when its bodies' stream is here, *admitted* once there is room for all of it, and gone when its asker took it or gave
//! up. There is room twice: for replies whose askers are waiting for them, and as much for those that are left *alone*, be it that nobody has
//! looked yet, or that one has been here for a round while others waited. So what an application doesn't look at never keeps it from what it waits
//! for. Each fills in turn: nobody is passed by another of the same peer, and nobody who waits for the room of the mesh by
//! anybody. What fits alone is admitted alone at the latest.
//!
//! Contract: what is returned are the tickets that were admitted by the change.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;

/// Names one reply. In the order of their coming.
pub(crate) type Ticket = u64;

/// How many bytes of large replies may be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) per_peer: u64,
    pub(crate) per_mesh: u64,
}

/// Bytes that are held.
#[derive(Debug, Default)]
struct Held {
    awaited: u64,
    alone: u64,
}

impl Held {
    fn of(&self, alone: bool) -> u64 {
        if alone { self.alone } else { self.awaited }
    }

    fn of_mut(&mut self, alone: bool) -> &mut u64 {
        if alone { &mut self.alone } else { &mut self.awaited }
    }
}

#[derive(Debug)]
struct Waiting<P> {
    peer: P,
    bytes: u64,
    alone: bool,
}

#[derive(Debug)]
struct Admitted<P> {
    peer: P,
    bytes: u64,
    /// All of it is here, and how many rounds ago.
    here: Option<u32>,
    alone: bool,
}

/// The large replies of one mesh.
#[derive(Debug)]
pub(crate) struct Core<P> {
    limits: Limits,
    next: Ticket,
    waiting: BTreeMap<Ticket, Waiting<P>>,
    admitted: BTreeMap<Ticket, Admitted<P>>,
    all: Held,
    peers: HashMap<P, Held>,
}

impl<P: Copy + Eq + Hash> Core<P> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            next: 0,
            waiting: BTreeMap::new(),
            admitted: BTreeMap::new(),
            all: Held::default(),
            peers: HashMap::new(),
        }
    }

    /// A reply of so many bytes has come, at which nobody has looked. If it is larger than the limits, it counts for as much as they are.
    pub(crate) fn enter(&mut self, peer: P, bytes: u64) -> (Ticket, Vec<Ticket>) {
        let ticket = self.next;
        self.next += 1;
        let bytes = bytes.min(self.limits.per_peer).min(self.limits.per_mesh);
        self.waiting.insert(ticket, Waiting { peer, bytes, alone: true });
        (ticket, self.admit())
    }

    /// Its asker waits for it.
    pub(crate) fn awaited(&mut self, ticket: Ticket) -> Vec<Ticket> {
        if let Some(waiting) = self.waiting.get_mut(&ticket) {
            waiting.alone = false;
        }
        self.admit()
    }

    pub(crate) fn is_admitted(&self, ticket: Ticket) -> bool {
        self.admitted.contains_key(&ticket)
    }

    /// Whether anybody waits.
    pub(crate) fn is_waited_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// All of it is here.
    pub(crate) fn arrived(&mut self, ticket: Ticket) {
        if let Some(admitted) = self.admitted.get_mut(&ticket) {
            admitted.here = Some(0);
        }
    }

    /// It was taken or given up.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Vec<Ticket> {
        self.waiting.remove(&ticket);
        if let Some(Admitted { peer, bytes, alone, .. }) = self.admitted.remove(&ticket) {
            let give = |held: &mut Held| {
                *held.of_mut(alone) -= bytes;
                held.awaited + held.alone == 0
            };
            give(&mut self.all);
            if self.peers.get_mut(&peer).is_some_and(give) {
                self.peers.remove(&peer);
            }
        }
        self.admit()
    }

    /// A round is over.
    pub(crate) fn round(&mut self) -> Vec<Ticket> {
        let Limits { per_peer, per_mesh } = self.limits;
        let waited_for = self.waiting.values().any(|waiting| !waiting.alone);
        for admitted in self.admitted.values_mut() {
            let Some(rounds) = &mut admitted.here else { continue };
            *rounds = rounds.saturating_add(1);
            // The first round may have been nearly over when it came.
            if !waited_for || admitted.alone || *rounds < 2 {
                continue;
            }
            let held = self.peers.entry(admitted.peer).or_default();
            let bytes = admitted.bytes;
            if held.alone + bytes <= per_peer && self.all.alone + bytes <= per_mesh {
                for held in [held, &mut self.all] {
                    held.awaited -= bytes;
                    held.alone += bytes;
                }
                admitted.alone = true;
            }
        }
        self.admit()
    }

    fn admit(&mut self) -> Vec<Ticket> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let mut fit = self.admit_some(false);
        fit.extend(self.admit_some(true));
        fit
    }

    fn admit_some(&mut self, alone: bool) -> Vec<Ticket> {
        let Limits { per_peer, per_mesh } = self.limits;
        let (mut fit, mut blocked) = (Vec::new(), HashSet::new());
        for (&ticket, waiting) in &self.waiting {
            let Waiting { peer, bytes, .. } = *waiting;
            if waiting.alone != alone || blocked.contains(&peer) {
                continue;
            }
            if self.peers.get(&peer).map_or(0, |held| held.of(alone)) + bytes > per_peer {
                blocked.insert(peer);
            } else if self.all.of(alone) + bytes > per_mesh {
                break;
            } else {
                *self.peers.entry(peer).or_default().of_mut(alone) += bytes;
                *self.all.of_mut(alone) += bytes;
                fit.push(ticket);
            }
        }
        for ticket in &fit {
            if let Some(Waiting { peer, bytes, alone }) = self.waiting.remove(ticket) {
                self.admitted.insert(*ticket, Admitted { peer, bytes, here: None, alone });
            }
        }
        fit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core(per_peer: u64, per_mesh: u64) -> Core<u8> {
        Core::new(Limits { per_peer, per_mesh })
    }

    impl Core<u8> {
        /// One whose asker waits.
        fn wanted(&mut self, peer: u8, bytes: u64) -> (Ticket, Vec<Ticket>) {
            // Nothing of the room for those that are left alone is to be used.
            let ticket = self.next;
            self.next += 1;
            let bytes = bytes.min(self.limits.per_peer).min(self.limits.per_mesh);
            self.waiting.insert(ticket, Waiting { peer, bytes, alone: false });
            (ticket, self.admit())
        }
    }

    #[test]
    fn replies_of_one_peer_are_admitted_in_turn_within_its_share() {
        let mut core = core(10, 100);
        let (first, now) = core.wanted(1, 6);
        assert_eq!(now, [first]);
        let (second, now) = core.wanted(1, 6);
        assert!(now.is_empty());
        // It would fit, but it isn't its turn.
        let (third, now) = core.wanted(1, 1);
        assert!(now.is_empty());
        // Another peer is not held up.
        let (other, now) = core.wanted(2, 10);
        assert_eq!(now, [other]);
        assert_eq!(core.leave(first), [second, third]);
    }

    #[test]
    fn a_large_one_is_not_passed_by_small_ones_for_ever() {
        let mut core = core(10, 10);
        let (small, _) = core.wanted(1, 4);
        let (large, now) = core.wanted(2, 10);
        assert!(now.is_empty());
        let (next, now) = core.wanted(3, 1);
        assert!(now.is_empty());
        assert_eq!(core.leave(small), [large]);
        assert_eq!(core.leave(large), [next]);
    }

    #[test]
    fn what_is_larger_than_all_the_room_is_admitted_alone() {
        let mut core = core(10, 10);
        let (huge, now) = core.wanted(1, 1_000);
        assert_eq!(now, [huge]);
        let (next, now) = core.wanted(2, 1);
        assert!(now.is_empty());
        assert_eq!(core.leave(huge), [next]);
    }

    #[test]
    fn one_that_gives_up_while_it_waits_leaves_its_turn_to_the_next() {
        let mut core = core(10, 10);
        let (first, _) = core.wanted(1, 8);
        let (second, _) = core.wanted(1, 8);
        let (third, _) = core.wanted(1, 2);
        assert_eq!(core.leave(second), [third]);
        assert!(core.is_admitted(first) && core.is_admitted(third) && !core.is_waited_for());
    }

    #[test]
    fn those_at_which_nobody_looks_never_hold_up_one_that_is_waited_for() {
        let mut core = core(10, 10);
        let tickets: Vec<_> = (0..5).map(|_| core.enter(1, 10).0).collect();
        assert!(core.is_admitted(tickets[0]) && !core.is_admitted(tickets[1]));
        core.arrived(tickets[0]);
        (0..5).for_each(|_| assert!(core.round().is_empty()));
        // In whatever order they are taken.
        for ticket in [4, 2, 3] {
            assert_eq!(core.awaited(tickets[ticket]), [tickets[ticket]]);
            core.arrived(tickets[ticket]);
            assert!(core.leave(tickets[ticket]).is_empty());
        }
        assert_eq!(core.leave(tickets[0]), [tickets[1]]);
    }

    #[test]
    fn a_reply_that_its_asker_leaves_alone_makes_room_once_and_no_more() {
        let mut core = core(10, 10);
        let wanted = |core: &mut Core<u8>| core.wanted(1, 10).0;
        let (first, second, third) = (wanted(&mut core), wanted(&mut core), wanted(&mut core));
        (0..3).for_each(|_| assert!(core.round().is_empty()));
        core.arrived(first);
        assert_eq!((core.round(), core.round()), (vec![], vec![second]));
        core.arrived(second);
        // As much as there may be is left alone by now.
        (0..10).for_each(|_| assert!(core.round().is_empty()));
        assert!(core.leave(first).is_empty());
        assert_eq!(core.round(), [third]);
    }

    #[test]
    fn nothing_is_left_alone_while_nobody_waits() {
        let mut core = core(10, 10);
        let (first, _) = core.wanted(1, 10);
        core.arrived(first);
        (0..5).for_each(|_| assert!(core.round().is_empty()));
        assert_eq!((core.all.awaited, core.all.alone), (10, 0));
        assert!(core.leave(first).is_empty() && core.peers.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn the_bounds_hold_and_everybody_gets_a_turn(
            steps in proptest::collection::vec((0u8..5, 0u8..3, 1u64..40), 0..200)
        ) {
            let mut core = core(30, 50);
            let mut all = Vec::new();
            for (step, peer, n) in steps {
                let some = all.get(n as usize % all.len().max(1)).copied();
                match (step, some) {
                    (0 | 1, _) => all.push(core.enter(peer, n).0),
                    (2, Some(ticket)) => {
                        all.retain(|other| *other != ticket);
                        core.leave(ticket);
                    }
                    (3, Some(ticket)) => {
                        core.arrived(ticket);
                        core.round();
                    }
                    (4, Some(ticket)) => drop(core.awaited(ticket)),
                    _ => {}
                }
                assert!(core.all.awaited <= 50 && core.all.alone <= 50);
                assert!(core.peers.values().all(|held| held.awaited <= 30 && held.alone <= 30));
            }
            // Those that are admitted leave; by and by all others are.
            while !all.is_empty() {
                let before = all.len();
                all.retain(|ticket| {
                    let admitted = core.is_admitted(*ticket);
                    if admitted {
                        core.leave(*ticket);
                    }
                    !admitted
                });
                assert!(all.len() < before);
            }
            assert!(core.peers.is_empty() && core.all.awaited + core.all.alone == 0);
        }
    }
}
