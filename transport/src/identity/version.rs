//! Versions of a host's own signed PeerRef: max(the last one + 1, Unix milliseconds).
//!
//! The last one is kept in a file beside the key, so that a clock that was set back doesn't make the host repeat a
//! version; the clock takes part, so that a host restored from an old backup isn't ignored for ever.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::key_file;

const HEADER: &str = "webmesh-version-1 ";
/// Longer than any version file; more isn't read.
const FILE_LEN_MAX: u64 = 64;

/// Gives out rising versions.
///
/// Two processes that run under one key and path share the file and never get the same version.
#[derive(Debug)]
pub struct VersionCounter {
    last: u64,
    /// The key's file, which is locked meanwhile (it is never replaced, as the version file is), and the version's.
    files: Option<(PathBuf, PathBuf)>,
}

/// Why no version could be given out. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The file's content isn't a version.
    #[error("{} doesn't hold a version; remove it (the clock then decides the next version)", path.display())]
    Corrupt {
        /// The version file.
        path: PathBuf,
    },
    /// The last version was the highest there is. "Must not happen": remove the file if it was tampered with.
    #[error("there is no version after 2^64 - 1; remove the version file beside the key")]
    Exhausted,
    /// The file couldn't be read, locked or written.
    #[error("the version file {} can't be used: {source}", path.display())]
    File {
        /// The version file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

impl VersionCounter {
    /// A counter for a secret that lives in memory only: it starts from the clock.
    pub fn in_memory() -> Self {
        Self { last: 0, files: None }
    }

    /// The counter beside the key file at `key`, in a file of the same name with `.version` appended, which is made
    /// when first needed. Nothing is read yet.
    pub fn beside(key: impl AsRef<Path>) -> Self {
        let key = key.as_ref().to_path_buf();
        let mut name = OsString::from(&key);
        name.push(".version");
        Self { last: 0, files: Some((key, name.into())) }
    }

    /// The next version. It is on the disk before it is given out. Blocks on the file system.
    ///
    /// # Errors
    /// See [`VersionError`].
    pub fn next(&mut self, now: SystemTime) -> Result<u64, VersionError> {
        let Some((key, path)) = &self.files else {
            self.last = after(self.last, now)?;
            return Ok(self.last);
        };
        let file_error = |source| VersionError::File { path: path.clone(), source };
        let lock = File::open(key).map_err(file_error)?;
        lock.lock().map_err(file_error)?;
        let kept = match read(path) {
            Ok(content) => {
                decode(&content).ok_or_else(|| VersionError::Corrupt { path: path.clone() })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(file_error(error)),
        };
        let next = after(kept.max(self.last), now)?;
        key_file::replace(path, &encode(next)).map_err(file_error)?;
        self.last = next;
        Ok(next)
    }

    /// The next version where [`next`](Self::next) has failed: higher than all that this counter has given out, and than all before it unless the
    /// clock was set back. It isn't on the disk, and the one after it will be, if that can be written again.
    ///
    /// # Errors
    /// [`VersionError::Exhausted`].
    pub fn next_unkept(&mut self, now: SystemTime) -> Result<u64, VersionError> {
        self.last = after(self.last, now)?;
        Ok(self.last)
    }
}

fn after(last: u64, now: SystemTime) -> Result<u64, VersionError> {
    // A clock before 1970, or so far ahead that it doesn't fit, has no say.
    let clock_ms = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let clock_ms = u64::try_from(clock_ms).unwrap_or(0);
    let next = last.checked_add(1).ok_or(VersionError::Exhausted)?;
    Ok(next.max(clock_ms))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let mut content = Vec::new();
    File::open(path)?.take(FILE_LEN_MAX).read_to_end(&mut content)?;
    Ok(content)
}

pub(crate) fn encode(version: u64) -> String {
    format!("{HEADER}{version}\n")
}

pub(crate) fn decode(content: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(content).ok()?.strip_prefix(HEADER)?.strip_suffix('\n')?;
    let version = text.parse().ok()?;
    // One spelling each: no sign, no zeros in front.
    (encode(version).as_bytes() == content).then_some(version)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::SecretKey;

    fn at(ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    #[test]
    fn versions_follow_the_clock_and_never_fall() {
        let mut counter = VersionCounter::in_memory();
        assert_eq!(counter.next(at(1_000)).unwrap(), 1_000);
        assert_eq!(counter.next(at(1_000)).unwrap(), 1_001);
        assert_eq!(counter.next(at(5)).unwrap(), 1_002);
        assert_eq!(counter.next(at(9_000)).unwrap(), 9_000);
        assert_eq!(counter.next(UNIX_EPOCH - Duration::from_secs(1)).unwrap(), 9_001);
    }

    #[test]
    fn versions_outlive_the_process_and_a_clock_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("node.key");
        SecretKey::load_or_create(&key).unwrap();
        assert_eq!(VersionCounter::beside(&key).next(at(70_000)).unwrap(), 70_000);
        assert_eq!(VersionCounter::beside(&key).next(at(10)).unwrap(), 70_001);
        // Restored from a backup made before: the clock puts it ahead of what others have seen.
        fs::write(dir.path().join("node.key.version"), "webmesh-version-1 3\n").unwrap();
        assert_eq!(VersionCounter::beside(&key).next(at(80_000)).unwrap(), 80_000);
        // The key and its version; no leftovers.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn two_nodes_under_one_key_never_get_the_same_version() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("node.key");
        SecretKey::load_or_create(&key).unwrap();
        let mut all: Vec<u64> = std::thread::scope(|scope| {
            let nodes: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut counter = VersionCounter::beside(&key);
                        (0..8).map(|_| counter.next(at(1)).unwrap()).collect::<Vec<_>>()
                    })
                })
                .collect();
            nodes.into_iter().flat_map(|node| node.join().unwrap()).collect()
        });
        all.sort_unstable();
        assert_eq!(all, (1..=32).collect::<Vec<u64>>());
    }

    #[test]
    fn a_damaged_version_file_is_told_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("node.key");
        SecretKey::load_or_create(&key).unwrap();
        let path = dir.path().join("node.key.version");
        for content in
            ["", "webmesh-version-1 ", "webmesh-version-1 12", "webmesh-version-1 +1\n", "7\n"]
        {
            fs::write(&path, content).unwrap();
            let error = VersionCounter::beside(&key).next(at(1)).unwrap_err();
            assert!(matches!(error, VersionError::Corrupt { .. }), "{content:?}: {error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        fs::write(&path, format!("webmesh-version-1 {}\n", u64::MAX)).unwrap();
        let error = VersionCounter::beside(&key).next(at(1)).unwrap_err();
        assert!(matches!(error, VersionError::Exhausted));
    }
}
