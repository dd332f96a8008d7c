//! How many lines of a log others may bring about.

use std::{collections::HashMap, hash::Hash, time::Instant};

use parking_lot::Mutex;

use crate::limits::bucket::Bucket;

/// Lines for one at once, and per second after that. A guess: a peer with a fault of its own is told of in full, one that repeats
/// it without end a few times.
const EACH_BURST: u64 = 10;
const EACH_PER_SECOND: f64 = 1.0;

/// The same for all together: keys are free. A guess: 100 MB a day of lines at the worst, and a terminal that can still be read.
const ALL_BURST: u64 = 100;
const ALL_PER_SECOND: f64 = 5.0;

/// Buckets that are kept until the full ones among them are dropped. No more than a hundred and fifty aren't full at a time, for each
/// is full again ten seconds after its last line.
const KEPT_MAX: usize = 256;

/// Rations lines of a log that others bring about, by who does. A line that isn't written is counted, and the next one that is says
/// how many were left out.
///
/// ```
/// let quota = webmesh_transport::LogQuota::default();
/// assert_eq!(quota.take("a peer"), Some(0));
/// while quota.take("a peer").is_some() {}
/// assert_eq!(quota.take("another peer"), Some(1));
/// ```
#[derive(Debug)]
pub struct LogQuota<K> {
    state: Mutex<State<K>>,
}

#[derive(Debug)]
struct State<K> {
    all: Option<Bucket>,
    each: HashMap<K, Bucket>,
    left_out: u64,
}

impl<K> Default for LogQuota<K> {
    fn default() -> Self {
        let state = State { all: None, each: HashMap::new(), left_out: 0 };
        Self { state: Mutex::new(state) }
    }
}

impl<K: Hash + Eq> LogQuota<K> {
    /// `Some`: a line that `who` brings about may be written now, and so many were left out since the last one.
    pub fn take(&self, who: K) -> Option<u64> {
        self.state.lock().take(who, tokio::time::Instant::now().into_std())
    }
}

impl<K: Hash + Eq> State<K> {
    fn take(&mut self, who: K, now: Instant) -> Option<u64> {
        let all = self.all.get_or_insert_with(|| Bucket::full(ALL_BURST, now));
        if self.each.len() >= KEPT_MAX {
            let full =
                |each: &Bucket| each.has(EACH_BURST, EACH_BURST, EACH_PER_SECOND as u64, now);
            self.each.retain(|_, each| !full(each));
        }
        // Who has used up its own lines takes none of the others'.
        let own = self.each.get(&who);
        let may = own.is_none_or(|own| own.level(EACH_BURST, EACH_PER_SECOND, now) >= 1.0);
        if !may || !all.take_one(ALL_BURST, ALL_PER_SECOND, now) {
            self.left_out += 1;
            return None;
        }
        let own = self.each.entry(who).or_insert_with(|| Bucket::full(EACH_BURST, now));
        own.take_one(EACH_BURST, EACH_PER_SECOND, now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn written(quota: &mut State<u64>, who: u64, times: u32, now: Instant) -> usize {
        (0..times).filter(|_| quota.take(who, now).is_some()).count()
    }

    fn quota() -> State<u64> {
        let LogQuota { state } = LogQuota::default();
        state.into_inner()
    }

    #[test]
    fn one_that_floods_the_log_takes_no_lines_of_others_and_what_is_left_out_is_counted() {
        let (mut quota, now) = (quota(), Instant::now());
        assert_eq!(written(&mut quota, 1, 100_000, now), EACH_BURST as usize);
        assert_eq!(quota.take(2, now), Some(100_000 - EACH_BURST));
        assert_eq!(quota.take(2, now), Some(0));
        let minute = now + Duration::from_secs(60);
        assert_eq!(written(&mut quota, 1, 100, minute), EACH_BURST as usize);
    }

    #[test]
    fn many_that_flood_it_together_are_bounded_in_lines_and_in_memory() {
        let (mut quota, start) = (quota(), Instant::now());
        let mut lines = 0;
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            lines += (0..10_000).filter(|n| quota.take(second * 10_000 + n, now).is_some()).count();
            assert!(quota.each.len() <= KEPT_MAX);
        }
        let most = ALL_BURST + 59 * ALL_PER_SECOND as u64;
        assert_eq!(lines as u64, most);
    }
}
