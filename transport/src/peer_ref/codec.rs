//! The one encoding of each reference; docs/peer-ref.md has it byte by byte.
//!
//! All numbers have a fixed size and come big end first, so a content has exactly one encoding as long as each address
//! has; what isn't in that form is refused rather than corrected.

use std::net::SocketAddr;

use super::address::{AddressFault, AddressRef, check_address};
use super::signed::{ContentError, RefContent, RendezvousPoint};
use super::{ADDRESSES_MAX, PEER_REF_LEN_MAX, RENDEZVOUS_ADDRESSES_MAX, RENDEZVOUS_MAX};
use crate::identity::{PeerId, PeerIdError};

/// First byte of a reference of addresses only. Two bits away from [`CLASS_SIGNED`], so that no flipped bit turns a
/// signed reference into an unsigned one.
const CLASS_ADDRESSES: u8 = 1;
const CLASS_SIGNED: u8 = 2;
const FAMILY_V4: u8 = 4;
const FAMILY_V6: u8 = 6;

pub(super) const SIGNATURE_LEN: usize = 64;

/// Why bytes aren't a PeerRef. None of them may be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than any reference.
    #[error("it has {len} bytes, and a PeerRef has at most {PEER_REF_LEN_MAX}")]
    TooLong {
        /// The length found, in bytes.
        len: usize,
    },
    /// It ends in the middle: cut off, or made up.
    #[error("it ends too early")]
    Truncated,
    /// Something follows its end.
    #[error("{len} bytes follow its end")]
    Trailing {
        /// How many bytes.
        len: usize,
    },
    /// A class that this version doesn't know. A newer version may.
    #[error("it is of class {class}, which this version doesn't know")]
    Class {
        /// The class found.
        class: u8,
    },
    /// An address of neither IPv4 nor IPv6.
    #[error("it names an address of family {family}, which this version doesn't know")]
    Family {
        /// The family found.
        family: u8,
    },
    /// The host or a rendezvous point is named by something that is no key.
    #[error("it names a peer that can't be one: {0}")]
    Peer(#[from] PeerIdError),
    /// A content that no host may sign.
    #[error("{0}")]
    Content(#[from] ContentError),
    /// The signature isn't by the host over this content: it was altered on the way, or forged. Don't use it; ask the host itself for one.
    #[error("its signature isn't by {peer}: it was altered or forged")]
    Signature {
        /// The host it claims to be of.
        peer: PeerId,
    },
}

/// What bytes stand for, before any signature was looked at.
pub(super) enum Decoded {
    Addresses(AddressRef),
    Unverified(Unverified),
}

/// What a reference says, which its signature may or may not bear out.
pub(super) struct Unverified {
    pub(super) peer: PeerId,
    pub(super) content: RefContent,
    pub(super) signature: [u8; SIGNATURE_LEN],
}

pub(super) fn encode_addresses(addresses: &[SocketAddr]) -> Vec<u8> {
    let mut out = vec![CLASS_ADDRESSES];
    put_addresses(&mut out, addresses);
    out
}

/// All that comes before the signature.
pub(super) fn encode_body(peer: &PeerId, content: &RefContent) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.push(CLASS_SIGNED);
    out.extend_from_slice(peer.as_bytes());
    out.extend_from_slice(&content.version.to_be_bytes());
    out.extend_from_slice(&content.expires.to_be_bytes());
    put_addresses(&mut out, &content.addresses);
    put_points(&mut out, &content.rendezvous);
    out
}

pub(crate) fn put_points(out: &mut Vec<u8>, points: &[RendezvousPoint]) {
    // Counts were checked against limits far below 256.
    out.push(points.len() as u8);
    for point in points {
        out.extend_from_slice(point.peer.as_bytes());
        put_addresses(out, &point.addresses);
        put_addresses(out, &point.tls);
    }
}

pub(crate) fn put_addresses(out: &mut Vec<u8>, addresses: &[SocketAddr]) {
    out.push(addresses.len() as u8);
    for address in addresses {
        match address {
            SocketAddr::V4(v4) => {
                out.push(FAMILY_V4);
                out.extend_from_slice(&v4.ip().octets());
            }
            SocketAddr::V6(v6) => {
                out.push(FAMILY_V6);
                out.extend_from_slice(&v6.ip().octets());
            }
        }
        out.extend_from_slice(&address.port().to_be_bytes());
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    if bytes.len() > PEER_REF_LEN_MAX {
        return Err(DecodeError::TooLong { len: bytes.len() });
    }
    let mut reader = Reader(bytes);
    let decoded = match reader.byte()? {
        CLASS_ADDRESSES => Decoded::Addresses(AddressRef::new(reader.addresses(ADDRESSES_MAX)?)?),
        CLASS_SIGNED => Decoded::Unverified(reader.signed()?),
        class => return Err(DecodeError::Class { class }),
    };
    match reader.0.len() {
        0 => Ok(decoded),
        len => Err(DecodeError::Trailing { len }),
    }
}

/// The bytes not read yet.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.take::<1>().map(|[byte]| byte)
    }

    pub(crate) fn addresses(&mut self, limit: usize) -> Result<Vec<SocketAddr>, DecodeError> {
        let count = usize::from(self.byte()?);
        if count > limit {
            return Err(ContentError::TooManyAddresses { limit }.into());
        }
        (0..count).map(|_| self.address()).collect()
    }

    pub(crate) fn address(&mut self) -> Result<SocketAddr, DecodeError> {
        let ip = match self.byte()? {
            FAMILY_V4 => self.take::<4>()?.into(),
            FAMILY_V6 => self.take::<16>()?.into(),
            family => return Err(DecodeError::Family { family }),
        };
        let address = SocketAddr::new(ip, u16::from_be_bytes(self.take()?));
        let fault = match check_address(address) {
            Ok(plain) if plain == address => return Ok(address),
            Ok(_) => AddressFault::Spelling,
            Err(fault) => fault,
        };
        Err(ContentError::Address { address, fault }.into())
    }

    pub(crate) fn peer(&mut self) -> Result<PeerId, DecodeError> {
        Ok(PeerId::from_bytes(&self.take()?)?)
    }

    pub(crate) fn points(&mut self, limit: usize) -> Result<Vec<RendezvousPoint>, DecodeError> {
        let count = usize::from(self.byte()?);
        if count > limit {
            return Err(ContentError::TooManyRendezvous.into());
        }
        let point = |_| {
            Ok(RendezvousPoint {
                peer: self.peer()?,
                addresses: self.addresses(RENDEZVOUS_ADDRESSES_MAX)?,
                tls: self.addresses(RENDEZVOUS_ADDRESSES_MAX)?,
            })
        };
        (0..count).map(point).collect()
    }

    fn signed(&mut self) -> Result<Unverified, DecodeError> {
        let peer = self.peer()?;
        let version = u64::from_be_bytes(self.take()?);
        let expires = u64::from_be_bytes(self.take()?);
        let addresses = self.addresses(ADDRESSES_MAX)?;
        let rendezvous = self.points(RENDEZVOUS_MAX)?;
        let content = RefContent { version, addresses, rendezvous, expires };
        Ok(Unverified { peer, content: content.checked(peer)?, signature: self.take()? })
    }
}
