//! What a supervisor decides after a panic: whether there is another instance, and when.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// What happens after an actor has panicked.
///
/// Whatever the policy, restarts back off: the pause before the next instance is 10 ms, and twice as long after each panic
/// up to 1 s. An instance that handled a message before the one that it panicked over, or that lived for 10 s, begins with 10 ms
/// again. The messages wait meanwhile. An actor that was told to stop, or has begun to, is not restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Restart {
    /// It ends as `Panicked`.
    Never,
    /// It is restarted as long as its instances get as far as a message, or live for 10 s: this many in a row that panic
    /// before are one too many, and it ends as `Panicked`. The default, with 10: a message that panics its handler is lost, so an
    /// actor that chokes on some messages lives on however many they are, and one that cannot even start ends after about
    /// 3 s.
    WhileItProgresses {
        /// Fruitless instances in a row that end it; at least 1.
        attempts: u32,
    },
    /// A hard limit, as in Erlang/OTP: it is restarted unless it has panicked more than so often within a time; then it ends
    /// as `Panicked`. Panics over messages of other hosts aren't counted, lest a peer could end the actor: they count against
    /// that peer, which is refused for a minute after three within 10 s.
    Within {
        /// Restarts allowed within `window`.
        restarts: u32,
        /// The time they are counted over.
        window: Duration,
    },
}

impl Default for Restart {
    fn default() -> Self {
        Self::WhileItProgresses { attempts: 10 }
    }
}

/// The pause before the first restart; it doubles with each further one up to [`PAUSE_MAX`]. A guess: long against what a
/// restart costs, short against what a person notices.
const PAUSE_FIRST: Duration = Duration::from_millis(10);

/// See [`PAUSE_FIRST`]. A guess: ten attempts take 3 s, time for a missing file or port to come back.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// An instance that lived for so long did well, though it took no message: it may be one that works by timers. A guess.
const LIVES_WELL: Duration = Duration::from_secs(10);

/// How an instance fared that has panicked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// Messages that it was given, with the one that it panicked over.
    pub(crate) messages: u64,
    pub(crate) lived: Duration,
    /// The message was another host's.
    pub(crate) by_far_message: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Restart { pause: Duration },
    GiveUp,
}

/// What a supervisor remembers of its actor's panics.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Instances in a row that did nothing well.
    ill: u32,
    /// Instances in a row that took no message.
    fruitless: u32,
    recent: VecDeque<Instant>,
}

impl Record {
    pub(crate) fn after_panic(&mut self, policy: Restart, life: Life, now: Instant) -> Verdict {
        let lived_well = life.lived >= LIVES_WELL;
        match policy {
            Restart::Never => return Verdict::GiveUp,
            Restart::WhileItProgresses { attempts } => {
                let fruitless = life.messages == 0 && !lived_well;
                self.fruitless = if fruitless { self.fruitless + 1 } else { 0 };
                if self.fruitless >= attempts.max(1) {
                    return Verdict::GiveUp;
                }
            }
            Restart::Within { restarts, window } if !life.by_far_message => {
                while self.recent.front().is_some_and(|then| now.duration_since(*then) >= window) {
                    self.recent.pop_front();
                }
                if self.recent.len() >= usize::try_from(restarts).unwrap_or(usize::MAX) {
                    return Verdict::GiveUp;
                }
                self.recent.push_back(now);
            }
            Restart::Within { .. } => {}
        }
        self.ill = if life.messages > 1 || lived_well { 0 } else { self.ill.saturating_add(1) };
        let doublings = self.ill.saturating_sub(1).min(16);
        Verdict::Restart { pause: PAUSE_FIRST.saturating_mul(1 << doublings).min(PAUSE_MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Life = Life { messages: 0, lived: Duration::ZERO, by_far_message: false };

    fn pause(record: &mut Record, policy: Restart, life: Life) -> Duration {
        match record.after_panic(policy, life, Instant::now()) {
            Verdict::Restart { pause } => pause,
            Verdict::GiveUp => panic!("given up"),
        }
    }

    #[test]
    fn an_actor_that_takes_messages_is_restarted_for_ever_ever_later_up_to_a_second() {
        let mut record = Record::default();
        let poisoned = Life { messages: 1, ..AT_ONCE };
        let pauses: Vec<_> = (0..100_000)
            .map(|_| pause(&mut record, Restart::default(), poisoned).as_millis())
            .collect();
        assert_eq!(pauses[..9], [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        assert!(pauses[9..].iter().all(|&pause| pause == 1000));
    }

    #[test]
    fn an_instance_that_did_well_is_followed_soon() {
        let mut record = Record::default();
        for well in [
            Life { messages: 2, ..AT_ONCE },
            Life { messages: 1, lived: LIVES_WELL, ..AT_ONCE },
            Life { lived: LIVES_WELL, ..AT_ONCE },
        ] {
            for _ in 0..5 {
                pause(&mut record, Restart::default(), AT_ONCE);
            }
            assert_eq!(pause(&mut record, Restart::default(), well), PAUSE_FIRST);
        }
    }

    #[test]
    fn an_actor_that_cannot_start_is_given_up_after_ever_longer_pauses() {
        let mut record = Record::default();
        let mut pauses = Duration::ZERO;
        for attempt in 1.. {
            match record.after_panic(Restart::default(), AT_ONCE, Instant::now()) {
                Verdict::Restart { pause } => pauses += pause,
                Verdict::GiveUp => {
                    assert_eq!(attempt, 10);
                    break;
                }
            }
        }
        assert!(pauses > Duration::from_secs(3) && pauses < Duration::from_secs(4), "{pauses:?}");
    }

    #[test]
    fn an_actor_that_works_by_timers_is_not_given_up() {
        let mut record = Record::default();
        for _ in 0..100 {
            pause(&mut record, Restart::default(), Life { lived: LIVES_WELL, ..AT_ONCE });
        }
    }

    #[test]
    fn restarts_are_counted_within_their_window_unless_another_host_is_to_blame() {
        let policy = Restart::Within { restarts: 2, window: Duration::from_secs(10) };
        let (mut record, start) = (Record::default(), Instant::now());
        let near = Life { messages: 1, ..AT_ONCE };
        let far = Life { by_far_message: true, ..near };
        assert_ne!(record.after_panic(policy, near, start), Verdict::GiveUp);
        for _ in 0..100 {
            assert_ne!(record.after_panic(policy, far, start), Verdict::GiveUp);
        }
        assert_ne!(record.after_panic(policy, near, start), Verdict::GiveUp);
        assert_eq!(record.after_panic(policy, near, start), Verdict::GiveUp);
        let later = start + Duration::from_secs(10);
        assert_ne!(record.after_panic(policy, near, later), Verdict::GiveUp);
    }
}
