//! One node at a time for one key file: two that run with one key would take each other's connections in turn.
//!
//! The lock is an advisory one of the operating system, on a file beside the key (the key's own file is locked for
//! moments, by whoever draws a version). It goes with its process, however that ends, and the file stays.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::Path,
};

use super::KeyFileError;

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
    /// [`KeyFileError::InUse`] if somebody has it, in this process or another one.
    pub fn take(key: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let key = key.as_ref();
        let file = open(key).and_then(|file| match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        });
        match file {
            Ok(None) => Err(KeyFileError::InUse { path: key.into() }),
            Ok(file) => Ok(Self { _file: file }),
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

fn open(key: &Path) -> io::Result<File> {
    // Whatever name the key goes by, its lock is one.
    let mut path = OsString::from(fs::canonicalize(key)?);
    path.push(".lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;

    #[test]
    fn a_key_is_locked_by_one_at_a_time_and_can_still_be_read() {
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
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("node.key"), dir.path().join("other.key"));
        SecretKey::load_or_create(&path).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let _lock = KeyLock::take(&path).unwrap();
        assert!(matches!(KeyLock::take(&link), Err(KeyFileError::InUse { .. })));
    }

    #[test]
    fn where_no_lock_can_be_made_nothing_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        SecretKey::load_or_create(&path).unwrap();
        // A directory stands in for a file that can't be made.
        fs::create_dir(dir.path().join("node.key.lock")).unwrap();
        assert!(KeyLock::take(&path).is_ok());
    }
}
