//! Ports, who sits behind whom, and the way of a datagram from one to the other.

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::Waker,
    time::Duration,
};

use foldhash::{HashMap, HashSet};
use parking_lot::Mutex;
use rand::{SeedableRng, rngs::StdRng};
use tokio::time::Instant;

use super::{
    link::{Channel, Fate, Link},
    nat::{Nat, Translator},
    ticks::Ticks,
    wire::MemoryWire,
};
use crate::wire::road::Reach;

/// Bytes on the way to one port beyond which the network drops, as a router's queue would. A guess:
/// the bandwidth-delay product of 1 Gbit/s and 250 ms.
const QUEUE_BYTES_MAX: usize = 32 << 20;

/// A router behind so many others has none of them beyond: they would be a ring.
const ROUTERS_MAX: usize = 8;

/// A network of UDP-like ports inside one process. Clones are the same network.
#[derive(Clone, Debug)]
pub struct MemoryNetwork {
    pub(super) inner: Arc<Mutex<Inner>>,
}

/// A datagram on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Its sender.
    pub from: SocketAddr,
    /// Where others see its sender.
    pub seen_at: SocketAddr,
    /// Where it was sent to.
    pub to: SocketAddr,
    /// What it bears.
    pub bytes: Vec<u8>,
}

/// What was sent, whether it arrived or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// Datagrams.
    pub datagrams: u64,
    /// Their payloads.
    pub bytes: u64,
}

/// A datagram that was sent from one place to another, as [`MemoryNetwork::observe`] tells of it. What a router refuses is not
/// among them.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// When it was sent.
    pub at: Instant,
    /// The place it was sent from, as [`MemoryNetwork::set_link`] has them.
    pub from: IpAddr,
    /// The place it was sent to.
    pub to: IpAddr,
    /// Its payload.
    pub payload: &'a [u8],
    /// What becomes of it.
    pub fate: Fate,
}

type Observe = Box<dyn FnMut(&Sent<'_>) + Send>;

/// Who is told of each datagram.
#[derive(Default)]
struct Observer(Option<Observe>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(&self.0.is_some()).finish()
    }
}

#[derive(Debug)]
pub(super) struct Inner {
    rng: StdRng,
    carried: Carried,
    observer: Observer,
    pub(super) ticks: Option<Ticks>,
    sequence: u64,
    /// In an order, so that a run repeats itself.
    pub(super) ports: BTreeMap<SocketAddr, Port>,
    next_port: u16,
    bound_ever: u64,
    /// Copies of what is sent, from where and to where, while they are kept.
    copies: Option<Vec<Copied>>,
    /// How it is between two places of which nothing else is said.
    link: Link,
    links: HashMap<(IpAddr, IpAddr), Link>,
    channels: HashMap<(IpAddr, IpAddr), Channel>,
    /// From which place nothing passes to which other one.
    cut: HashSet<(IpAddr, IpAddr)>,
    /// What a NAT makes of a port's own address, and the way back.
    mappings: HashMap<SocketAddr, SocketAddr>,
    behind: HashMap<SocketAddr, SocketAddr>,
    routers: HashMap<IpAddr, Translator>,
    /// Behind which router a host, or another router, is.
    gates: HashMap<IpAddr, IpAddr>,
    /// Pairs of routers on one wire outside.
    neighbours: HashSet<(IpAddr, IpAddr)>,
    /// The present addresses of hosts that have moved, and the other way round.
    moved: HashMap<IpAddr, IpAddr>,
    bound: HashMap<IpAddr, IpAddr>,
}

#[derive(Debug, Default)]
pub(super) struct Port {
    /// Which of those that were bound here it is.
    pub(super) number: u64,
    /// Ordered by time of arrival, then by order of sending.
    pub(super) queue: BTreeMap<(Instant, u64), (SocketAddr, Vec<u8>)>,
    pub(super) queued_bytes: usize,
    pub(super) waker: Option<Waker>,
}

fn pair(a: IpAddr, b: IpAddr) -> (IpAddr, IpAddr) {
    (a.min(b), a.max(b))
}

impl MemoryNetwork {
    /// A network without loss or latency; `seed` decides whatever chance decides.
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            rng: StdRng::seed_from_u64(seed),
            carried: Carried::default(),
            observer: Observer::default(),
            ticks: None,
            sequence: 0,
            ports: BTreeMap::new(),
            next_port: 49152,
            bound_ever: 0,
            copies: None,
            link: Link::default(),
            links: HashMap::default(),
            channels: HashMap::default(),
            cut: HashSet::default(),
            mappings: HashMap::default(),
            behind: HashMap::default(),
            routers: HashMap::default(),
            gates: HashMap::default(),
            neighbours: HashSet::default(),
            moved: HashMap::default(),
            bound: HashMap::default(),
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// How it is from now on between places of which [`MemoryNetwork::set_link`] says nothing else.
    pub fn set_links(&self, link: Link) {
        self.inner.lock().link = link;
    }

    /// How it is from now on between two places: public hosts, or routers by their outside addresses; inside one network,
    /// hosts.
    pub fn set_link(&self, a: IpAddr, b: IpAddr, link: Link) {
        self.inner.lock().links.insert(pair(a, b), link);
    }

    /// The one-way latency of packets sent from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.inner.lock().link.latency = latency;
    }

    /// The share of packets lost from now on, 0 to 1.
    pub fn set_loss(&self, share: f64) {
        self.inner.lock().link.loss = share.clamp(0.0, 1.0);
    }

    /// Cuts (or heals) the network between two hosts, or places as [`MemoryNetwork::set_link`] has them; packets already
    /// on the way still arrive.
    pub fn set_cut(&self, a: IpAddr, b: IpAddr, cut: bool) {
        self.set_cut_towards(a, b, cut);
        self.set_cut_towards(b, a, cut);
    }

    /// The same in one direction alone: what goes from `from` to `to` is lost.
    pub fn set_cut_towards(&self, from: IpAddr, to: IpAddr, cut: bool) {
        let mut inner = self.inner.lock();
        if cut {
            inner.cut.insert((from, to))
        } else {
            inner.cut.remove(&(from, to))
        };
    }

    /// Cuts (or heals) the network between two groups of them.
    pub fn set_partition(&self, here: &[IpAddr], there: &[IpAddr], cut: bool) {
        for a in here {
            for b in there {
                self.set_cut(*a, *b, cut);
            }
        }
    }

    /// From now on the port at `own` is seen at `public`, and reached there alone: what a NAT does when it
    /// forgets a mapping and makes another.
    pub fn set_mapping(&self, own: SocketAddr, public: SocketAddr) {
        let mut inner = self.inner.lock();
        inner.behind.insert(public, own);
        if let Some(old) = inner.mappings.insert(own, public) {
            inner.behind.remove(&old);
        }
    }

    /// A router at `outside` (for a firewall, which has no address, that is only its name).
    pub fn add_nat(&self, outside: IpAddr, nat: Nat) {
        self.inner.lock().routers.insert(outside, Translator::new(nat, outside));
    }

    /// Puts a host, or a router by its outside address, behind the router at `outside`: nobody beyond reaches it but
    /// through that. It leaves the router behind which it was.
    pub fn place_behind(&self, inside: IpAddr, outside: IpAddr) {
        self.inner.lock().gates.insert(inside, outside);
    }

    /// Two routers are on one wire outside: what has passed the one and gets no further than the next is seen by the other.
    pub fn set_neighbours(&self, a: IpAddr, b: IpAddr) {
        self.inner.lock().neighbours.insert(pair(a, b));
    }

    /// Makes a router forget all of its mappings, as a restart does.
    pub fn restart_nat(&self, outside: IpAddr) {
        if let Some(router) = self.inner.lock().routers.get_mut(&outside) {
            router.forget();
        }
    }

    /// The host that listens at `bound` has the address `now` from now on, and its former one no more. Its sockets aren't
    /// told, as those bound to all addresses aren't.
    pub fn readdress(&self, bound: IpAddr, now: IpAddr) {
        let mut inner = self.inner.lock();
        if let Some(before) = inner.moved.insert(bound, now) {
            inner.bound.remove(&before);
        }
        inner.bound.insert(now, bound);
    }

    /// Takes its port from whoever is bound to `address`, as the system does with a process that is killed: that says nothing any
    /// more and hears nothing, and the address is free.
    pub fn unplug(&self, address: SocketAddr) {
        self.inner.lock().ports.remove(&address);
    }

    /// Copies of all that was sent since the last call, which is the first one that keeps any: from where, as its sender and as others
    /// see it, and to where.
    pub fn overhear(&self) -> Vec<Copied> {
        self.inner.lock().copies.replace(Vec::new()).unwrap_or_default()
    }

    /// What was sent so far, by anybody.
    pub fn carried(&self) -> Carried {
        self.inner.lock().carried
    }

    /// Has `observer` told of each datagram that is sent from now on, in the place of any former one. It is called while the
    /// network is locked, and must not call that.
    pub fn observe(&self, observer: impl FnMut(&Sent<'_>) + Send + 'static) {
        self.inner.lock().observer = Observer(Some(Box::new(observer)));
    }

    /// Sends raw bytes from any address, as a spoofing stranger would.
    pub fn inject(&self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        self.inner.lock().send(from, to, datagram);
    }

    /// Takes `address`; port 0 takes a free one.
    pub(crate) fn attach(&self, mut address: SocketAddr) -> io::Result<MemoryWire> {
        let mut inner = self.inner.lock();
        if address.ip().is_unspecified() {
            let e = "the memory network has no interfaces: name the address of this host";
            return Err(io::Error::new(io::ErrorKind::AddrNotAvailable, e));
        }
        while address.port() == 0 {
            let candidate = SocketAddr::new(address.ip(), inner.next_port);
            inner.next_port = inner.next_port.checked_add(1).unwrap_or(49152);
            if !inner.ports.contains_key(&candidate) {
                address = candidate;
            }
        }
        if inner.ports.contains_key(&address) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        inner.bound_ever += 1;
        let number = inner.bound_ever;
        inner.ports.insert(address, Port { number, ..Port::default() });
        Ok(MemoryWire::new(self.clone(), address, number))
    }
}

/// Where a datagram is seen on the link that carries it, and where it ends.
struct Way {
    from: SocketAddr,
    places: (IpAddr, IpAddr),
    to: SocketAddr,
}

impl Inner {
    /// Sends from a bound port, or from any address.
    pub(super) fn send(&mut self, from: SocketAddr, to: SocketAddr, datagram: &[u8]) {
        self.carried.datagrams += 1;
        self.carried.bytes += datagram.len() as u64;
        let now = Instant::now();
        let ip = self.moved.get(&from.ip()).copied().unwrap_or(from.ip());
        let own = SocketAddr::new(ip, from.port());
        let Some(way) = self.way(own, to, now) else { return };
        if let Some(copies) = &mut self.copies {
            copies.push(Copied { from, seen_at: way.from, to, bytes: datagram.to_vec() });
        }
        let (a, b) = way.places;
        let link = self.links.get(&pair(a, b)).unwrap_or(&self.link);
        let channel = self.channels.entry((a, b)).or_insert_with(|| Channel::new(now));
        let mut fate = channel.send(link, datagram.len(), now, &mut self.rng);
        let cut = |a, b| self.cut.contains(&(a, b));
        if !self.cut.is_empty()
            && (cut(a, b) || cut(own.ip(), way.to.ip()) || cut(from.ip(), way.to.ip()))
        {
            fate = Fate::Cut;
        }
        if let Some(observe) = &mut self.observer.0 {
            observe(&Sent { at: now, from: a, to: b, payload: datagram, fate });
        }
        let Fate::Arrives(at) = fate else { return };
        // Sockets are found where they were bound.
        let bound = self.bound.get(&way.to.ip()).copied();
        if bound.is_none() && self.moved.contains_key(&way.to.ip()) {
            return;
        }
        let to = SocketAddr::new(bound.unwrap_or(way.to.ip()), way.to.port());
        self.sequence += 1;
        let key = (at, self.sequence);
        let Some(port) = self.ports.get_mut(&to) else { return };
        if port.queued_bytes + datagram.len() > QUEUE_BYTES_MAX {
            return;
        }
        port.queued_bytes += datagram.len();
        let first = port.queue.first_key_value().is_none_or(|(first, _)| key < *first);
        port.queue.insert(key, (way.from, datagram.to_vec()));
        // Whoever waits for an earlier one is woken by that.
        if first && let Some(waker) = port.waker.take() {
            waker.wake();
        }
    }

    /// Sends what passes one router, or none, and gets no further.
    pub(super) fn send_short(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
        reach: Reach,
    ) {
        let ip = self.moved.get(&from.ip()).copied().unwrap_or(from.ip());
        let Some(gate) = self.gates.get(&ip).copied() else { return };
        if self.gates.get(&to.ip()) == Some(&gate) {
            // In the same network there is no router in between.
            return self.send(from, to, datagram);
        }
        let (own, now) = (SocketAddr::new(ip, from.port()), Instant::now());
        let Some(router) = self.routers.get_mut(&gate) else { return };
        self.carried.datagrams += 1;
        self.carried.bytes += datagram.len() as u64;
        if reach == Reach::Home {
            return router.refresh(own, to, now);
        }
        let there = router.outbound(own, to, now, &mut self.rng);
        let next = self.neighbours.contains(&pair(gate, to.ip()));
        if let Some(router) = self.routers.get_mut(&to.ip()).filter(|_| next) {
            // It gets no further, but that router has seen it.
            router.inbound(to, there, now);
        }
    }

    /// Out through the routers in front of the sender, as far as need be, and in through those of the receiver.
    fn way(&mut self, mut from: SocketAddr, to: SocketAddr, now: Instant) -> Option<Way> {
        let mut node = from.ip();
        for _ in 0..ROUTERS_MAX {
            let Some(gate) = self.gates.get(&node).copied() else { break };
            if self.gates.get(&to.ip()) == Some(&gate) {
                // In the same network.
                return self.inwards(from, to, Some(gate), now);
            }
            let router = self.routers.get_mut(&gate)?;
            let there = router.outbound(from, to, now, &mut self.rng);
            if router.translates() && to.ip() == gate {
                if !router.hairpin() {
                    return None;
                }
                let to = router.inbound(to, there, now)?;
                return self.inwards(there, to, Some(gate), now);
            }
            (from, node) = (there, gate);
        }
        from = self.mappings.get(&from).copied().unwrap_or(from);
        let to = match self.behind.get(&to) {
            Some(own) => *own,
            None if self.mappings.contains_key(&to) => return None,
            None => to,
        };
        self.inwards(from, to, None, now)
    }

    /// From a place inside the router `scope`, or outside of all, to a host there or behind more routers.
    fn inwards(
        &mut self,
        from: SocketAddr,
        mut to: SocketAddr,
        mut scope: Option<IpAddr>,
        now: Instant,
    ) -> Option<Way> {
        let places = (from.ip(), to.ip());
        for _ in 0..ROUTERS_MAX {
            let gate = self.gates.get(&to.ip()).copied();
            if gate != scope {
                // It may be behind a firewall that is here.
                let gate = gate.filter(|gate| self.gates.get(gate).copied() == scope)?;
                let firewall = self.routers.get_mut(&gate).filter(|r| !r.translates())?;
                firewall.inbound(to, from, now)?;
            }
            let outside = to.ip();
            match self.routers.get_mut(&outside).filter(|router| router.translates()) {
                Some(router) => {
                    to = router.inbound(to, from, now)?;
                    scope = Some(outside);
                }
                None => return Some(Way { from, places, to }),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::IoSliceMut,
        task::{Context, Waker},
    };

    use quinn::udp::RecvMeta;

    use super::*;

    fn receive(wire: &MemoryWire) -> Option<(SocketAddr, Vec<u8>)> {
        let mut buffer = [0; 64];
        let mut metas = [RecvMeta::default()];
        let mut cx = Context::from_waker(Waker::noop());
        let polled = wire.poll_recv(&mut cx, &mut [IoSliceMut::new(&mut buffer)], &mut metas);
        polled.is_ready().then(|| (metas[0].addr, buffer[..metas[0].len].to_vec()))
    }

    #[tokio::test(start_paused = true)]
    async fn packets_arrive_after_the_latency_and_a_cut_stops_them() {
        let network = MemoryNetwork::new(1);
        network.set_latency(Duration::from_millis(20));
        let (a, b) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap());
        let wire = network.attach(b).unwrap();
        network.inject(a, b, b"one");
        assert_eq!(receive(&wire), None);
        tokio::time::sleep(Duration::from_millis(21)).await;
        assert_eq!(receive(&wire), Some((a, b"one".to_vec())));
        network.set_cut(a.ip(), b.ip(), true);
        network.inject(a, b, b"two");
        tokio::time::sleep(Duration::from_millis(21)).await;
        assert_eq!(receive(&wire), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_taken_once_and_free_again_after_a_drop() {
        let network = MemoryNetwork::new(1);
        let first = network.attach("10.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr();
        assert!(network.attach(address).is_err());
        drop(first);
        assert!(network.attach(address).is_ok());
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn behind_two_routers_a_host_is_seen_at_the_outer_one_and_answers_find_it() {
        let network = MemoryNetwork::new(1);
        network.add_nat(ip("100.64.0.1"), Nat::port_restricted());
        network.add_nat(ip("198.51.100.1"), Nat::symmetric());
        network.place_behind(ip("10.0.0.1"), ip("100.64.0.1"));
        network.place_behind(ip("100.64.0.1"), ip("198.51.100.1"));
        let host = network.attach(at("10.0.0.1:1000")).unwrap();
        let server = network.attach(at("203.0.113.1:1")).unwrap();
        network.inject(at("203.0.113.1:1"), at("10.0.0.1:1000"), b"private");
        network.inject(at("203.0.113.1:1"), at("198.51.100.1:1000"), b"no mapping");
        assert_eq!(receive(&host), None);
        network.inject(host.local_addr(), server.local_addr(), b"out");
        let (seen, _) = receive(&server).unwrap();
        assert_eq!(seen.ip(), ip("198.51.100.1"));
        network.inject(at("203.0.113.2:1"), seen, b"stranger");
        network.inject(server.local_addr(), seen, b"in");
        assert_eq!(receive(&host), Some((server.local_addr(), b"in".to_vec())));
        assert_eq!(receive(&host), None);
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_behind_one_router_meet_inside_and_by_hairpin_only_if_it_does_that() {
        let network = MemoryNetwork::new(1);
        let outside = ip("198.51.100.1");
        let [a, b] = ["10.0.0.1:1", "10.0.0.2:1"].map(at);
        for hairpin in [false, true] {
            network.add_nat(outside, Nat { hairpin, ..Nat::full_cone() });
            network.place_behind(a.ip(), outside);
            network.place_behind(b.ip(), outside);
            let wires = [a, b].map(|address| network.attach(address).unwrap());
            network.inject(a, b, b"inside");
            assert_eq!(receive(&wires[1]), Some((a, b"inside".to_vec())));
            network.inject(b, at("203.0.113.1:1"), b"opens its port");
            network.inject(a, SocketAddr::new(outside, 1), b"hairpin");
            let seen = SocketAddr::new(outside, 2);
            assert_eq!(receive(&wires[1]), hairpin.then(|| (seen, b"hairpin".to_vec())));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_arrives_nowhere_opens_the_own_router_and_is_seen_by_a_neighbour() {
        for neighbours in [false, true] {
            let network = MemoryNetwork::new(1);
            let [a, b] = ["10.0.0.1:1000", "10.0.0.2:2000"].map(at);
            let [near, far] = ["198.51.100.1:1000", "198.51.100.2:2000"].map(at);
            for (host, router) in [(a, near), (b, far)] {
                network.add_nat(router.ip(), Nat { accepts: true, ..Nat::port_restricted() });
                network.place_behind(host.ip(), router.ip());
            }
            if neighbours {
                network.set_neighbours(near.ip(), far.ip());
            }
            let wires = [a, b].map(|address| network.attach(address).unwrap());
            let send_short = |reach| network.inner.lock().send_short(a, far, b"short", reach);
            send_short(Reach::Near);
            assert_eq!(receive(&wires[1]), None);
            network.inject(b, near, b"answer");
            // The neighbour took it for its own, and gave the host another port.
            assert_eq!(receive(&wires[0]).is_none(), neighbours);
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_secs(10)).await;
                send_short(Reach::Home);
            }
            network.inject(b, near, b"call");
            assert_eq!(receive(&wires[0]), Some((far, b"call".to_vec())));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_firewall_lets_answers_in_and_a_host_that_moved_is_elsewhere() {
        let network = MemoryNetwork::new(1);
        let (host, server) = (at("198.51.100.7:1"), at("203.0.113.1:1"));
        network.add_nat(ip("192.0.2.1"), Nat::firewall());
        network.place_behind(host.ip(), ip("192.0.2.1"));
        let wires = [host, server].map(|address| network.attach(address).unwrap());
        network.inject(server, host, b"refused");
        assert_eq!(receive(&wires[0]), None);
        network.inject(host, server, b"out");
        assert_eq!(receive(&wires[1]), Some((host, b"out".to_vec())));
        network.inject(server, host, b"in");
        assert_eq!(receive(&wires[0]), Some((server, b"in".to_vec())));
        let elsewhere = at("198.51.100.8:1");
        network.readdress(host.ip(), elsewhere.ip());
        network.inject(host, server, b"moved");
        assert_eq!(receive(&wires[1]), Some((elsewhere, b"moved".to_vec())));
        network.inject(server, host, b"too late");
        assert_eq!(receive(&wires[0]), None);
        network.inject(server, elsewhere, b"here");
        assert_eq!(receive(&wires[0]), Some((server, b"here".to_vec())));
    }
}
