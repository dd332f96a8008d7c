//! Core: two hosts whose routers took each other's first probes for their own take turns at keeping quiet.
//!
//! A router that accepts what comes for nobody behind it keeps an entry of that, and gives whoever sends there from behind it another
//! port than the one that the peer knows. Between neighbours on one wire even a probe with a time to live of two gets that far
//! (docs/decisions/0013-sides-take-turns.md). The entry goes when nothing has refreshed it for a while. So one side, the *keeper*, keeps its
//! own NAT open without anything reaching the other's router, and the other, the *caller*, sends nothing to it for longer
//! than routers remember; then its probe leaves by the right port, and enters where the keeper's NAT is open. That helps only if the
//! keeper's own port wasn't taken: if the call isn't answered, the sides change roles.
//!
//! ```text
//! keeper   Open  Say            Keep            Keep            Keep
//! caller         said ... quiet for the time of the turn ............ Call
//! ```
//!
//! Sans-IO: *after every call that takes `&mut self`, drain [`Turns::poll`], then arm a timer for [`Turns::timeout`], at which
//! [`Turns::advance`] is called.* The user drops it when the peer is reached directly. Whatever a peer says, either side opens and
//! calls once in each of its turns, and there are [`TURNS_MAX`] in all.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long the caller keeps quiet in each turn. Linux forgets a UDP flow that only one side has used after 30 s, some routers are set
/// to 60 s; each once in either role, and a few seconds more for clocks and messages.
const QUIET: [Duration; TURNS_MAX] = [
    Duration::from_secs(35),
    Duration::from_secs(35),
    Duration::from_secs(65),
    Duration::from_secs(65),
];

/// Turns in all.
pub(crate) const TURNS_MAX: usize = 4;

/// How often the keeper refreshes its NAT: two of three may be lost within 30 s.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// How long the caller waits for an answer; and the keeper for the call, beyond the time of quiet. Guesses: more than the
/// round trips that it takes, through a relay for the keeper.
const ANSWER_TIME: Duration = Duration::from_secs(2);
const CALL_TIME: Duration = Duration::from_secs(5);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Open the own NAT by a probe that gets no further than the next router.
    Open,
    /// Say that this host is the keeper of this turn.
    Say(u8),
    /// Send something that the own router drops, and notices.
    Keep,
    /// Send a probe that goes all the way.
    Call,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The peer is to say that it is the keeper of this turn.
    Waiting,
    Keeping {
        next: Instant,
        until: Instant,
    },
    Quiet {
        until: Instant,
    },
    Called {
        until: Instant,
    },
    /// All turns are over.
    Over,
}

/// One side of it.
#[derive(Debug)]
pub(crate) struct Turns {
    dialled: bool,
    /// The one under way, or that is waited for.
    turn: usize,
    state: State,
    outbox: VecDeque<Output>,
}

impl Turns {
    /// Plain punching has failed on a link that this side `dialled`, or didn't. The other one begins: its first probe went out first, so that
    /// its port is most likely not the one that was taken.
    pub(crate) fn new(dialled: bool, now: Instant) -> Self {
        let mut turns = Self { dialled, turn: 0, state: State::Waiting, outbox: VecDeque::new() };
        turns.begin(0, now);
        turns
    }

    /// What is to be done next.
    pub(crate) fn poll(&mut self) -> Option<Output> {
        self.outbox.pop_front()
    }

    /// When [`Turns::advance`] must be called next.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting | State::Over => None,
            State::Keeping { next, until } => Some(next.min(until)),
            State::Quiet { until } | State::Called { until } => Some(until),
        }
    }

    /// The peer says that it is the keeper of this turn.
    pub(crate) fn said(&mut self, turn: u8, now: Instant) {
        let turn = usize::from(turn);
        let due = match self.state {
            State::Waiting => turn == self.turn,
            // Its call was in vain, of which this side knows nothing.
            State::Keeping { .. } => turn == self.turn + 1,
            State::Quiet { .. } | State::Called { .. } | State::Over => false,
        };
        if let (true, false, Some(quiet)) = (due, self.keeps(turn), QUIET.get(turn)) {
            (self.turn, self.state) = (turn, State::Quiet { until: now + *quiet });
        }
    }

    /// Time has passed.
    pub(crate) fn advance(&mut self, now: Instant) {
        match self.state {
            State::Keeping { until, .. } | State::Called { until } if now >= until => {
                self.begin(self.turn + 1, now);
            }
            State::Keeping { next, until } if now >= next => {
                self.state = State::Keeping { next: now + KEEP_EVERY, until };
                self.outbox.push_back(Output::Keep);
            }
            State::Quiet { until } if now >= until => {
                self.state = State::Called { until: now + ANSWER_TIME };
                self.outbox.push_back(Output::Call);
            }
            _ => {}
        }
    }

    /// How many turns have begun, and whether all are over.
    pub(crate) fn progress(&self) -> (usize, bool) {
        let begun = self.turn + usize::from(self.state != State::Waiting);
        (begun.min(TURNS_MAX), self.state == State::Over)
    }

    fn begin(&mut self, turn: usize, now: Instant) {
        self.turn = turn;
        self.state = match QUIET.get(turn) {
            None => State::Over,
            Some(_) if !self.keeps(turn) => State::Waiting,
            Some(quiet) => {
                self.outbox.extend([Output::Open, Output::Say(turn as u8)]);
                State::Keeping { next: now + KEEP_EVERY, until: now + *quiet + CALL_TIME }
            }
        };
    }

    fn keeps(&self, turn: usize) -> bool {
        turn.is_multiple_of(2) != self.dialled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a side does and when, in seconds, if the peer says these turns at these times.
    fn course(dialled: bool, said: &[(u64, u8)]) -> Vec<(u64, Output)> {
        let start = Instant::now();
        let (mut turns, mut done) = (Turns::new(dialled, start), Vec::new());
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            for (_, turn) in said.iter().filter(|(at, _)| *at == second) {
                turns.said(*turn, now);
            }
            while turns.timeout().is_some_and(|at| at <= now) {
                turns.advance(now);
            }
            done.extend(std::iter::from_fn(|| turns.poll()).map(|output| (second, output)));
        }
        done
    }

    /// Both sides, of which neither hears the other's probes: who does what, and when, in seconds.
    fn both() -> [Vec<(u64, Output)>; 2] {
        let start = Instant::now();
        let mut sides = [true, false].map(|dialled| Turns::new(dialled, start));
        let mut done = [Vec::new(), Vec::new()];
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            for side in [0, 1] {
                while sides[side].timeout().is_some_and(|at| at <= now) {
                    sides[side].advance(now);
                }
                while let Some(output) = sides[side].poll() {
                    done[side].push((second, output));
                    if let Output::Say(turn) = output {
                        sides[1 - side].said(turn, now);
                    }
                }
            }
        }
        assert!(sides.iter().all(|side| side.progress() == (TURNS_MAX, true)));
        done
    }

    #[test]
    fn the_other_side_begins_and_the_sides_change_roles_until_all_turns_are_over() {
        let [dialler, other] = both();
        let at = |done: &[(u64, Output)], what| -> Vec<u64> {
            done.iter().filter(|(_, output)| *output == what).map(|(at, _)| *at).collect()
        };
        assert_eq!(at(&other, Output::Say(0)), [0]);
        assert_eq!(at(&dialler, Output::Call), [35, 139]);
        assert_eq!(at(&dialler, Output::Say(1)), [37]);
        assert_eq!(at(&other, Output::Call), [72, 206]);
        assert_eq!(at(&other, Output::Say(2)), [74]);
        assert_eq!(at(&dialler, Output::Say(3)), [141]);
        assert_eq!(
            (at(&other, Output::Open), at(&dialler, Output::Open)),
            (vec![0, 74], vec![37, 141])
        );
    }

    #[test]
    fn before_a_call_nothing_that_arrives_was_sent_by_either_for_longer_than_routers_remember() {
        let sides = both();
        for (caller, keeper) in [(0, 1), (1, 0)] {
            for (call, _) in sides[caller].iter().filter(|(_, output)| *output == Output::Call) {
                let arrives = |output: &Output| matches!(output, Output::Open | Output::Call);
                let before = |side: &[(u64, Output)]| {
                    let earlier = side.iter().filter(|(at, output)| at < call && arrives(output));
                    earlier.map(|(at, _)| *at).max()
                };
                for last in [before(&sides[caller]), before(&sides[keeper])].into_iter().flatten() {
                    assert!(call - last > 30, "{call}: {last}");
                }
                // While the keeper's own NAT is kept open.
                let kept = sides[keeper].iter().filter(|(at, output)| {
                    at <= call && matches!(output, Output::Open | Output::Keep)
                });
                assert!(kept.map(|(at, _)| call - at).min().unwrap() <= 10);
            }
        }
    }

    #[test]
    fn a_peer_that_lies_about_turns_draws_no_more_than_one_that_does_not() {
        let everything: Vec<(u64, u8)> =
            (0..600).flat_map(|second| (0..=u8::MAX).map(move |turn| (second, turn))).collect();
        for dialled in [true, false] {
            for said in [&everything[..], &[], &[(0, 1), (1, 3)], &[(0, 0), (0, 2)]] {
                let done = course(dialled, said);
                let count = |what: fn(&Output) -> bool| {
                    done.iter().filter(|(_, output)| what(output)).count()
                };
                assert!(count(|output| *output == Output::Call) <= TURNS_MAX / 2);
                assert!(count(|output| *output == Output::Open) <= TURNS_MAX / 2);
                assert!(count(|output| *output == Output::Keep) <= 10);
            }
        }
        // A turn that is this side's own, or not due.
        assert_eq!(course(true, &[(0, 1), (1, 2), (2, 255)]), []);
    }

    #[test]
    fn a_keeper_that_hears_nothing_waits_for_the_peers_turn_and_does_nothing_more() {
        let done = course(false, &[]);
        let keeps = [10, 20, 30].map(|at| (at, Output::Keep));
        assert_eq!(done[..2], [(0, Output::Open), (0, Output::Say(0))]);
        assert_eq!(done[2..], keeps);
        assert_eq!(Turns::new(true, Instant::now()).progress(), (0, false));
    }
}
