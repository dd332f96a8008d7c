//! What the fuzz targets (fuzz/) and the tests of their seeds (tests/fuzz_seeds.rs) do with an input: decode it, and if it
//! was accepted, check what must then hold. Not part of the API.

#![allow(missing_docs)]

use std::time::SystemTime;

use crate::identity::key_file;
use crate::peer_ref::inspect;
use crate::{PeerId, PeerRef};

/// A target's name, which is also that of its seeds' folder, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("peer_ref_bytes", peer_ref_bytes),
    ("peer_ref_text", peer_ref_text),
    ("peer_id_text", peer_id_text),
    ("key_file", key_file),
];

pub fn peer_ref_bytes(data: &[u8]) {
    if let Ok(reference) = PeerRef::from_bytes(data) {
        assert_eq!(reference.to_bytes(), data, "a content has one encoding");
    }
}

pub fn peer_ref_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let found = inspect(text, SystemTime::UNIX_EPOCH);
    let parsed = text.parse::<PeerRef>();
    assert_eq!(parsed.is_ok(), found.verdict.is_usable(), "in 1970 nothing has expired");
    if let Ok(reference) = parsed {
        assert_eq!(reference.to_string(), text.to_ascii_lowercase(), "a reference has one text");
    }
}

pub fn peer_id_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(peer) = text.parse::<PeerId>() {
        assert_eq!(peer.to_string(), text, "a peer has one text");
    }
}

pub fn key_file(data: &[u8]) {
    if let Ok(secret) = key_file::decode(data) {
        let text = String::from_utf8_lossy(data);
        let kept = key_file::encode(&secret);
        assert_eq!(text.trim_ascii_end(), kept.trim_ascii_end(), "a secret has one file");
    }
}
