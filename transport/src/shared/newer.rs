//! Where else than its link leads a peer may be.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::{peer_ref::SignedRef, shared::dial_targets::Places};

/// Where else the peer may be.
#[derive(Debug)]
pub(crate) struct Newer {
    /// The version of the peer's own word for it. `None`: others say so, who are believed only while the peer is silent.
    pub(crate) version: Option<u64>,
    /// Stands for what it names.
    pub(crate) digest: u64,
    pub(crate) places: Places,
}

impl Newer {
    /// `places`: what of it may be tried.
    pub(crate) fn signed(signed: &SignedRef, places: Places) -> Self {
        Self { version: Some(signed.version()), digest: digest(signed), places }
    }

    /// Nobody signed this.
    pub(crate) fn hinted(places: Places) -> Self {
        Self { version: None, digest: 0, places }
    }
}

/// Equal for references that name the same places.
pub(crate) fn digest(signed: &SignedRef) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut addresses = signed.addresses().to_vec();
    addresses.sort_unstable();
    addresses.hash(&mut hasher);
    let mut points: Vec<_> = signed.rendezvous().iter().collect();
    points.sort_unstable_by_key(|point| *point.peer.as_bytes());
    for point in points {
        (point.peer.as_bytes(), &point.addresses, &point.tls).hash(&mut hasher);
    }
    hasher.finish()
}
