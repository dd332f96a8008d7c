//! What a `Connection` does when plain punching has failed between two hosts that may be neighbours: see [`Turns`].

use super::*;
use crate::{
    ground::address::is_public,
    nat::Mapping,
    path::turns::{Output, TURNS_MAX, Turns},
    wire::road::Reach,
};

/// Plain punching is over by then: the fifth check of a road is made 4 s after the first. A guess.
pub(super) const TURNS_AFTER: Duration = Duration::from_secs(8);

/// The turns that are taken on a link.
pub(super) struct Turning {
    link: u64,
    /// Where the peer's NAT is to be got through.
    target: Road,
    turns: Turns,
    timer: Option<SpawnHandle>,
}

impl Connection {
    /// Takes turns on the link that is up, once for each, where plain punching might have worked and hasn't.
    pub(super) fn take_turns(&mut self, id: u64, ctx: &mut Context<Self>) {
        let begun = self.turning.as_ref().is_some_and(|turning| turning.link == id);
        if begun || self.up != Some(id) || !self.is_relayed(id) {
            return;
        }
        let Some(target) = self.silent_outside(id) else { return };
        let Some(index) = self.position(id) else { return };
        let turns = Turns::new(self.entries[index].link.dialled(), now());
        self.turning = Some(Turning { link: id, target, turns, timer: None });
        self.go_on_with_turns(id, ctx);
    }

    /// The peer says that it keeps its NAT open.
    pub(super) fn turn_said(&mut self, id: u64, turn: u8, ctx: &mut Context<Self>) {
        // It may be a little earlier than this side.
        self.take_turns(id, ctx);
        if let Some(turning) = self.turning.as_mut().filter(|turning| turning.link == id) {
            turning.turns.said(turn, now());
            self.go_on_with_turns(id, ctx);
        }
    }

    /// Does what is to be done, and has itself called again in time.
    fn go_on_with_turns(&mut self, id: u64, ctx: &mut Context<Self>) {
        if !self.is_relayed(id) {
            // It worked, or the link is gone.
            return;
        }
        let Some(index) = self.position(id) else { return };
        let pulse = self.entries[index].link.pulse().clone();
        let turning = self.turning.as_mut().filter(|turning| turning.link == id);
        let Some(Turning { target, turns, .. }) = turning else { return };
        let (target, now) = (*target, now());
        turns.advance(now);
        let outputs: Vec<Output> = std::iter::from_fn(|| turns.poll()).collect();
        let timeout = turns.timeout();
        for output in outputs {
            match output {
                Output::Open => {
                    // The peer's call, should it come, is to be answered by a check.
                    pulse.once_more(target.remote, false);
                    self.shared.socket.send_short(target, &pulse.knock(), Reach::Near);
                }
                Output::Keep => {
                    self.shared.socket.send_short(target, &pulse.knock(), Reach::Home);
                }
                Output::Call => pulse.once_more(target.remote, true),
                Output::Say(turn) => self.say(id, Said::Turn { turn }),
            }
        }
        let timer = timeout.map(|at| {
            let wait = at.saturating_duration_since(now);
            ctx.run_later(wait, move |actor, ctx| actor.go_on_with_turns(id, ctx))
        });
        if let Some(turning) = &mut self.turning
            && let Some(before) = std::mem::replace(&mut turning.timer, timer)
        {
            ctx.cancel_future(before);
        }
    }

    /// The road to where a rendezvous sees the peer, if that has never answered and a NAT on either side that gives every destination
    /// the same port may be why.
    fn silent_outside(&self, id: u64) -> Option<Road> {
        let may_help = |mapping| matches!(mapping, Mapping::Unknown | Mapping::EndpointIndependent);
        let own = self.shared.socket.nat().class(now()).mapping;
        let theirs = self.nat.map_or(Mapping::Unknown, |nat| nat.mapping);
        if !may_help(own) || !may_help(theirs) {
            return None;
        }
        let known = self.entries[self.position(id)?].link.pulse().describe();
        let others = self.seen_at.iter().rev().filter_map(|(_, seen)| seen.first().copied());
        let mut seen = self.seen_by_own().into_iter().chain(others);
        seen.find_map(|seen| {
            let outside = seen.is_ipv4()
                && is_public(seen.ip())
                && !self.shared.socket.nat().is_outside(seen.ip());
            let there = |road: &Road| road.flow.is_none() && road.remote == seen;
            let road = known.iter().find(|known| !known.proven && there(&known.road));
            road.filter(|_| outside).map(|known| known.road)
        })
    }

    /// What is tried on a link that only a relay leads along, in words.
    pub(super) fn turns_in_words(&self, id: u64) -> Option<String> {
        let turning = self.turning.as_ref().filter(|turning| turning.link == id)?;
        let why = "in case a router took the first probe for its own, the two sides take turns at keeping quiet";
        match turning.turns.progress() {
            (0, _) => None,
            (turn, false) => Some(format!("{why}: turn {turn} of {TURNS_MAX}")),
            (_, true) => Some(format!("{why}: none of {TURNS_MAX} turns helped")),
        }
    }
}
