//! Numbers that nobody can guess: SipHash-2-4 of a counter, under a key of the link's own.
//!
//! Every link has one, hence not a generator of 320 bytes. They must be unknown to the peer as well: who
//! could guess a nonce could answer probes that it never received.

use siphasher::sip::SipHasher24;

/// A source of nonces.
#[derive(Debug)]
pub(crate) struct Nonces {
    key: [u8; 16],
    used: u64,
}

impl Nonces {
    /// `key` is random, or comes from the seed of a repeatable run.
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self { key, used: 0 }
    }

    /// Another one.
    pub(crate) fn next(&mut self) -> u64 {
        self.used += 1;
        SipHasher24::new_with_key(&self.key).hash(&self.used.to_le_bytes())
    }
}
