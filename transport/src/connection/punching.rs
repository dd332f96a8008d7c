//! What a `Connection` does to be rid of a relay, and how it explains what it uses.

use super::*;

impl Connection {
    /// Whether only a relay leads to the peer.
    pub(super) fn is_relayed(&self, id: u64) -> bool {
        let link = self.position(id).map(|index| &self.entries[index].link);
        let road = link.and_then(|link| link.lease().road());
        road.is_some_and(|road| road.flow.is_some() && !is_far_end(road.remote))
    }

    /// The first roads of those that the peer names had their chance: if none of them leads to it, the rest is tried.
    pub(super) fn add_rest(&self, id: u64, named: Vec<Road>) {
        if self.is_relayed(id)
            && let Some(index) = self.position(id)
        {
            self.entries[index].link.pulse().add(named.into_iter().skip(CANDIDATES_MAX));
        }
    }

    /// Plain punching had its chance. If this host's NAT is symmetric and the peer's is not, the birthday attempt is made.
    pub(super) fn try_birthday(&mut self, id: u64, ctx: &mut Context<Self>) {
        let own = self.shared.socket.nat().class(now());
        let hopeless = self.nat.is_some_and(|nat| nat.is_symmetric());
        let Some(target) = self.seen_by_own() else { return };
        if !self.shared.config.kernel
            || !own.is_symmetric()
            || hopeless
            || !self.is_relayed(id)
            || self.attempted == Some(id)
            || self.shared.scouting.swap(true, Ordering::SeqCst)
        {
            return;
        }
        self.attempted = Some(id);
        let Some(index) = self.position(id) else { return };
        let count = if own.carrier_grade { SOCKETS_AT_CARRIER } else { SOCKETS };
        let (shared, pulse) = (self.shared.clone(), self.entries[index].link.pulse().clone());
        self.shared.socket.spawn(async move {
            port_guess::send_out(shared.clone(), pulse, target, count).await;
            shared.scouting.store(false, Ordering::SeqCst);
        });
        self.pay(id, now() + ATTEMPT_MAX, ctx);
    }

    /// Pays the peer for guesses, again and again, until one was right or time is up.
    pub(super) fn pay(&mut self, id: u64, until: Instant, ctx: &mut Context<Self>) {
        if self.is_relayed(id) && now() < until {
            self.say(id, Said::Punch);
            ctx.run_later(PAY_EVERY, move |actor, ctx| actor.pay(id, until, ctx));
        }
    }

    /// The peer pays for guesses at where its NAT lets something in: only at the address at which a rendezvous
    /// of this host's own saw it.
    pub(super) fn guess_ports(&mut self, link: &Link) {
        let Some(seen) = self.seen_by_own() else { return };
        if !self.is_relayed(link.id()) || self.shared.socket.nat().class(now()).is_symmetric() {
            return;
        }
        let guesser = self.guesser.get_or_insert_with(|| {
            let guesses = Guesses::new(self.nat, seen.port(), &mut self.shared.rng());
            Guesser::new(seen.ip(), guesses)
        });
        let targets = guesser.paid();
        let guess = port_guess::guess(self.shared.clone(), link.pulse().clone(), targets);
        self.shared.socket.spawn(guess);
    }

    /// How the peer is reached over the link that is up.
    pub(super) fn explain(&self) -> Option<Explanation> {
        let link = &self.entries[self.position(self.up?)?].link;
        let own_nat = self.shared.socket.nat().class(now());
        let candidates = self.shared.roads(link);
        let direct = |c: &&Candidate| matches!(c.path, PathKind::Direct | PathKind::Punched);
        let tried = candidates.iter().filter(direct).count();
        let here = |c: &Candidate| self.shared.socket.nat().is_outside(c.address.ip());
        let neighbours = candidates.iter().filter(direct).any(here);
        let mut reason =
            reason(link.path(), own_nat, self.nat, tried, neighbours, self.seen_by_own().is_some());
        if link.path() == PathKind::RelayUdp
            && let Some(turns) = self.turns_in_words(link.id())
        {
            reason = format!("{reason}; {turns}");
        }
        Some(Explanation {
            peer: self.peer,
            path: link.path(),
            via: self.shared.shown(link.via()),
            rtt: candidates.iter().find(|road| road.in_use).and_then(|road| road.rtt),
            own_nat,
            peer_nat: self.nat,
            reason,
            candidates,
        })
    }

    /// Tries UDP again on a link that goes through a tunnel, at the address where the tunnel leads.
    pub(super) fn retest_udp(&mut self, id: u64, ctx: &mut Context<Self>) {
        let Some(index) = self.position(id) else { return };
        let link = &self.entries[index].link;
        let Some(road) = link.lease().road().filter(|road| is_far_end(road.remote)) else { return };
        let tunnels = self.shared.socket.tunnels().map(|(_, tunnels)| tunnels);
        if let Some(remote) = tunnels.and_then(|tunnels| tunnels.remote(road.remote)) {
            link.pulse().retest(remote.ip());
            ctx.run_later(RETEST_EVERY, move |actor, ctx| actor.retest_udp(id, ctx));
        }
    }
}
