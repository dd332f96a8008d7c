//! Who a host is: an ed25519 key pair, kept in a file, and what is derived from it.
//!
//! - [`PeerId`]: the public key, which is a host's name to everyone else.
//! - [`SecretKey`]: signs under a context, and yields every other key of the node by HKDF.
//! - [`key_file`]: how a secret is kept on disk without ever being lost or shown.
//! - [`KeyLock`]: one node at a time for one key file.
//! - [`version`]: the counter behind the version of a signed PeerRef.
//!
//! Follows docs/architecture.md, RFC 8032 (ed25519), RFC 5869 (HKDF) and RFC 8410 (PKCS#8 of ed25519).

pub mod key_file;
mod key_lock;
mod peer_id;
mod secret_key;
pub mod version;

pub use key_file::KeyFileError;
pub use key_lock::KeyLock;
pub use peer_id::{PEER_ID_TEXT_LEN, PeerId, PeerIdError, SignatureError};
pub use secret_key::SecretKey;
pub use version::{VersionCounter, VersionError};

/// What is really signed: a fixed prefix, the context with its length before it, and the message.
///
/// The prefix keeps these signatures apart from those that TLS makes with the same key (which begin with 64 spaces,
/// RFC 8446 section 4.4.3), and the length keeps a context from running into the message.
fn signed_bytes(context: &str, message: &[u8]) -> Vec<u8> {
    const PREFIX: &[u8] = b"webmesh/1 signature\0";
    let mut bytes = Vec::with_capacity(PREFIX.len() + 8 + context.len() + message.len());
    bytes.extend_from_slice(PREFIX);
    bytes.extend_from_slice(&(context.len() as u64).to_be_bytes());
    bytes.extend_from_slice(context.as_bytes());
    bytes.extend_from_slice(message);
    bytes
}
