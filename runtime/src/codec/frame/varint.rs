//! Variable-length integers of RFC 9000 section 16; a longer form than needed is an error.

use super::FrameError;

/// The largest number that can be written.
pub(crate) const MAX: u64 = (1 << 62) - 1;

/// Bytes that `value` takes.
pub(crate) const fn len(value: u64) -> usize {
    match value {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

/// Appends `value`, which must not exceed [`MAX`] (counters here never do).
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, value: u64) {
    debug_assert!(value <= MAX);
    let be = value.to_be_bytes();
    match len(value) {
        1 => out.push(be[7]),
        2 => out.extend_from_slice(&[be[6] | 0x40, be[7]]),
        4 => out.extend_from_slice(&[be[4] | 0x80, be[5], be[6], be[7]]),
        _ => {
            let mut be = be;
            be[0] |= 0xc0;
            out.extend_from_slice(&be);
        }
    }
}

/// Reads a number off the front of `bytes`: it and how many bytes it took. `None`: there are not enough bytes yet.
///
/// # Errors
/// [`FrameError::LongNumber`].
#[inline]
pub(crate) fn get(bytes: &[u8]) -> Result<Option<(u64, usize)>, FrameError> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    if first < 0x40 {
        return Ok(Some((u64::from(first), 1)));
    }
    // Most lengths: 64 to 16,383.
    if first < 0x80 {
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        let value = u64::from(first & 0x3f) << 8 | u64::from(second);
        return if value < 0x40 { Err(FrameError::LongNumber) } else { Ok(Some((value, 2))) };
    }
    let size = 1usize << (first >> 6);
    let Some(rest) = bytes.get(1..size) else { return Ok(None) };
    let value =
        rest.iter().fold(u64::from(first & 0x3f), |value, &byte| value << 8 | u64::from(byte));
    if len(value) != size {
        return Err(FrameError::LongNumber);
    }
    Ok(Some((value, size)))
}

/// Reads a number of exactly two bytes off the front of `bytes`, 64 to 16,383, which most lengths are. `None`: it is another
/// one, or none, for [`get`].
#[inline]
pub(crate) fn get_usual(bytes: &[u8]) -> Option<u64> {
    let [first @ 0x40..0x80, second, ..] = bytes else { return None };
    let value = u64::from(first & 0x3f) << 8 | u64::from(*second);
    (value >= 0x40).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_the_rfc_read_as_it_says() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            assert_eq!(get(bytes), Ok(Some((value, bytes.len()))));
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, bytes);
        }
        assert_eq!(get(&[0x40, 0x25]), Err(FrameError::LongNumber));
        assert_eq!(get_usual(&[0x40, 0x25]), None);
        assert_eq!(get(&[0x80, 0, 0x3f]), Ok(None));
    }

    proptest::proptest! {
        #[test]
        fn every_number_survives(value in 0..=MAX) {
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out.len(), len(value));
            assert_eq!(get(&out), Ok(Some((value, out.len()))));
            assert_eq!(get_usual(&out), Some(value).filter(|_| out.len() == 2));
        }
    }
}
