//! The `Connection` actor of a peer: its links, the dial under way, and what its silence means.
//!
//! One per peer that is being dialled or has a link; it stops when it has neither. Duplicates are settled
//! as docs/architecture.md says: the lower key's dial takes all new work, the other drains its streams
//! and closes when both sides said that they are done with it.

mod alive;
mod dialling;
mod duplicates;
mod notes;
mod port_guess;
mod punching;
mod recovery;
mod rendezvous;
mod renewal;
mod turns;

use duplicates::close_if_drained;
use notes::{Ended, attend};
use port_guess::{ATTEMPT_MAX, Guesser, PAY_EVERY};
use recovery::Recovery;
use renewal::{BESIDE_AT_ONCE, Beside};
use std::{
    net::SocketAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use turns::{TURNS_AFTER, Turning};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, SpawnHandle};
use governor::{Quota, RateLimiter};
use tokio::sync::{mpsc, oneshot};

use crate::{
    dial::Late,
    ground::{address::canonical, sanitize::Excerpt},
    identity::PeerId,
    limits::{TokioClock, bucket::Bucket},
    link::{Link, Parts, authenticated::Authenticated},
    meetings::introduction,
    nat::{
        NatClass,
        birthday::{Guesses, SOCKETS, SOCKETS_AT_CARRIER},
    },
    path::{
        candidates::CANDIDATES_MAX,
        explain::{Candidate, Explanation, reason},
        kind::PathKind,
        liveness::{Event, Keeper, Liveness},
        nonces::Nonces,
        order::{Happened, LinkOrder},
        pulse::Pulse,
    },
    peer_ref::{PeerRef, RendezvousPoint},
    quic::congestion::acks_of,
    shared::{
        Shared,
        dial_targets::Places,
        newer::{Newer, digest},
        order::{Answer, Meeting, News, Order, Waiter},
    },
    tunnel::is_far_end,
    wire::{
        closing::LinkDown,
        hello::{InstanceId, LinkStream, Note, Notes, write_note},
        rendezvous::{Candidates, Message as Said, Refusal},
        road::Road,
    },
};

/// How long a dead connection's handle is kept, so that QUIC can repeat its close to a peer that missed
/// it. A guess: three probe timeouts at a round trip of 300 ms.
const LINGER: Duration = Duration::from_secs(3);

/// Former instances of a peer that are remembered, to notice two hosts with one key.
const PAST_MAX: usize = 4;

/// Links to one peer at a time. Two come from simultaneous dials, a third from a dial over a link that the peer forgot;
/// beyond that somebody wants to fill our memory.
const LINKS_MAX: usize = 4;

/// Messages about rendezvous that wait to be written to a peer which doesn't read; more are dropped, but for those of ended flows
/// ([`Ended`]): the others are answers to its own questions, or are repeated. A guess.
const SAYING_MAX: usize = 32;

/// Probes of the addresses that are known had their answers by then. A guess: their checks take 1.5 s.
const PLAIN_PUNCH_MAX: Duration = Duration::from_secs(2);

/// Roads through relays that are kept beside the one in use. A guess: one for each session of either side.
const STANDBY_MAX: usize = 8;

/// Rendezvous whose word on where the peer is counts. A guess: as many as are asked for it.
const SPEAKERS_MAX: usize = 8;

/// How often a peer that is reached through a tunnel is tried over UDP: networks change, and firewalls. A guess.
const RETEST_EVERY: Duration = Duration::from_secs(60);

/// Introductions asked for at a time by way of one rendezvous. A guess.
const ASKED_MAX: usize = 256;

/// Messages about rendezvous per second that a peer may send; more wait. A guess: a meeting takes two or three.
const SAID_EVERY: Duration = Duration::from_millis(50);
const SAID_AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(39);

/// A question that a rendezvous hasn't answered.
struct Asked {
    ask: u32,
    link: u64,
    waiter: oneshot::Sender<Answer>,
}

/// How QUIC is helped over a silence: its own timers back off to minutes, and our probes don't move them.
#[derive(Debug, Clone, Copy)]
enum Wake {
    /// No silence.
    Awake,
    /// The peer doesn't answer probes: has it restarted?
    Silent,
    /// It answers probes again, and hasn't acknowledged anything that was sent since then; whether congestion control was started anew.
    Back { since: Instant, afresh: bool },
}

/// A link and what is known about it.
struct Entry {
    link: Link,
    notes: mpsc::UnboundedSender<Note>,
    /// Messages about rendezvous among them that aren't written yet.
    saying: Arc<AtomicUsize>,
    /// Flows whose end isn't.
    ended: Arc<Ended>,
    draining: bool,
    drained_here: bool,
    drained_there: bool,
    /// Why this side is closing it.
    ending: Option<LinkDown>,
    liveness: Liveness,
    frames_seen: u64,
    /// When they were counted.
    ticked: Instant,
    wake: Wake,
    timer: Option<SpawnHandle>,
    /// Stands for the places that the newest reference names by which the link knows its peer.
    digest: u64,
    /// When it was last asked because somebody said that there is a reason.
    knocked: Option<Instant>,
    /// The last sign of life that a session was told of, and the mappings of NATs that were noticed.
    kept: Instant,
    remapped: u32,
}

pub(crate) struct Connection {
    peer: PeerId,
    shared: Arc<Shared>,
    /// Orders that were sent by `Shared::order` and not handled yet: it must not stop meanwhile.
    pending: Arc<AtomicUsize>,
    entries: Vec<Entry>,
    /// The link for new work.
    up: Option<u64>,
    waiters: Vec<Waiter>,
    dialling: bool,
    untried: Places,
    /// The link beside which it dials, if there is one; and how often that may be.
    beside: Option<Beside>,
    besides: Bucket,
    /// Takes roads that are found while the dial is under way.
    late: Option<mpsc::UnboundedSender<Late>>,
    /// Introductions are under way.
    meeting: bool,
    /// The peer is about to call.
    expecting: bool,
    /// Where rendezvous say that the peer is, each its own, the latest last; and the roads through them.
    seen_at: Vec<(PeerId, Vec<SocketAddr>)>,
    /// What the peer says about its NAT.
    nat: Option<NatClass>,
    /// Of the ports of the peer's NAT.
    guesser: Option<Guesser>,
    /// The link on which the birthday attempt is being made, or was: one for each.
    attempted: Option<u64>,
    /// The turns that are taken, or were, on the link that is up.
    turning: Option<Turning>,
    /// Why a rendezvous didn't introduce this host to the peer.
    refusal: Option<Refusal>,
    /// The rendezvous that introduced this host to the peer don't relay.
    unrelayed: bool,
    standby: Vec<Road>,
    /// What is done to get back what was lost.
    recovery: Recovery,
    asked: Vec<Asked>,
    next_ask: u32,
    past: Vec<InstanceId>,
    /// Whether it was reported that two hosts use the key of this peer.
    doubted: bool,
    unreachable: bool,
    nonces: Nonces,
}

impl Connection {
    pub(crate) fn new(peer: PeerId, shared: Arc<Shared>, pending: Arc<AtomicUsize>) -> Self {
        let nonces = shared.nonces(0);
        Self {
            peer,
            shared,
            pending,
            entries: Vec::new(),
            up: None,
            waiters: Vec::new(),
            dialling: false,
            untried: Places::default(),
            beside: None,
            besides: Bucket::full(BESIDE_AT_ONCE, now()),
            late: None,
            meeting: false,
            expecting: false,
            seen_at: Vec::new(),
            nat: None,
            guesser: None,
            attempted: None,
            turning: None,
            refusal: None,
            unrelayed: false,
            standby: Vec::new(),
            recovery: Recovery::default(),
            asked: Vec::new(),
            next_ask: 0,
            past: Vec::new(),
            doubted: false,
            unreachable: false,
            nonces,
        }
    }

    fn position(&self, link: u64) -> Option<usize> {
        self.entries.iter().position(|entry| entry.link.id() == link)
    }

    fn establish(&mut self, authenticated: Authenticated, ctx: &mut Context<Self>) {
        let Authenticated { connection, driver, lease, secrets, hello, stream, dialled, peer } =
            authenticated;
        let Some(road) = lease.road() else { return };
        self.replace_older(hello.instance);
        self.end_surplus();
        self.shared.config.windows.open(&connection);
        let id = self.shared.next_link();
        let orders = ctx.address().downgrade().recipient();
        let pulse = Arc::new(Pulse::new(
            (id, peer),
            &secrets,
            dialled,
            lease.handle(),
            road,
            lease.socket().clone(),
            orders.clone(),
            self.shared.nonces(id),
            acks_of(&connection),
        ));
        self.shared.pulses.insert(&pulse);
        let rank = secrets.rank;
        let named = hello.reference.as_ref().map(PeerRef::addresses).unwrap_or_default();
        let (version, digest) = match &hello.reference {
            Some(PeerRef::Signed(signed)) => (signed.version(), digest(signed)),
            _ => (0, 0),
        };
        let met_there = |(_, seen): &(PeerId, Vec<SocketAddr>)| {
            seen.first() == Some(&self.shared.original(canonical(road.remote)))
        };
        let met = road.flow.is_some() || self.seen_at.iter().any(met_there);
        let introduced = met.then(|| named.into());
        let link = Link::new(Parts {
            id,
            peer,
            instance: hello.instance,
            dialled,
            rank,
            connection,
            driver,
            lease,
            pulse,
            orders,
            features: hello.features,
            introduced,
            version,
            windows: self.shared.config.windows.clone(),
        });
        tracing::debug!(%peer, link = id, road = %link.path(), via = %link.via(), dialled, "link up");
        self.shared.met(&link, hello.reference.as_ref());
        let claimed = hello.reference.as_ref().map(PeerRef::addresses).unwrap_or_default();
        // Its loopback is another one, unless it is on this host.
        let others = introduction::roads(&self.shared, claimed.iter().copied(), road.remote);
        link.pulse().add(others.iter().take(CANDIDATES_MAX).copied());
        self.add_met_roads(&link);
        if road.flow.is_some() && others.len() > CANDIDATES_MAX {
            ctx.run_later(PLAIN_PUNCH_MAX, move |actor, _| actor.add_rest(id, others));
        }
        let (notes, queue) = mpsc::unbounded_channel();
        let (saying, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(Ended::default()));
        let unwritten = (saying.clone(), ended.clone());
        let attended = attend(link.clone(), stream, queue, unwritten, ctx.address());
        self.shared.socket.spawn(attended);
        // Mostly the only one; a Vec would make room for four.
        self.entries.reserve_exact(1);
        self.entries.push(Entry {
            link: link.clone(),
            notes,
            saying,
            ended,
            draining: false,
            drained_here: false,
            drained_there: false,
            ending: None,
            liveness: Liveness::new(self.shared.config.patience.clone(), now()),
            frames_seen: 0,
            ticked: now(),
            wake: Wake::Awake,
            timer: None,
            digest,
            knocked: None,
            kept: now(),
            remapped: 0,
        });
        if road.flow.is_some() {
            // Both say where they are, and both then try: that opens most NATs.
            let candidates = self.shared.candidates();
            self.say(id, Said::Here { candidates });
        }
        if is_far_end(road.remote) {
            ctx.run_later(RETEST_EVERY, move |actor, ctx| actor.retest_udp(id, ctx));
        }
        self.settle_duplicates(link);
        self.tick(id, ctx);
    }

    fn noted(&mut self, id: u64, note: Note, ctx: &mut Context<Self>) {
        let Some(index) = self.position(id) else { return };
        let entry = &mut self.entries[index];
        match note {
            Note::Drained => {
                entry.drained_there = true;
                close_if_drained(entry);
            }
            Note::Resumed => entry.drained_there = false,
            Note::Knock => {}
            Note::Rendezvous(said) => self.said(id, *said, ctx),
        }
    }

    fn say(&mut self, id: u64, said: Said) {
        let Some(index) = self.position(id) else { return };
        let entry = &self.entries[index];
        if let Said::FlowsDead { tokens } = &said {
            if !entry.ended.add(tokens) {
                let why = "it doesn't read which flows have ended".into();
                entry.link.end(LinkDown::Broken(why));
            }
            return;
        }
        if entry.saying.load(Ordering::Relaxed) < SAYING_MAX {
            entry.saying.fetch_add(1, Ordering::Relaxed);
            let _ = entry.notes.send(Note::Rendezvous(Box::new(said)));
        }
    }

    /// A link has ended.
    fn down(&mut self, id: u64, why: LinkDown) {
        let Some(index) = self.position(id) else { return };
        let entry = self.entries.remove(index);
        let why = match (entry.ending, why) {
            (Some(why), _) => why,
            (None, LinkDown::Local { .. }) => LinkDown::Local { reason: self.shared.closing() },
            (None, why) => why,
        };
        self.shared.pulses.remove(entry.link.pulse());
        self.asked.retain(|asked| asked.link != id);
        for known in entry.link.pulse().describe() {
            self.shared.socket.discard(known.road.wire);
        }
        let linger = self.shared.socket.sleep(LINGER);
        let link = entry.link.clone();
        self.shared.socket.spawn(async move {
            linger.await;
            drop(link);
        });
        if why == LinkDown::KeyInUse {
            tracing::warn!(peer = %self.peer, "{why}: this host was replaced there");
        }
        tracing::debug!(peer = %self.peer, link = id, why = %Excerpt(&why.to_string()), "link down");
        let was_up = self.up == Some(id);
        if was_up {
            self.up = None;
            self.shared.unset_up(&entry.link);
        }
        self.shared.observer.link_down(entry.link, why);
        if self.entries.is_empty() {
            self.recovery.end();
            self.shared.host_gone(&self.peer);
            self.shared.tell_sessions(News::Gone { peer: self.peer });
        }
        if was_up && let Some(other) = self.entries.iter().find(|entry| entry.ending.is_none()) {
            self.promote(other.link.id());
        }
    }

    fn stop_if_idle(&mut self, ctx: &mut Context<Self>) {
        let idle = self.entries.is_empty()
            && !self.dialling
            && !self.meeting
            && !self.expecting
            && self.waiters.is_empty();
        if idle && self.pending.load(Ordering::SeqCst) == 0 {
            self.shared.forget(&self.peer);
            ctx.stop();
        }
    }
}

/// Counts frames that only the peer can have sent, for QUIC checked their packets.
fn frames_received(link: &Link) -> u64 {
    let frames = link.quic().stats().frame_rx;
    frames.acks + frames.stream + frames.ping + frames.max_data + frames.max_stream_data
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Actor for Connection {
    type Context = Context<Self>;
}

impl Handler<Order> for Connection {
    type Result = ();

    fn handle(&mut self, order: Order, ctx: &mut Context<Self>) {
        match order {
            Order::Dial { places, waiter } => {
                self.pending.fetch_sub(1, Ordering::SeqCst);
                self.dial(places, waiter, ctx);
            }
            Order::Renew { newer, waiter } => {
                self.pending.fetch_sub(1, Ordering::SeqCst);
                self.renew(newer, waiter, ctx);
            }
            Order::Works { link } => self.works(link),
            Order::Disconnect { reason, done } => {
                self.pending.fetch_sub(1, Ordering::SeqCst);
                let _ = done.send(!self.entries.is_empty());
                self.disconnect(&reason);
            }
            Order::Established { authenticated, waiters } => {
                // Those of its own dials weren't counted.
                if !waiters.is_empty() || !authenticated.dialled {
                    self.pending.fetch_sub(1, Ordering::SeqCst);
                } else {
                    self.dialling = false;
                    self.beside = None;
                    self.late = None;
                }
                self.waiters.extend(waiters);
                self.establish(*authenticated, ctx);
                if let Some(up) = self.up.and_then(|id| self.position(id)) {
                    let link = self.entries[up].link.clone();
                    for waiter in self.waiters.drain(..) {
                        let _ = waiter.send(Ok(link.clone()));
                    }
                }
            }
            Order::DialFailed(error) => self.dial_failed(error, ctx),
            Order::Knock => {
                self.pending.fetch_sub(1, Ordering::SeqCst);
                self.knock(self.up, ctx);
            }
            Order::Depended => {
                self.pending.fetch_sub(1, Ordering::SeqCst);
                self.depended(ctx);
            }
            Order::Attached { by } => {
                self.pending.fetch_sub(1, Ordering::SeqCst);
                self.attached(by, ctx);
            }
            Order::Noted { link, note } => self.noted(link, note, ctx),
            Order::Say(said) => {
                self.pending.fetch_sub(1, Ordering::SeqCst);
                if let Some(up) = self.up {
                    self.say(up, said);
                }
            }
            Order::Ask { target, candidates, waiter } => {
                self.pending.fetch_sub(1, Ordering::SeqCst);
                self.ask(target, candidates, waiter);
            }
            Order::Met(Meeting { by, road, addresses }) => self.met(by, road, addresses),
            Order::Explain(answer) => {
                self.pending.fetch_sub(1, Ordering::SeqCst);
                if let Some(explanation) = self.explain() {
                    let _ = answer.send(explanation);
                }
            }
            Order::Expected { by, road, candidates } => {
                self.pending.fetch_sub(1, Ordering::SeqCst);
                self.learn_nat(&candidates);
                self.let_in(by, road, &candidates);
                self.met(by, road, candidates.addresses);
                self.expect_call(ctx);
            }
            Order::MeetingsOver { refusal, absent, unrelayed } => {
                self.meeting = false;
                self.refusal = refusal;
                self.unrelayed = unrelayed;
                let last = if absent { Some(Late::Absent) } else { None };
                let last = if unrelayed { Some(Late::Unrelayed) } else { last };
                if let (Some(last), Some(late)) = (last, &self.late) {
                    let _ = late.send(last);
                }
                self.late = None;
            }
            Order::Closed { link, why } => self.down(link, why),
        }
        self.stop_if_idle(ctx);
    }
}

impl Handler<LinkOrder> for Connection {
    type Result = ();

    fn handle(&mut self, LinkOrder { link, what }: LinkOrder, ctx: &mut Context<Self>) {
        match what {
            Happened::Expect => self.tick(link, ctx),
            Happened::Doubted => self.knock(Some(link), ctx),
            Happened::Silent => self.silent(link, ctx),
            Happened::Lost { by, road } => self.lost(link, by, road, ctx),
            Happened::Drained => self.drained(link),
            Happened::Ending { why } => {
                if let Some(index) = self.position(link) {
                    self.entries[index].ending.get_or_insert(why);
                }
            }
        }
        self.stop_if_idle(ctx);
    }
}
