//! Datagrams that are too long for a road, in two pieces.
//!
//! QUIC finds out how long its datagrams may be on the road that it began with, and can't be told that another one takes
//! less: until it believes that, two seconds are lost (docs/measurements.md). On a road that didn't take a sizing probe, each
//! longer datagram goes in two frames; one that is lost is lost for QUIC as a whole.
//!
//! ```text
//! piece  0x0B  index[1]  length[2]  id[8]  half of the datagram
//! ```
//!
//! Both bear the length of the datagram, which is the sum of theirs, and its id, 64 bits that nobody can guess. That a half which is
//! late, comes from a former process or from a spoofer is joined to another datagram's has a chance of one in 2^64, so that
//! no half needs an age at which it is dropped. There is no other cryptography: QUIC inside has its own. A receiver takes pieces
//! only from where a peer has been proven to be, and keeps a few.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

use rand::RngExt;
use siphasher::sip::SipHasher24;

use crate::{
    quic,
    wire::{frame::MTU_MAX, road::Source},
};

pub(crate) const PIECE: u8 = 0x0b;
const HEADER_BYTES: usize = 12;

/// Datagrams that are no longer pass every road, in front of them the header of a flow: QUIC begins with 1,200 bytes
/// (RFC 9000, section 14).
pub(crate) const WHOLE_BYTES_MAX: usize = 1200;

/// Halves that wait for their other one, from one source: what comes in during a reordering on a fast road. A guess.
const WAITING_OF_ONE_MAX: usize = 16;

/// The same, from all: one source takes no room from three others. 64 of them have 45 KB.
const WAITING_MAX: usize = 64;

/// Ids of datagrams that are sent in pieces: SipHash-2-4 of a counter, under a key of the socket's own.
#[derive(Debug)]
pub(super) struct PieceIds {
    key: [u8; 16],
    used: AtomicU64,
}

impl PieceIds {
    /// `seed` makes them repeatable (and is else `None`).
    pub(super) fn new(seed: Option<u64>) -> Self {
        let key = quic::rng(seed.map(|seed| seed ^ 7)).random();
        Self { key, used: AtomicU64::new(0) }
    }

    pub(super) fn next(&self) -> u64 {
        let used = self.used.fetch_add(1, Ordering::Relaxed);
        SipHasher24::new_with_key(&self.key).hash(&used.to_le_bytes())
    }
}

/// Both pieces of a datagram of at most [`MTU_MAX`] bytes.
pub(crate) fn split(datagram: &[u8], id: u64) -> [Vec<u8>; 2] {
    let length = u16::try_from(datagram.len()).unwrap_or(u16::MAX);
    let (first, second) = datagram.split_at(datagram.len().div_ceil(2));
    [(0, first), (1, second)].map(|(index, bytes)| {
        let mut piece = Vec::with_capacity(HEADER_BYTES + bytes.len());
        piece.extend_from_slice(&[PIECE, index]);
        piece.extend_from_slice(&length.to_be_bytes());
        piece.extend_from_slice(&id.to_be_bytes());
        piece.extend_from_slice(bytes);
        piece
    })
}

#[derive(Debug)]
struct Piece {
    source: Source,
    id: u64,
    /// Of the datagram.
    length: u16,
    index: u8,
    bytes: Vec<u8>,
}

impl Piece {
    fn read(source: Source, frame: &[u8]) -> Option<Self> {
        let (&[PIECE, index @ (0 | 1), high, low, ref id @ ..], bytes) =
            frame.split_first_chunk::<HEADER_BYTES>()?
        else {
            return None;
        };
        let (length, id) = (u16::from_be_bytes([high, low]), u64::from_be_bytes(*id));
        let half = if index == 0 { length.div_ceil(2) } else { length / 2 };
        let right = (2..=MTU_MAX).contains(&length) && bytes.len() == usize::from(half);
        right.then(|| Self { source, id, length, index, bytes: bytes.to_vec() })
    }

    fn is_of(&self, other: &Self) -> bool {
        (self.source, self.id, self.length) == (other.source, other.id, other.length)
    }
}

/// Pieces that wait for their other half, each once.
#[derive(Debug, Default)]
pub(crate) struct Pieces(VecDeque<Piece>);

impl Pieces {
    /// A piece came from `source`, where a peer is known to be. The datagram, if that completes one.
    pub(crate) fn take(&mut self, source: Source, frame: &[u8]) -> Option<Vec<u8>> {
        let piece = Piece::read(source, frame)?;
        let Some(at) = self.0.iter().position(|known| known.is_of(&piece)) else {
            self.keep(piece);
            return None;
        };
        if self.0.get(at).is_some_and(|known| known.index == piece.index) {
            // It came twice, and waits already.
            return None;
        }
        let other = self.0.remove(at)?;
        let (mut first, second) = if piece.index == 0 { (piece, other) } else { (other, piece) };
        first.bytes.extend_from_slice(&second.bytes);
        Some(first.bytes)
    }

    /// Has a piece wait, in place of the oldest one of its source, or of all, if there is no room.
    fn keep(&mut self, piece: Piece) {
        let of_source = |known: &Piece| known.source == piece.source;
        if self.0.iter().filter(|known| of_source(known)).count() >= WAITING_OF_ONE_MAX {
            if let Some(oldest) = self.0.iter().position(of_source) {
                self.0.remove(oldest);
            }
        } else if self.0.len() >= WAITING_MAX {
            self.0.pop_front();
        }
        self.0.push_back(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u8) -> Source {
        Source { wire: 0, remote: ([10, 0, 0, n], 1).into(), flow: None }
    }

    #[test]
    fn two_pieces_make_the_datagram_in_either_order_and_each_source_has_its_own() {
        let mut pieces = Pieces::default();
        let datagrams: Vec<Vec<u8>> = (0..4).map(|n| vec![n; 1201 + usize::from(n)]).collect();
        let split = |n: usize| split(&datagrams[n], n as u64);
        let ([a, b], [c, d]) = (split(0), split(1));
        assert_eq!(pieces.take(source(1), &a), None);
        assert_eq!(pieces.take(source(1), &d), None);
        assert_eq!(pieces.take(source(2), &b), None, "from elsewhere");
        assert_eq!(pieces.take(source(1), &a), None, "twice the same");
        assert_eq!(pieces.take(source(1), &c), Some(datagrams[1].clone()));
        assert_eq!(pieces.take(source(1), &b), Some(datagrams[0].clone()));
        assert_eq!(pieces.0.len(), 1, "what came twice didn't wait twice");
        assert!(a.len().max(b.len()) < WHOLE_BYTES_MAX);
    }

    #[test]
    fn a_half_that_was_left_over_is_joined_to_no_later_datagram() {
        let mut pieces = Pieces::default();
        let [lost, left_over] = split(&[1; 1300], PieceIds::new(Some(1)).next());
        assert_eq!(pieces.take(source(1), &left_over), None);
        // Of the next process at the same place.
        let [first, second] = split(&[2; 1300], PieceIds::new(Some(2)).next());
        assert_eq!(pieces.take(source(1), &first), None);
        assert_eq!(pieces.take(source(1), &second), Some(vec![2; 1300]));
        // Nor is one with a guessed id, if the length is another.
        let [other, _] = split(&[3; 1302], 7);
        let [_, guessed] = split(&[4; 1300], 7);
        assert_eq!(pieces.take(source(1), &other), None);
        assert_eq!(pieces.take(source(1), &guessed), None);
        assert_eq!(pieces.take(source(1), &lost).map(|whole| whole.len()), Some(1300));
    }

    #[test]
    fn two_sockets_use_different_ids() {
        let ids = [None, None, Some(1), Some(2)].map(|seed| PieceIds::new(seed).next());
        for (n, id) in ids.iter().enumerate() {
            assert!(!ids[..n].contains(id));
        }
    }

    #[test]
    fn only_so_many_wait_and_one_source_takes_no_room_from_others() {
        let mut pieces = Pieces::default();
        let [first, second] = split(&[7; 1300], 7);
        assert_eq!(pieces.take(source(0), &first), None);
        for id in 0..1000 {
            pieces.take(source(1), &split(&[1; 1300], id)[0]);
        }
        assert_eq!(pieces.0.len(), 1 + WAITING_OF_ONE_MAX);
        assert_eq!(pieces.take(source(0), &second), Some(vec![7; 1300]));
        for n in 0..100 {
            (0..1000).for_each(|id| drop(pieces.take(source(n), &split(&[1; 1300], id)[0])));
        }
        assert_eq!(pieces.0.len(), WAITING_MAX);
    }

    #[test]
    fn what_is_not_exactly_half_of_what_it_says_is_none() {
        let mut pieces = Pieces::default();
        let piece = |index: u8, length: u16, bytes: usize| {
            let [high, low] = length.to_be_bytes();
            [&[PIECE, index, high, low, 0, 0, 0, 0, 0, 0, 0, 9][..], &vec![1; bytes]].concat()
        };
        for bad in [
            piece(2, 1300, 650),
            piece(0, 1300, 649),
            piece(1, 1300, 651),
            piece(0, 0, 0),
            piece(0, 1, 1),
            piece(1, 1, 0),
            piece(0, MTU_MAX + 1, usize::from(MTU_MAX + 1).div_ceil(2)),
            piece(0, 1300, 650)[..11].to_vec(),
            vec![PIECE],
            vec![],
        ] {
            assert_eq!(pieces.take(source(1), &bad), None);
        }
        assert!(pieces.0.is_empty());
        pieces.take(source(1), &piece(0, 1301, 651));
        assert_eq!(pieces.take(source(1), &piece(1, 1301, 650)), Some(vec![1; 1301]));
    }
}
