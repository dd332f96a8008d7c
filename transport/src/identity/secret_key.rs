//! A host's secret: the ed25519 signing key, and the root of every other key of the node.

use std::fmt;
use std::path::Path;

use ed25519_dalek::{Signer, SigningKey};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{KeyFileError, PeerId, key_file, signed_bytes};

/// The secret half of a host's identity. Overwritten in memory when dropped; [`fmt::Debug`] shows the peer id only.
///
/// ```
/// use webmesh_transport::SecretKey;
/// let secret = SecretKey::generate();
/// let signature = secret.sign("example greeting", b"hello");
/// assert!(secret.peer_id().verify("example greeting", b"hello", &signature).is_ok());
/// assert!(secret.peer_id().verify("another context", b"hello", &signature).is_err());
/// ```
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// A new secret from the operating system's randomness.
    ///
    /// # Panics
    /// When the operating system has no randomness to give, for then no secret would be one.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        if let Err(error) = getrandom::fill(bytes.as_mut()) {
            panic!("the operating system gives no randomness for a secret key: {error}");
        }
        Self::from_bytes(*bytes)
    }

    /// The secret that these 32 bytes stand for (an RFC 8032 seed: any 32 bytes do).
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let bytes = Zeroizing::new(bytes);
        Self(SigningKey::from_bytes(&bytes))
    }

    /// The 32 bytes of the secret. Whoever holds them *is* this host: keep them from logs and from the wire.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half.
    pub fn peer_id(&self) -> PeerId {
        PeerId::from_own_key(&self.0.verifying_key())
    }

    /// Signs `message` under `context`, which says what the signature is for. A signature given for one purpose
    /// can't be shown for another, nor for the handshake of TLS.
    pub fn sign(&self, context: &str, message: &[u8]) -> [u8; 64] {
        self.0.sign(&signed_bytes(context, message)).to_bytes()
    }

    /// Derives the key that belongs to `label` (HKDF-SHA256 without salt, its info being `webmesh/1 LABEL`, a zero
    /// byte, and `N` as eight bytes, big end first). The same secret and label
    /// give the same key after every restart; keys of different labels or lengths tell nothing about each other or the secret.
    ///
    /// `N` is at most 8,160 bytes, checked when compiled.
    pub fn derive<const N: usize>(&self, label: &'static str) -> [u8; N] {
        const { assert!(N <= 255 * 32, "HKDF-SHA256 yields at most 255 blocks of 32 bytes") }
        let mut key = [0; N];
        // The length goes into the info: HKDF's shorter outputs are otherwise prefixes of its longer ones.
        let length = (N as u64).to_be_bytes();
        let info = [b"webmesh/1 ".as_slice(), label.as_bytes(), b"\0", &length];
        if Hkdf::<Sha256>::new(None, self.0.as_bytes()).expand_multi_info(&info, &mut key).is_err()
        {
            unreachable!("the length was checked when compiled");
        }
        key
    }

    /// Reads the secret kept in the file at `path`.
    ///
    /// # Errors
    /// See [`KeyFileError`]; the file is never changed.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        key_file::load(path.as_ref())
    }

    /// Reads the secret kept at `path`, or makes a new one and keeps it there when nothing is.
    ///
    /// Missing parent directories are made, private to this user. When several processes do this at once, all of them
    /// end up with the same key. An existing file is never changed.
    ///
    /// # Errors
    /// See [`KeyFileError`].
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        key_file::load_or_create(path.as_ref())
    }

    /// The secret as PKCS#8 (RFC 8410, section 7), which is how rustls takes it.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(crate) fn pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        // SEQUENCE { INTEGER 0, SEQUENCE { OID 1.3.101.112 }, OCTET STRING { OCTET STRING (32 bytes) } }
        const PREFIX: [u8; 16] = [
            0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
            0x04, 0x20,
        ];
        let mut der = Zeroizing::new(Vec::with_capacity(PREFIX.len() + 32));
        der.extend_from_slice(&PREFIX);
        der.extend_from_slice(self.0.as_bytes());
        der
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey(of {:?})", self.peer_id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_counts_only_for_its_key_context_and_message() {
        let secret = SecretKey::from_bytes([1; 32]);
        let peer = secret.peer_id();
        let signature = secret.sign("context", b"message");
        assert!(peer.verify("context", b"message", &signature).is_ok());
        assert!(peer.verify("contex", b"tmessage", &signature).is_err());
        assert!(peer.verify("context", b"messagf", &signature).is_err());
        let other = SecretKey::from_bytes([2; 32]).peer_id();
        assert!(other.verify("context", b"message", &signature).is_err());
        for bit in 0..512 {
            let mut flipped = signature;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(peer.verify("context", b"message", &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn derived_keys_differ_by_secret_label_and_length_and_last() {
        let secret = SecretKey::from_bytes([1; 32]);
        let key: [u8; 32] = secret.derive("reset");
        assert_eq!(key, SecretKey::from_bytes([1; 32]).derive::<32>("reset"));
        assert_ne!(key, secret.derive::<32>("token"));
        assert_ne!(key, SecretKey::from_bytes([2; 32]).derive::<32>("reset"));
        assert_ne!(key[..16], secret.derive::<16>("reset"));
        // Pinned, lest a change of the derivation silently turns every node into a stranger.
        assert_eq!(
            data_encoding::HEXLOWER.encode(&secret.derive::<16>("test vector")),
            "a93ce286160adbe55f1bf31cd2c4078d"
        );
    }

    #[test]
    fn debug_tells_nothing_of_the_secret() {
        let secret = SecretKey::generate();
        let shown = format!("{secret:?}");
        assert_eq!(shown, format!("SecretKey(of {:?})", secret.peer_id()));
        assert!(!shown.contains(&crate::ground::base32::encode(&secret.to_bytes())[..8]));
    }

    #[test]
    fn rustls_takes_the_secret_and_signs_as_this_peer() {
        let secret = SecretKey::generate();
        let der = rustls::pki_types::PrivatePkcs8KeyDer::from(secret.pkcs8_der().to_vec());
        let key = rustls::crypto::ring::sign::any_eddsa_type(&der).unwrap();
        let public = rustls::sign::SigningKey::public_key(key.as_ref()).unwrap();
        assert!(public.as_ref().ends_with(secret.peer_id().as_bytes()));
    }
}
