//! What the system lacks at the moment, descriptors, threads or memory: how that is told from an answer, and what helps.

use std::{fmt, io};

use tokio::runtime::{Builder, Runtime};

/// Descriptors that tokio takes for a runtime: to wait, a copy of that, to wake it, and to hear of signals; and, once a process, the two ends of
/// what signals are told through. For want of the latter it panics.
pub const RUNTIME_DESCRIPTORS: u64 = 4;
const SIGNAL_DESCRIPTORS: u64 = 2;

/// Both.
pub const RUNTIME_DESCRIPTORS_MAX: u64 = RUNTIME_DESCRIPTORS + SIGNAL_DESCRIPTORS;

// Of all of Unix; those that differ are those of Linux, or of the BSDs.
const ENOMEM: i32 = 12;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const EAGAIN: i32 = if cfg!(target_os = "linux") { 11 } else { 35 };
const ENOBUFS: i32 = if cfg!(target_os = "linux") { 105 } else { 55 };

/// Whether the system lacks something at the moment, descriptors or memory: that says nothing of what was asked.
pub fn is_shortage(error: &io::Error) -> bool {
    let lacks = |code| [ENOMEM, ENFILE, EMFILE, ENOBUFS].contains(&code);
    cfg!(unix) && error.raw_os_error().is_some_and(lacks)
        || error.kind() == io::ErrorKind::OutOfMemory
}

/// What the system said, and what is to be raised if it lacks something. For errors of opening, binding and starting: elsewhere one of the
/// codes means something else.
pub fn with_remedy(error: &io::Error) -> impl fmt::Display {
    let code = error.raw_os_error().filter(|_| cfg!(unix));
    let remedy = match code {
        Some(EMFILE) => {
            "; raise the limit of open files of this process (ulimit -n; systemd: LimitNOFILE=)"
        }
        Some(ENFILE) => "; raise the limit of open files of the system (sysctl fs.file-max)",
        Some(EAGAIN) => {
            "; raise the limit of processes and threads of this user (ulimit -u; systemd: TasksMax=, LimitNPROC=; containers: pids)"
        }
        Some(ENOMEM | ENOBUFS) => "; free memory, or raise the limit of this process (ulimit -v)",
        _ => "",
    };
    format!("{error}{remedy}")
}

/// A runtime on the calling thread, with everything enabled.
///
/// # Errors
/// If the system doesn't give the descriptors for it; tokio's own builder panics at some of them.
pub fn runtime() -> io::Result<Runtime> {
    room_for(RUNTIME_DESCRIPTORS_MAX)?;
    Builder::new_current_thread().enable_all().build()
}

/// Whether so many descriptors are left to this process, which it then has still.
///
/// # Errors
/// If they aren't.
#[cfg(unix)]
pub fn room_for(descriptors: u64) -> io::Result<()> {
    use std::os::fd::AsFd;
    let error = io::stderr();
    let held: io::Result<Vec<_>> =
        (0..descriptors).map(|_| error.as_fd().try_clone_to_owned()).collect();
    held.map(drop)
}

/// Nothing bounds them elsewhere.
#[cfg(not(unix))]
pub fn room_for(_: u64) -> io::Result<()> {
    Ok(())
}

/// How many descriptors this process may have open at a time; `None`: any number, or it isn't known.
pub fn descriptors_max() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_lacking_is_told_with_what_is_to_be_raised() {
        let told = |code| with_remedy(&io::Error::from_raw_os_error(code)).to_string();
        assert!(told(24).contains("ulimit -n") && told(23).contains("fs.file-max"));
        assert!(told(11).contains("ulimit -u") && told(12).contains("memory"));
        assert!(!told(98).contains(';'), "an address that is in use isn't lacking");
        assert!(descriptors_max().is_none_or(|max| room_for(max + 1).is_err()));
    }
}
