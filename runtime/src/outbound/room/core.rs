//! Who may hold a large reply, and who waits: no clock, no task.
//!
//! A reply is *waiting* from when its bodies' stream is here, *admitted* once there is room for all of it, and gone when its asker took it. In
//! turn: nobody is passed by another of the same peer, and nobody who waits for the room of the mesh by anybody. What fits alone is
//! admitted alone at the latest.
//!
//! An asker may leave alone a reply that is here, and wait for another one. So that both don't wait for ever, one that was here for
//! a round while others waited is *overdue*: it no longer counts among the others, but to as much again, and beyond that it does.
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
    /// By those that were admitted.
    present: u64,
    /// By those of them that are overdue.
    overdue: u64,
}

#[derive(Debug)]
struct Admitted<P> {
    peer: P,
    bytes: u64,
    /// All of it is here, and how many rounds ago.
    here: Option<u32>,
    overdue: bool,
}

/// The large replies of one mesh.
#[derive(Debug)]
pub(crate) struct Core<P> {
    limits: Limits,
    next: Ticket,
    waiting: BTreeMap<Ticket, (P, u64)>,
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

    /// A reply of so many bytes has come; at most as many as the limits, or it counts for no more than they are.
    pub(crate) fn enter(&mut self, peer: P, bytes: u64) -> (Ticket, Vec<Ticket>) {
        let ticket = self.next;
        self.next += 1;
        let bytes = bytes.min(self.limits.per_peer).min(self.limits.per_mesh);
        self.waiting.insert(ticket, (peer, bytes));
        (ticket, self.admit())
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
        if let Some(Admitted { peer, bytes, overdue, .. }) = self.admitted.remove(&ticket) {
            let take = |held: &mut Held| {
                let kind = if overdue { &mut held.overdue } else { &mut held.present };
                *kind -= bytes;
                held.present + held.overdue == 0
            };
            take(&mut self.all);
            if self.peers.get_mut(&peer).is_some_and(take) {
                self.peers.remove(&peer);
            }
        }
        self.admit()
    }

    /// A round is over.
    pub(crate) fn round(&mut self) -> Vec<Ticket> {
        let Limits { per_peer, per_mesh } = self.limits;
        let waited_for = !self.waiting.is_empty();
        for admitted in self.admitted.values_mut() {
            let Some(rounds) = &mut admitted.here else { continue };
            *rounds = rounds.saturating_add(1);
            // The first round may have been nearly over when it came.
            if !waited_for || admitted.overdue || *rounds < 2 {
                continue;
            }
            let held = self.peers.entry(admitted.peer).or_default();
            let bytes = admitted.bytes;
            if held.overdue + bytes <= per_peer && self.all.overdue + bytes <= per_mesh {
                for held in [held, &mut self.all] {
                    held.present -= bytes;
                    held.overdue += bytes;
                }
                admitted.overdue = true;
            }
        }
        self.admit()
    }

    fn admit(&mut self) -> Vec<Ticket> {
        let Limits { per_peer, per_mesh } = self.limits;
        let (mut fit, mut blocked) = (Vec::new(), HashSet::new());
        for (&ticket, &(peer, bytes)) in &self.waiting {
            if blocked.contains(&peer) {
                continue;
            }
            if self.peers.get(&peer).map_or(0, |held| held.present) + bytes > per_peer {
                blocked.insert(peer);
            } else if self.all.present + bytes > per_mesh {
                break;
            } else {
                self.peers.entry(peer).or_default().present += bytes;
                self.all.present += bytes;
                fit.push(ticket);
            }
        }
        for ticket in &fit {
            if let Some((peer, bytes)) = self.waiting.remove(ticket) {
                let admitted = Admitted { peer, bytes, here: None, overdue: false };
                self.admitted.insert(*ticket, admitted);
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

    #[test]
    fn replies_of_one_peer_are_admitted_in_turn_within_its_share() {
        let mut core = core(10, 100);
        let (first, now) = core.enter(1, 6);
        assert_eq!(now, [first]);
        let (second, now) = core.enter(1, 6);
        assert!(now.is_empty());
        // It would fit, but it isn't its turn.
        let (third, now) = core.enter(1, 1);
        assert!(now.is_empty());
        // Another peer is not held up.
        let (other, now) = core.enter(2, 10);
        assert_eq!(now, [other]);
        assert_eq!(core.leave(first), [second, third]);
    }

    #[test]
    fn a_large_one_is_not_passed_by_small_ones_for_ever() {
        let mut core = core(10, 10);
        let (small, _) = core.enter(1, 4);
        let (large, now) = core.enter(2, 10);
        assert!(now.is_empty());
        let (next, now) = core.enter(3, 1);
        assert!(now.is_empty());
        assert_eq!(core.leave(small), [large]);
        assert_eq!(core.leave(large), [next]);
    }

    #[test]
    fn what_is_larger_than_all_the_room_is_admitted_alone() {
        let mut core = core(10, 10);
        let (huge, now) = core.enter(1, 1_000);
        assert_eq!(now, [huge]);
        let (next, now) = core.enter(2, 1);
        assert!(now.is_empty());
        assert_eq!(core.leave(huge), [next]);
    }

    #[test]
    fn one_that_gives_up_while_it_waits_leaves_its_turn_to_the_next() {
        let mut core = core(10, 10);
        let (first, _) = core.enter(1, 8);
        let (second, _) = core.enter(1, 8);
        let (third, _) = core.enter(1, 2);
        assert_eq!(core.leave(second), [third]);
        assert!(core.is_admitted(first) && core.is_admitted(third) && !core.is_waited_for());
    }

    #[test]
    fn a_reply_that_its_asker_leaves_alone_makes_room_once_and_no_more() {
        let mut core = core(10, 10);
        let enter = |core: &mut Core<u8>| core.enter(1, 10).0;
        let (first, second, third) = (enter(&mut core), enter(&mut core), enter(&mut core));
        assert_eq!((core.round(), core.round(), core.round()), (vec![], vec![], vec![]));
        core.arrived(first);
        assert_eq!((core.round(), core.round()), (vec![], vec![second]));
        core.arrived(second);
        // As much as there may be is overdue by now.
        for _ in 0..10 {
            assert!(core.round().is_empty());
        }
        assert!(core.leave(first).is_empty());
        assert_eq!(core.round(), [third]);
    }

    #[test]
    fn nobody_is_overdue_while_nobody_waits() {
        let mut core = core(10, 10);
        let (first, _) = core.enter(1, 10);
        core.arrived(first);
        for _ in 0..5 {
            core.round();
        }
        assert_eq!((core.all.present, core.all.overdue), (10, 0));
        assert!(core.leave(first).is_empty());
        assert!(core.peers.is_empty());
    }

    proptest::proptest! {
        #[test]
        fn the_bounds_hold_and_everybody_gets_a_turn(
            steps in proptest::collection::vec((0u8..4, 0u8..3, 1u64..40), 0..200)
        ) {
            let mut core = core(30, 50);
            let mut all = Vec::new();
            for (step, peer, n) in steps {
                match step {
                    0 | 1 => all.push(core.enter(peer, n).0),
                    2 if !all.is_empty() => {
                        let ticket = all.swap_remove(n as usize % all.len());
                        core.leave(ticket);
                    }
                    3 => {
                        if let Some(ticket) = all.get(n as usize % all.len().max(1)) {
                            core.arrived(*ticket);
                        }
                        core.round();
                    }
                    _ => {}
                }
                assert!(core.all.present <= 50 && core.all.overdue <= 50);
                assert!(core.peers.values().all(|held| held.present <= 30 && held.overdue <= 30));
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
            assert!(core.peers.is_empty() && core.all.present + core.all.overdue == 0);
        }
    }
}
