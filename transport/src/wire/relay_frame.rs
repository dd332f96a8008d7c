//! The frames of a relay, on the same UDP sockets as everything else.
//!
//! ```text
//! data       0x08  zero[7]  token[8]  datagram
//! challenge  0x09  zero[7]  token[8]  challenge[8]  mac[16]
//! bind       0x0A  zero[7]  token[8]  challenge[8]  mac[16]
//! ```
//!
//! The token names a leg of a flow. Data bears no cryptography of the relay's: QUIC inside has its own. The MAC is
//! HMAC-SHA-256, cut to 16 bytes, over everything before it, under the key of the leg. Numbers are big-endian.

use std::fmt;

use ring::hmac;

/// Names one end of a flow, to the relay and to the host at that end.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FlowToken(pub(crate) u64);

impl fmt::Debug for FlowToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever knows a token can draw challenges to himself; a log needn't tell it all.
        write!(f, "FlowToken({:04x}..)", self.0 >> 48)
    }
}

pub(crate) const DATA: u8 = 0x08;
pub(crate) const CHALLENGE: u8 = 0x09;
pub(crate) const BIND: u8 = 0x0a;

/// Marks a datagram that was forwarded already; nobody sends it.
pub(crate) const FORWARDED: u8 = 0x3f;

/// Bytes in front of a relayed datagram.
pub(crate) const HEADER_BYTES: usize = 16;

const BODY_BYTES: usize = HEADER_BYTES + 8;
const MAC_BYTES: usize = 16;

/// Length of a challenge, and of the answer to it.
pub(crate) const BINDING_BYTES: usize = BODY_BYTES + MAC_BYTES;

/// Whether this is a frame of a relay.
pub(crate) fn is_relay(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(DATA..=BIND))
}

/// The leg that a frame names, if it is long enough to name one.
pub(crate) fn token(frame: &[u8]) -> Option<FlowToken> {
    let token = frame.get(8..HEADER_BYTES)?.try_into().ok()?;
    Some(FlowToken(u64::from_be_bytes(token)))
}

/// What goes in front of a datagram to the leg `token`.
pub(crate) fn header(token: FlowToken) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0] = DATA;
    header[8..].copy_from_slice(&token.0.to_be_bytes());
    header
}

/// Names another leg in a data frame. It must have a header.
pub(crate) fn readdress(frame: &mut [u8], token: FlowToken) {
    if let Some(bytes) = frame.get_mut(8..HEADER_BYTES) {
        bytes.copy_from_slice(&token.0.to_be_bytes());
    }
}

/// A challenge or a bind frame.
pub(crate) fn seal(
    kind: u8,
    token: FlowToken,
    challenge: u64,
    key: &[u8; 32],
) -> [u8; BINDING_BYTES] {
    let mut bytes = [0; BINDING_BYTES];
    bytes[..HEADER_BYTES].copy_from_slice(&header(token));
    bytes[0] = kind;
    bytes[HEADER_BYTES..BODY_BYTES].copy_from_slice(&challenge.to_be_bytes());
    let mac = mac(&bytes[..BODY_BYTES], key);
    bytes[BODY_BYTES..].copy_from_slice(&mac);
    bytes
}

/// The challenge in such a frame, if its MAC is right.
pub(crate) fn open(kind: u8, frame: &[u8], key: &[u8; 32]) -> Option<u64> {
    let frame: &[u8; BINDING_BYTES] = frame.try_into().ok()?;
    let (body, claimed) = frame.split_at(BODY_BYTES);
    let right = subtle::ConstantTimeEq::ct_eq(&mac(body, key)[..], claimed).unwrap_u8() == 1;
    if !right || body[0] != kind {
        return None;
    }
    body[HEADER_BYTES..].try_into().ok().map(u64::from_be_bytes)
}

fn mac(body: &[u8], key: &[u8; 32]) -> [u8; MAC_BYTES] {
    let whole = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), body);
    let mut mac = [0; MAC_BYTES];
    mac.copy_from_slice(&whole.as_ref()[..MAC_BYTES]);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_survives_the_way_and_no_flipped_bit_does() {
        let (token, key) = (FlowToken(0x0123_4567_89ab_cdef), [7; 32]);
        let frame = seal(CHALLENGE, token, 42, &key);
        assert_eq!(self::token(&frame), Some(token));
        assert_eq!(open(CHALLENGE, &frame, &key), Some(42));
        assert_eq!(open(BIND, &frame, &key), None);
        assert_eq!(open(CHALLENGE, &frame, &[8; 32]), None);
        for bit in 0..BINDING_BYTES * 8 {
            let mut flipped = frame;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(CHALLENGE, &flipped, &key), None);
        }
        for end in 0..BINDING_BYTES {
            assert_eq!(open(CHALLENGE, &frame[..end], &key), None);
        }
    }

    #[test]
    fn a_data_frame_is_given_another_address_in_place() {
        let mut frame = header(FlowToken(1)).to_vec();
        frame.extend(b"datagram");
        readdress(&mut frame, FlowToken(2));
        assert_eq!(token(&frame), Some(FlowToken(2)));
        assert_eq!(&frame[HEADER_BYTES..], b"datagram");
        assert!(is_relay(&frame));
        assert_eq!(token(&frame[..15]), None);
    }
}
