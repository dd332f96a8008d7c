//! The connection ids that this endpoint hands out, and recognises after a restart.
//!
//! An id is 8 random bytes and a 4-byte tag over them under a key derived from the secret key. The tag
//! survives a restart, so a packet for a connection of the process before still draws its stateless
//! reset, while random garbage is recognised in some 20 ns and never reaches QUIC. `validate` accepts
//! every id, because the socket below has asked already (and skips the question for known peers).

use std::sync::Arc;

use parking_lot::Mutex;
use quinn::{ConnectionId, ConnectionIdGenerator};
use rand::{Rng, SeedableRng, rngs::StdRng};
use siphasher::sip::SipHasher24;

/// Length of our connection ids in bytes.
pub(crate) const CID_LEN: usize = 8 + TAG_LEN;

/// A guess one in 2^32 of garbage packets may pass; more bytes would ride in every packet.
const TAG_LEN: usize = 4;

/// One of our connection ids.
pub(crate) type Cid = [u8; CID_LEN];

/// Makes and recognises connection ids; shared by QUIC and the socket.
pub(crate) struct Cids {
    tag: SipHasher24,
    state: Mutex<State>,
}

struct State {
    rng: StdRng,
    /// The first id made since [`Cids::watch`], while somebody watches.
    watched: Option<Option<Cid>>,
}

impl Cids {
    /// `key` must survive restarts; `seed` makes the ids repeatable (and is else `None`).
    pub(crate) fn new(key: [u8; 16], seed: Option<u64>) -> Self {
        let rng = match seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => StdRng::from_rng(&mut rand::rng()),
        };
        Self {
            tag: SipHasher24::new_with_key(&key),
            state: Mutex::new(State { rng, watched: None }),
        }
    }

    /// Whether this endpoint, or an earlier process with its key, made `cid`.
    pub(crate) fn is_ours(&self, cid: &Cid) -> bool {
        let (random, tag) = cid.split_at(CID_LEN - TAG_LEN);
        self.tag_of(random) == tag
    }

    /// Runs `make`, which makes a QUIC connection, and says which id the connection was given first.
    ///
    /// quinn issues ids inside `connect` and `accept` without saying which; all of its calls come from
    /// the network thread, so the first id made meanwhile is the one.
    pub(crate) fn watch<T>(&self, make: impl FnOnce() -> T) -> (T, Option<Cid>) {
        self.state.lock().watched = Some(None);
        let made = make();
        let cid = self.state.lock().watched.take().flatten();
        (made, cid)
    }

    fn tag_of(&self, random: &[u8]) -> [u8; TAG_LEN] {
        let [a, b, c, d, ..] = self.tag.hash(random).to_le_bytes();
        [a, b, c, d]
    }

    fn generate(&self) -> Cid {
        let mut state = self.state.lock();
        let mut cid = [0; CID_LEN];
        let (random, tag) = cid.split_at_mut(CID_LEN - TAG_LEN);
        state.rng.fill_bytes(random);
        tag.copy_from_slice(&self.tag_of(random));
        if let Some(watched) = &mut state.watched {
            watched.get_or_insert(cid);
        }
        cid
    }
}

/// What quinn asks for connection ids.
pub(crate) struct Generator(pub(crate) Arc<Cids>);

impl ConnectionIdGenerator for Generator {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&self.0.generate())
    }

    fn cid_len(&self) -> usize {
        CID_LEN
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_process_before_are_recognised_and_others_are_not() {
        let before = Cids::new([7; 16], None);
        let after = Cids::new([7; 16], None);
        let stranger = Cids::new([8; 16], None);
        let cid = before.generate();
        assert!(after.is_ours(&cid));
        assert!(!stranger.is_ours(&cid));
        assert!(!after.is_ours(&[0x55; CID_LEN]));
    }

    #[test]
    fn the_first_id_of_a_connection_is_seen() {
        let cids = Cids::new([1; 16], Some(1));
        cids.generate();
        let (made, first) = cids.watch(|| [cids.generate(), cids.generate()]);
        assert_eq!(first, Some(made[0]));
        assert_eq!(cids.watch(|| ()).1, None);
    }
}
