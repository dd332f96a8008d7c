//! What whoever forwards the first packet of a handshake can answer it with: its keys follow from the connection id in it.

use ring::aead;
use rustls::{
    crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    quic::{Keys, Version},
};

/// What is forged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// An Initial with CONNECTION_CLOSE.
    Close,
    /// A Retry, whose token the forger then carries on to the server.
    Retry,
    /// The same, and silence.
    RetryAndSilence,
    /// A Version Negotiation that offers nothing known.
    Versions,
}

impl Forgery {
    pub const ALL: [Self; 4] = [Self::Close, Self::Retry, Self::RetryAndSilence, Self::Versions];

    /// The answer to `first`.
    pub fn answer(self, first: &Initial) -> Vec<u8> {
        match self {
            Self::Close => close(first),
            Self::Retry | Self::RetryAndSilence => retry(first),
            Self::Versions => versions(first),
        }
    }
}

/// What the forged close says.
pub const REASON: &str = "forged by who forwarded it";

/// The readable part of a client's Initial.
pub struct Initial {
    dcid: Vec<u8>,
    scid: Vec<u8>,
    /// It answers a Retry.
    pub has_token: bool,
}

impl Initial {
    /// Reads the first packet of a datagram, if it is an Initial of version 1.
    pub fn read(datagram: &[u8]) -> Option<Self> {
        let [first, 0, 0, 0, 1, rest @ ..] = datagram else { return None };
        if first & 0xf0 != 0xc0 {
            return None;
        }
        let (length, rest) = rest.split_first()?;
        let (dcid, rest) = rest.split_at_checked((*length).into())?;
        let (length, rest) = rest.split_first()?;
        let (scid, rest) = rest.split_at_checked((*length).into())?;
        let has_token = *rest.first()? != 0;
        Some(Self { dcid: dcid.to_vec(), scid: scid.to_vec(), has_token })
    }

    /// The beginning of a packet from the server, which calls itself `from`.
    fn header(&self, first: u8, version: u32, from: &[u8]) -> Vec<u8> {
        let mut header = vec![first];
        header.extend(version.to_be_bytes());
        for cid in [&self.scid[..], from] {
            header.push(cid.len() as u8);
            header.extend(cid);
        }
        header
    }
}

const FORGER: [u8; 8] = *b"forger!!";

/// RFC 9000, section 17.2.2, and RFC 9001, section 5.
fn close(to: &Initial) -> Vec<u8> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
    let side = rustls::Side::Server;
    let keys = Keys::initial(Version::V1, suite, suite.quic.unwrap(), &to.dcid, side).local;
    // CONNECTION_CLOSE: PROTOCOL_VIOLATION, no frame type, the reason.
    let mut payload = [&[0x1c, 0x0a, 0x00, REASON.len() as u8], REASON.as_bytes()].concat();
    // A packet number of one byte, no token.
    let mut header = to.header(0xc0, 1, &FORGER);
    header.push(0);
    let rest = 1 + payload.len() + keys.packet.tag_len();
    header.extend((0x4000 | rest as u16).to_be_bytes());
    header.push(0);
    let tag = keys.packet.encrypt_in_place(0, &header, &mut payload).unwrap();
    payload.extend(tag.as_ref());
    let sample = &payload[3..3 + keys.header.sample_len()];
    let (first, rest) = header.split_first_mut().unwrap();
    let number = rest.split_last_mut().unwrap().0;
    keys.header.encrypt_in_place(sample, first, std::slice::from_mut(number)).unwrap();
    [header, payload].concat()
}

/// RFC 9000, section 17.2.5; the key of the tag is in RFC 9001, section 5.8.
fn retry(to: &Initial) -> Vec<u8> {
    const KEY: [u8; 16] = 0xbe0c_690b_9f66_575a_1d76_6b54_e368_c84e_u128.to_be_bytes();
    const NONCE: [u8; 12] =
        [0x46, 0x15, 0x99, 0xd3, 0x5d, 0x63, 0x2b, 0xf2, 0x23, 0x98, 0x25, 0xbb];
    let mut packet = to.header(0xf0, 1, &FORGER);
    packet.extend(b"a token that the server never gave");
    let pseudo = [&[to.dcid.len() as u8], &to.dcid[..], &packet].concat();
    let key = aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_128_GCM, &KEY).unwrap());
    let nonce = aead::Nonce::assume_unique_for_key(NONCE);
    let tag = key.seal_in_place_separate_tag(nonce, aead::Aad::from(pseudo), &mut []).unwrap();
    packet.extend(tag.as_ref());
    packet
}

/// RFC 9000, section 17.2.1.
fn versions(to: &Initial) -> Vec<u8> {
    let mut packet = to.header(0x80, 0, &to.dcid);
    packet.extend(0x0a0a_0a0a_u32.to_be_bytes());
    packet
}
