//! Writing lines to a standard stream that perhaps nobody reads.
//!
//! A write into a full pipe waits for its reader, perhaps for ever, and there is no other write to standard output. So a
//! thread does it that the program does not wait for when it ends.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
    sync::{Arc, Mutex, PoisonError, mpsc::sync_channel},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};

/// Lines that wait for the thread: at most 1 MiB of them, for a line has about 4 KiB at most.
const WAITING_MAX: usize = 256;

/// How long [`complain`] waits for standard error to take a line. A guess: a disk or a terminal that works is faster.
const COMPLAINT_MAX: Duration = Duration::from_secs(1);

enum Item {
    Line(String),
    /// Everything before this is written.
    Mark(oneshot::Sender<()>),
}

/// Prints lines, each at once, also into a pipe.
pub(crate) struct Printer {
    items: mpsc::Sender<Item>,
    error: Arc<Mutex<Option<io::Error>>>,
}

impl Printer {
    /// A printer to what `open` returns.
    ///
    /// # Errors
    /// If there can be no more threads.
    pub(crate) fn start<W: Write>(open: impl FnOnce() -> W + Send + 'static) -> io::Result<Self> {
        let (sender, mut items) = mpsc::channel(WAITING_MAX);
        let error = Arc::new(Mutex::new(None));
        let failed = error.clone();
        let write_all = move || {
            let mut out = open();
            while let Some(item) = items.blocking_recv() {
                let line = match item {
                    Item::Line(line) => line,
                    Item::Mark(mark) => {
                        // Nobody waits any more: nothing is lost.
                        let _ = mark.send(());
                        continue;
                    }
                };
                if let Err(why) = writeln!(out, "{line}").and_then(|()| out.flush()) {
                    *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
                    return;
                }
            }
        };
        std::thread::Builder::new().name("printer".to_owned()).spawn(write_all)?;
        Ok(Self { items: sender, error })
    }

    /// Prints `line` after those before, once there is room for it.
    ///
    /// # Errors
    /// If an earlier line could not be written.
    pub(crate) async fn print(&self, line: String) -> io::Result<()> {
        self.items.send(Item::Line(line)).await.map_err(|_| self.error())
    }

    /// Waits until everything is written, or can't be.
    pub(crate) async fn written(&self) {
        let (mark, reached) = oneshot::channel();
        if self.items.send(Item::Mark(mark)).await.is_ok() {
            // An error: the thread ended before it came there.
            let _ = reached.await;
        }
    }

    /// Waits until a line could not be written, and returns why.
    pub(crate) async fn broken(&self) -> io::Error {
        self.items.closed().await;
        self.error()
    }

    fn error(&self) -> io::Error {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        error.unwrap_or_else(|| ErrorKind::BrokenPipe.into())
    }
}

/// Writes one line to standard error, if that takes it soon: it may be full, closed, or a pipe that nobody reads, which is
/// no reason to panic or to stay.
pub(crate) fn complain(what: impl Display) {
    let line = format!("{what}\n");
    let (done, waits) = sync_channel(1);
    let write = move || {
        let _ = io::stderr().write_all(line.as_bytes());
        let _ = done.send(());
    };
    if std::thread::Builder::new().name("complaint".to_owned()).spawn(write).is_ok() {
        let _ = waits.recv_timeout(COMPLAINT_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many lines and fails then.
    struct Takes(usize);

    impl Write for Takes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            self.0 -= bytes.iter().filter(|byte| **byte == b'\n').count();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[webmesh::test(clock = "real")]
    async fn a_line_that_cannot_be_written_ends_the_printing() {
        let printer = Printer::start(|| Takes(1)).unwrap();
        printer.print("one".into()).await.unwrap();
        printer.written().await;
        printer.print("two".into()).await.unwrap();
        assert_eq!(printer.broken().await.kind(), ErrorKind::StorageFull);
        assert!(printer.print("three".into()).await.is_err());
        printer.written().await;
    }
}
