//! Explains any text: what it says, and whether that may be believed.

use std::fmt;
use std::time::SystemTime;

use super::codec::{self, Decoded};
use super::signed::{RefContent, SignedRef, check_expiry};
use super::text::{ParseError, to_encoding};
use super::{AddressRef, DecodeError, ExpiredError};
use crate::identity::PeerId;

/// What [`inspect()`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Whether the claims may be believed, and if not, why.
    pub verdict: Verdict,
    /// What the reference says; `None` when that can't be told.
    pub claims: Option<Claims>,
    /// Its size in bytes, without the checksum of the text; `None` when the text isn't whole.
    pub size: Option<usize>,
}

/// What a reference says. Only its [`Verdict`] tells whether it is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claims {
    /// Addresses, and nothing about who answers there.
    Addresses(AddressRef),
    /// What it says that a host signed.
    Signed {
        /// The host, and by its own account the signer.
        peer: PeerId,
        /// What that host says about itself.
        content: RefContent,
    },
}

/// Whether a reference may be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Signed by the host that it names, and not expired.
    Valid,
    /// In order, but unsigned: whoever answers at its addresses will be accepted.
    Unsigned,
    /// Rightly signed, and expired.
    Expired(ExpiredError),
    /// The signature isn't by the host that it names.
    BadSignature,
    /// The text was changed, cut off or added to since it was written.
    Mistyped,
    /// Not a PeerRef at all.
    NotAPeerRef,
    /// Whole, but not in order: no proper host makes such a thing, or only a newer version does.
    Malformed(DecodeError),
    /// Longer than any PeerRef.
    TooLong,
}

impl Verdict {
    /// A short name for programs, which stays the same: `valid`, `unsigned`, `expired`, `bad-signature`, `mistyped`,
    /// `not-a-peer-ref`, `malformed`, `too-long`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Unsigned => "unsigned",
            Self::Expired(_) => "expired",
            Self::BadSignature => "bad-signature",
            Self::Mistyped => "mistyped",
            Self::NotAPeerRef => "not-a-peer-ref",
            Self::Malformed(_) => "malformed",
            Self::TooLong => "too-long",
        }
    }

    /// Whether what the reference says may be acted on. An expired one still names a key and where it was: a dial by it is made, as the key must
    /// answer anyway.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Valid | Self::Unsigned)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid => f.write_str("valid"),
            Self::Unsigned => f.write_str("unsigned: whoever answers there is accepted"),
            Self::Expired(error) => error.fmt(f),
            Self::BadSignature => {
                f.write_str("the signature is wrong: the PeerRef was altered or forged")
            }
            Self::Mistyped => ParseError::Mistyped.fmt(f),
            Self::NotAPeerRef => ParseError::NotAPeerRef.fmt(f),
            Self::Malformed(error) => write!(f, "malformed: {error}"),
            Self::TooLong => f.write_str("longer than any PeerRef; copy it again, alone"),
        }
    }
}

/// Explains a text in the light of the time `now`. Never fails: what is wrong is the verdict.
pub fn inspect(text: &str, now: SystemTime) -> Inspection {
    let bytes = match to_encoding(text) {
        Ok(bytes) => bytes,
        Err(error) => {
            let verdict = match error {
                ParseError::NotAPeerRef => Verdict::NotAPeerRef,
                ParseError::TooLong { .. } => Verdict::TooLong,
                ParseError::Mistyped => Verdict::Mistyped,
                ParseError::Refused(error) => Verdict::Malformed(error),
            };
            return Inspection { verdict, claims: None, size: None };
        }
    };
    let (verdict, claims) = match codec::decode(&bytes) {
        Err(error) => (Verdict::Malformed(error), None),
        Ok(Decoded::Addresses(plain)) => (Verdict::Unsigned, Some(Claims::Addresses(plain))),
        Ok(Decoded::Unverified(unverified)) => {
            let claims =
                Claims::Signed { peer: unverified.peer, content: unverified.content.clone() };
            let expires = unverified.content.expires;
            let verdict = match SignedRef::verify(unverified, &bytes) {
                Err(_) => Verdict::BadSignature,
                Ok(_) => {
                    check_expiry(expires, now).map_or_else(Verdict::Expired, |()| Verdict::Valid)
                }
            };
            (verdict, Some(claims))
        }
    };
    Inspection { verdict, claims, size: Some(bytes.len()) }
}
