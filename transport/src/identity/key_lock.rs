//! One node at a time for one key file: two that run with one key would take each other's connections in turn.
//!
//! The lock is an advisory one of the operating system, on a file beside the key (the key's own file is locked for
//! moments, by whoever draws a version). It goes with its process, however that ends, and the file stays.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::Path,
    time::Duration,
};

use super::KeyFileError;
use crate::ground::shortage::is_shortage;

/// The right to run a node with the key of one file, until it is dropped.
#[derive(Debug)]
pub struct KeyLock {
    /// `None`: this place takes no locks.
    _file: Option<File>,
}

impl KeyLock {
    /// Takes the lock of the key file at `key`, which must exist: that of the same name with `.lock` appended. Where no
    /// such file can be made or locked (a full disk, a read-only directory, a file system without locks) the log says so and
    /// nothing is locked: that must not keep a host from running.
    ///
    /// # Errors
    /// [`KeyFileError::InUse`] if somebody has it, in this process or another one; [`KeyFileError::Read`] if the system lacks what it takes to
    /// ask, descriptors say.
    pub fn take(key: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let key = key.as_ref();
        let file = open(key).and_then(|file| match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        });
        match file {
            Ok(None) => Err(KeyFileError::InUse { path: key.into() }),
            Ok(file) => {
                forget_leftovers(key);
                Ok(Self { _file: file })
            }
            Err(source) if is_shortage(&source) => {
                Err(KeyFileError::Read { path: key.into(), source })
            }
            Err(e) => {
                tracing::warn!(
                    "nothing keeps a second node from using the key file {}: it can't be locked: {e}",
                    key.display()
                );
                Ok(Self { _file: None })
            }
        }
    }
}

/// How old a half-made file is at least that nobody is at work at any more. A guess.
const LEFT_OVER_AFTER: Duration = Duration::from_secs(3600);

/// Removes what was left beside the key by whoever was killed while writing a new file: it may hold a secret.
fn forget_leftovers(key: &Path) {
    let (Some(dir), Some(name)) = (key.parent(), key.file_name()) else { return };
    let name = name.to_string_lossy();
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (found, metadata) = (entry.file_name(), entry.metadata());
        let salt =
            found.to_str().and_then(|found| found.strip_prefix(&*name)?.strip_suffix(".tmp"));
        let age = metadata.and_then(|found| found.modified()).map(|then| then.elapsed());
        if salt.is_some() && matches!(age, Ok(Ok(age)) if age > LEFT_OVER_AFTER) {
            // What can't be removed does no more harm than before.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn open(key: &Path) -> io::Result<File> {
    // Whatever name the key goes by, its lock is one.
    let mut path = OsString::from(fs::canonicalize(key)?);
    path.push(".lock");
    // Looked at before it is opened: opening a pipe would wait for a reader.
    if fs::metadata(&path).is_ok_and(|found| !found.is_file()) {
        return Err(io::Error::other("its .lock is not a regular file"));
    }
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::SecretKey;

    /// A process that is being started holds copies of the locks of this one for a moment: these tests run one by one, for one of them starts
    /// a command.
    static ONE_BY_ONE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());

    #[test]
    fn a_key_is_locked_by_one_at_a_time_and_can_still_be_read() {
        let _alone = ONE_BY_ONE.lock();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        SecretKey::load_or_create(&path).unwrap();
        let lock = KeyLock::take(&path).unwrap();
        let refused = KeyLock::take(&path).unwrap_err();
        assert!(matches!(&refused, KeyFileError::InUse { path: at } if *at == path), "{refused}");
        assert!(SecretKey::load_or_create(&path).is_ok());
        drop(lock);
        assert!(KeyLock::take(&path).is_ok(), "the file that is left over locks nobody out");
    }

    #[cfg(unix)]
    #[test]
    fn another_name_of_the_file_is_the_same_lock() {
        let _alone = ONE_BY_ONE.lock();
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("node.key"), dir.path().join("other.key"));
        SecretKey::load_or_create(&path).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let _lock = KeyLock::take(&path).unwrap();
        assert!(matches!(KeyLock::take(&link), Err(KeyFileError::InUse { .. })));
    }

    #[test]
    fn what_a_killed_process_left_half_made_is_removed_once_it_is_old() {
        let _alone = ONE_BY_ONE.lock();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        SecretKey::load_or_create(&path).unwrap();
        let hours_ago = std::time::SystemTime::now() - 2 * LEFT_OVER_AFTER;
        for (name, then) in [
            ("node.key.AAAA.tmp", Some(hours_ago)),
            ("node.key.version.AAAA.tmp", Some(hours_ago)),
            ("node.key.BBBB.tmp", None),
            ("other.tmp", Some(hours_ago)),
            ("node.key.bak", Some(hours_ago)),
        ] {
            let file = File::create(dir.path().join(name)).unwrap();
            then.into_iter().for_each(|then| file.set_modified(then).unwrap());
        }
        let _lock = KeyLock::take(&path).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(
            left,
            ["node.key", "node.key.BBBB.tmp", "node.key.bak", "node.key.lock", "other.tmp"]
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_in_the_place_of_the_lock_is_not_waited_for() {
        let _alone = ONE_BY_ONE.lock();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        SecretKey::load_or_create(&path).unwrap();
        let made =
            std::process::Command::new("mkfifo").arg(dir.path().join("node.key.lock")).status();
        assert!(made.unwrap().success());
        assert!(KeyLock::take(&path).is_ok());
    }

    #[test]
    fn where_no_lock_can_be_made_nothing_is_refused() {
        let _alone = ONE_BY_ONE.lock();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        SecretKey::load_or_create(&path).unwrap();
        // A directory stands in for a file that can't be made.
        fs::create_dir(dir.path().join("node.key.lock")).unwrap();
        assert!(KeyLock::take(&path).is_ok());
    }
}
