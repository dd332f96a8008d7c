//! The text form, `wm1…`: base32 of the encoding followed by a checksum of four bytes.
//!
//! The checksum tells a mistyped text (nobody's fault, ask for it again) from a forged reference (right checksum,
//! wrong signature). Upper case is taken as well when the whole text is: QR codes have a denser mode for it. Mixed case isn't, as in BIP 173.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::{DecodeError, PEER_REF_LEN_MAX, PeerRef};
use crate::ground::base32;

/// Begins every text; the digit is the version of the text form.
const PREFIX: &str = "wm1";
/// One mistyped text in 2^32 gets by, to be caught by the signature if there is one.
const CHECKSUM_LEN: usize = 4;
/// The longest text of a reference: 5 bits a symbol.
const TEXT_LEN_MAX: usize = PREFIX.len() + ((PEER_REF_LEN_MAX + CHECKSUM_LEN) * 8).div_ceil(5);

/// Why a text isn't a PeerRef.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It doesn't begin with `wm1`.
    #[error("a PeerRef begins with \"wm1\"; this is something else")]
    NotAPeerRef,
    /// It is longer than any PeerRef.
    #[error("a PeerRef has at most {TEXT_LEN_MAX} characters, this has {len}")]
    TooLong {
        /// The length found, in bytes of UTF-8.
        len: usize,
    },
    /// It isn't as it was written: a character was changed, lost or added. Copy it again, whole.
    #[error("the PeerRef was mistyped or cut off; copy it again, whole")]
    Mistyped,
    /// It is as it was written, but not right: forged, or made by another version.
    #[error("the PeerRef is refused: {0}")]
    Refused(#[from] DecodeError),
}

/// The encoding that a text stands for, when its checksum is right. Space around it is passed over: files end with a newline.
pub(super) fn to_encoding(text: &str) -> Result<Vec<u8>, ParseError> {
    let text = text.trim();
    if !text.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX)) {
        return Err(ParseError::NotAPeerRef);
    }
    if text.len() > TEXT_LEN_MAX {
        return Err(ParseError::TooLong { len: text.len() });
    }
    let whole_upper = !text.bytes().any(|b| b.is_ascii_lowercase());
    let lowered = whole_upper.then(|| text.to_ascii_lowercase());
    let text = lowered.as_deref().unwrap_or(text);
    let symbols = text.strip_prefix(PREFIX).ok_or(ParseError::Mistyped)?;
    let mut bytes = base32::decode(symbols).map_err(|_| ParseError::Mistyped)?;
    let encoding_len = bytes.len().checked_sub(CHECKSUM_LEN).ok_or(ParseError::Mistyped)?;
    if bytes[encoding_len..] != checksum(&bytes[..encoding_len]) {
        return Err(ParseError::Mistyped);
    }
    bytes.truncate(encoding_len);
    Ok(bytes)
}

fn checksum(encoding: &[u8]) -> [u8; CHECKSUM_LEN] {
    let digest = Sha256::new().chain_update(PREFIX).chain_update(encoding).finalize();
    let mut sum = [0; CHECKSUM_LEN];
    sum.copy_from_slice(&digest[..CHECKSUM_LEN]);
    sum
}

impl fmt::Display for PeerRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.to_bytes();
        bytes.extend_from_slice(&checksum(&bytes));
        write!(f, "{PREFIX}{}", base32::encode(&bytes))
    }
}

impl FromStr for PeerRef {
    type Err = ParseError;

    /// Reads a text, with or without space around it, and verifies its signature, but not its expiry.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        Ok(PeerRef::from_bytes(&to_encoding(text)?)?)
    }
}
