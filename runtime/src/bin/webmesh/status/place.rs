//! Where the socket of a node is.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// The socket's name in the data directory.
const NAME: &str = "status.sock";

/// The longest path of a socket that every Unix takes, in bytes: `sun_path` has 104 on macOS, 108 on Linux, one of them for the NUL.
const PATH_MAX: usize = 103;

/// The path of a node's socket. Where it is too long for one, it leads through an open directory, which this keeps.
pub(crate) struct Place {
    path: PathBuf,
    _dir: Option<File>,
}

impl Place {
    /// What the system takes for the socket's address, as long as this lives.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The socket of the node with this data directory, as the file system knows it.
pub(crate) fn in_full(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// The socket of the node with this data directory.
///
/// # Errors
/// If the path is too long for a socket and there is no way around (no `/proc`), or its directory can't be opened.
pub(crate) fn of(dir: &Path) -> io::Result<Place> {
    let path = in_full(dir);
    if path.as_os_str().len() <= PATH_MAX {
        return Ok(Place { path, _dir: None });
    }
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::AsRawFd;
        let dir = File::open(dir)?;
        let path = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(NAME);
        Ok(Place { path, _dir: Some(dir) })
    }
    #[cfg(not(target_os = "linux"))]
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        "its path is too long for a socket; take a directory with a shorter one",
    ))
}
