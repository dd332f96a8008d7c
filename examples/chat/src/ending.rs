//! Being asked to end.

use std::io;

/// The signals that ask the program to end: SIGINT (Ctrl-C), SIGTERM and, unless it was started to survive its terminal,
/// SIGHUP. Each is told once, whenever it came since this was made.
pub(crate) struct Ending {
    #[cfg(unix)]
    signals: Vec<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Ending {
    /// From now on these signals don't kill the program; it has to listen. What `needs_terminal` ends with it in any case.
    ///
    /// # Errors
    /// If the system refuses.
    pub(crate) fn listen(needs_terminal: bool) -> io::Result<Ending> {
        use tokio::signal::unix::{SignalKind, signal};
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        if needs_terminal || !hangup_is_ignored() {
            kinds.push(SignalKind::hangup());
        }
        let signals = kinds.into_iter().map(signal).collect::<io::Result<_>>()?;
        Ok(Ending { signals })
    }

    /// Returns when the program is asked to end, each time anew.
    pub(crate) async fn asked(&mut self) {
        std::future::poll_fn(|cx| {
            let mut polled = self.signals.iter_mut().map(|signal| signal.poll_recv(cx));
            if polled.any(|poll| poll.is_ready()) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[cfg(unix)]
use std::task::Poll;

/// Whether this was started by nohup or the like. The standard library cannot ask; where there is no /proc, nothing is
/// known, and a hang-up ends the program.
// As in the command `webmesh`: a library of actors is no place to ask for a process's signals, so each program does.
#[cfg(unix)]
fn hangup_is_ignored() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Bit n - 1 stands for signal n, and SIGHUP is 1 everywhere.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
impl Ending {
    /// From now on Ctrl-C doesn't kill the program; it has to listen.
    ///
    /// # Errors
    /// Never.
    pub(crate) fn listen(_needs_terminal: bool) -> io::Result<Ending> {
        Ok(Ending {})
    }

    /// Returns when the program is asked to end, each time anew.
    pub(crate) async fn asked(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
