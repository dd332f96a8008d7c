//! How a `Connection` keeps sessions alive, and gets relayed roads back that were lost.
//!
//! A relay that restarts has forgotten its flows. Its hosts notice that by the end of their connections to it, by what it says of
//! flows and connections that it doesn't know, or by silence; whatever it is, they find out at their own connection to it. Then
//! every rendezvous that is known for the peer is asked for an introduction again, by both sides.

use super::*;
use crate::wire::relay_frame::FlowToken;

/// A road that was silent for so long is one to be replaced: other roads have had their chance. A guess.
const SILENT_MAX: Duration = Duration::from_secs(1);

/// Between two knocks at one connection, whatever the reasons.
const KNOCK_EVERY: Duration = Duration::from_secs(1);

/// Between two rounds of questions, though rendezvous have introduced this host; and from one that is under way to the next when a rendezvous is
/// back. Guesses: by default a host may ask sixty times a minute.
const ROUND_EVERY: Duration = Duration::from_secs(5);
const AFRESH_EVERY: Duration = Duration::from_secs(1);

/// How long a relay is watched closely after a road through it has carried something; and when it is told so again at the earliest.
/// Guesses: longer than the pauses between looks at an idle link, which are 20 s.
const DEPENDED_FOR: Duration = Duration::from_secs(45);
const DEPEND_EVERY: Duration = Duration::from_secs(10);

/// Rendezvous known for the peer, and relays that lost a flow to it. A guess: as many as are asked for it.
const POINTS_MAX: usize = 8;

/// What is done to get a relayed road back.
#[derive(Default)]
pub(super) struct Recovery {
    /// The rendezvous by which the peer was to be met.
    points: Vec<RendezvousPoint>,
    /// Relays whose flow to the peer was lost.
    lost: Vec<PeerId>,
    /// Dropped, it ends the questions that are being asked; closed, they have ended.
    asking: Option<oneshot::Sender<()>>,
    /// When the last round of questions began.
    begun: Option<Instant>,
    /// When the relay of the road in use was last told that it is depended on.
    depended: Option<Instant>,
}

impl Recovery {
    /// The peer may be met by these.
    pub(super) fn learn(&mut self, points: &[RendezvousPoint]) {
        for point in points {
            self.points.retain(|known| known.peer != point.peer);
            if self.points.len() >= POINTS_MAX {
                self.points.remove(0);
            }
            self.points.push(point.clone());
        }
    }

    /// The relay `by` granted a flow.
    pub(super) fn found(&mut self, by: &PeerId) {
        self.lost.retain(|lost| lost != by);
    }

    /// The peer isn't connected any more.
    pub(super) fn end(&mut self) {
        *self = Self { points: std::mem::take(&mut self.points), ..Self::default() };
    }

    fn is_asking(&self) -> bool {
        self.asking.as_ref().is_some_and(|asking| !asking.is_closed())
    }
}

impl Connection {
    /// Who keeps a link that is a session, and what follows from its signs of life.
    pub(super) fn keep(&mut self, index: usize, now: Instant) {
        let entry = &mut self.entries[index];
        let pulse = entry.link.pulse();
        let up = self.up == Some(entry.link.id());
        // A tunnel is closed when nothing comes out of it for a minute.
        let plain = entry.link.lease().road().is_some_and(|road| !is_far_end(road.remote));
        let keeper = if !up || !plain {
            Keeper::Both
        } else if self.shared.is_attached_to(&self.peer) {
            Keeper::Us(self.shared.started)
        } else if self.shared.host.lock().holds(&self.peer) {
            Keeper::Peer
        } else {
            Keeper::Both
        };
        entry.liveness.kept_by(keeper, now);
        match keeper {
            Keeper::Us(_) => {
                let (seen, remapped) = pulse.seen_at();
                if std::mem::replace(&mut entry.remapped, remapped) < remapped {
                    entry.liveness.remapped(now);
                }
                let heard = pulse.heard();
                if std::mem::replace(&mut entry.kept, heard) < heard {
                    self.shared.tell_sessions(News::Kept { peer: self.peer, seen });
                }
            }
            Keeper::Peer => {
                let kept = pulse.kept();
                if std::mem::replace(&mut entry.kept, kept) < kept {
                    self.shared.host.lock().kept(&self.peer, kept);
                }
            }
            Keeper::Both => {}
        }
    }

    /// Sees to the relay that the road in use leads through: while that carries something the relay is watched, and when it is silent
    /// the relay is asked, and all rendezvous for another road.
    pub(super) fn look_after(
        &mut self,
        id: u64,
        carried: bool,
        now: Instant,
        ctx: &mut Context<Self>,
    ) {
        let Some(index) = self.position(id).filter(|_| self.up == Some(id)) else { return };
        let entry = &self.entries[index];
        let silent = entry.liveness.silence(now) >= SILENT_MAX;
        let Some(road) = entry.link.lease().road().filter(|_| silent || carried) else { return };
        let granted_by = |token: FlowToken| self.shared.socket.handles().legs.granted_by(token);
        let relay = road.flow.and_then(granted_by);
        if silent {
            if let Some(relay) = relay {
                self.shared.order_here(relay, Order::Knock);
            }
            let introduced = road.flow.is_some() || !self.seen_at.is_empty();
            if introduced && !self.recovery.is_asking() {
                self.recover(ROUND_EVERY, ctx);
            }
        } else if let Some(relay) = relay
            && self.recovery.depended.is_none_or(|before| now >= before + DEPEND_EVERY)
        {
            self.recovery.depended = Some(now);
            self.shared.order_here(relay, Order::Depended);
        }
    }

    /// There is a reason to believe that the peer doesn't know a link any more. That changes nothing but that it is asked.
    pub(super) fn knock(&mut self, id: Option<u64>, ctx: &mut Context<Self>) {
        let Some((id, index)) = id.and_then(|id| Some((id, self.position(id)?))) else { return };
        let (entry, now) = (&mut self.entries[index], now());
        if entry.knocked.is_some_and(|before| now < before + KNOCK_EVERY) {
            return;
        }
        entry.knocked = Some(now);
        entry.liveness.probe_now(now);
        entry.link.lease().provoke(&mut self.nonces);
        self.tick(id, ctx);
    }

    /// Something was sent along the relayed road of a link, and nothing came back for a while: how long it stays so is measured.
    pub(super) fn silent(&mut self, id: u64, ctx: &mut Context<Self>) {
        let Some(index) = self.position(id) else { return };
        let liveness = &mut self.entries[index].liveness;
        if !liveness.is_silent() {
            liveness.probe_now(now());
            self.tick(id, ctx);
        }
    }

    /// A road in use leads through the peer.
    pub(super) fn depended(&mut self, ctx: &mut Context<Self>) {
        let Some(id) = self.up else { return };
        let Some(index) = self.position(id) else { return };
        let now = now();
        self.entries[index].liveness.depend(now + DEPENDED_FOR, now);
        self.tick(id, ctx);
    }

    /// The relay `by` has lost the flow that `road` leads through.
    pub(super) fn lost(&mut self, id: u64, by: PeerId, road: Road, ctx: &mut Context<Self>) {
        self.standby.retain(|standby| standby.source() != road.source());
        if !self.recovery.lost.contains(&by) {
            if self.recovery.lost.len() >= POINTS_MAX {
                self.recovery.lost.remove(0);
            }
            self.recovery.lost.push(by);
        }
        let Some(index) = self.position(id) else { return };
        let link = &self.entries[index].link;
        if link.lease().road().is_some_and(|active| active.source() == road.source()) {
            link.pulse().suspect();
        }
        if !self.recovery.is_asking() {
            self.recover(ROUND_EVERY, ctx);
        }
    }

    /// A session with the rendezvous `by` stands again.
    pub(super) fn attached(&mut self, by: PeerId, ctx: &mut Context<Self>) {
        if self.recovery.lost.contains(&by) && !self.entries.is_empty() {
            self.recover(AFRESH_EVERY, ctx);
        }
    }

    /// Asks all rendezvous that are known for the peer to introduce this host to it once more, unless that was begun so short a time ago: a
    /// hostile relay that grants flows and ends them begins no more rounds than that for each peer.
    fn recover(&mut self, rest: Duration, ctx: &mut Context<Self>) {
        let now = now();
        if self.recovery.begun.is_some_and(|begun| now < begun + rest) {
            return;
        }
        let signed = self.shared.signed_points(&self.peer);
        let points = signed.into_iter().chain(self.recovery.points.iter().cloned()).collect();
        let asked = introduction::whom_to_ask(&self.shared, self.peer, points);
        if asked.is_empty() {
            return;
        }
        let (stop, stopped) = oneshot::channel();
        (self.recovery.asking, self.recovery.begun) = (Some(stop), Some(now));
        let (shared, peer, actor) = (self.shared.clone(), self.peer, ctx.address());
        self.shared.socket.spawn(async move {
            let met = |met| actor.do_send(Order::Met(met));
            tokio::select! {
                biased;
                _ = stopped => {}
                () = introduction::meet_again(&shared, peer, asked, met) => {}
            }
        });
    }
}
