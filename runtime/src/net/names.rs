//! What is published, by the ids that resolved refs carry: each version of a name has its own id, and its own rule.
//!
//! An id has two parts, both keyed hashes, so that refs live on when the process is started anew and nobody else can compute
//! them. The first stands for the name, the protocol and the line of compatible versions (the *family*), the second for
//! the very version. A ref falls under the rule of the version that it was resolved as, or, while that isn't published,
//! under that of the highest compatible one that is.

use crate::codec::wire_ref::ObjectId;
use crate::refs::access::Access;
use crate::refs::exposed::Exposed;
use dashmap::DashMap;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use webmesh_registry::{ServiceName, Version};
use webmesh_transport::PeerId;

/// Bytes of an id that stand for the family. The rest tells versions of one name apart, of which there are at most 16.
const FAMILY_BYTES: usize = 10;

/// The key of an object of this process: its peer, and the id that it has had from the start.
pub(crate) type Own = (PeerId, ObjectId);

/// A name with a protocol and a line of compatible versions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Family([u8; FAMILY_BYTES]);

impl Family {
    /// That of an id, if it is the id of something published.
    pub(crate) fn of(id: &ObjectId) -> Self {
        let mut family = [0; FAMILY_BYTES];
        family.copy_from_slice(&id.0[..FAMILY_BYTES]);
        Self(family)
    }
}

impl std::fmt::Debug for Family {
    /// Says nothing: it is the larger part of an id.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Family(…)")
    }
}

/// The id of what is published under a name. `key` is derived from the host's secret key.
pub(crate) fn published_id(
    key: &[u8; 32],
    name: &ServiceName,
    protocol: &str,
    version: &Version,
) -> ObjectId {
    let compatible = match (version.major, version.minor) {
        (0, minor) => format!("0.{minor}"),
        (major, _) => major.to_string(),
    };
    // The key has a fixed length and the other parts can't contain a NUL, so no two inputs look alike. A hash over
    // (key, message) can be extended, but a part of one cannot.
    let mut hash = Sha256::new_with_prefix(key);
    for part in [name.as_str(), protocol, &compatible] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let mut id = [0; 16];
    id[..FAMILY_BYTES].copy_from_slice(&hash.clone().finalize()[..FAMILY_BYTES]);
    hash.update(version.to_string().as_bytes());
    hash.update([0]);
    id[FAMILY_BYTES..].copy_from_slice(&hash.finalize()[..16 - FAMILY_BYTES]);
    ObjectId(id)
}

/// Stands for an actor towards those who watch it by a name: 62 bits of a keyed hash, which don't give away its own id.
pub(crate) fn actor_number(key: &[u8; 32], (peer, object): &Own) -> u64 {
    let mut hash = Sha256::new_with_prefix(key);
    hash.update(peer.as_bytes());
    hash.update(object.0);
    let mut number = [0; 8];
    number.copy_from_slice(&hash.finalize()[..8]);
    u64::from_be_bytes(number) >> 2
}

/// One version of a name, and who may use it.
pub(crate) struct Publication {
    pub(crate) id: ObjectId,
    pub(crate) version: Version,
    pub(crate) object: Arc<dyn Exposed>,
    pub(crate) access: Access,
    /// Another one for each actor that is published under the id.
    pub(crate) serial: u64,
}

impl Publication {
    pub(crate) fn own(&self) -> Own {
        self.object.clone().local().key()
    }
}

/// Another actor stands where one is to be published.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken;

/// All that is published.
#[derive(Default)]
pub(crate) struct Names {
    /// Each list is sorted by version, the highest first, and never empty.
    families: DashMap<Family, Vec<Arc<Publication>>>,
    serials: AtomicU64,
}

impl Names {
    /// What a ref of this id leads to now.
    pub(crate) fn find(&self, id: &ObjectId) -> Option<Arc<Publication>> {
        let family = self.families.get(&Family::of(id))?;
        family.iter().find(|published| published.id == *id).or(family.first()).cloned()
    }

    /// Whether an actor may be published under this id.
    ///
    /// # Errors
    /// Refs outlive versions that are compatible, so all of them are one actor's. Nor may two versions have one id, whose
    /// rules would be one: by chance, one in 10^12 names of 16 versions has two such.
    pub(crate) fn check(&self, id: ObjectId, version: &Version, own: Own) -> Result<(), Taken> {
        let Some(family) = self.families.get(&Family::of(&id)) else { return Ok(()) };
        let other = family.iter().any(|published| {
            published.own() != own || (published.id == id) != (published.version == *version)
        });
        if other { Err(Taken) } else { Ok(()) }
    }

    /// All families of which something is published.
    pub(crate) fn families(&self) -> Vec<Family> {
        let mut all: Vec<_> = self.families.iter().map(|family| *family.key()).collect();
        // The table's own order is another one in each run.
        all.sort_unstable();
        all
    }

    /// Adds a publication that was checked, in place of the one of its id, which is of the same actor.
    pub(crate) fn insert(
        &self,
        id: ObjectId,
        version: Version,
        object: Arc<dyn Exposed>,
        access: Access,
    ) {
        let mut family = self.families.entry(Family::of(&id)).or_default();
        let known = family.iter().position(|published| published.id == id);
        let serial = match known.map(|at| family.remove(at)) {
            Some(before) => before.serial,
            None => self.serials.fetch_add(1, Ordering::Relaxed),
        };
        let at = family.partition_point(|published| published.version > version);
        family.insert(at, Arc::new(Publication { id, version, object, access, serial }));
    }

    /// Takes a publication away, if it is one of this actor's.
    pub(crate) fn remove(&self, id: &ObjectId, whose: impl Fn(&Own) -> bool) -> bool {
        let Some(mut family) = self.families.get_mut(&Family::of(id)) else { return false };
        let before = family.len();
        family.retain(|published| published.id != *id || !whose(&published.own()));
        let removed = family.len() < before;
        drop(family);
        self.families.remove_if(&Family::of(id), |_, family| family.is_empty());
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Names that begin and end alike, and versions of few lines, so that what could be mistaken for another is frequent.
    fn published() -> impl Strategy<Value = (String, String, String)> {
        let name = "(a|ab|a/b|b|ba)(/[ab]{1,3})?";
        let protocol = "(a|ab|b)(/[12])?";
        let version = "[0-2]\\.[0-2]\\.[0-2](-(a|b|a\\.b))?(\\+(a|b))?";
        (name, protocol, version)
    }

    fn id(key: &[u8; 32], (name, protocol, version): &(String, String, String)) -> ObjectId {
        let (name, version) = (name.parse().unwrap(), Version::parse(version).unwrap());
        published_id(key, &name, protocol, &version)
    }

    proptest! {
        #[test]
        fn two_names_two_versions_or_two_protocols_never_have_one_id(
            key: [u8; 32],
            all in prop::collection::hash_set(published(), 2..60),
        ) {
            let mut known = HashMap::new();
            for one in &all {
                let id = id(&key, one);
                prop_assert_eq!(id, super::tests::id(&key, one));
                if let Some(other) = known.insert(id, one) {
                    prop_assert!(false, "{:?} and {:?}", one, other);
                }
            }
        }

        #[test]
        fn versions_are_of_one_family_if_they_are_compatible_and_of_one_name_and_protocol(
            key: [u8; 32],
            one in published(),
            other in published(),
        ) {
            let line = |version: &str| {
                let version = Version::parse(version).unwrap();
                (version.major, if version.major == 0 { version.minor } else { 0 })
            };
            let alike = one.0 == other.0 && one.1 == other.1 && line(&one.2) == line(&other.2);
            prop_assert_eq!(Family::of(&id(&key, &one)) == Family::of(&id(&key, &other)), alike);
        }
    }
}
