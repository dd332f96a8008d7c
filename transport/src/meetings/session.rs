//! The `Sessions` actor: keeps this host attached to its rendezvous, as the core in `client` decides.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime},
};

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, SpawnHandle};
use rand::{RngExt, rngs::StdRng};
use tokio::sync::oneshot;

use crate::{
    ground::{address::plausible, sanitize::Excerpt},
    identity::PeerId,
    link::connect_error::ConnectError,
    meetings::introduction,
    peer_ref::{
        PeerRef, RendezvousPoint,
        hints::{Hints, Origin},
    },
    quic,
    rendezvous::client::{Client, Step},
    shared::{
        Shared,
        dial_targets::Places,
        order::{News, Order},
    },
    tunnel::is_far_end,
    wire::{rendezvous::Message as Said, road::Road},
};

/// Rendezvous that are known. A guess, far beyond what anybody names by hand.
const KNOWN_MAX: usize = 64;

/// Among them, those that only another rendezvous named. A guess: enough to find one that lives, and little to be had by
/// naming addresses of others.
const ALTERNATIVES_MAX: usize = 8;

/// Where a rendezvous is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// This host was told to join it.
    Named(PeerRef),
    /// Another rendezvous, which is full or goes away, says that it may do.
    Alternative(RendezvousPoint),
    /// One of those that wasn't reached: it isn't tried again.
    Spent,
}

pub(crate) struct Sessions {
    /// Weak, for that holds this actor.
    shared: Weak<Shared>,
    known: Vec<Known>,
    client: Client,
    rng: StdRng,
    timer: Option<SpawnHandle>,
    waiting: Vec<oneshot::Sender<()>>,
    /// Where rendezvous take tunnels.
    tls_ports: HashMap<PeerId, u16>,
    /// Who answered where only addresses were known.
    found: HashMap<usize, PeerId>,
    /// Where rendezvous take probes that ask nothing but where this host is seen, and when they last were.
    observers: HashMap<PeerId, (Road, u16, Instant)>,
}

/// Between two looks at the NAT by way of one rendezvous. A guess: a third of the time that what they show counts
/// ([`Classifier`](crate::nat::classify::Classifier)).
const LOOK_EVERY: Duration = Duration::from_secs(200);

impl Sessions {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        let rng = quic::rng(shared.seed.map(|seed| seed ^ 4));
        let client = Client::new(0, shared.config.sessions, now());
        let shared = Arc::downgrade(shared);
        Self {
            shared,
            known: Vec::new(),
            client,
            rng,
            timer: None,
            waiting: Vec::new(),
            tls_ports: HashMap::new(),
            found: HashMap::new(),
            observers: HashMap::new(),
        }
    }

    /// Carries out what the core says, and has it woken in time.
    fn go_on(&mut self, ctx: &mut Context<Self>) {
        let Some(shared) = self.shared.upgrade() else { return ctx.stop() };
        while let Some(step) = self.client.poll() {
            match step {
                Step::Dial(index) => self.dial(&shared, index, ctx),
                Step::Reserve(peer) => shared.order_here(peer, Order::Say(Said::Reserve)),
                Step::Changed => self.changed(&shared),
            }
        }
        if self.client.is_attached(now()) {
            for waiter in self.waiting.drain(..) {
                let _ = waiter.send(());
            }
        }
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        self.timer = self.client.timeout(now()).map(|at| {
            ctx.run_later(at.saturating_duration_since(now()), |actor, ctx| {
                actor.timer = None;
                actor.client.advance(now(), &mut actor.rng);
                actor.go_on(ctx);
            })
        });
    }

    fn dial(&self, shared: &Arc<Shared>, index: usize, ctx: &mut Context<Self>) {
        let Some(target) = self.known.get(index).cloned() else { return };
        let (shared, actor) = (shared.clone(), ctx.address());
        let socket = shared.socket.clone();
        socket.spawn(async move {
            let connected = match &target {
                Known::Named(PeerRef::Signed(signed)) => {
                    // One that must be met by way of another is none.
                    let addresses = shared.places_by(signed).addresses;
                    let places = Places { addresses, insist: true, ..Places::default() };
                    shared.connect(signed.peer(), places).await
                }
                Known::Named(PeerRef::Addresses(addresses)) => {
                    shared.connect_address(addresses.addresses().to_vec(), true).await
                }
                Known::Alternative(point) => shared.connect(point.peer, Places::of(point)).await,
                Known::Spent => Err(ConnectError::NoAddress),
            };
            if let Err(e) = &connected {
                tracing::warn!(why = %Excerpt(&e.to_string()), "a rendezvous isn't reached");
            }
            actor.do_send(News::Dialled { index, peer: connected.ok().map(|link| link.peer()) });
        });
    }

    /// Shows the reference by which a rendezvous is found from now on, if the one that this host was told has expired.
    fn show_newer(&self, index: usize, peer: PeerId) {
        let now = SystemTime::now();
        if let Some(Known::Named(PeerRef::Signed(told))) = self.known.get(index)
            && told.check_valid(now).is_err()
            && let Some(shared) = self.shared.upgrade()
            && let Some(newer) = shared.book.lock().signed(&peer, now)
        {
            let newer = PeerRef::Signed(newer.0.clone());
            tracing::warn!(rendezvous = %peer, "in place of the expired PeerRef: {newer}");
        }
    }

    /// Other sessions stand than before: the own PeerRef says so from now on.
    fn changed(&self, shared: &Arc<Shared>) {
        let port = |peer| self.tls_ports.get(&peer).copied();
        let point = |(_, peer, _)| shared.point(peer, port(peer), self.client.relays(peer));
        let mut points: Vec<_> = self.client.standing().filter_map(point).collect();
        // Those that lead here from everywhere first.
        points.sort_by_key(|point| !point.relays());
        let observed = self.client.standing().filter_map(|(.., observed)| observed).collect();
        shared.set_attached(points, observed);
    }

    /// A rendezvous names others in its place; they are tried after those that this host was told to join.
    fn learn(&mut self, shared: &Shared, road: Road, alternatives: Vec<RendezvousPoint>) {
        let (origin, rendezvous) = (Origin::of(Some(road)), alternatives);
        let named = Hints { origin, addresses: Vec::new(), rendezvous };
        for point in shared.restricted(&named).rendezvous {
            let named = |known: &&Known| !matches!(known, Known::Named(_));
            let room = self.known.iter().filter(named).count() < ALTERNATIVES_MAX;
            let known = |known: &Known| match known {
                Known::Named(reference) => reference.peer() == Some(point.peer),
                Known::Alternative(known) => known.peer == point.peer,
                Known::Spent => false,
            };
            let standing = self.client.standing().any(|(_, peer, _)| peer == point.peer);
            if room && !standing && point.peer != shared.peer_id() && !self.known.iter().any(known)
            {
                self.known.push(Known::Alternative(point));
                self.client.add(now());
            }
        }
    }

    /// Has a rendezvous show what the NAT in front of this host is like.
    fn look(&mut self, shared: &Arc<Shared>, peer: PeerId) {
        let Some((road, port, at)) = self.observers.get_mut(&peer) else { return };
        *at = now();
        if *port != 0 {
            shared.observe(peer, SocketAddr::new(road.remote.ip(), *port));
        }
        if road.flow.is_none() && !is_far_end(road.remote) {
            let nonce = self.rng.random();
            shared.socket.nat().dial_back_asked(road.remote.ip(), nonce, *at);
            shared.order_here(peer, Order::Say(Said::DialBack { nonce }));
        }
    }

    /// The number of the rendezvous with this key.
    fn number_of(&self, peer: PeerId) -> Option<usize> {
        let is = |(index, known): (usize, &Known)| match known {
            Known::Named(PeerRef::Signed(signed)) => signed.peer() == peer,
            Known::Named(PeerRef::Addresses(_)) => self.found.get(&index) == Some(&peer),
            Known::Alternative(point) => point.peer == peer,
            Known::Spent => false,
        };
        (0..self.known.len()).find(|index| is((*index, &self.known[*index])))
    }

    fn said(&mut self, shared: &Arc<Shared>, peer: PeerId, road: Road, said: Said) {
        let now = now();
        match said {
            Said::Reserved { terms, observed } => {
                // Only those that are asked may answer: as many as are known.
                if terms.tls_port != 0 && self.tls_ports.len() < KNOWN_MAX {
                    self.tls_ports.insert(peer, terms.tls_port);
                }
                let new = !self.client.standing().any(|(_, known, _)| known == peer);
                if self.client.asked(peer) && self.observers.len() < KNOWN_MAX {
                    self.observers.insert(peer, (road, terms.observation_port, now));
                    self.look(shared, peer);
                }
                let observed =
                    observed.filter(|seen| plausible(*seen, shared.original(road.remote)));
                self.client.reserved(peer, (terms.flows_max > 0, observed), terms.lifetime, now);
                if new && self.client.standing().any(|(_, known, _)| known == peer) {
                    tracing::info!(rendezvous = %peer, "a session with a rendezvous stands");
                    shared.attached_anew(peer);
                }
            }
            Said::Refused { why, alternatives } if self.client.asked(peer) => {
                tracing::warn!(rendezvous = %peer, "a rendezvous refused a session: {why}");
                self.learn(shared, road, alternatives);
                self.client.gone(peer, now, &mut self.rng);
            }
            Said::GoAway { alternatives } if self.client.asked(peer) => {
                tracing::info!(rendezvous = %peer, "a rendezvous goes away");
                self.learn(shared, road, alternatives);
                self.client.gone(peer, now, &mut self.rng);
            }
            // Only who was asked to may send callers.
            Said::Incoming { from, candidates, grant }
                if self.client.standing().any(|(_, known, _)| known == peer) =>
            {
                let road = grant.and_then(|grant| introduction::flow(shared, &grant, (peer, road)));
                shared.order_here(from, Order::Expected { by: peer, road, candidates });
            }
            _ => {}
        }
    }
}

impl Actor for Sessions {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.go_on(ctx);
    }
}

impl Handler<News> for Sessions {
    type Result = ();

    fn handle(&mut self, news: News, ctx: &mut Context<Self>) {
        match news {
            News::Dialled { index, peer } => {
                if let Some(peer) = peer {
                    if !self.client.stood(index) {
                        self.show_newer(index, peer);
                    }
                    self.found.insert(index, peer);
                } else if !self.client.stood(index)
                    && let Some(known @ Known::Alternative(_)) = self.known.get_mut(index)
                {
                    *known = Known::Spent;
                }
                self.client.dialled(index, peer, now(), &mut self.rng);
            }
            News::Said { peer, road, said } => {
                if let Some(shared) = self.shared.upgrade() {
                    self.said(&shared, peer, road, said);
                }
            }
            News::Gone { peer } => {
                if self.client.standing().any(|(_, known, _)| known == peer) {
                    tracing::info!(rendezvous = %peer, "a session with a rendezvous has ended");
                }
                self.observers.remove(&peer);
                self.client.gone(peer, now(), &mut self.rng);
            }
            News::Connected { peer } => {
                if let Some(index) = self.number_of(peer) {
                    self.client.connected(index, peer, now());
                }
            }
            News::Kept { peer, seen } => {
                if let Some(shared) = self.shared.upgrade() {
                    let there = shared.road(&peer).map(|road| shared.original(road.remote));
                    let seen =
                        seen.filter(|seen| there.is_some_and(|there| plausible(*seen, there)));
                    self.client.kept(peer, seen, now());
                }
            }
            News::Look => {
                let due =
                    |(_, (_, _, at)): &(&PeerId, &(Road, u16, Instant))| now() >= *at + LOOK_EVERY;
                let mut peers: Vec<_> =
                    self.observers.iter().filter(due).map(|(peer, _)| *peer).collect();
                // Else a seeded run wouldn't repeat itself.
                peers.sort_unstable();
                if let Some(shared) = self.shared.upgrade() {
                    peers.into_iter().for_each(|peer| self.look(&shared, peer));
                }
            }
            News::Join(target) => {
                if let PeerRef::Signed(signed) = &target
                    && let Err(expired) = signed.check_valid(SystemTime::now())
                {
                    let rendezvous = signed.peer();
                    tracing::warn!(%rendezvous, "{expired}: it serves as a hint to where the rendezvous may be");
                }
                let target = Known::Named(target);
                if !self.known.contains(&target) && self.known.len() < KNOWN_MAX {
                    self.known.push(target);
                    self.client.add(now());
                }
            }
            News::Await(waiter) => self.waiting.push(waiter),
        }
        self.go_on(ctx);
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
