//! [`Inline`]: a task of the network thread that whoever has just given it work may run at once, on its own thread.
//!
//! To wake another thread costs more than to encrypt a packet and to hand it to the kernel. So who sends something small
//! that is waited for does both itself: it takes the task's turn, does what would have woken the task, and polls it
//! (docs/decisions/0011). If the task is just being polled elsewhere, nothing happens here and it is woken as usual.

use std::{
    cell::Cell,
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering, fence},
    },
    task::{Context, Poll, Wake, Waker},
    thread::ThreadId,
};

use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};
use tokio::{runtime::Handle, task::unconstrained};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

thread_local! {
    /// The task whose turn this thread has taken (its address; 0: none), and whether it was woken since.
    static TAKEN: Cell<(usize, bool)> = const { Cell::new((0, false)) };
}

/// A task of the network thread that other threads may run in passing. Clones are the same task.
#[derive(Clone)]
pub struct Inline(Arc<Task>);

struct Task {
    /// `None`: it has ended.
    work: Mutex<Option<Work>>,
    runtime: Handle,
    /// Its own thread, on which to wake it costs next to nothing.
    home: OnceLock<ThreadId>,
    /// The tokio task that polls it when it is woken.
    runner: AtomicWaker,
    /// The runner came while another thread had the turn.
    missed: AtomicBool,
}

impl Inline {
    /// Starts a task on the network's runtime.
    pub fn spawn(runtime: &Handle, work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self::spawn_boxed(runtime, Box::pin(work))
    }

    pub(crate) fn spawn_boxed(runtime: &Handle, work: Work) -> Self {
        let task = Arc::new(Task {
            work: Mutex::new(Some(work)),
            runtime: runtime.clone(),
            home: OnceLock::new(),
            runner: AtomicWaker::new(),
            missed: AtomicBool::new(false),
        });
        runtime.spawn(Runner(task.clone()));
        Self(task)
    }

    /// Polls the task on this thread. `false`: it has ended, or is being polled elsewhere, or this is its own thread: it must be
    /// woken if there's work for it.
    pub fn run_here(&self) -> bool {
        let Some(mut turn) = self.turn() else { return false };
        turn.poll();
        true
    }

    /// Runs `prepare`, which would wake the task, and then the task itself, both on this thread. `false`, and nothing was
    /// done: the task has ended, or is being polled elsewhere, or this is its own thread.
    pub(crate) fn run_after(&self, prepare: impl FnOnce()) -> bool {
        let Some(mut turn) = self.turn() else { return false };
        let taken = Taken { outer: TAKEN.replace((self.0.address(), false)) };
        prepare();
        TAKEN.set((self.0.address(), false));
        turn.poll();
        let (_, woken) = TAKEN.get();
        drop((taken, turn));
        if woken {
            self.0.runner.wake();
        }
        true
    }

    fn turn(&self) -> Option<Turn<'_>> {
        if self.0.home.get() == Some(&std::thread::current().id()) {
            return None;
        }
        let work = self.0.work.try_lock().filter(|work| work.is_some())?;
        Some(Turn { task: &self.0, work: Some(work) })
    }
}

impl fmt::Debug for Inline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inline").finish_non_exhaustive()
    }
}

/// Whether this thread is running such a task in passing.
pub fn is_inline() -> bool {
    TAKEN.get().0 != 0
}

impl Task {
    fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }

    /// Polls what it does, and drops it when it has ended.
    fn poll(self: &Arc<Self>, slot: &mut Option<Work>) -> Poll<()> {
        let Some(work) = slot else { return Poll::Ready(()) };
        let waker = Waker::from(self.clone());
        let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_ready() {
            *slot = None;
        }
        polled
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if TAKEN.get().0 == self.address() {
            TAKEN.set((self.address(), true));
        } else {
            self.runner.wake();
        }
    }
}

/// While it lives, what wakes the task that this thread has in hand wakes nobody.
struct Taken {
    outer: (usize, bool),
}

impl Drop for Taken {
    fn drop(&mut self) {
        TAKEN.set(self.outer);
    }
}

/// The right to poll a task here; until it goes, nobody else does.
struct Turn<'a> {
    task: &'a Arc<Task>,
    work: Option<MutexGuard<'a, Option<Work>>>,
}

impl Turn<'_> {
    /// Polls the task, once.
    fn poll(&mut self) {
        let Some(slot) = &mut self.work else { return };
        let _inside = self.task.runtime.enter();
        // What has used up its share of this thread's own runtime would find nothing ready in here, and be told so only when
        // that runtime goes on.
        let poll = unconstrained(poll_fn(|_| Poll::Ready(self.task.poll(slot))));
        // Whoever sends must not pay for a mistake in here. On its own thread tokio would end the task just so.
        let polled = catch_unwind(AssertUnwindSafe(|| {
            match pin!(poll).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(polled) => polled,
                Poll::Pending => Poll::Pending,
            }
        }));
        if polled.is_err() {
            tracing::error!("a task of the network panicked");
            **slot = None;
        }
        if !matches!(polled, Ok(Poll::Pending)) {
            // The runner ends too.
            self.task.runner.wake();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.work = None;
        // Either the runner finds the lock free after it has left its note, or its note is found here.
        fence(Ordering::SeqCst);
        if self.task.missed.swap(false, Ordering::SeqCst) {
            self.task.runner.wake();
        }
    }
}

/// What tokio polls.
struct Runner(Arc<Task>);

impl Future for Runner {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = &self.0;
        task.home.get_or_init(|| std::thread::current().id());
        task.runner.register(cx.waker());
        let turn = task.work.try_lock().or_else(|| {
            task.missed.store(true, Ordering::SeqCst);
            fence(Ordering::SeqCst);
            task.work.try_lock()
        });
        match turn {
            Some(mut work) => task.poll(&mut work),
            None => Poll::Pending,
        }
    }
}

/// The runtime ends, or the work has ended: it must not keep alive what may keep its waker.
impl Drop for Runner {
    fn drop(&mut self) {
        let work = self.0.work.lock().take();
        drop(work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::mpsc;

    /// A task that notes on which thread it takes each number out of a channel.
    fn taker(
        runtime: &Handle,
    ) -> (Inline, mpsc::UnboundedSender<u64>, mpsc::UnboundedReceiver<(u64, ThreadId)>) {
        let (numbers, mut queue) = mpsc::unbounded_channel();
        let (tell, told) = mpsc::unbounded_channel();
        let task = Inline::spawn(runtime, async move {
            while let Some(number) = queue.recv().await {
                let _ = tell.send((number, std::thread::current().id()));
            }
        });
        (task, numbers, told)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn who_has_work_for_a_task_does_it_on_its_own_thread() {
        let (task, numbers, mut told) = taker(&Handle::current());
        numbers.send(0).unwrap();
        let (_, network) = told.recv().await.unwrap();
        let here = std::thread::spawn(move || {
            // The runner may still be on its way out of the first poll.
            while !task.run_after(|| {
                assert!(is_inline());
                numbers.send(1).unwrap();
            }) {
                std::thread::yield_now();
            }
            assert!(!is_inline());
            // Nobody has it in hand: its thread is woken.
            numbers.send(2).unwrap();
            (std::thread::current().id(), numbers)
        });
        let (here, numbers) = here.join().unwrap();
        assert_eq!(told.recv().await, Some((1, here)));
        assert_eq!(told.recv().await, Some((2, network)));
        drop(numbers);
        assert_eq!(told.recv().await, None);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_lost_when_two_threads_and_the_runner_want_the_turn() {
        const EACH: u64 = 20_000;
        let (task, numbers, mut told) = taker(&Handle::current());
        for _ in 0..2 {
            let (task, numbers) = (task.clone(), numbers.clone());
            std::thread::spawn(move || {
                for number in 0..EACH {
                    let mut sent = false;
                    if number % 3 > 0 {
                        task.run_after(|| sent = numbers.send(number).is_ok());
                    }
                    if !sent {
                        numbers.send(number).unwrap();
                    }
                    if number % 5 == 0 {
                        task.run_here();
                    }
                }
            });
        }
        for _ in 0..2 * EACH {
            told.recv().await.unwrap();
        }
    }

    #[test]
    fn who_has_used_up_its_share_of_its_own_runtime_runs_a_task_all_the_same() {
        let network =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (task, numbers, mut told) = taker(network.handle());
        numbers.send(0).unwrap();
        told.blocking_recv().unwrap();
        let here = tokio::runtime::Builder::new_current_thread().build().unwrap();
        here.block_on(async {
            while tokio::task::coop::has_budget_remaining() {
                tokio::task::coop::consume_budget().await;
            }
            while !task.run_after(|| numbers.send(1).unwrap()) {
                std::thread::yield_now();
            }
            assert_eq!(told.try_recv(), Ok((1, std::thread::current().id())));
        });
    }

    #[tokio::test]
    async fn a_task_that_panics_or_ends_here_is_over_for_its_runner_too() {
        for panics in [true, false] {
            let polls = Arc::new(AtomicUsize::new(0));
            let counted = polls.clone();
            let held = Arc::new(());
            let holds = held.clone();
            let task = Inline::spawn(
                &Handle::current(),
                poll_fn(move |_| {
                    let _ = &holds;
                    counted.fetch_add(1, Ordering::SeqCst);
                    assert!(!panics, "on purpose");
                    Poll::Ready(())
                }),
            );
            assert!(task.run_here());
            assert_eq!(Arc::strong_count(&held), 1);
            assert!(!task.run_here());
            tokio::task::yield_now().await;
            assert_eq!(polls.load(Ordering::SeqCst), 1);
        }
    }

    #[test]
    fn the_end_of_the_runtime_is_the_end_of_the_work() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let held = Arc::new(());
        let holds = held.clone();
        let task = Inline::spawn(runtime.handle(), async move {
            let _holds = holds;
            std::future::pending::<()>().await;
        });
        assert!(task.run_here());
        drop(runtime);
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(!task.run_here());
    }
}
