//! Sorts received batches: QUIC to its handle, our own frames aside, garbage out.
//!
//! GRO hands over batches of equal-sized datagrams (the last may be shorter) that may mix QUIC, our own
//! frames and several connections (docs/measurements.md). In the uniform case nothing is copied: only the address
//! in the `RecvMeta` changes. A mixed batch is compacted in place for its first handle; segments of
//! other handles are staged for the next poll.

use std::{collections::VecDeque, io::IoSliceMut, net::SocketAddr};

use quinn::udp::RecvMeta;

use crate::{
    quic::{
        QUIC_V1,
        cid::{CID_LEN, Cid},
    },
    wire::relay_frame::HEADER_BYTES,
};

/// The longest connection id of QUIC version 1 (RFC 9000, section 17.2).
const CID_BYTES_MAX: usize = 20;

/// Less can't be a short-header packet of ours: first byte, id, packet number and header protection
/// sample (RFC 9001, section 5.4.2), nor a stateless reset (21 bytes, RFC 9000, section 10.3).
pub(crate) const SHORT_BYTES_MIN: usize = 21;

/// What one received datagram is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    /// One of our own frames: first byte 0x00 to 0x3F.
    Ours,
    /// A QUIC packet with a short header, or a stateless reset.
    Short(&'a Cid),
    /// A packet of the first flight of a handshake; whether it carries a token.
    Initial { destination: &'a [u8], token: bool },
    /// A later packet of a handshake.
    Handshake { destination: &'a [u8] },
    /// A server's demand to prove the address first.
    Retry { destination: &'a [u8] },
    /// None of these.
    Garbage,
}

/// Looks at the header of a datagram, without any state.
pub(crate) fn kind(datagram: &[u8]) -> Kind<'_> {
    match datagram.first() {
        Some(0x00..=0x3f) => Kind::Ours,
        Some(0x40..=0x7f) if datagram.len() >= SHORT_BYTES_MIN => {
            datagram[1..].first_chunk::<CID_LEN>().map_or(Kind::Garbage, Kind::Short)
        }
        Some(0xc0..=0xff) => long(datagram).unwrap_or(Kind::Garbage),
        _ => Kind::Garbage,
    }
}

fn long(datagram: &[u8]) -> Option<Kind<'_>> {
    let (first, rest) = datagram.split_first()?;
    let (version, rest) = rest.split_first_chunk::<4>()?;
    if u32::from_be_bytes(*version) != QUIC_V1 {
        return None;
    }
    let (destination, rest) = id(rest)?;
    let (_source, rest) = id(rest)?;
    match (first >> 4) & 0b11 {
        0 => Some(Kind::Initial { destination, token: *rest.first()? != 0 }),
        2 => Some(Kind::Handshake { destination }),
        3 => Some(Kind::Retry { destination }),
        // 0-RTT is never offered here.
        _ => None,
    }
}

fn id(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let length = usize::from(*length);
    if length > CID_BYTES_MAX { None } else { rest.split_at_checked(length) }
}

/// What becomes of one datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// QUIC gets it, as coming from this handle.
    Quic(SocketAddr),
    /// QUIC gets a copy of it from each of these handles: only one of them can know it.
    QuicEach(Vec<SocketAddr>),
    /// The same, for what a relay wrapped up: without the header of the relay's.
    Relayed(Vec<SocketAddr>),
    /// QUIC gets this datagram, whose last piece that was, from each of these handles.
    Rebuilt(Vec<u8>, Vec<SocketAddr>),
    /// It was one of our own frames, or garbage: QUIC never sees it.
    Taken,
}

/// Datagrams of a mixed batch that wait for the next poll; bounded, the newest are dropped.
#[derive(Debug, Default)]
pub(crate) struct Staged {
    queue: VecDeque<(Vec<u8>, RecvMeta)>,
    /// Datagrams that found it full.
    pub(crate) dropped: u64,
}

/// Two full GRO batches; a peer that mixes more than that loses packets, which QUIC repairs.
const STAGED_MAX: usize = 128;

impl Staged {
    pub(crate) fn push(&mut self, datagram: &[u8], meta: RecvMeta) {
        if self.queue.len() >= STAGED_MAX {
            self.dropped += 1;
            return;
        }
        let meta = RecvMeta { len: datagram.len(), stride: datagram.len().max(1), ..meta };
        self.queue.push_back((datagram.to_vec(), meta));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Hands over as many as there are buffers for.
    pub(crate) fn deliver(&mut self, bufs: &mut [IoSliceMut<'_>], metas: &mut [RecvMeta]) -> usize {
        let mut delivered = 0;
        while delivered < bufs.len().min(metas.len())
            && let Some((datagram, meta)) = self.queue.pop_front()
        {
            if let Some(room) = bufs[delivered].get_mut(..datagram.len()) {
                room.copy_from_slice(&datagram);
                metas[delivered] = meta;
                delivered += 1;
            }
        }
        delivered
    }
}

/// The connection id of a received batch all of whose datagrams are of one connection. Its length and stride are then what
/// [`sift`] would make of them.
pub(crate) fn uniform(batch: &[u8], meta: &RecvMeta) -> Option<Cid> {
    // Which sift mends.
    if meta.stride == 0 {
        return None;
    }
    let mut datagrams = batch.get(..meta.len)?.chunks(meta.stride);
    let Kind::Short(first) = kind(datagrams.next()?) else { return None };
    let same = |datagram: &[u8]| matches!(kind(datagram), Kind::Short(cid) if cid == first);
    datagrams.all(same).then_some(*first)
}

/// Sorts one received batch. `judge` is asked once per datagram, except for those that continue the
/// connection of the datagram before. Returns whether QUIC has something to read in it; if not, its
/// length is zero afterwards (but something may be staged).
pub(crate) fn sift(
    batch: &mut [u8],
    meta: &mut RecvMeta,
    staged: &mut Staged,
    mut judge: impl FnMut(&[u8]) -> Verdict,
) -> bool {
    let stride = meta.stride.max(1);
    let total = meta.len.min(batch.len());
    // What the batch is compacted for: a handle, and how much is cut off in front of each datagram.
    let mut run: Option<(SocketAddr, usize)> = None;
    let mut last: Option<(Cid, SocketAddr)> = None;
    let (mut read, mut kept) = (0, 0);
    while read < total {
        let end = (read + stride).min(total);
        let datagram = &batch[read..end];
        let verdict = match (kind(datagram), last) {
            (Kind::Short(cid), Some((before, handle))) if *cid == before => Verdict::Quic(handle),
            (Kind::Short(cid), _) => {
                let cid = *cid;
                let verdict = judge(datagram);
                if let Verdict::Quic(handle) = verdict {
                    last = Some((cid, handle));
                }
                verdict
            }
            _ => judge(datagram),
        };
        let mut one = None;
        match verdict {
            Verdict::Quic(to) => one = Some((to, 0)),
            Verdict::Relayed(handles) if let [to] = handles[..] => one = Some((to, HEADER_BYTES)),
            Verdict::QuicEach(handles) => {
                for to in handles {
                    staged.push(datagram, RecvMeta { addr: to, ..*meta });
                }
            }
            Verdict::Relayed(handles) => {
                for to in handles {
                    let datagram = datagram.get(HEADER_BYTES..).unwrap_or_default();
                    staged.push(datagram, RecvMeta { addr: to, ..*meta });
                }
            }
            Verdict::Rebuilt(datagram, handles) => {
                for to in handles {
                    staged.push(&datagram, RecvMeta { addr: to, ..*meta });
                }
            }
            Verdict::Taken => {}
        }
        if let Some((to, skip)) = one {
            let start = (read + skip).min(end);
            if *run.get_or_insert((to, skip)) == (to, skip) {
                if kept != start {
                    batch.copy_within(start..end, kept);
                }
                kept += end - start;
            } else {
                staged.push(&batch[start..end], RecvMeta { addr: to, ..*meta });
            }
        }
        read = end;
    }
    meta.len = kept;
    if let Some((handle, skip)) = run {
        meta.addr = handle;
        meta.stride = stride.saturating_sub(skip).max(1);
    }
    kept > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRIDE: usize = 30;

    fn handle(n: u16) -> SocketAddr {
        format!("[fd00::{n:x}]:1").parse().unwrap()
    }

    fn short(connection: u8, content: u8, len: usize) -> Vec<u8> {
        let mut packet = vec![content; len];
        packet[0] = 0x41;
        packet[1..=CID_LEN].fill(connection);
        packet
    }

    fn frame(len: usize) -> Vec<u8> {
        vec![1; len]
    }

    /// Sifts a batch in which connection `n` has handle `n`.
    fn sift_batch(parts: &[Vec<u8>]) -> (Vec<u8>, RecvMeta, Staged, usize) {
        let mut batch = parts.concat();
        let mut meta = RecvMeta { len: batch.len(), stride: STRIDE, ..Default::default() };
        let mut staged = Staged::default();
        let mut asked = 0;
        sift(&mut batch, &mut meta, &mut staged, |datagram| {
            asked += 1;
            match kind(datagram) {
                Kind::Short(cid) => Verdict::Quic(handle(cid[0].into())),
                _ => Verdict::Taken,
            }
        });
        batch.truncate(meta.len);
        (batch, meta, staged, asked)
    }

    #[test]
    fn a_uniform_batch_stays_as_it_is_and_is_looked_up_once() {
        let parts = [short(7, 1, STRIDE), short(7, 2, STRIDE), short(7, 3, 25)];
        let (batch, meta, staged, asked) = sift_batch(&parts);
        assert_eq!(batch, parts.concat());
        assert_eq!((meta.addr, meta.stride, asked), (handle(7), STRIDE, 1));
        assert!(staged.is_empty());
    }

    #[test]
    fn uniform_is_what_sifting_leaves_as_it_is() {
        let one = || short(7, 1, STRIDE);
        for (parts, expected) in [
            (vec![one()], Some(7)),
            (vec![one(), one(), short(7, 3, 25)], Some(7)),
            (vec![one(), one(), short(7, 3, 20)], None),
            (vec![one(), short(8, 1, STRIDE), one()], None),
            (vec![one(), frame(STRIDE)], None),
            (vec![frame(STRIDE), one()], None),
            (vec![vec![0x40; 20]], None),
            (vec![], None),
        ] {
            let batch = parts.concat();
            let whole = RecvMeta { len: batch.len(), stride: STRIDE, ..Default::default() };
            let cid = expected.map(|n| [n; CID_LEN]);
            assert_eq!(uniform(&batch, &whole), cid, "{parts:?}");
            let (sifted, meta, staged, _) = sift_batch(&parts);
            let untouched = !batch.is_empty() && sifted == batch && staged.is_empty();
            assert_eq!(untouched, expected.is_some(), "{parts:?}");
            if untouched {
                assert_eq!((meta.len, meta.stride), (whole.len, whole.stride));
            }
        }
        let nothing = RecvMeta { len: 30, stride: 0, ..Default::default() };
        assert_eq!(uniform(&one(), &nothing), None);
    }

    #[test]
    fn own_frames_within_a_batch_are_taken_out_of_it() {
        let parts = [frame(STRIDE), short(7, 1, STRIDE), frame(STRIDE), short(7, 2, 25)];
        let (batch, meta, staged, _) = sift_batch(&parts);
        assert_eq!(batch, [short(7, 1, STRIDE), short(7, 2, 25)].concat());
        assert_eq!(meta.addr, handle(7));
        assert!(staged.is_empty());
    }

    #[test]
    fn segments_of_another_connection_wait_for_the_next_poll() {
        let parts = [short(7, 1, STRIDE), short(8, 2, STRIDE), short(7, 3, STRIDE)];
        let (batch, meta, mut staged, _) = sift_batch(&parts);
        assert_eq!(batch, [short(7, 1, STRIDE), short(7, 3, STRIDE)].concat());
        assert_eq!(meta.addr, handle(7));
        let (mut room, mut metas) = ([0; 64], [RecvMeta::default()]);
        assert_eq!(staged.deliver(&mut [IoSliceMut::new(&mut room)], &mut metas), 1);
        assert_eq!(&room[..metas[0].len], &short(8, 2, STRIDE)[..]);
        assert_eq!(metas[0].addr, handle(8));
        assert!(staged.is_empty());
    }

    #[test]
    fn a_batch_without_quic_is_empty_afterwards() {
        let (batch, meta, ..) = sift_batch(&[frame(STRIDE), frame(STRIDE)]);
        assert!(batch.is_empty());
        assert_eq!(meta.len, 0);
    }

    #[test]
    fn the_staging_ring_is_bounded() {
        let parts: Vec<_> = (0..=255).map(|n| short(n, n, STRIDE)).collect();
        let (_, _, staged, _) = sift_batch(&parts);
        assert_eq!(staged.queue.len(), STAGED_MAX);
        assert_eq!(staged.dropped, 255 - STAGED_MAX as u64);
    }

    #[test]
    fn headers_are_told_apart_and_truncated_ones_are_garbage() {
        assert_eq!(kind(&[]), Kind::Garbage);
        assert_eq!(kind(&[0x2a]), Kind::Ours);
        assert_eq!(kind(&[0x80; 1200]), Kind::Garbage);
        assert_eq!(kind(&[0x41; 20]), Kind::Garbage);
        let mut initial = vec![0xc0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0];
        let destination: &[u8] = &[1, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(kind(&initial), Kind::Initial { destination, token: false });
        initial[4] = 2;
        assert_eq!(kind(&initial), Kind::Garbage);
        for len in 0..16 {
            assert_eq!(
                kind(&[0xe0, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 20, 0][..len]),
                Kind::Garbage
            );
        }
    }
}
