//! How two Webmesh hosts talk.
//!
//! - [`identity`]: the key pair that a host is, its file, and what is derived from it.

mod base32;
pub mod identity;

pub use identity::{KeyFileError, PeerId, PeerIdError, SecretKey, SignatureError};
