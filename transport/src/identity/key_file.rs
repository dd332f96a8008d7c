//! A secret key kept in a file: one line of text, `webmesh-secret-1 KEY`, where KEY is base32 of the 32 bytes and of
//! the first 8 bytes of their SHA-256 (so that a damaged file is noticed, and never becomes another identity).
//!
//! The file is written beside its place, synced, and then put there under a name that must not exist yet: whatever
//! fails, and whoever else does the same at the same time, a key once kept is neither lost nor cut short.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::SecretKey;
use crate::ground::{base32, shortage::with_remedy};

const HEADER: &str = "webmesh-secret-1 ";
const CHECKSUM_LEN: usize = 8;
/// Longer than any key file; more isn't read.
const FILE_LEN_MAX: u64 = 256;

/// Why a key file can't be used. In every case an existing file is left as it was.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is no file at this path.
    #[error("there is no key file at {}; a node makes one when it first starts with this path", path.display())]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The path is a symbolic link to nothing.
    #[error("{} is a link that leads nowhere; put back what it leads to, or remove it to get a new identity", path.display())]
    Dangling {
        /// The link.
        path: PathBuf,
    },
    /// Users can get at the file who are neither its owner nor of its group, or its group can write it.
    #[error("other users can get at the key file (mode {mode:03o}); run: chmod 600 {}", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The path names a directory, a device or the like.
    #[error("{} is not a regular file; give the path of a key file", path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// The content isn't that of a key file.
    #[error("{} is not a whole key file: {what}; restore it from a backup, or move it away to get a new identity", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: CorruptKey,
    },
    /// Another node runs with this key. Two of them would take each other's connections in turn.
    #[error("a node that uses the key file {} is already running; end it first, or give this one another data directory or key file", path.display())]
    InUse {
        /// The key file.
        path: PathBuf,
    },
    /// The file couldn't be read.
    #[error("the key file {} can't be read: {}", path.display(), with_remedy(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// A new file couldn't be made. No key was kept; free space or permissions may be missing.
    #[error("no key file can be made at {}: {}", path.display(), with_remedy(source))]
    Create {
        /// Where it was to be.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

/// What is wrong with the content of a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CorruptKey {
    /// Nothing is in it.
    #[error("it is empty")]
    Empty,
    /// It doesn't begin as a key file does.
    #[error("it doesn't begin with \"{}\"", HEADER.trim_end())]
    Header,
    /// The key has the wrong length: cut off, or something was added.
    #[error("its key has the wrong length")]
    Length,
    /// The key has a character that isn't base32.
    #[error("its key has a wrong character")]
    Character,
    /// The key doesn't match its checksum.
    #[error("its checksum doesn't match")]
    Checksum,
}

pub(super) fn load(path: &Path) -> Result<SecretKey, KeyFileError> {
    let read_error = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound if path.is_symlink() => {
            KeyFileError::Dangling { path: path.into() }
        }
        io::ErrorKind::NotFound => KeyFileError::NotFound { path: path.into() },
        _ => KeyFileError::Read { path: path.into(), source },
    };
    // Looked at before it is opened: opening a pipe would wait for a writer.
    if !fs::metadata(path).map_err(read_error)?.is_file() {
        return Err(KeyFileError::NotAFile { path: path.into() });
    }
    let file = File::open(path).map_err(read_error)?;
    check_mode(path, &file).map_err(read_error)??;
    // Allocated once, so that no copy of the secret stays behind when it grows.
    let mut content = Zeroizing::new(Vec::with_capacity(FILE_LEN_MAX as usize + 1));
    file.take(FILE_LEN_MAX).read_to_end(&mut content).map_err(read_error)?;
    decode(&content).map_err(|what| KeyFileError::Corrupt { path: path.into(), what })
}

#[cfg(unix)]
fn check_mode(path: &Path, file: &File) -> io::Result<Result<(), KeyFileError>> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    // A secret that is mounted for a group is nobody else's; who can write it can put another identity in its place.
    if mode & 0o027 != 0 {
        return Ok(Err(KeyFileError::Exposed { path: path.into(), mode }));
    }
    Ok(Ok(()))
}

/// Elsewhere a file in the user's own directory is private by default.
#[cfg(not(unix))]
fn check_mode(_path: &Path, _file: &File) -> io::Result<Result<(), KeyFileError>> {
    Ok(Ok(()))
}

pub(super) fn load_or_create(path: &Path) -> Result<SecretKey, KeyFileError> {
    match load(path) {
        Err(KeyFileError::NotFound { .. }) => {}
        found => return found,
    }
    let create_error = |source| KeyFileError::Create { path: path.into(), source };
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        private_dirs(parent).map_err(create_error)?;
    }
    let secret = SecretKey::generate();
    match write_new(path, &encode(&secret)) {
        Ok(()) => Ok(secret),
        // Another process was first: its key is the one.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => load(path),
        Err(error) => Err(create_error(error)),
    }
}

/// The content of the file that keeps `secret`.
pub(crate) fn encode(secret: &SecretKey) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 32 + CHECKSUM_LEN]);
    bytes[..32].copy_from_slice(&Zeroizing::new(secret.to_bytes())[..]);
    let sum = checksum(&bytes[..32]);
    bytes[32..].copy_from_slice(&sum);
    let key = Zeroizing::new(base32::encode(&bytes[..]));
    Zeroizing::new([HEADER, &key, "\n"].concat())
}

/// Reads the content of a key file. Public for the fuzz targets; [`SecretKey::load`] is what a program wants.
///
/// # Errors
/// Says what is wrong with the content.
pub fn decode(content: &[u8]) -> Result<SecretKey, CorruptKey> {
    if content.is_empty() {
        return Err(CorruptKey::Empty);
    }
    let key = content.strip_prefix(HEADER.as_bytes()).ok_or(CorruptKey::Header)?;
    // An editor may have changed the end of the line.
    let key = std::str::from_utf8(key).map_err(|_| CorruptKey::Character)?.trim_ascii_end();
    let bytes = Zeroizing::new(base32::decode(key).map_err(|error| match error {
        base32::Base32Error::Length => CorruptKey::Length,
        _ => CorruptKey::Character,
    })?);
    let (secret, sum) = bytes.split_at_checked(32).ok_or(CorruptKey::Length)?;
    if sum.len() != CHECKSUM_LEN {
        return Err(CorruptKey::Length);
    }
    if checksum(secret) != sum {
        return Err(CorruptKey::Checksum);
    }
    let secret = secret.try_into().map_err(|_| CorruptKey::Length)?;
    Ok(SecretKey::from_bytes(secret))
}

fn checksum(secret: &[u8]) -> [u8; CHECKSUM_LEN] {
    let digest = Sha256::new().chain_update(HEADER).chain_update(secret).finalize();
    let mut sum = [0; CHECKSUM_LEN];
    sum.copy_from_slice(&digest[..CHECKSUM_LEN]);
    sum
}

fn private_dirs(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Puts a new file with `content` at `path`, whole or not at all.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] when something is there already; it is left alone.
fn write_new(path: &Path, content: &str) -> io::Result<()> {
    let beside = write_beside(path, content)?;
    // A hard link, unlike a rename, never replaces what is there.
    let linked = match fs::hard_link(&beside, path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => write_in_place(path, content),
        linked => linked,
    };
    let removed = fs::remove_file(&beside);
    linked?;
    removed?;
    sync_dir(path)
}

/// For file systems without hard links: a crash in the middle leaves a file that is refused as corrupt.
fn write_in_place(path: &Path, content: &str) -> io::Result<()> {
    let file = create_private(path)?;
    fill(file, content).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

/// Replaces the file at `path` by one with `content`, which is on the disk when this returns: after a crash at any
/// moment it is either the old one or the new one.
pub(super) fn replace(path: &Path, content: &str) -> io::Result<()> {
    let beside = write_beside(path, content)?;
    fs::rename(&beside, path).inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })?;
    sync_dir(path)
}

/// Writes `content` to a new private file in the directory of `path`, and says where.
fn write_beside(path: &Path, content: &str) -> io::Result<PathBuf> {
    let mut salt = [0; 10];
    getrandom::fill(&mut salt)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_os_string();
    name.push(format!(".{}.tmp", base32::encode(&salt)));
    let beside = path.with_file_name(name);
    let file = create_private(&beside)?;
    fill(file, content).inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })?;
    Ok(beside)
}

fn fill(mut file: File, content: &str) -> io::Result<()> {
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

fn create_private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The new name itself must be on the disk too.
fn sync_dir(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn private(path: &Path, content: &[u8]) {
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn a_key_is_made_once_private_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er/node.key");
        let made = SecretKey::load_or_create(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(SecretKey::load_or_create(&path).unwrap().peer_id(), made.peer_id());
        assert_eq!(SecretKey::load(&path).unwrap().peer_id(), made.peer_id());
        // Nothing else is left lying about.
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn many_starters_at_once_end_up_with_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let peers: Vec<_> = std::thread::scope(|scope| {
            let starters: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| SecretKey::load_or_create(&path).unwrap().peer_id()))
                .collect();
            starters.into_iter().map(|starter| starter.join().unwrap()).collect()
        });
        assert!(peers.iter().all(|peer| *peer == peers[0]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_others_can_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        SecretKey::load_or_create(&path).unwrap();
        for exposed in [0o604, 0o660, 0o644, 0o641, 0o420] {
            fs::set_permissions(&path, fs::Permissions::from_mode(exposed)).unwrap();
            let error = SecretKey::load_or_create(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Exposed { mode, .. } if mode == exposed));
            assert!(error.to_string().ends_with(&format!("chmod 600 {}", path.display())));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(SecretKey::load(&path).is_ok());
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        let secret = SecretKey::from_bytes([3; 32]);
        let good = encode(&secret);
        let good = good.as_bytes();
        let mut wrong_letter = good.to_vec();
        wrong_letter[30] = if wrong_letter[30] == b'a' { b'b' } else { b'a' };
        let upper = good.to_ascii_uppercase();
        let long = [good, good].concat();
        let endless = vec![b'a'; 1 << 20];
        let zeros = [b"webmesh-secret-1 ", "a".repeat(64).as_bytes()].concat();
        for (content, wanted) in [
            (&b""[..], CorruptKey::Empty),
            (b"hello", CorruptKey::Header),
            (&upper, CorruptKey::Header),
            (&endless, CorruptKey::Header),
            (&good[..40], CorruptKey::Length),
            (&good[..HEADER.len()], CorruptKey::Length),
            (&long, CorruptKey::Character),
            (&wrong_letter, CorruptKey::Checksum),
            (&zeros, CorruptKey::Checksum),
            (b"webmesh-secret-1 \xff\xfe", CorruptKey::Character),
        ] {
            private(&path, content);
            let error = SecretKey::load_or_create(&path).unwrap_err();
            assert!(
                matches!(error, KeyFileError::Corrupt { what, .. } if what == wanted),
                "{error}"
            );
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        private(&path, good);
        assert_eq!(SecretKey::load(&path).unwrap().peer_id(), secret.peer_id());
        // Cut anywhere but at the end of the line, the file is refused.
        for len in 0..good.len() - 1 {
            assert!(decode(&good[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn what_is_no_file_is_told_as_such() {
        let dir = tempfile::tempdir().unwrap();
        let error = SecretKey::load_or_create(dir.path()).unwrap_err();
        assert!(matches!(error, KeyFileError::NotAFile { .. }));
        let missing = SecretKey::load(dir.path().join("none")).unwrap_err();
        assert!(matches!(missing, KeyFileError::NotFound { .. }));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let below = SecretKey::load_or_create(file.join("node.key")).unwrap_err();
        assert!(matches!(below, KeyFileError::Read { .. } | KeyFileError::Create { .. }));
        let dangling = dir.path().join("dangling");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &dangling).unwrap();
        assert!(SecretKey::load_or_create(&dangling).is_err());
    }

    #[test]
    fn a_link_that_leads_nowhere_is_told_as_such_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        std::os::unix::fs::symlink(dir.path().join("gone"), &path).unwrap();
        for refused in [SecretKey::load(&path), SecretKey::load_or_create(&path)] {
            assert!(matches!(refused, Err(KeyFileError::Dangling { .. })));
        }
        assert!(path.is_symlink());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_disk_that_takes_no_byte_is_told() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(fill(full, "x").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn without_hard_links_a_key_still_never_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.key");
        write_in_place(&path, "first").unwrap();
        let error = write_in_place(&path, "second").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(mode(&path), 0o600);
    }
}
