//! Reading the fields of one frame, and writing them.

use super::{FrameError, varint};

/// Reads fields off the front of a frame.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(frame: &'a [u8]) -> Self {
        Self { rest: frame }
    }

    #[inline]
    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8, FrameError> {
        let (&first, rest) = self.rest.split_first().ok_or(FrameError::Truncated(what))?;
        self.rest = rest;
        Ok(first)
    }

    #[inline]
    pub(crate) fn number(&mut self, what: &'static str) -> Result<u64, FrameError> {
        let (value, size) = varint::get(self.rest)?.ok_or(FrameError::Truncated(what))?;
        self.rest = &self.rest[size..];
        Ok(value)
    }

    /// A number with an upper bound.
    pub(crate) fn bounded(&mut self, what: &'static str, max: u64) -> Result<u64, FrameError> {
        let len = self.number(what)?;
        if len > max { Err(FrameError::TooLong { what, len, max }) } else { Ok(len) }
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], FrameError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(FrameError::Truncated(what))?;
        self.rest = rest;
        Ok(*array)
    }

    /// A length of at most `max`, and that many bytes.
    pub(crate) fn bytes(&mut self, what: &'static str, max: usize) -> Result<&'a [u8], FrameError> {
        let len = self.bounded(what, max as u64)?;
        // `len <= max`, a usize.
        let (bytes, rest) =
            self.rest.split_at_checked(len as usize).ok_or(FrameError::Truncated(what))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A length of at most `max`, and that many bytes of UTF-8.
    pub(crate) fn text(&mut self, what: &'static str, max: usize) -> Result<&'a str, FrameError> {
        std::str::from_utf8(self.bytes(what, max)?).map_err(|_| FrameError::NotText(what))
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// The frame must end here.
    pub(crate) fn end(self) -> Result<(), FrameError> {
        if self.rest.is_empty() { Ok(()) } else { Err(FrameError::Trailing(self.rest.len())) }
    }
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends one frame: `fill` writes its kind and fields, the length is put in front. For rare frames; lanes know the
/// length of their messages beforehand.
pub(crate) fn put_frame(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    fill(out);
    let len = out.len() - start;
    let mut prefix = Vec::with_capacity(8);
    varint::put(&mut prefix, len as u64);
    out.splice(start..start, prefix);
}
