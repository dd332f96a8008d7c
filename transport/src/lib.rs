//! How two Webmesh hosts talk.
//!
//! - [`identity`]: the key pair that a host is, its file, and what is derived from it.
//! - [`peer_ref`]: how a host can be reached, signed by itself or not.

mod base32;
#[doc(hidden)]
pub mod fuzzing;
pub mod identity;
pub mod peer_ref;

pub use identity::{KeyFileError, PeerId, PeerIdError, SecretKey, SignatureError};
pub use peer_ref::PeerRef;
