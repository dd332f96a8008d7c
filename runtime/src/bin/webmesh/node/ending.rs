//! Being asked to end.

use std::io;
use webmesh::Mesh;

/// Waits for SIGINT, SIGTERM or, unless the node was started to survive its terminal, SIGHUP. They are caught from this call on. (There is
/// no configuration file to be read again at SIGHUP.)
#[cfg(unix)]
pub(super) fn asked(mesh: &Mesh) -> impl Future<Output = io::Result<()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let others = mesh.until_ctrl_c();
    let hangup = (!hangup_is_ignored()).then(|| signal(SignalKind::hangup())).transpose();
    async move {
        match hangup? {
            Some(mut hangup) => tokio::select! {
                asked = others => asked,
                _ = hangup.recv() => Ok(()),
            },
            None => others.await,
        }
    }
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
pub(super) fn asked(mesh: &Mesh) -> impl Future<Output = io::Result<()>> {
    mesh.until_ctrl_c()
}

/// Whether this was started by nohup or the like. The standard library cannot ask; where there is no /proc, nothing is
/// known, and a hang-up ends the node.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Bit n - 1 stands for signal n, and SIGHUP is 1 everywhere.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}
