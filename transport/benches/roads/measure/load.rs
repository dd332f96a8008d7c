//! What is sent along a road.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    rc::Rc,
    time::Duration,
};

use tokio::{sync::Notify, task::JoinHandle};
use webmesh_transport::Link;

use super::road::{AT_CALLER, AT_SERVED, Road};

/// A kind of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// A probe from the caller's end every so often, whether the last was answered or not.
    Pings(Duration),
    /// A small request on a QUIC stream every so often, and its answer, which the link is told to expect, as the runtime does.
    Asks(Duration),
    /// Nothing but what it takes for the caller to watch an actor of the other's.
    Watch,
    /// One stream as fast as it goes.
    Bulk,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pings(every) => write!(f, "pings-{every:?}"),
            Self::Asks(every) => write!(f, "asks-{every:?}"),
            Self::Watch => f.write_str("watch"),
            Self::Bulk => f.write_str("bulk"),
        }
    }
}

/// Length of a request and of its answer.
const ASK_BYTES: usize = 64;

/// Written at once.
const CHUNK_BYTES: usize = 16 << 10;

/// How far a load has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Pings or asks, seconds of a watch, or numbers of the stream that were written.
    pub(crate) sent: Cell<u64>,
    /// Pings or asks that were answered, or numbers that arrived.
    pub(crate) done: Cell<u64>,
    /// What was lost, doubled or out of place.
    pub(crate) wrong: RefCell<Option<String>>,
    stopped: Cell<bool>,
    news: Notify,
}

impl Progress {
    fn expect(&self, what: &str, number: u64, expected: u64) {
        if number != expected {
            let text = format!("{what} {number} instead of {expected}");
            self.wrong.borrow_mut().get_or_insert(text);
        }
    }

    fn fail(&self, what: &str, e: &dyn fmt::Display) {
        self.wrong.borrow_mut().get_or_insert(format!("{what}: {e}"));
        self.news.notify_waiters();
    }

    fn one_more(counter: &Cell<u64>) {
        counter.set(counter.get() + 1);
    }
}

/// A load under way. Dropped, it ends at once.
pub(crate) struct Running {
    pub(crate) progress: Rc<Progress>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Running {
    /// Begins. Of bulk no more than `window` bytes are written beyond what has arrived.
    pub(crate) fn start(load: Load, road: &Road, window: u64) -> Self {
        let progress = Rc::<Progress>::default();
        let [caller, served] = [AT_CALLER, AT_SERVED].map(|end| road.ends[end].clone());
        let mut running = Self { progress: progress.clone(), tasks: Vec::new() };
        match load {
            Load::Pings(every) => running.task(ping(caller, every, progress)),
            Load::Asks(every) => {
                running.task(answer(served, progress.clone()));
                running.task(ask(caller, every, progress));
            }
            Load::Watch => running.task(watch(caller, progress)),
            Load::Bulk => {
                running.task(read(served, progress.clone()));
                running.task(write(caller, window, progress));
            }
        }
        running
    }

    fn task(&mut self, task: impl Future<Output = ()> + 'static) {
        self.tasks.push(tokio::task::spawn_local(task));
    }

    /// Sends nothing new, and waits until all that was sent has arrived or been answered. What went wrong, if anything.
    pub(crate) async fn finish(self, limit: Duration) -> Option<String> {
        let progress = &self.progress;
        progress.stopped.set(true);
        progress.news.notify_waiters();
        let rest = async {
            while progress.done.get() < progress.sent.get() && progress.wrong.borrow().is_none() {
                progress.news.notified().await;
            }
        };
        let late = tokio::time::timeout(limit, rest).await.is_err();
        let (sent, done) = (progress.sent.get(), progress.done.get());
        let wrong = progress.wrong.borrow().clone();
        wrong.or_else(|| late.then(|| format!("only {done} of {sent} within {limit:?}")))
    }
}

/// Pings are probes: one that is lost stays so, and is done.
async fn watch(link: Link, progress: Rc<Progress>) {
    let _watching = link.watch();
    while !progress.stopped.get() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Progress::one_more(&progress.sent);
        Progress::one_more(&progress.done);
    }
}

async fn ping(link: Link, every: Duration, progress: Rc<Progress>) {
    while !progress.stopped.get() {
        let (link, outcome) = (link.clone(), progress.clone());
        Progress::one_more(&progress.sent);
        tokio::task::spawn_local(async move {
            let _ = link.ping().await;
            Progress::one_more(&outcome.done);
            outcome.news.notify_waiters();
        });
        tokio::time::sleep(every).await;
    }
}

async fn ask(link: Link, every: Duration, progress: Rc<Progress>) {
    let (mut tx, mut rx) = match link.quic().open_bi().await {
        Ok(stream) => stream,
        Err(e) => return progress.fail("open", &e),
    };
    let expecting = RefCell::new(VecDeque::new());
    let send = async {
        while !progress.stopped.get() {
            expecting.borrow_mut().push_back(link.expect_answers());
            let mut request = [0; ASK_BYTES];
            request[..8].copy_from_slice(&progress.sent.get().to_be_bytes());
            Progress::one_more(&progress.sent);
            if let Err(e) = tx.write_all(&request).await {
                return progress.fail("ask", &e);
            }
            tokio::time::sleep(every).await;
        }
    };
    let receive = async {
        let mut reply = [0; ASK_BYTES];
        loop {
            if let Err(e) = rx.read_exact(&mut reply).await {
                return progress.fail("answer", &e);
            }
            let number = u64::from_be_bytes(*reply.first_chunk().unwrap());
            progress.expect("answer", number, progress.done.get());
            expecting.borrow_mut().pop_front();
            Progress::one_more(&progress.done);
            progress.news.notify_waiters();
        }
    };
    tokio::join!(send, receive);
}

async fn answer(link: Link, progress: Rc<Progress>) {
    let (mut tx, mut rx) = match link.quic().accept_bi().await {
        Ok(stream) => stream,
        Err(e) => return progress.fail("accept", &e),
    };
    let (mut request, mut expected) = ([0; ASK_BYTES], 0);
    loop {
        if let Err(e) = rx.read_exact(&mut request).await {
            return progress.fail("request", &e);
        }
        progress.expect("request", u64::from_be_bytes(*request.first_chunk().unwrap()), expected);
        expected += 1;
        if let Err(e) = tx.write_all(&request).await {
            return progress.fail("reply", &e);
        }
    }
}

async fn write(link: Link, window: u64, progress: Rc<Progress>) {
    let mut tx = match link.quic().open_uni().await {
        Ok(stream) => stream,
        Err(e) => return progress.fail("open", &e),
    };
    let mut chunk = Vec::with_capacity(CHUNK_BYTES);
    while !progress.stopped.get() {
        let sent = progress.sent.get();
        if (sent - progress.done.get()) * 8 > window {
            progress.news.notified().await;
            continue;
        }
        let end = sent + CHUNK_BYTES as u64 / 8;
        chunk.clear();
        (sent..end).for_each(|number| chunk.extend_from_slice(&number.to_be_bytes()));
        progress.sent.set(end);
        if let Err(e) = tx.write_all(&chunk).await {
            return progress.fail("write", &e);
        }
    }
    // A stream that is dropped would be finished; the reader is asked first.
    std::future::pending::<()>().await;
}

async fn read(link: Link, progress: Rc<Progress>) {
    let mut rx = match link.quic().accept_uni().await {
        Ok(stream) => stream,
        Err(e) => return progress.fail("accept", &e),
    };
    let mut rest = Vec::new();
    loop {
        let chunk = match rx.read_chunk(1 << 20, true).await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return progress.fail("read", &"the stream has ended"),
            Err(e) => return progress.fail("read", &e),
        };
        rest.extend_from_slice(&chunk.bytes);
        let mut numbers = rest.chunks_exact(8);
        for number in &mut numbers {
            let number = u64::from_be_bytes(*number.first_chunk().unwrap());
            progress.expect("number", number, progress.done.get());
            Progress::one_more(&progress.done);
        }
        rest = numbers.remainder().to_vec();
        progress.news.notify_waiters();
    }
}
