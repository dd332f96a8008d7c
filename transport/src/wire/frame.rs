//! Our own frames on the UDP socket, beside QUIC: first byte 0x00 to 0x3F (docs/architecture.md).
//!
//! ```text
//! probe   0x01  tag[8]  nonce[8]  zero[18]            mac[16]
//! answer  0x02  tag[8]  nonce[8]  ip[16]  port[2]     mac[16]
//! sizing  0x03  tag[8]  nonce[8]  length[2]  zero[16] mac[16]  zero[length - 51]
//! call    0x04  zero[8] nonce[8]  zero[34]
//! keep    0x05  tag[8]  count[8]  zero[18]            mac[16]
//! ```
//!
//! The tag names the connection to its receiver, so that a spoofed frame costs one lookup; the MAC is
//! HMAC-SHA-256, cut to 16 bytes, over everything before it, under a key that only the two ends of the
//! connection have. An answer is exactly as long as the probe, so neither amplifies. The address is the
//! one that the probe came from, IPv4 mapped into IPv6. A sizing probe is as long as it says, whatever that is, and draws an ordinary
//! answer: that is how the sender learns that datagrams so long arrive. A call comes from a stranger, asked to by a rendezvous, and bears
//! nothing but the number that its receiver thought of: if it arrives, strangers' datagrams do. A keep is a sign of life that draws
//! no answer; its count only goes up, so that a replay says nothing.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ring::hmac;

/// Names a connection to the receiver of a frame.
pub(crate) type Tag = [u8; 8];

pub(crate) const PROBE: u8 = 0x01;
pub(crate) const ANSWER: u8 = 0x02;
pub(crate) const SIZING: u8 = 0x03;
pub(crate) const CALL: u8 = 0x04;
pub(crate) const KEEP: u8 = 0x05;

/// The longest datagram that QUIC sends, and that a sizing probe is. It fits every direct road, IPv6 over PPPoE included,
/// without fragmentation (docs/measurements.md).
pub(crate) const MTU_MAX: u16 = 1420;

const MAC_BYTES: usize = 16;
const BODY_BYTES: usize = 1 + 8 + 8 + 18;

/// Length of every frame there is.
pub(crate) const FRAME_BYTES: usize = BODY_BYTES + MAC_BYTES;

/// The number of a call that nobody asked for: it opens the NAT of who sends it, and says nothing.
pub(crate) const OPENS: u64 = 0;

/// The bytes of a call with this number.
pub(crate) fn call(nonce: u64) -> [u8; FRAME_BYTES] {
    let mut bytes = [0; FRAME_BYTES];
    bytes[0] = CALL;
    bytes[9..17].copy_from_slice(&nonce.to_be_bytes());
    bytes
}

/// The number of what is a call.
pub(crate) fn called(bytes: &[u8]) -> Option<u64> {
    let nonce = u64::from_be_bytes(bytes.get(9..17)?.try_into().ok()?);
    (bytes == call(nonce)).then_some(nonce)
}

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// "Are you there, and do you receive at this address?"
    Probe {
        /// Random; the answer bears it.
        nonce: u64,
    },
    /// The same, in a datagram of this length: "does that arrive?"
    Sizing {
        /// Random; the answer bears it.
        nonce: u64,
        /// Of the datagram: [`FRAME_BYTES`] to [`MTU_MAX`].
        length: u16,
    },
    /// "I am here, as ever: say nothing."
    Keep {
        /// More than in the one before.
        count: u64,
    },
    /// "I am, and I saw you at this address."
    Answer {
        /// That of the probe.
        nonce: u64,
        /// Where the probe came from.
        observed: SocketAddr,
    },
}

impl Frame {
    /// The bytes of this frame for the connection that its receiver knows by `tag`. A sizing probe isn't one before it has been
    /// padded to its length.
    pub(crate) fn seal(self, tag: Tag, key: &hmac::Key) -> [u8; FRAME_BYTES] {
        let mut bytes = [0; FRAME_BYTES];
        let (kind, nonce) = match self {
            Self::Probe { nonce } => (PROBE, nonce),
            Self::Keep { count } => (KEEP, count),
            Self::Sizing { nonce, length } => {
                bytes[17..19].copy_from_slice(&length.to_be_bytes());
                (SIZING, nonce)
            }
            Self::Answer { nonce, observed } => {
                let ip = match observed.ip() {
                    IpAddr::V4(ip) => ip.to_ipv6_mapped(),
                    IpAddr::V6(ip) => ip,
                };
                bytes[17..33].copy_from_slice(&ip.octets());
                bytes[33..35].copy_from_slice(&observed.port().to_be_bytes());
                (ANSWER, nonce)
            }
        };
        bytes[0] = kind;
        bytes[1..9].copy_from_slice(&tag);
        bytes[9..17].copy_from_slice(&nonce.to_be_bytes());
        let mac = hmac::sign(key, &bytes[..BODY_BYTES]);
        bytes[BODY_BYTES..].copy_from_slice(&mac.as_ref()[..MAC_BYTES]);
        bytes
    }

    /// The tag of what may be a frame.
    pub(crate) fn tag(bytes: &[u8]) -> Option<Tag> {
        let right = match bytes.first()? {
            &PROBE | &ANSWER | &KEEP => bytes.len() == FRAME_BYTES,
            &SIZING => (FRAME_BYTES..=MTU_MAX.into()).contains(&bytes.len()),
            _ => false,
        };
        if !right {
            return None;
        }
        bytes.get(1..9)?.try_into().ok()
    }

    /// Reads a frame whose MAC is right; `None` for everything else.
    pub(crate) fn open(bytes: &[u8], key: &hmac::Key) -> Option<Self> {
        Self::tag(bytes)?;
        let (frame, padding) = bytes.split_first_chunk::<FRAME_BYTES>()?;
        let (body, mac) = frame.split_at(BODY_BYTES);
        let right = hmac::sign(key, body);
        if subtle::ConstantTimeEq::ct_eq(&right.as_ref()[..MAC_BYTES], mac).unwrap_u8() != 1 {
            return None;
        }
        let nonce = u64::from_be_bytes(body[9..17].try_into().ok()?);
        match body[0] {
            PROBE => Some(Self::Probe { nonce }),
            KEEP => Some(Self::Keep { count: nonce }),
            SIZING => {
                let length = u16::from_be_bytes(body[17..19].try_into().ok()?);
                let whole = usize::from(length) == frame.len() + padding.len();
                whole.then_some(Self::Sizing { nonce, length })
            }
            ANSWER => {
                let ip: [u8; 16] = body[17..33].try_into().ok()?;
                let port = u16::from_be_bytes(body[33..35].try_into().ok()?);
                let ip = IpAddr::from(Ipv6Addr::from(ip)).to_canonical();
                Some(Self::Answer { nonce, observed: SocketAddr::new(ip, port) })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32])
    }

    #[test]
    fn frames_survive_the_way_and_probe_and_answer_are_equally_long() {
        for frame in [
            Frame::Probe { nonce: 7 },
            Frame::Keep { count: 7 },
            Frame::Answer { nonce: 8, observed: "1.2.3.4:5".parse().unwrap() },
            Frame::Answer { nonce: 9, observed: "[2001:db8::1]:5".parse().unwrap() },
        ] {
            let bytes = frame.seal([3; 8], &key(1));
            assert_eq!(Frame::tag(&bytes), Some([3; 8]));
            assert_eq!(Frame::open(&bytes, &key(1)), Some(frame));
            assert_eq!(Frame::open(&bytes, &key(2)), None);
        }
    }

    #[test]
    fn one_flipped_bit_or_a_missing_byte_is_refused() {
        let bytes = Frame::Probe { nonce: 7 }.seal([3; 8], &key(1));
        for bit in 0..FRAME_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Frame::open(&flipped, &key(1)), None);
        }
        for end in 0..FRAME_BYTES {
            assert_eq!(Frame::tag(&bytes[..end]), None);
            assert_eq!(Frame::open(&bytes[..end], &key(1)), None);
        }
    }

    #[test]
    fn a_sizing_probe_is_as_long_as_it_says_or_none() {
        for length in [MTU_MAX, 1280, FRAME_BYTES as u16 + 1] {
            let frame = Frame::Sizing { nonce: 7, length };
            let mut bytes = frame.seal([3; 8], &key(1)).to_vec();
            assert_eq!(Frame::open(&bytes, &key(1)), None, "without what makes it long");
            bytes.resize(length.into(), 0);
            assert_eq!(Frame::open(&bytes, &key(1)), Some(frame));
            bytes.push(0);
            assert_eq!(Frame::open(&bytes, &key(1)), None);
            bytes.resize(usize::from(MTU_MAX) + 1, 0);
            assert_eq!(Frame::tag(&bytes), None);
        }
        let shortest = Frame::Sizing { nonce: 7, length: FRAME_BYTES as u16 };
        assert_eq!(Frame::open(&shortest.seal([3; 8], &key(1)), &key(1)), Some(shortest));
    }
}
