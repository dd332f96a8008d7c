//! What a `Connection` does about rendezvous: asks them, is told by them, serves as one.

use super::*;

impl Connection {
    /// Asks rendezvous of the peer's, and this host's own, for introductions.
    pub(super) fn meet(&mut self, points: Vec<RendezvousPoint>, ctx: &mut Context<Self>) {
        let asked = introduction::whom_to_ask(&self.shared, self.peer, points);
        if asked.is_empty() {
            self.late = None;
            return;
        }
        self.meeting = true;
        self.shared.tell_sessions(News::Look);
        let (shared, peer, actor) = (self.shared.clone(), self.peer, ctx.address());
        self.shared.socket.spawn(async move {
            let met = |met| actor.do_send(Order::Met(met));
            let introduction::Outcome { refusal, absent, unrelayed } =
                introduction::meet(&shared, peer, asked, met).await;
            actor.do_send(Order::MeetingsOver { refusal, absent, unrelayed });
        });
    }

    /// The rendezvous `by` introduced this host to the peer, or the peer to this host. What it says takes nothing away from
    /// what others say.
    pub(super) fn met(&mut self, by: PeerId, road: Option<Road>, addresses: Vec<SocketAddr>) {
        self.seen_at.retain(|(speaker, _)| *speaker != by);
        if self.seen_at.len() >= SPEAKERS_MAX {
            self.seen_at.remove(0);
        }
        let seen = addresses.first().copied();
        self.seen_at.push((by, addresses));
        if road.is_none()
            && let (Some(late), Some(seen)) = (&self.late, seen)
            && let Some(there) = self.shared.road(&by)
        {
            // The peer opens its NAT for what comes from here.
            for road in introduction::roads(&self.shared, [seen], there.remote) {
                let _ = late.send(Late::Road(road));
            }
        }
        if let Some(road) = road {
            self.recovery.found(&by);
            if let Some(late) = &self.late {
                let _ = late.send(Late::Road(road));
            }
            self.standby.retain(|known| known.remote != road.remote);
            if self.standby.len() < STANDBY_MAX {
                self.standby.push(road);
            }
        }
        for entry in &self.entries {
            self.add_met_roads(&entry.link);
        }
    }

    /// The peer is about to call, and the rendezvous `by` grants no road through it: this host's NAT is opened for what comes from where the
    /// peer is seen.
    pub(super) fn let_in(&self, by: PeerId, road: Option<Road>, candidates: &Candidates) {
        if let (None, Some(seen)) = (road, candidates.addresses.first())
            && self.up.is_none()
            && let Some(there) = self.shared.road(&by)
        {
            self.shared.open_for(self.peer, *seen, there.remote);
        }
    }

    /// Where a rendezvous of this host's own saw the peer: whoever the peer itself names may have it say anything.
    pub(super) fn seen_by_own(&self) -> Option<SocketAddr> {
        let own = self.shared.attached_to();
        let trusted = |by: &PeerId| own.iter().any(|point| point.peer == *by);
        let seen = self.seen_at.iter().rev().filter(|(by, _)| trusted(by));
        seen.filter_map(|(_, seen)| seen.first().copied()).next()
    }

    pub(super) fn learn_nat(&mut self, candidates: &Candidates) {
        self.nat = NatClass::decode(&candidates.class).ok().or(self.nat);
    }

    /// Has a link try what rendezvous said.
    pub(super) fn add_met_roads(&self, link: &Link) {
        let Some(active) = link.lease().road() else { return };
        // In turn, the first of each before the second of any: so one that names many doesn't crowd out the others.
        let longest = self.seen_at.iter().map(|(_, seen)| seen.len()).max().unwrap_or_default();
        let nth = |n| self.seen_at.iter().filter_map(move |(_, seen)| seen.get(n).copied());
        let direct = introduction::roads(&self.shared, (0..longest).flat_map(nth), active.remote);
        let roads = direct.into_iter().take(CANDIDATES_MAX).chain(self.standby.iter().copied());
        if active.flow.is_some() {
            link.pulse().open(roads);
        } else {
            link.pulse().add(roads);
        }
    }

    /// The peer says something about rendezvous.
    pub(super) fn said(&mut self, id: u64, said: Said, ctx: &mut Context<Self>) {
        let Some(index) = self.position(id) else { return };
        let link = self.entries[index].link.clone();
        let Some(road) = link.lease().road() else { return };
        match said {
            Said::Observe | Said::Reserve | Said::Introduce { .. } | Said::DialBack { .. } => {
                if let Some(answer) = self.shared.serve((self.peer, road), said, now()) {
                    self.shared.tell_refusal(self.peer, road, &answer);
                    self.say(id, answer);
                }
            }
            Said::NoDialBack { nonce } => self.shared.socket.nat().dial_back_withdrawn(nonce),
            Said::Call { address, nonce } => self.shared.call(road, address, nonce, now()),
            Said::Introduced { ask, .. } | Said::Unavailable { ask, .. } => {
                let known = |asked: &Asked| (asked.ask, asked.link) == (ask, id);
                if let Some(index) = self.asked.iter().position(known) {
                    let _ = self.asked.swap_remove(index).waiter.send((said, road));
                }
            }
            Said::Here { candidates } => {
                self.learn_nat(&candidates);
                let roads = introduction::roads(&self.shared, candidates.addresses, road.remote);
                link.pulse().add(roads.iter().take(CANDIDATES_MAX).copied());
                // Whoever says so has opened its NAT for the addresses that it knew by then.
                link.pulse().invited();
                if roads.len() > CANDIDATES_MAX {
                    ctx.run_later(PLAIN_PUNCH_MAX, move |actor, _| actor.add_rest(id, roads));
                }
                ctx.run_later(PLAIN_PUNCH_MAX, move |actor, ctx| actor.try_birthday(id, ctx));
                ctx.run_later(TURNS_AFTER, move |actor, ctx| actor.take_turns(id, ctx));
            }
            Said::Turn { turn } => self.turn_said(id, turn, ctx),
            Said::Punch => self.guess_ports(&link),
            Said::FlowsDead { tokens } => self.shared.flows_dead(&tokens, self.peer),
            said => self.shared.tell_sessions(News::Said { peer: self.peer, road, said }),
        }
    }

    /// Has the peer asked for an introduction.
    pub(super) fn ask(
        &mut self,
        target: PeerId,
        candidates: Candidates,
        waiter: oneshot::Sender<Answer>,
    ) {
        let Some(link) = self.up else { return };
        self.asked.retain(|asked| !asked.waiter.is_closed());
        if self.asked.len() < ASKED_MAX {
            self.next_ask = self.next_ask.wrapping_add(1);
            let ask = self.next_ask;
            self.asked.push(Asked { ask, link, waiter });
            self.say(link, Said::Introduce { ask, target, candidates });
        }
    }

    /// Stays for a while, so that what a rendezvous said about a caller is known when it calls.
    pub(super) fn expect_call(&mut self, ctx: &mut Context<Self>) {
        self.shared.tell_sessions(News::Look);
        if self.entries.is_empty() && !self.expecting {
            self.expecting = true;
            ctx.run_later(self.shared.config.limits.handshake_time_max, |actor, ctx| {
                actor.expecting = false;
                actor.stop_if_idle(ctx);
            });
        }
    }
}
