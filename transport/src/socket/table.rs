//! The tables that are asked for every datagram: a hash that is quick, and keyed.
//!
//! What can a peer choose? Our connection ids and the handles of dialled peers are random numbers of ours. A source and a
//! literal handle are the peer's address: whoever has a whole prefix picks as many as he likes, but an entry takes a connection,
//! and [`Limits`](crate::limits::Limits) bounds those and the handshakes under way; to look for what isn't there adds nothing.
//! To have entries collide he would have to know a key of 128 bits that never leaves this process, half of it this table's
//! alone, or to learn it from how long lookups take, through a network and a system whose noise is far longer than they are.
//! SipHash would resist even that, at some 400 instructions for the hash of an address instead of 80.

use std::{collections::HashMap, sync::LazyLock};

use foldhash::{SharedSeed, fast::SeedableRandomState};

/// A map whose order is another in each process: nothing may depend on it.
pub(super) type Table<K, V> = HashMap<K, V, SeedableRandomState>;

/// The half of the key that all tables share. Not foldhash's own, which is made of addresses in memory and the time.
static SHARED: LazyLock<SharedSeed> = LazyLock::new(|| SharedSeed::from_u64(rand::random()));

/// An empty one, with a key of its own.
pub(super) fn table<K, V>() -> Table<K, V> {
    Table::with_hasher(SeedableRandomState::with_seed(rand::random(), &SHARED))
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn each_table_has_a_key_of_its_own() {
        let (one, other) = (table::<u64, ()>(), table::<u64, ()>());
        assert_eq!(one.hasher().hash_one(7_u64), one.hasher().hash_one(7_u64));
        assert_ne!(one.hasher().hash_one(7_u64), other.hasher().hash_one(7_u64));
    }
}
