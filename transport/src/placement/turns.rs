//! Whether a thread turns, and which task keeps it from that.
//!
//! A thread of actors runs one task at a time, so that a handler which blocks stops all of its neighbours. What is known of
//! it is written by the thread itself, once a turn: two stores and a look at the clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A thread that hasn't turned for so long gets no new actors. A guess: well above what a handler should take, well below the
/// time-out of an ask.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(1);

/// What a task is called when it has to be named.
pub trait Named: Send + Sync {
    /// Its name now, for a log.
    fn name(&self) -> String;
}

/// A thread that doesn't turn.
pub(crate) struct Stuck {
    pub(crate) since: Duration,
    /// Which task it is; `None`: one without a name, such as the future of a handler that runs apart.
    pub(crate) task: Option<Arc<dyn Named>>,
    /// Whether this is the first look at this turn that found it so.
    pub(crate) is_news: bool,
}

/// What one thread says of its turns.
pub(crate) struct Turns {
    epoch: Instant,
    /// When its latest turn began, in microseconds since `epoch`; [`ASLEEP`]: it waits for work.
    turned: AtomicU64,
    /// Whose turn it is; 0: nobody's that has a name.
    task: AtomicU64,
    tasks: Mutex<Tasks>,
}

/// See [`Turns::turned`].
const ASLEEP: u64 = u64::MAX;

#[derive(Default)]
struct Tasks {
    names: HashMap<u64, Arc<dyn Named>>,
    last: u64,
    /// The turn that was warned of.
    warned: Option<u64>,
}

impl Turns {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            turned: AtomicU64::new(ASLEEP),
            task: AtomicU64::new(0),
            tasks: Mutex::default(),
        }
    }

    /// The thread has nothing to do and goes to sleep.
    pub(crate) fn sleeps(&self) {
        self.turned.store(ASLEEP, Ordering::Relaxed);
    }

    /// It has woken up, or goes on with a task.
    pub(crate) fn turns(&self, now: Instant) {
        self.turned.store(self.micros(now), Ordering::Relaxed);
    }

    /// A task of this name may have turns from now on; the number is for [`Self::begin`].
    pub(crate) fn add(&self, name: Arc<dyn Named>) -> u64 {
        let mut tasks = self.tasks.lock();
        tasks.last += 1;
        let task = tasks.last;
        tasks.names.insert(task, name);
        task
    }

    /// It has none any more.
    pub(crate) fn remove(&self, task: u64) {
        let removed = self.tasks.lock().names.remove(&task);
        drop(removed);
    }

    /// The turn of a task begins.
    pub(crate) fn begin(&self, task: u64, now: Instant) {
        self.turns(now);
        self.task.store(task, Ordering::Relaxed);
    }

    /// And ends.
    pub(crate) fn end(&self) {
        self.task.store(0, Ordering::Relaxed);
    }

    /// `None`: it turns, or sleeps.
    pub(crate) fn stuck(&self, now: Instant) -> Option<Stuck> {
        let turned = self.turned.load(Ordering::Relaxed);
        let since = Duration::from_micros(self.micros(now).checked_sub(turned)?);
        if since < STUCK_AFTER {
            return None;
        }
        let task = self.task.load(Ordering::Relaxed);
        let mut tasks = self.tasks.lock();
        let is_news = tasks.warned.replace(turned) != Some(turned);
        Some(Stuck { since, task: tasks.names.get(&task).cloned(), is_news })
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_micros()).unwrap_or(ASLEEP - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Name(&'static str);

    impl Named for Name {
        fn name(&self) -> String {
            self.0.to_owned()
        }
    }

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_thread_is_stuck_from_a_second_on_and_its_task_is_named_once() {
        let start = Instant::now();
        let turns = Turns::new(start);
        assert!(turns.stuck(start + millis(60_000)).is_none(), "it has never had any work");
        turns.turns(start);
        let task = turns.add(Arc::new(Name("chat")));
        turns.begin(task, start + millis(10));
        assert!(turns.stuck(start + millis(1009)).is_none());
        let stuck = turns.stuck(start + millis(1010)).unwrap();
        assert_eq!(stuck.since, STUCK_AFTER);
        assert!(stuck.is_news);
        assert_eq!(stuck.task.map(|task| task.name()), Some("chat".to_owned()));
        assert!(!turns.stuck(start + millis(1500)).unwrap().is_news);
        turns.end();
        turns.begin(task, start + millis(2000));
        assert!(turns.stuck(start + millis(2999)).is_none(), "it turns");
        assert!(turns.stuck(start + millis(3000)).unwrap().is_news, "another turn");
    }

    #[test]
    fn a_thread_that_sleeps_is_not_stuck_and_whoever_has_no_name_is_not_named() {
        let start = Instant::now();
        let turns = Turns::new(start);
        let task = turns.add(Arc::new(Name("chat")));
        turns.begin(task, start);
        turns.end();
        assert!(turns.stuck(start + millis(1000)).unwrap().task.is_none());
        turns.sleeps();
        assert!(turns.stuck(start + millis(100_000)).is_none());
        turns.turns(start + millis(100_000));
        assert!(turns.stuck(start + millis(100_999)).is_none());
        assert!(turns.stuck(start + millis(101_000)).is_some());
        turns.begin(task, start + millis(101_000));
        turns.remove(task);
        assert!(turns.stuck(start + millis(102_000)).unwrap().task.is_none(), "it is gone");
    }
}
