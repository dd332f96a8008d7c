//! Core: datagrams in a stream of bytes. Each is preceded by its length in two bytes, big-endian.

/// The longest datagram: one of Ethernet's, as long as any that a UDP socket is given here.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 1500;

/// Bytes in front of each.
pub(crate) const LENGTH_BYTES: usize = 2;

/// What a peer sent is not a datagram: its tunnel is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a datagram of {0} bytes is refused; the most is {DATAGRAM_BYTES_MAX}")]
pub(crate) struct LengthError(usize);

/// Appends a datagram; one that is empty or too long is left out.
pub(crate) fn put(out: &mut Vec<u8>, datagram: &[u8]) {
    if let Ok(length) = u16::try_from(datagram.len())
        && (1..=DATAGRAM_BYTES_MAX).contains(&datagram.len())
    {
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(datagram);
    }
}

/// Takes bytes as they come and gives datagrams. Holds at most one that is incomplete.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    rest: Vec<u8>,
}

impl Splitter {
    /// Takes bytes; each datagram that they complete goes to `each`.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), LengthError> {
        while !bytes.is_empty() {
            let missing = match length(&self.rest)? {
                None => LENGTH_BYTES - self.rest.len(),
                Some(length) => LENGTH_BYTES + length - self.rest.len(),
            };
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.rest.extend_from_slice(now);
            bytes = later;
            if let Some(length) = length(&self.rest)?
                && self.rest.len() == LENGTH_BYTES + length
            {
                each(&self.rest[LENGTH_BYTES..]);
                self.rest.clear();
            }
        }
        Ok(())
    }
}

fn length(rest: &[u8]) -> Result<Option<usize>, LengthError> {
    let Some(bytes) = rest.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    match usize::from(u16::from_be_bytes(*bytes)) {
        length @ 1..=DATAGRAM_BYTES_MAX => Ok(Some(length)),
        length => Err(LengthError(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_out_as_they_went_in_however_the_stream_is_cut() {
        let datagrams = [vec![1; 1], vec![2; 1500], vec![3; 700]];
        let mut stream = Vec::new();
        datagrams.iter().for_each(|datagram| put(&mut stream, datagram));
        for cut in [1, 2, 3, 700, 5000] {
            let (mut splitter, mut out) = (Splitter::default(), Vec::new());
            for part in stream.chunks(cut) {
                splitter.feed(part, |datagram| out.push(datagram.to_vec())).unwrap();
            }
            assert_eq!(out, datagrams);
        }
    }

    #[test]
    fn what_is_no_length_is_refused_before_anything_is_stored() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.feed(&[0xff, 0xff, 1], |_| panic!()), Err(LengthError(0xffff)));
        assert!(Splitter::default().feed(&[0, 0], |_| panic!()).is_err());
        let mut out = Vec::new();
        put(&mut out, &[]);
        put(&mut out, &[0; 1501]);
        assert!(out.is_empty());
    }
}
