//! What becomes of what comes in: QUIC to its handle, our own frames aside, what is for others on its way.

use std::{
    io::IoSliceMut,
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering,
};

use quinn::udp::RecvMeta;

use super::{
    demux::{Kind, Verdict, kind, sift, uniform},
    handles::{self, Match},
    mesh_socket::{MeshSocket, count},
    pieces::PIECE,
    unknown::{UNKNOWN, Unknown},
};
use crate::{
    identity::PeerId,
    quic::cid::Cid,
    relay::forwarder::Spot,
    wire::{
        frame::{self, ANSWER, CALL, Frame},
        relay_frame::{self, FORWARDED, FlowToken, HEADER_BYTES},
        road::{Road, Source},
    },
};

/// An Initial from a stranger in a smaller datagram is refused (RFC 9000, section 14.1).
const INITIAL_BYTES_MIN: usize = 1200;

impl MeshSocket {
    /// Sorts what one socket received. Returns whether QUIC has something to read.
    pub(super) fn sort(
        &self,
        wire: usize,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> bool {
        let mut locked = None;
        let mut any = false;
        for (buf, meta) in bufs.iter_mut().zip(metas) {
            let source = Source { wire, remote: meta.addr, flow: None };
            if let Some(cid) = uniform(buf, meta)
                && let Some(handle) = self.handles.lock().one(&cid, source)
            {
                // As nearly always: nothing to take out, to forward or to stage.
                meta.addr = handle;
                any = true;
                continue;
            }
            let (forwarded, staged, _) = locked.get_or_insert_with(|| {
                let (forwarded, staged) = (self.forwarded.lock(), self.staged.lock());
                let dropped = staged.dropped;
                (forwarded, staged, dropped)
            });
            let local = meta.dst_ip;
            if let Some(relay) = &self.relay {
                self.forward(&mut relay.lock(), forwarded, buf, meta, source);
            }
            let judge = |datagram: &[u8]| self.judge(datagram, source, local);
            any |= sift(buf, meta, staged, judge);
        }
        if let Some((mut forwarded, staged, dropped)) = locked {
            self.send_forwarded(&mut forwarded);
            // What is staged must not wait for the next datagram to arrive.
            any |= !staged.is_empty();
            self.counters.staging_full.fetch_add(staged.dropped - dropped, Ordering::Relaxed);
        }
        any
    }

    fn judge(&self, datagram: &[u8], source: Source, local: Option<IpAddr>) -> Verdict {
        let verdict = match kind(datagram) {
            Kind::Short(cid) => return self.judge_short(cid, source),
            Kind::Initial { destination, token } => {
                let matched = self.handles.lock().long(destination, source, false);
                match matched {
                    Match::Unknown if datagram.len() < INITIAL_BYTES_MIN => None,
                    Match::Unknown if !self.gate.admit(token) => {
                        count(&self.counters.initials_refused);
                        return Verdict::Taken;
                    }
                    Match::Unknown => self.handles.lock().literal(source, destination),
                    Match::Handle(handle) => Some(handle),
                    Match::Refused => None,
                }
            }
            Kind::Handshake { destination } => self.known(destination, source, false),
            Kind::Retry { destination } => self.known(destination, source, true),
            Kind::Ours if datagram[0] == FORWARDED => return Verdict::Taken,
            Kind::Ours if source.flow.is_none() && relay_frame::is_relay(datagram) => {
                return self.judge_relayed(datagram, source, local);
            }
            Kind::Ours if datagram[0] == CALL => {
                self.called(datagram, source);
                return Verdict::Taken;
            }
            Kind::Ours if datagram[0] == UNKNOWN => {
                self.unknown_there(datagram, source);
                return Verdict::Taken;
            }
            Kind::Ours if datagram[0] == PIECE => return self.judge_piece(datagram, source, local),
            Kind::Ours => {
                if !self.frames.received(datagram, source, local) {
                    count(&self.counters.garbage);
                    if datagram[0] != ANSWER
                        && let Some(tag) = Frame::tag(datagram)
                    {
                        self.say_unknown(Unknown::Tag(tag), source, local);
                    }
                }
                return Verdict::Taken;
            }
            Kind::Garbage => None,
        };
        match verdict {
            Some(handle) => Verdict::Quic(handle),
            None => {
                count(&self.counters.garbage);
                Verdict::Taken
            }
        }
    }

    /// The relay `by` at the end of `road` granted a flow. What came through it before that was known is read now. `false`: it
    /// bears the name of another relay's.
    pub(crate) fn open_flow(
        &self,
        token: FlowToken,
        key: [u8; 32],
        (by, road): (PeerId, Road),
    ) -> bool {
        let mut handles = self.handles.lock();
        if !handles.legs.open(token, key, by, road) {
            return false;
        }
        let early = handles.legs.take_early(token);
        drop(handles);
        let source = Source { flow: None, ..road.source() };
        for frame in early {
            if let Verdict::Relayed(to) = self.judge_relayed(&frame, source, road.local) {
                let mut staged = self.staged.lock();
                for addr in to {
                    let datagram = frame.get(HEADER_BYTES..).unwrap_or_default();
                    staged.push(datagram, RecvMeta { addr, ..RecvMeta::default() });
                }
            }
        }
        self.adopted.wake_reader();
        true
    }

    /// A frame of a relay that wasn't to be forwarded.
    fn judge_relayed(&self, datagram: &[u8], source: Source, local: Option<IpAddr>) -> Verdict {
        let (wire, remote) = (source.wire, source.remote);
        let spot = Spot { local, ..source.into() };
        let token = relay_frame::token(datagram);
        let mut handles = self.handles.lock();
        let data = datagram[0] == relay_frame::DATA;
        let mine = token.filter(|token| match data {
            true => handles.legs.carries(*token, wire, remote),
            false => handles.legs.is_from(*token, wire, remote),
        });
        match (mine, datagram[0]) {
            (Some(token), relay_frame::DATA) => {
                drop(handles);
                let inner = datagram.get(HEADER_BYTES..).unwrap_or_default();
                match self.judge(inner, Source { flow: Some(token), ..source }, local) {
                    Verdict::Quic(handle) => Verdict::Relayed(vec![handle]),
                    Verdict::QuicEach(handles) | Verdict::Relayed(handles) => {
                        Verdict::Relayed(handles)
                    }
                    other @ (Verdict::Rebuilt(..) | Verdict::Taken) => other,
                }
            }
            (Some(_), relay_frame::CHALLENGE) => {
                let answer = handles.legs.challenged(datagram, wire, remote);
                drop(handles);
                if let Some(answer) = answer {
                    self.send_frame(Road::back(source, local), &answer);
                }
                Verdict::Taken
            }
            (None, relay_frame::DATA) if !handles.at(source).is_empty() => {
                handles.legs.too_early(wire, remote, datagram);
                Verdict::Taken
            }
            (None, relay_frame::DATA) => {
                drop(handles);
                count(&self.counters.garbage);
                if let Some(token) = token.filter(|_| self.relay.is_some()) {
                    self.say_unknown(Unknown::Flow(token), source, local);
                }
                Verdict::Taken
            }
            _ => {
                drop(handles);
                let bound = datagram[0] == relay_frame::BIND
                    && self.relay().is_some_and(|mut relay| relay.bind(datagram, spot));
                if !bound {
                    count(&self.counters.garbage);
                }
                Verdict::Taken
            }
        }
    }

    /// Somebody means a flow or a connection that isn't known here, most likely because this host has restarted since.
    fn say_unknown(&self, what: Unknown, source: Source, local: Option<IpAddr>) {
        let now = tokio::time::Instant::now().into_std();
        if source.flow.is_none() && self.ration.lock().take(source.remote.ip(), now) {
            self.send_frame(Road::back(source, local), &what.encode());
        }
    }

    /// Whoever is at `source`, or claims to be, doesn't know a flow or a connection: is it true?
    fn unknown_there(&self, frame: &[u8], source: Source) {
        let handles = self.handles.lock();
        let tag = match Unknown::decode(frame).filter(|_| source.flow.is_none()) {
            Some(Unknown::Flow(token))
                if handles.legs.is_from(token, source.wire, source.remote) =>
            {
                None
            }
            Some(Unknown::Tag(tag)) => Some(tag),
            _ => return count(&self.counters.garbage),
        };
        let there = handles.at(source).to_vec();
        drop(handles);
        self.frames.unknown(&there, tag);
    }

    /// A stranger's call, which a rendezvous was asked to bring about.
    fn called(&self, frame: &[u8], source: Source) {
        let now = tokio::time::Instant::now().into_std();
        let number = frame::called(frame);
        if number == Some(frame::OPENS) {
            return;
        }
        let awaited = number.filter(|nonce| self.nat().dial_back_awaited(*nonce));
        match awaited.filter(|_| source.flow.is_none()) {
            Some(nonce) => {
                let contacted = self.handles().is_contacted(source.remote.ip());
                self.nat().dial_back_arrived(nonce, contacted, now);
            }
            None => count(&self.counters.garbage),
        }
    }

    /// A piece of a datagram: nothing is kept for strangers.
    fn judge_piece(&self, frame: &[u8], source: Source, local: Option<IpAddr>) -> Verdict {
        let known = !self.handles.lock().at(source).is_empty();
        let whole = if known { self.pieces.lock().take(source, frame) } else { None };
        match whole {
            None if known => Verdict::Taken,
            Some(datagram) if matches!(kind(&datagram), Kind::Short(_)) => {
                match self.judge(&datagram, source, local) {
                    Verdict::Quic(handle) => Verdict::Rebuilt(datagram, vec![handle]),
                    Verdict::QuicEach(handles) => Verdict::Rebuilt(datagram, handles),
                    other => other,
                }
            }
            _ => {
                count(&self.counters.garbage);
                Verdict::Taken
            }
        }
    }

    fn judge_short(&self, cid: &Cid, source: Source) -> Verdict {
        let handles = self.handles.lock();
        if let Some(handle) = handles.one(cid, source) {
            return Verdict::Quic(handle);
        }
        let owners = handles.at(source);
        let ours = self.cids.is_ours(cid);
        // quinn's servers change to a later id of their client as soon as they have one, its clients
        // never do: an id of ours that isn't in the table is that of a dialled connection. A foreign id
        // is the random one of a stateless reset, which is known by its last bytes.
        let owners = owners.iter().copied().filter(|owner| !ours || handles::is_dialled(*owner));
        let owners: Vec<_> = owners.collect();
        match owners.as_slice() {
            [owner] => Verdict::Quic(*owner),
            [] => match handles.literal(source, cid) {
                // One of this host's connections before a restart: QUIC answers with a reset.
                Some(literal) if ours => Verdict::Quic(literal),
                _ => {
                    count(&self.counters.garbage);
                    Verdict::Taken
                }
            },
            _ => Verdict::QuicEach(owners),
        }
    }

    /// The handle of a handshake packet that only a connection we have can have drawn.
    fn known(&self, destination: &[u8], source: Source, retry: bool) -> Option<SocketAddr> {
        match self.handles.lock().long(destination, source, retry) {
            Match::Handle(handle) => Some(handle),
            Match::Refused | Match::Unknown => None,
        }
    }
}
