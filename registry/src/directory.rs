//! What this host itself provides under which name: the table behind `publish` and `resolve`.
//!
//! Shared by all threads. Bounded: [`PUBLISHED_MAX`] publications in all, [`VERSIONS_MAX`] of one name.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::{DashMap, Entry};
use semver::{Version, VersionReq};

use crate::name::ServiceName;

/// The most publications of one directory. A guess: far more than one program provides, and about a megabyte.
pub const PUBLISHED_MAX: usize = 4_096;

/// The most versions of one name at the same time. A guess: old ones kept alive for old clients.
pub const VERSIONS_MAX: usize = 16;

/// The 128-bit id by which a host knows an object that can be called. Whoever knows it may try to call the object, so
/// [`fmt::Debug`] hides it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ObjectId(pub [u8; 16]);

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ObjectId(…)")
    }
}

/// An object that is provided under a name. `T` says who may use it; the directory doesn't look into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published<T> {
    /// What is called.
    pub object: ObjectId,
    /// The id of the protocol that it serves.
    pub protocol: Arc<str>,
    /// The version of the service.
    pub version: Version,
    /// Who may use it.
    pub access: T,
}

/// Why something can't be published. The directory is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Another object has this name and version. Unpublish that first, or take another name or version.
    #[error("{name} {version} is published already, by another actor")]
    NameTaken {
        /// The name.
        name: ServiceName,
        /// The version.
        version: Version,
    },
    /// The name has [`VERSIONS_MAX`] versions. Unpublish one that nobody needs.
    #[error("{name} is published in {VERSIONS_MAX} versions already")]
    TooManyVersions {
        /// The name.
        name: ServiceName,
    },
    /// The directory has [`PUBLISHED_MAX`] publications. Unpublish something, or resolve within an actor of your own.
    #[error("{PUBLISHED_MAX} services are published already")]
    Full,
}

/// Why something can't be unpublished. The directory is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} {version} is not published")]
pub struct UnpublishError {
    /// The name.
    pub name: ServiceName,
    /// The version.
    pub version: Version,
}

/// Why a name isn't resolved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// Nothing is published under this name, or nothing that the caller may use.
    #[error("no service is published as {name}")]
    Unknown {
        /// The name.
        name: ServiceName,
    },
    /// The name is known, and no version of it is as required. Ask for one of those published.
    #[error("{name} is published as {}, which doesn't meet {requirement}", list(.published))]
    NoMatchingVersion {
        /// The name.
        name: ServiceName,
        /// What was required.
        requirement: VersionReq,
        /// The versions that the caller may use, the highest first; at most [`VERSIONS_MAX`].
        published: Vec<Version>,
    },
}

fn list(versions: &[Version]) -> String {
    versions.iter().map(Version::to_string).collect::<Vec<_>>().join(", ")
}

/// The publications of one host.
///
/// ```
/// use webmesh_registry::{Directory, ObjectId, Published, parse_requirement, parse_version};
/// let directory = Directory::new();
/// let name = "chat/rust".parse().unwrap();
/// directory.publish(&name, Published {
///     object: ObjectId([7; 16]),
///     protocol: "example.chat.room/1".into(),
///     version: parse_version("1.2.0").unwrap(),
///     access: "anyone",
/// }).unwrap();
/// let found = directory.resolve(&name, &parse_requirement("^1").unwrap(), |p| p.access == "anyone").unwrap();
/// assert_eq!(found.object, ObjectId([7; 16]));
/// ```
#[derive(Debug)]
pub struct Directory<T> {
    /// Each list is sorted by version, the highest first, and never empty.
    names: DashMap<ServiceName, Vec<Published<T>>>,
    /// The length of all lists together; counted up before an entry goes in, so never too low.
    count: AtomicUsize,
}

impl<T> Default for Directory<T> {
    fn default() -> Self {
        Self { names: DashMap::new(), count: AtomicUsize::new(0) }
    }
}

impl<T: Clone> Directory<T> {
    /// An empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// Provides an object under a name. The same object may be published again under the same name and version, which
    /// replaces its protocol and access.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish(&self, name: &ServiceName, published: Published<T>) -> Result<(), PublishError> {
        let mut versions = match self.names.entry(name.clone()) {
            Entry::Vacant(vacant) => {
                self.count_up()?;
                vacant.insert(vec![published]);
                return Ok(());
            }
            Entry::Occupied(occupied) => occupied.into_ref(),
        };
        // Sorted in reverse, hence the turned comparison.
        match versions.binary_search_by(|held| published.version.cmp(&held.version)) {
            Ok(at) if versions[at].object == published.object => versions[at] = published,
            Ok(_) => {
                let version = published.version;
                return Err(PublishError::NameTaken { name: name.clone(), version });
            }
            Err(_) if versions.len() >= VERSIONS_MAX => {
                return Err(PublishError::TooManyVersions { name: name.clone() });
            }
            Err(at) => {
                self.count_up()?;
                versions.insert(at, published);
            }
        }
        Ok(())
    }

    /// Withdraws one version of a name, and gives back what was published.
    ///
    /// # Errors
    /// [`UnpublishError`] when there is no such publication.
    pub fn unpublish(
        &self,
        name: &ServiceName,
        version: &Version,
    ) -> Result<Published<T>, UnpublishError> {
        let missing = || UnpublishError { name: name.clone(), version: version.clone() };
        let mut versions = self.names.get_mut(name).ok_or_else(missing)?;
        let at = versions.iter().position(|held| held.version == *version).ok_or_else(missing)?;
        let withdrawn = versions.remove(at);
        self.count.fetch_sub(1, Ordering::Relaxed);
        drop(versions);
        self.names.remove_if(name, |_, versions| versions.is_empty());
        Ok(withdrawn)
    }

    /// All versions of a name that are published, the highest first.
    pub fn versions(&self, name: &ServiceName) -> Vec<Published<T>> {
        self.names.get(name).map(|held| held.clone()).unwrap_or_default()
    }

    /// Withdraws all publications of an object, for good when it has ended, and says how many there were. Looks at every publication.
    pub fn unpublish_object(&self, object: ObjectId) -> usize {
        let mut withdrawn = 0;
        self.names.retain(|_, versions| {
            let before = versions.len();
            versions.retain(|held| held.object != object);
            withdrawn += before - versions.len();
            !versions.is_empty()
        });
        self.count.fetch_sub(withdrawn, Ordering::Relaxed);
        withdrawn
    }

    /// A name under which an object is published, with its version, if it is. Looks at every publication.
    pub fn name_of(&self, object: ObjectId) -> Option<(ServiceName, Version)> {
        self.names.iter().find_map(|entry| {
            let held = entry.value().iter().find(|held| held.object == object)?;
            Some((entry.key().clone(), held.version.clone()))
        })
    }

    /// The highest version of a name that meets `requirement`, among those that `may` lets the caller use: a forbidden
    /// service looks like one that isn't there.
    ///
    /// `may` may call into this directory: nothing is locked meanwhile.
    ///
    /// # Errors
    /// See [`ResolveError`].
    pub fn resolve(
        &self,
        name: &ServiceName,
        requirement: &VersionReq,
        may: impl Fn(&Published<T>) -> bool,
    ) -> Result<Published<T>, ResolveError> {
        let unknown = || ResolveError::Unknown { name: name.clone() };
        let versions = self.names.get(name).map(|held| held.clone()).ok_or_else(unknown)?;
        let usable: Vec<_> = versions.iter().filter(|held| may(held)).collect();
        if usable.is_empty() {
            return Err(unknown());
        }
        match usable.iter().find(|held| requirement.matches(&held.version)) {
            Some(best) => Ok((*best).clone()),
            None => Err(ResolveError::NoMatchingVersion {
                name: name.clone(),
                requirement: requirement.clone(),
                published: usable.iter().map(|held| held.version.clone()).collect(),
            }),
        }
    }

    /// How many publications there are, each version of a name being one.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether nothing is published.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn count_up(&self) -> Result<(), PublishError> {
        self.count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < PUBLISHED_MAX).then_some(count + 1)
            })
            .map(|_| ())
            .map_err(|_| PublishError::Full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::{parse_requirement, parse_version};

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    fn room(object: u8, version: &str) -> Published<&'static str> {
        Published {
            object: ObjectId([object; 16]),
            protocol: "example.room/1".into(),
            version: parse_version(version).unwrap(),
            access: "anyone",
        }
    }

    fn resolve(
        directory: &Directory<&'static str>,
        at: &str,
        requirement: &str,
    ) -> Result<u8, ResolveError> {
        directory
            .resolve(&name(at), &parse_requirement(requirement).unwrap(), |_| true)
            .map(|found| found.object.0[0])
    }

    #[test]
    fn the_highest_version_that_meets_the_requirement_is_found() {
        let directory = Directory::new();
        let at = name("chat/rust");
        for (object, version) in
            [(1, "1.2.0"), (2, "1.10.0"), (3, "2.0.0"), (4, "3.0.0-beta.1"), (5, "0.9.0")]
        {
            directory.publish(&at, room(object, version)).unwrap();
        }
        for (requirement, object) in [
            ("^1", 2),
            ("~1.2", 1),
            ("*", 3),
            (">=1, <2", 2),
            ("=2.0.0", 3),
            ("^3.0.0-beta.1", 4),
            ("<1", 5),
        ] {
            assert_eq!(resolve(&directory, "chat/rust", requirement), Ok(object), "{requirement}");
        }
        let error = resolve(&directory, "chat/rust", "^4").unwrap_err();
        assert_eq!(
            error.to_string(),
            "chat/rust is published as 3.0.0-beta.1, 2.0.0, 1.10.0, 1.2.0, 0.9.0, which doesn't meet ^4"
        );
        let versions = directory.versions(&at).into_iter().map(|held| held.object.0[0]);
        assert_eq!(versions.collect::<Vec<_>>(), [4, 3, 2, 1, 5]);
        assert_eq!(directory.versions(&name("chat/go")), []);
        assert_eq!(
            resolve(&directory, "chat/go", "*"),
            Err(ResolveError::Unknown { name: name("chat/go") })
        );
    }

    #[test]
    fn a_name_and_version_belong_to_one_object_until_it_withdraws() {
        let directory = Directory::new();
        let at = name("chat/rust");
        let version = parse_version("1.0.0").unwrap();
        directory.publish(&at, room(1, "1.0.0")).unwrap();
        let taken = PublishError::NameTaken { name: at.clone(), version: version.clone() };
        assert_eq!(directory.publish(&at, room(2, "1.0.0")), Err(taken));
        // The owner may change who may use it.
        directory.publish(&at, Published { access: "friends", ..room(1, "1.0.0") }).unwrap();
        assert_eq!(directory.len(), 1);
        assert_eq!(directory.name_of(ObjectId([1; 16])), Some((at.clone(), version.clone())));
        assert_eq!(directory.name_of(ObjectId([2; 16])), None);
        assert_eq!(directory.unpublish(&at, &version).unwrap().access, "friends");
        assert_eq!(
            directory.unpublish(&at, &version),
            Err(UnpublishError { name: at.clone(), version })
        );
        assert!(directory.is_empty());
        directory.publish(&at, room(2, "1.0.0")).unwrap();
        assert_eq!(resolve(&directory, "chat/rust", "^1"), Ok(2));
    }

    #[test]
    fn a_forbidden_service_looks_like_none() {
        let directory = Directory::new();
        let at = name("chat/rust");
        directory.publish(&at, room(1, "1.0.0")).unwrap();
        directory.publish(&at, Published { access: "friends", ..room(2, "2.0.0") }).unwrap();
        let any = VersionReq::STAR;
        let found = directory.resolve(&at, &any, |held| held.access == "anyone").unwrap();
        assert_eq!(found.object, ObjectId([1; 16]));
        let error = directory
            .resolve(&at, &parse_requirement("^2").unwrap(), |held| held.access == "anyone")
            .unwrap_err();
        assert!(
            matches!(error, ResolveError::NoMatchingVersion { published, .. } if published == [Version::new(1, 0, 0)])
        );
        let error = directory.resolve(&at, &any, |_| false).unwrap_err();
        assert_eq!(error, ResolveError::Unknown { name: at });
    }

    #[test]
    fn an_object_that_ended_is_under_no_name_any_more() {
        let directory = Directory::new();
        for at in ["a", "b", "c"] {
            directory.publish(&name(at), room(1, "1.0.0")).unwrap();
        }
        directory.publish(&name("c"), room(2, "2.0.0")).unwrap();
        assert_eq!(directory.unpublish_object(ObjectId([1; 16])), 3);
        assert_eq!(directory.unpublish_object(ObjectId([1; 16])), 0);
        assert_eq!(directory.len(), 1);
        assert_eq!(resolve(&directory, "c", "*"), Ok(2));
    }

    #[test]
    fn a_directory_is_bounded() {
        let directory = Directory::new();
        for minor in 0..VERSIONS_MAX {
            directory.publish(&name("a"), room(1, &format!("1.{minor}.0"))).unwrap();
        }
        assert_eq!(
            directory.publish(&name("a"), room(1, "2.0.0")),
            Err(PublishError::TooManyVersions { name: name("a") })
        );
        for n in VERSIONS_MAX..PUBLISHED_MAX {
            directory.publish(&name(&format!("n{n}")), room(1, "1.0.0")).unwrap();
        }
        assert_eq!(directory.publish(&name("b"), room(1, "1.0.0")), Err(PublishError::Full));
        directory.unpublish(&name("a"), &Version::new(1, 0, 0)).unwrap();
        directory.publish(&name("b"), room(1, "1.0.0")).unwrap();
        assert_eq!(directory.len(), PUBLISHED_MAX);
    }

    #[test]
    fn threads_that_race_for_a_name_leave_one_owner_and_a_right_count() {
        let directory = Directory::new();
        let won: isize = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|object| {
                    let directory = &directory;
                    scope.spawn(move || {
                        let version = Version::new(1, 0, 0);
                        let mut won = 0isize;
                        for n in 0..200 {
                            let at = name(&format!("n{n}"));
                            won +=
                                isize::from(directory.publish(&at, room(object, "1.0.0")).is_ok());
                            if n % 2 == 0 && directory.unpublish(&at, &version).is_ok() {
                                won -= 1;
                            }
                        }
                        won
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).sum()
        });
        let won = won as usize;
        assert_eq!(directory.len(), won);
        assert_eq!(directory.names.iter().map(|held| held.value().len()).sum::<usize>(), won);
    }

    #[test]
    fn debug_hides_object_ids() {
        assert!(!format!("{:?}", room(0xab, "1.0.0")).contains("171"));
    }

    #[test]
    fn a_rule_may_use_the_directory_itself() {
        let directory = Directory::new();
        directory.publish(&name("chat"), room(1, "1.0.0")).unwrap();
        let found = directory.resolve(&name("chat"), &parse_requirement("*").unwrap(), |_| {
            directory.publish(&name("chat"), room(2, "1.1.0")).unwrap();
            true
        });
        assert_eq!(found.unwrap().object, ObjectId([1; 16]));
    }
}
