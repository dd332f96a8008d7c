//! Datagrams that are too long for a road, in two pieces.
//!
//! QUIC finds out how long its datagrams may be on the road that it began with, and can't be told that another one takes
//! less: until it believes that, two seconds are lost (docs/measurements.md). On a road that didn't take a sizing probe, each
//! longer datagram goes in two frames; one that is lost is lost for QUIC as a whole.
//!
//! ```text
//! piece  0x0B  index[1]  zero[2]  id[4]  bytes
//! ```
//!
//! They bear no cryptography: QUIC inside has its own. A receiver takes pieces only from where a peer has been proven to be,
//! and keeps a few.

use std::collections::VecDeque;

use super::handles::Source;
use crate::wire::MTU_MAX;

pub(crate) const PIECE: u8 = 0x0b;
const HEADER_BYTES: usize = 8;

/// Datagrams that are no longer pass every road, in front of them the header of a flow: QUIC begins with 1,200 bytes
/// (RFC 9000, section 14).
pub(crate) const WHOLE_BYTES_MAX: usize = 1200;

/// First pieces that wait for their second at a time: what comes in during a reordering on a fast road. A guess, 25 KB.
const WAITING_MAX: usize = 32;

/// Both pieces of a datagram.
pub(crate) fn split(datagram: &[u8], id: u32) -> [Vec<u8>; 2] {
    let (first, second) = datagram.split_at(datagram.len().div_ceil(2));
    [(0, first), (1, second)].map(|(index, bytes)| {
        let mut piece = Vec::with_capacity(HEADER_BYTES + bytes.len());
        piece.extend_from_slice(&[PIECE, index, 0, 0]);
        piece.extend_from_slice(&id.to_be_bytes());
        piece.extend_from_slice(bytes);
        piece
    })
}

#[derive(Debug)]
struct Piece {
    source: Source,
    id: u32,
    index: u8,
    bytes: Vec<u8>,
}

impl Piece {
    fn read(source: Source, frame: &[u8]) -> Option<Self> {
        let (&[PIECE, index @ (0 | 1), 0, 0, a, b, c, d], bytes) =
            frame.split_first_chunk::<HEADER_BYTES>()?
        else {
            return None;
        };
        let fits = !bytes.is_empty() && bytes.len() <= usize::from(MTU_MAX).div_ceil(2);
        fits.then(|| Self {
            source,
            id: u32::from_be_bytes([a, b, c, d]),
            index,
            bytes: bytes.to_vec(),
        })
    }
}

/// Pieces that wait for their other half; the oldest goes first.
#[derive(Debug, Default)]
pub(crate) struct Pieces(VecDeque<Piece>);

impl Pieces {
    /// A piece came from `source`, where a peer is known to be. The datagram, if that completes one.
    pub(crate) fn take(&mut self, source: Source, frame: &[u8]) -> Option<Vec<u8>> {
        let piece = Piece::read(source, frame)?;
        let other = |known: &Piece| {
            (known.source, known.id) == (piece.source, piece.id) && known.index != piece.index
        };
        let Some(other) = self.0.iter().position(other).and_then(|index| self.0.remove(index))
        else {
            if self.0.len() >= WAITING_MAX {
                self.0.pop_front();
            }
            self.0.push_back(piece);
            return None;
        };
        let (mut first, second) = if piece.index == 0 { (piece, other) } else { (other, piece) };
        first.bytes.extend_from_slice(&second.bytes);
        Some(first.bytes)
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
        let split = |n: usize| split(&datagrams[n], n as u32);
        let ([a, b], [c, d]) = (split(0), split(1));
        assert_eq!(pieces.take(source(1), &a), None);
        assert_eq!(pieces.take(source(1), &d), None);
        assert_eq!(pieces.take(source(2), &b), None, "from elsewhere");
        assert_eq!(pieces.take(source(1), &a), None, "twice the same");
        assert_eq!(pieces.take(source(1), &c), Some(datagrams[1].clone()));
        assert_eq!(pieces.take(source(1), &b), Some(datagrams[0].clone()));
        assert!(a.len().max(b.len()) < WHOLE_BYTES_MAX);
    }

    #[test]
    fn only_so_many_wait_and_what_is_no_piece_is_none() {
        let mut pieces = Pieces::default();
        for id in 0..1000 {
            pieces.take(source(1), &split(&[1; 1300], id)[0]);
        }
        assert_eq!(pieces.0.len(), WAITING_MAX);
        for bad in
            [&[PIECE, 2, 0, 0, 0, 0, 0, 0, 1][..], &[PIECE, 0, 0, 0, 0, 0, 0, 0], &[PIECE], &[]]
        {
            assert_eq!(pieces.take(source(1), bad), None);
        }
        let long = [&[PIECE, 0, 0, 0, 0, 0, 0, 9][..], &[1; 711]].concat();
        assert_eq!(pieces.take(source(1), &long), None);
        assert_eq!(pieces.0.len(), WAITING_MAX);
    }
}
