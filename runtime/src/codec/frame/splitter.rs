//! Cuts what a stream delivers into whole frames.
//!
//! A frame that lies within one chunk is named by its place in it; only one that straddles chunks is put together in a
//! buffer. Beyond [`ANNOUNCED_MAX`] nothing is allocated by an announced length: the buffer grows with what has really
//! arrived.

use super::{FrameError, varint};
use bytes::Bytes;

/// Bytes that are allocated for a frame of which only the length and the beginning are here. Most frames are smaller, and
/// are put together without the buffer having to grow. Less than is kept for any stream anyway.
const ANNOUNCED_MAX: usize = 1024;

/// Where a whole frame lies: `sources[source][start..end]`, without its length. `size` counts the length in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) source: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) size: usize,
}

/// Frames cut out of a batch of chunks. Emptied and used again.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    sources: Vec<Bytes>,
    spans: Vec<Span>,
}

impl Frames {
    /// The frames, in the order of the stream.
    pub(crate) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The bytes of one.
    #[inline]
    pub(crate) fn get(&self, span: Span) -> &[u8] {
        &self.sources[span.source][span.start..span.end]
    }

    /// The bytes of one, to keep. Shares the chunk's memory unless the frame is but a small part of it.
    pub(crate) fn keep(&self, span: Span) -> Bytes {
        let source = &self.sources[span.source];
        if (span.end - span.start) * 4 < source.len() {
            return Bytes::copy_from_slice(self.get(span));
        }
        source.slice(span.start..span.end)
    }

    /// The bytes of one, sharing the chunk's memory: for what is used up soon.
    pub(crate) fn share(&self, span: Span) -> Bytes {
        self.sources[span.source].slice(span.start..span.end)
    }

    /// Takes the first frame out.
    pub(crate) fn take_first(&mut self) -> Bytes {
        if self.spans.is_empty() {
            return Bytes::new();
        }
        let span = self.spans.remove(0);
        self.keep(span)
    }

    pub(crate) fn clear(&mut self) {
        self.sources.clear();
        self.spans.clear();
    }

    fn add(&mut self, source: Bytes, start: usize, end: usize, size: usize) {
        self.sources.push(source);
        self.spans.push(Span { source: self.sources.len() - 1, start, end, size });
    }
}

/// The state between chunks: what has arrived of a frame that is not whole yet.
#[derive(Debug)]
pub(crate) struct Splitter {
    partial: Vec<u8>,
    frame_max: usize,
}

impl Splitter {
    /// For a stream whose frames are at most `frame_max` bytes long.
    pub(crate) fn new(frame_max: usize) -> Self {
        Self { partial: Vec::new(), frame_max }
    }

    /// Adds the next chunk of the stream and puts the frames it completes into `frames`.
    ///
    /// # Errors
    /// [`FrameError`]: the connection must be closed.
    pub(crate) fn push(&mut self, chunk: Bytes, frames: &mut Frames) -> Result<(), FrameError> {
        let mut at = 0;
        // First complete the frame that began in an earlier chunk, byte by byte until its length is known.
        while !self.partial.is_empty() && at < chunk.len() {
            match self.frame_at(&self.partial)? {
                None => {
                    self.partial.push(chunk[at]);
                    at += 1;
                }
                Some((prefix, len)) => {
                    let take = (prefix + len - self.partial.len()).min(chunk.len() - at);
                    self.partial.extend_from_slice(&chunk[at..at + take]);
                    at += take;
                }
            }
            if let Some((prefix, len)) = self.frame_at(&self.partial)?
                && self.partial.len() == prefix + len
            {
                let whole = std::mem::take(&mut self.partial);
                frames.add(Bytes::from(whole), prefix, prefix + len, prefix + len);
            }
        }
        let source = frames.sources.len();
        let mut used = false;
        let bytes = &chunk[..];
        while at < bytes.len() {
            let rest = &bytes[at..];
            // What most frames are, with less to look at.
            if let Some(len) = varint::get_usual(rest)
                && len <= self.frame_max as u64
                && len as usize + 2 <= rest.len()
            {
                let (start, end) = (at + 2, at + 2 + len as usize);
                frames.spans.push(Span { source, start, end, size: 2 + len as usize });
                used = true;
                at = end;
                continue;
            }
            match self.frame_at(rest)? {
                Some((prefix, len)) if prefix + len <= rest.len() => {
                    let start = at + prefix;
                    frames.spans.push(Span { source, start, end: start + len, size: prefix + len });
                    used = true;
                    at = start + len;
                }
                begun => {
                    let whole = begun.map_or(0, |(prefix, len)| prefix + len);
                    self.partial.reserve_exact(rest.len().max(whole.min(ANNOUNCED_MAX)));
                    self.partial.extend_from_slice(rest);
                    break;
                }
            }
        }
        if used {
            frames.sources.push(chunk);
        }
        Ok(())
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`FrameError::EndsWithinFrame`].
    pub(crate) fn end(&self) -> Result<(), FrameError> {
        if self.partial.is_empty() { Ok(()) } else { Err(FrameError::EndsWithinFrame) }
    }

    /// Length of the length, and the length, of the frame that starts here. `None`: more bytes are needed to know.
    #[inline]
    fn frame_at(&self, bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
        let Some((len, prefix)) = varint::get(bytes)? else { return Ok(None) };
        let max = self.frame_max as u64;
        match len {
            0 => Err(FrameError::Truncated("kind")),
            len if len > max => Err(FrameError::TooLong { what: "frame", len, max }),
            len => Ok(Some((prefix, len as usize))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::frame::cursor::put_frame;

    fn split(stream: &[u8], cuts: &[usize]) -> Result<Vec<Vec<u8>>, FrameError> {
        let mut splitter = Splitter::new(1000);
        let mut frames = Frames::default();
        let mut from = 0;
        for &cut in cuts.iter().chain([&stream.len()]) {
            let to = cut.clamp(from, stream.len());
            splitter.push(Bytes::copy_from_slice(&stream[from..to]), &mut frames)?;
            from = to;
        }
        splitter.end()?;
        let kept: Vec<_> = frames.spans().iter().map(|&span| frames.keep(span).to_vec()).collect();
        assert!(frames.spans().iter().zip(&kept).all(|(&span, kept)| frames.get(span) == kept));
        Ok(kept)
    }

    #[test]
    fn a_zero_length_an_endless_length_and_a_cut_stream_are_refused() {
        assert_eq!(split(&[0], &[]), Err(FrameError::Truncated("kind")));
        assert!(matches!(split(&[0xff; 8], &[]), Err(FrameError::TooLong { .. })));
        assert!(matches!(split(&[0xff; 8], &[3]), Err(FrameError::TooLong { .. })));
        assert_eq!(split(&[3, 1, 2], &[]), Err(FrameError::EndsWithinFrame));
        assert_eq!(split(&[0x40], &[]), Err(FrameError::EndsWithinFrame));
    }

    proptest::proptest! {
        #[test]
        fn frames_survive_any_cutting(
            lens in proptest::collection::vec(1usize..300, 0..20),
            mut cuts in proptest::collection::vec(0usize..4000, 0..40),
        ) {
            let mut stream = Vec::new();
            let mut sent = Vec::new();
            for (i, len) in lens.iter().enumerate() {
                let frame = vec![i as u8; *len];
                put_frame(&mut stream, |out| out.extend_from_slice(&frame));
                sent.push(frame);
            }
            cuts.sort_unstable();
            assert_eq!(split(&stream, &cuts), Ok(sent));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), cut in 0usize..200) {
            let _ = split(&bytes, &[cut]);
        }
    }
}
