//! Handles and roads: which addresses QUIC sees, and where datagrams really go.
//!
//! docs/architecture.md. QUIC sees *handles*. An unproven direct source is its own handle (its literal
//! address, IPv4 mapped) and nothing is stored for it. A dialled peer gets a random unique-local handle.
//! What comes in is matched by the connection id it carries, across roads; what goes out goes where the
//! handle's active *road* leads. Every entry here belongs to a connection and goes with it, so the
//! number of connections bounds the table.

mod handle;
mod unproven;

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::udp::Transmit;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use siphasher::sip::SipHasher13;

pub(crate) use handle::{Mirror, Sending, Way};

use self::{
    handle::{Handle, Stage},
    unproven::Unproven,
};
use super::table::{Table, table};
use crate::{
    interfaces::may_be_own,
    quic::{acks::Acks, cid::Cid},
    relay::legs::Legs,
    tunnel::is_far_end,
    wire::{
        relay_frame::FlowToken,
        road::{Road, Source},
    },
};

/// The first 48 bits of a dialled peer's handle: unique-local (RFC 4193), "webm" as its global id, and
/// zero. Only this process sees them; a datagram from a real host in this network is refused.
const DIALLED: [u16; 3] = [0xfd77, 0x6562, 0x6d00];

/// Whether `handle` stands for a peer that was dialled.
pub(crate) fn is_dialled(handle: SocketAddr) -> bool {
    matches!(handle.ip(), IpAddr::V6(ip) if ip.segments()[..3] == DIALLED)
}

/// Whether `handle` stands for a newcomer where a connection stood already.
pub(crate) fn is_beside(handle: SocketAddr) -> bool {
    matches!(handle, SocketAddr::V6(v6) if v6.flowinfo() & !SIBLING_MASK != 0)
}

/// The first 48 bits of the handle of a source beyond a relay: as above, and one. A socket and a flow's token follow.
const RELAYED: [u16; 3] = [0xfd77, 0x6562, 0x6d01];

/// Connections at one source that are known by it, and may each be handed a copy of what might be for any of them. A guess: both sides
/// dialled, and the peer restarted a few times.
const OWNERS_MAX: usize = 8;

/// The bits of a literal handle's flow label that say which socket of its family it belongs to. The others tell connections apart that
/// come from one source.
const SIBLING_MASK: u32 = 0xff;

/// What a datagram with one of our connection ids means for its handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    /// It belongs to this handle.
    Handle(SocketAddr),
    /// It must not reach its connection: a Retry from a second road.
    Refused,
    /// No connection has this id.
    Unknown,
}

/// The table of handles, sources and connection ids.
#[derive(Debug)]
pub(crate) struct Handles {
    rng: StdRng,
    /// Tells the connections of one source apart.
    apart: SipHasher13,
    /// Local address of each socket.
    wires: Vec<SocketAddr>,
    handles: Table<SocketAddr, Handle>,
    cids: Table<Cid, SocketAddr>,
    /// Handles whose proven roads lead to a source, newest last.
    sources: Table<Source, Vec<SocketAddr>>,
    /// The flows through relays.
    pub(crate) legs: Legs,
    /// Watched handles to which something was sent that isn't known to have arrived.
    waiting: Vec<SocketAddr>,
}

impl Handles {
    pub(crate) fn new(wires: Vec<SocketAddr>, seed: Option<u64>) -> Self {
        let mut rng = match seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => StdRng::from_rng(&mut rand::rng()),
        };
        Self {
            apart: SipHasher13::new_with_key(&rng.random()),
            rng,
            wires,
            handles: table(),
            cids: table(),
            sources: table(),
            legs: Legs::default(),
            waiting: Vec::new(),
        }
    }

    /// A socket was adopted at this index, or another in its place.
    pub(crate) fn adopt(&mut self, wire: usize, local: SocketAddr) {
        match self.wires.get_mut(wire) {
            Some(known) => *known = local,
            None => self.wires.push(local),
        }
    }

    /// The socket that can send to `remote`: the first of its family that isn't confined to this machine.
    pub(crate) fn wire_to(&self, remote: SocketAddr) -> Option<usize> {
        let family = |local: &SocketAddr| local.is_ipv4() == remote.is_ipv4();
        let usable = |local: &SocketAddr| {
            family(local) && !is_far_end(*local) && reaches(local.ip(), remote.ip())
        };
        self.wires.iter().position(usable)
    }

    /// A new handle for a dial along `roads`. It lives until [`Handles::abandon`], or as long as the
    /// connection ids that [`Handles::attach`] gives it.
    pub(crate) fn dial(&mut self, roads: Vec<Road>) -> SocketAddr {
        let [a, b, c] = DIALLED;
        let [d, e, f, g, h] = self.rng.random::<[u16; 5]>();
        let handle = SocketAddr::new(Ipv6Addr::new(a, b, c, d, e, f, g, h).into(), 1);
        self.handles.insert(handle, Handle::new(roads, Stage::Racing));
        handle
    }

    /// Gives up a handle that no connection came to use.
    pub(crate) fn abandon(&mut self, handle: SocketAddr) {
        if self.handles.get(&handle).is_some_and(|entry| entry.users == 0) {
            self.remove(handle);
        }
    }

    /// Datagrams to `cid` are of `handle` from now on. A literal handle keeps sending from `local`.
    pub(crate) fn attach(&mut self, cid: Cid, handle: SocketAddr, local: Option<IpAddr>) {
        if !self.handles.contains_key(&handle) {
            let Some(road) = literal_road(handle, local, &self.wires, &self.legs) else { return };
            let stage = Stage::Settled { road: 0 };
            self.handles.insert(handle, Handle::new(vec![road], stage));
        }
        if let Some(entry) = self.handles.get_mut(&handle) {
            entry.users += 1;
            self.cids.insert(cid, handle);
        }
    }

    /// The connection with `cid` completed its handshake: the source address it came from is proven.
    pub(crate) fn settle(&mut self, cid: &Cid) {
        let Some(&handle) = self.cids.get(cid) else { return };
        let Some(entry) = self.handles.get_mut(&handle) else { return };
        let road = match entry.stage {
            Stage::Racing => 0,
            Stage::Pinned { road, .. } | Stage::Settled { road } => road,
        };
        entry.stage = Stage::Settled { road };
        entry.authenticated = true;
        let Some(road) = entry.roads.get(road).copied() else { return };
        self.bind(road, handle);
    }

    /// What comes along a proven road is of the connection behind this settled handle from now on, whichever road leads
    /// there: the peer chooses its own. Its place among the roads; at most [`ROADS_MAX`] are kept, the oldest inactive
    /// one goes.
    pub(crate) fn recognise(&mut self, handle: SocketAddr, road: Road) -> Option<usize> {
        let entry = self.handles.get_mut(&handle)?;
        let Stage::Settled { road: mut active } = entry.stage else { return None };
        let same = |known: &Road| known.source() == road.source();
        let mut forgotten = None;
        let index = entry.roads.iter().position(same).unwrap_or_else(|| {
            if entry.roads.len() >= ROADS_MAX {
                let oldest = usize::from(active == 0);
                forgotten = Some(entry.roads.remove(oldest));
                active -= usize::from(oldest < active);
            }
            entry.roads.push(road);
            entry.roads.len() - 1
        });
        // The peer may know this host by another of its addresses by now.
        if let Some(known) = entry.roads.get_mut(index) {
            known.local = road.local.or(known.local);
        }
        entry.stage = Stage::Settled { road: active };
        if let Some(old) = forgotten {
            self.unbind(old, handle);
        }
        self.bind(road, handle);
        Some(index)
    }

    /// Makes a proven road of a settled handle the active one.
    pub(crate) fn switch(&mut self, handle: SocketAddr, road: Road) {
        let Some(index) = self.recognise(handle, road) else { return };
        if let Some(entry) = self.handles.get_mut(&handle) {
            entry.stage = Stage::Settled { road: index };
            // What was sent along another one is of no interest any more.
            (entry.unproven, entry.questioned) = (Unproven::default(), None);
        }
    }

    /// This host hasn't got the address `local` any more: what was sent from it leaves by whichever the system chooses.
    pub(crate) fn forget_local(&mut self, local: IpAddr) {
        for road in self.handles.values_mut().flat_map(|entry| &mut entry.roads) {
            road.local = road.local.filter(|known| *known != local);
        }
    }

    /// The connection with `cid` is gone.
    pub(crate) fn release(&mut self, cid: &Cid) {
        let Some(handle) = self.cids.remove(cid) else { return };
        if let Some(entry) = self.handles.get_mut(&handle) {
            entry.users = entry.users.saturating_sub(1);
            if entry.users == 0 {
                self.remove(handle);
            }
        }
    }

    /// Where to send what QUIC addresses to `handle`.
    pub(crate) fn way(&self, handle: SocketAddr, local: Option<IpAddr>) -> Way<'_> {
        match self.handles.get(&handle) {
            Some(entry) => entry.way(),
            None => literal_way(handle, local, &self.wires, &self.legs),
        }
    }

    /// The same for what is being sent, which is noted if it goes along one road.
    pub(crate) fn sending(&mut self, transmit: &Transmit<'_>) -> (Way<'_>, Sending) {
        let (handle, local) = (transmit.destination, transmit.src_ip);
        let Some(entry) = self.handles.get_mut(&handle) else {
            let way = literal_way(handle, local, &self.wires, &self.legs);
            return (way, Sending::default());
        };
        let sending = match entry.stage {
            Stage::Racing => Sending::default(),
            Stage::Pinned { .. } | Stage::Settled { .. } => {
                entry.sending(&mut self.waiting, transmit)
            }
        };
        (entry.way(), sending)
    }

    /// Keeps (or forgets) the last datagrams that are sent to `handle`.
    pub(crate) fn keep_echo(&mut self, handle: SocketAddr, keep: bool) {
        if let Some(entry) = self.handles.get_mut(&handle) {
            entry.echo_kept = keep;
            if keep {
                entry.keep(now());
            } else {
                entry.keep_no_longer();
            }
        }
    }

    /// Forgets the last datagrams that were sent to `handle`, unless somebody keeps them: the peer's acknowledgments of what was repeated
    /// may go along a dead road yet.
    pub(crate) fn forget_echo(&mut self, handle: SocketAddr) {
        if let Some(entry) = self.handles.get_mut(&handle)
            && !entry.echo_kept
            && entry.mirror.is_none()
        {
            entry.echo = None;
        }
    }

    /// What is sent to `handle` goes along another road too from now on, or no longer. The last datagrams before that are to
    /// be sent there now.
    pub(crate) fn mirror(&mut self, handle: SocketAddr, mirror: Option<Mirror>) -> Vec<Vec<u8>> {
        let now = now();
        let Some(entry) = self.handles.get_mut(&handle) else { return Vec::new() };
        entry.mirror = mirror.map(Box::new);
        if entry.mirror.is_none() {
            entry.keep_no_longer();
            if let Some(acks) = &entry.acks {
                acks.alone(now);
            }
            return Vec::new();
        }
        entry.keep(now);
        if let (Some(acks), Some(since)) = (&entry.acks, entry.echo_since) {
            acks.mirrored(since);
        }
        let Some(echo) = &mut entry.echo else { return Vec::new() };
        echo.iter_mut().for_each(|(_, mirrored)| *mirrored = true);
        echo.iter().map(|(datagram, _)| datagram.clone()).collect()
    }

    /// Whether the road in use by `handle` takes datagrams as long as QUIC's get.
    pub(crate) fn set_whole(&mut self, handle: SocketAddr, whole: bool) {
        if let Some(entry) = self.handles.get_mut(&handle) {
            entry.whole = whole;
        }
    }

    /// The same, asked; of a stranger nothing is known.
    pub(crate) fn is_whole(&self, handle: SocketAddr) -> bool {
        self.handles.get(&handle).is_none_or(|entry| entry.whole)
    }

    /// Who knows what arrives along the road in use by `handle`.
    pub(crate) fn heed(&mut self, handle: SocketAddr, acks: Arc<Acks>) {
        if let Some(entry) = self.handles.get_mut(&handle) {
            entry.acks = Some(acks);
        }
    }

    /// Whether it is of interest that something doesn't arrive along the road in use by `handle`.
    pub(crate) fn watch(&mut self, handle: SocketAddr, watched: bool) {
        if let Some(entry) = self.handles.get_mut(&handle) {
            entry.watched = watched;
        }
    }

    /// How long something that was sent to `handle` may go without an acknowledgement.
    pub(crate) fn set_patience(&mut self, handle: SocketAddr, patience: Duration) {
        if let Some(entry) = self.handles.get_mut(&handle) {
            entry.patience = patience;
        }
    }

    /// The watched handles about which a question is to be asked: what was sent to them, and when, isn't known to have arrived, and should
    /// be, if an acknowledgement can be counted on.
    /// Whether any others wait, to be looked at again. Of one that has waited for half of its time, the last datagrams are kept:
    /// QUIC may send too few later, for want of acknowledgements.
    pub(crate) fn unproven(&mut self, now: Instant) -> (Vec<(SocketAddr, Option<Instant>)>, bool) {
        let mut questions = Vec::new();
        let handles = &mut self.handles;
        self.waiting.retain(|handle| {
            let Some(entry) = handles.get_mut(handle) else { return false };
            entry.unproven.proven(entry.proven());
            let Some(since) = entry.unproven.oldest().filter(|_| entry.watched) else {
                (entry.waiting, entry.questioned) = (false, None);
                entry.unproven = Unproven::default();
                entry.keep_no_longer();
                return false;
            };
            let before = entry.questioned.map_or(since, |questioned| questioned.max(since));
            let short = entry.unproven.is_short();
            let patience = if short { PATIENCE_MIN.min(entry.patience) } else { entry.patience };
            if now >= before + patience {
                entry.questioned = Some(now);
                questions.push((*handle, (!short).then_some(since)));
            }
            if now >= since + entry.patience / 2 {
                entry.keep(now);
            }
            true
        });
        (questions, !self.waiting.is_empty())
    }

    /// The road in use by `handle`, and the id by which the peer knows the connection.
    pub(crate) fn peer_cid(&self, handle: SocketAddr) -> Option<(Road, Cid)> {
        Some((self.active(handle)?, self.handles.get(&handle)?.peer_cid?))
    }

    /// The datagrams kept for `handle`, but for those that went along the road in use by mirroring, and that road.
    pub(crate) fn echo(&self, handle: SocketAddr) -> Option<(Road, Vec<Vec<u8>>)> {
        let entry = self.handles.get(&handle)?;
        let road = self.active(handle)?;
        let mirror = entry.mirror.as_ref();
        let went = mirror.is_some_and(|mirror| mirror.road.source() == road.source());
        let echo = entry.echo.as_ref()?.iter().filter(|(_, mirrored)| !(went && *mirrored));
        Some((road, echo.map(|(datagram, _)| datagram.clone()).collect()))
    }

    /// Whether something was sent to a host at `ip`, as far as that is remembered: it is a peer, or is being dialled.
    pub(crate) fn is_contacted(&self, ip: IpAddr) -> bool {
        let there = |road: &Road| road.flow.is_none() && road.remote.ip() == ip;
        self.handles.values().any(|entry| entry.roads.iter().any(there))
    }

    /// The road in use by `handle`.
    pub(crate) fn active(&self, handle: SocketAddr) -> Option<Road> {
        match self.way(handle, None) {
            Way::One(road) => Some(road),
            Way::Each(roads) => roads.first().copied(),
            Way::Nowhere => None,
        }
    }

    /// A datagram for `cid` came.
    pub(crate) fn short(&self, cid: &Cid) -> Match {
        self.cids.get(cid).map_or(Match::Unknown, |handle| Match::Handle(*handle))
    }

    /// The handle of what came for `cid` from `source`, if there is no doubt: that of the id, or the only one whose proven
    /// roads lead there.
    pub(super) fn one(&self, cid: &Cid, source: Source) -> Option<SocketAddr> {
        if let Match::Handle(handle) = self.short(cid) {
            return Some(handle);
        }
        let [owner] = *self.at(source) else { return None };
        Some(owner)
    }

    /// A handshake packet to `destination` came from `source`. The first answer to a dial decides
    /// its road; a Retry does so for good.
    pub(crate) fn long(&mut self, destination: &[u8], source: Source, retry: bool) -> Match {
        let Some(handle) = Cid::try_from(destination).ok().and_then(|cid| self.cids.get(&cid))
        else {
            return Match::Unknown;
        };
        let handle = *handle;
        let Some(entry) = self.handles.get_mut(&handle) else { return Match::Handle(handle) };
        let from = entry.roads.iter().position(|road| road.source() == source);
        match (entry.stage, from) {
            (Stage::Racing, Some(road)) => {
                entry.stage = Stage::Pinned { road, by_retry: retry };
                Match::Handle(handle)
            }
            (Stage::Pinned { road, by_retry: false }, Some(from)) if retry && road == from => {
                entry.stage = Stage::Pinned { road, by_retry: true };
                Match::Handle(handle)
            }
            // QUIC accepts one Retry; a second, and one from elsewhere, would end the handshake.
            _ if retry => Match::Refused,
            // The token is only good at the address that gave it.
            (Stage::Pinned { road, by_retry: true }, from) if from != Some(road) => Match::Refused,
            _ => Match::Handle(handle),
        }
    }

    /// The handles whose proven roads lead to `source`.
    pub(crate) fn at(&self, source: Source) -> &[SocketAddr] {
        self.sources.get(&source).map_or(&[], Vec::as_slice)
    }

    /// The handle of an unproven source: its literal address, or the token of its flow. Nothing is stored. Where a connection
    /// is there already, a newcomer that names the connection id `destination` is told apart from it.
    pub(crate) fn literal(&self, source: Source, destination: &[u8]) -> Option<SocketAddr> {
        if let Some(FlowToken(token)) = source.flow {
            let [a, b, c] = RELAYED;
            let wire = u128::from(u16::try_from(source.wire).ok()?);
            let network = Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0);
            let address = Ipv6Addr::from(network.to_bits() | wire << 64 | u128::from(token));
            return Some(self.apart(SocketAddrV6::new(address, 1, 0, 0), destination));
        }
        let (wire, remote) = (source.wire, source.remote);
        let port = remote.port();
        let address = match remote.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) if [DIALLED, RELAYED].iter().any(|n| ip.segments()[..3] == *n) => {
                return None;
            }
            IpAddr::V6(ip) => ip,
        };
        let scope = if let SocketAddr::V6(v6) = remote { v6.scope_id() } else { 0 };
        let local = self.wires.get(wire)?;
        let sibling = self.wires[..wire].iter().filter(|w| w.is_ipv4() == local.is_ipv4()).count();
        let flow = u32::try_from(sibling).ok().filter(|sibling| *sibling <= SIBLING_MASK)?;
        Some(self.apart(SocketAddrV6::new(address, port, flow, scope), destination))
    }

    /// NATs give a port that one host had to another, and a host that restarted comes back from the same: a newcomer's connection must
    /// not share its handle with the former one, whose roads are others. It is told apart by a hash of the connection id that its
    /// first packets name, in the upper bits of the flow label. While the former one's own handshake goes on, what comes from
    /// there may be that.
    fn apart(&self, mut plain: SocketAddrV6, destination: &[u8]) -> SocketAddr {
        if self.handles.get(&plain.into()).is_some_and(|known| known.authenticated) {
            let hash = self.apart.hash(destination) as u32;
            plain.set_flowinfo(plain.flowinfo() | (hash & !SIBLING_MASK).max(SIBLING_MASK + 1));
        }
        plain.into()
    }

    fn bind(&mut self, road: Road, handle: SocketAddr) {
        let owners = self.sources.entry(road.source()).or_default();
        owners.retain(|owner| *owner != handle);
        if owners.len() >= OWNERS_MAX {
            // Its connection is known by its ids all the same.
            owners.remove(0);
        }
        owners.push(handle);
    }

    fn unbind(&mut self, road: Road, handle: SocketAddr) {
        if let Some(owners) = self.sources.get_mut(&road.source()) {
            owners.retain(|owner| *owner != handle);
            if owners.is_empty() {
                self.sources.remove(&road.source());
            }
        }
    }

    fn remove(&mut self, handle: SocketAddr) {
        let Some(entry) = self.handles.remove(&handle) else { return };
        for road in entry.roads {
            self.unbind(road, handle);
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.handles.is_empty() && self.cids.is_empty() && self.sources.is_empty()
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Where to send what is addressed to a handle that nothing is known of.
fn literal_way<'a>(
    handle: SocketAddr,
    local: Option<IpAddr>,
    wires: &[SocketAddr],
    legs: &Legs,
) -> Way<'a> {
    literal_road(handle, local, wires, legs).map_or(Way::Nowhere, Way::One)
}

/// The road that a literal handle spells out.
fn literal_road(
    handle: SocketAddr,
    local: Option<IpAddr>,
    wires: &[SocketAddr],
    legs: &Legs,
) -> Option<Road> {
    let SocketAddr::V6(v6) = handle else { return None };
    if is_dialled(handle) {
        return None;
    }
    if v6.ip().segments()[..3] == RELAYED {
        let token = FlowToken((v6.ip().to_bits() & u128::from(u64::MAX)) as u64);
        let road = legs.road(token)?;
        return Some(Road { local: local.or(road.local), ..road });
    }
    let remote = match v6.ip().to_ipv4_mapped() {
        Some(ip) => SocketAddr::new(ip.into(), v6.port()),
        None => SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into(),
    };
    let sibling = usize::try_from(v6.flowinfo() & SIBLING_MASK).ok()?;
    let family = |(_, local): &(usize, &SocketAddr)| local.is_ipv4() == remote.is_ipv4();
    let (wire, _) = wires.iter().enumerate().filter(family).nth(sibling)?;
    Some(Road { wire, remote, local, flow: None })
}

/// Roads of one peer, and those remembered per handle once proven. A guess: both families, a few interfaces and NATs on both sides.
pub(crate) const ROADS_MAX: usize = 16;

/// What is sent and not acknowledged for so long makes the road doubtful, unless a round trip takes longer. A peer may take 25 ms to
/// acknowledge. One that only receives is never acknowledged: after this time it asks once, before it doubts.
pub(crate) const PATIENCE_MIN: Duration = Duration::from_millis(200);

/// Whether a socket that is bound to `local` can send to `remote`: one on loopback only to this machine, by whichever of its
/// addresses.
fn reaches(local: IpAddr, remote: IpAddr) -> bool {
    !local.is_loopback() || remote.is_loopback() || may_be_own(remote)
}

#[cfg(test)]
use handle::{ECHO_MAX, MIRRORED_MAX};
#[cfg(test)]
mod tests;
