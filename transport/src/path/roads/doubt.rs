//! How the road in use is doubted: how many probes, how closely spaced, and how long their answers are waited for.
//!
//! One datagram without an answer says little: at a loss of one in ten each way, 19% of round trips fail. So a road is left only
//! after so many probes in a row that losing them all by chance is [`MISTAKE_MAX`], by the road's own losses so far. They cost
//! 51 bytes each, and only while an answer is overdue; the first answer ends the doubt. Where nothing is lost, a dead road
//! is left some 200 ms and two waits after the first datagram that was in vain; docs/decisions/0012-a-road-is-left-on-evidence.md
//! has the figures.

use std::time::{Duration, Instant};

use crate::{quic::rtt::Rtt, socket::handles::PATIENCE_MIN};

/// How likely it may be that a road which works is taken for dead, each time that it is doubted. A guess: doubted each second, once
/// in four months.
const MISTAKE_MAX: f64 = 1e-7;

/// Probes in a row without an answer after which a road is dead: where hardly anything is lost, and where very much is.
const PROBES_MIN: u32 = 7;
const PROBES_MAX: u32 = 16;

/// What is known of a road's losses at first: two round trips of ten failed. Then the road speaks for itself.
const LOST_AT_FIRST: f64 = 2.0;
const ASKED_AT_FIRST: f64 = 10.0;

/// Round trips over which losses are counted; from then on older ones count for half.
const LOSS_WINDOW: u32 = 128;

/// Probes follow each other over a third of a round trip, and this at least. A guess: a stall of a Wi-Fi is shorter.
const SPREAD_MIN: Duration = Duration::from_millis(160);

/// The other roads are asked too: twice with this between, for a peer that is asked twice doubts its own road, and then so often in the time
/// of an answer, for their probes may be lost as well; and no more often than the last. Guesses.
const OTHERS_AGAIN: Duration = Duration::from_millis(30);
const OTHERS_PER_ANSWER: u32 = 4;
const OTHERS_EVERY_MIN: Duration = Duration::from_millis(60);

/// An answer is overdue after the usual time and its usual deviation, but not before this. A guess: what a busy host takes.
const OVERDUE_MIN: Duration = Duration::from_millis(40);

/// No less than this is taken for the usual deviation, where nothing varies: timers and busy hosts do. A guess.
const VARIATION_MIN: Duration = Duration::from_millis(10);

/// How long a peer may keep an acknowledgement back (RFC 9000, section 18.2), which the answer to a probe doesn't wait for.
const ACK_DELAY: Duration = Duration::from_millis(25);

/// No more than a sixth of the round trip, or this, is taken for its usual deviation: the first measurements say little about it
/// (RFC 6298 begins with half of the first), and a dead road must be left in time. A guess.
const VARIATION_MAX: Duration = Duration::from_millis(50);

/// The last answer is waited for longer, by two deviations. A guess.
const LAST_WAIT_MIN: Duration = Duration::from_millis(60);

/// A timer that fires so much later than it should says that this process stood still, and that answers may wait unread.
pub(super) const LATE_MAX: Duration = Duration::from_millis(50);

/// After the verdict, with no other road to take: the longest time between two rounds of probes.
pub(super) const REST_MAX: Duration = Duration::from_secs(20);

/// A round trip until one was measured, and its deviation (RFC 9002, section 6.2.2).
const UNMEASURED: (Duration, Duration) = (Duration::from_millis(333), Duration::from_millis(166));

/// The time that a round trip asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    smoothed: Duration,
    variation: Duration,
}

/// The deviation that is reckoned with.
fn variation(smoothed: Duration, measured: Duration) -> Duration {
    measured.clamp(VARIATION_MIN, VARIATION_MAX.max(smoothed / 6))
}

impl Pace {
    pub(super) fn of(rtt: Rtt) -> Self {
        let (smoothed, variation) = match rtt.smoothed() {
            Some(smoothed) => (smoothed, variation(smoothed, rtt.variation())),
            None => UNMEASURED,
        };
        Self { smoothed, variation }
    }

    /// How long what was sent may go without an acknowledgement.
    pub(super) fn patience(self) -> Duration {
        PATIENCE_MIN.max(self.smoothed + self.variation + ACK_DELAY)
    }

    /// When an answer is overdue.
    pub(super) fn overdue(self) -> Duration {
        OVERDUE_MIN.max(self.smoothed + self.variation)
    }

    /// How long the answer to the last probe is waited for.
    pub(super) fn last_wait(self) -> Duration {
        LAST_WAIT_MIN.max(self.smoothed + self.variation * 2)
    }

    /// Where the first probe's answer may come before the last one is sent, the others are left alone until then.
    fn others_after(self) -> Duration {
        if self.overdue() <= self.spread() { self.spread() } else { OTHERS_AGAIN }
    }

    fn others_every(self) -> Duration {
        OTHERS_EVERY_MIN.max(self.overdue() / OTHERS_PER_ANSWER)
    }

    fn spread(self) -> Duration {
        SPREAD_MIN.max(self.smoothed / 3)
    }
}

/// What became of the probes along one road.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Losses {
    asked: u32,
    lost: u32,
}

impl Losses {
    /// One probe was answered, after so many that were not.
    pub(super) fn answered(&mut self, lost: u32) {
        let lost = lost.min(LOSS_WINDOW);
        self.asked += 1 + lost;
        self.lost += lost;
        if self.asked > LOSS_WINDOW {
            (self.asked, self.lost) = (self.asked / 2, self.lost / 2);
        }
    }

    /// The share of round trips that fail.
    pub(super) fn share(self) -> f64 {
        (f64::from(self.lost) + LOST_AT_FIRST) / (f64::from(self.asked) + ASKED_AT_FIRST)
    }

    /// How many probes in a row fail together by chance as seldom as a mistake may be made.
    pub(super) fn probes_needed(self) -> u32 {
        let needed = (MISTAKE_MAX.ln() / self.share().ln()).ceil();
        // Between the two, whatever was computed.
        (needed as u32).clamp(PROBES_MIN, PROBES_MAX)
    }
}

/// Why the road in use is in doubt, and what comes next.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) pace: Pace,
    /// Since when: another road takes over only if it answers what it is asked from then on.
    pub(super) since: Instant,
    /// Probes so far, and how many it takes.
    sent: u32,
    needed: u32,
    /// When the next probe is due.
    next: Option<Instant>,
    /// When the other roads are asked again, and whether they were.
    others: Instant,
    others_asked: bool,
    /// When what is sent goes along another road too.
    mirror: Option<Instant>,
    /// Whether this process stood still once already when that was to be said.
    excused: bool,
    /// When the last answer is overdue.
    judged: Option<Instant>,
    /// The road in use is dead, and no other lives: how long until the next round of probes.
    pub(super) rest: Option<Duration>,
}

/// What is to be done about the road in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask it.
    Ask,
    /// Ask the others.
    AskOthers,
    /// Send along another road too.
    Mirror,
    /// It is dead.
    Judge,
}

impl Doubt {
    pub(super) fn new(pace: Pace, needed: u32, now: Instant) -> Self {
        Self {
            pace,
            since: now,
            sent: 0,
            needed,
            next: Some(now),
            others: now + pace.others_after(),
            others_asked: false,
            mirror: None,
            excused: false,
            judged: None,
            rest: None,
        }
    }

    /// The same, of a road that is in doubt because the peer doubts its own. The others are left alone until an answer is overdue: the
    /// peer would take that for a doubt in turn, and neither would come to rest.
    pub(super) fn induced(pace: Pace, needed: u32, now: Instant) -> Self {
        Self { others: now + pace.overdue(), ..Self::new(pace, needed, now) }
    }

    /// What a round trip asks for by now. Where a queue has filled since the doubt began and answers take longer by an eighth or more, they are
    /// waited for so much longer. A dead road measures nothing, so that its doubt ends when it would have.
    pub(super) fn pace_is(&mut self, pace: Pace) {
        let (before, now) = (self.pace.overdue(), pace.overdue());
        if now > before + before / 8 {
            let longer = now - before;
            (self.mirror, self.judged) =
                (self.mirror.map(|at| at + longer), self.judged.map(|at| at + longer));
            self.pace = pace;
        }
    }

    /// When [`Doubt::step`] has something to say.
    pub(super) fn timeout(&self) -> Option<Instant> {
        [self.next, Some(self.others), self.mirror, self.judged].into_iter().flatten().min()
    }

    /// What is due.
    pub(super) fn step(&mut self, now: Instant) -> Option<Step> {
        let due = |at: &Instant| *at <= now;
        if self.next.is_some_and(|at| due(&at)) {
            self.asked(now);
            return Some(Step::Ask);
        }
        if due(&self.others) {
            let again = if self.others_asked { self.pace.others_every() } else { OTHERS_AGAIN };
            self.others = now + self.rest.unwrap_or(again);
            self.others_asked = true;
            return Some(Step::AskOthers);
        }
        if self.mirror.take_if(|at| due(at)).is_some() {
            return Some(Step::Mirror);
        }
        if let Some(at) = self.judged.take_if(|at| due(at)) {
            if now > at + LATE_MAX && !std::mem::replace(&mut self.excused, true) {
                // Answers may wait unread.
                self.judged = Some(now + self.pace.last_wait());
                return None;
            }
            return Some(Step::Judge);
        }
        None
    }

    fn asked(&mut self, now: Instant) {
        self.sent = self.sent.saturating_add(1);
        if let Some(rest) = self.rest {
            self.next = Some(now + rest);
            self.rest = Some((rest * 2).min(REST_MAX));
            return;
        }
        if self.sent == self.needed.div_ceil(2) {
            self.mirror = Some(now + self.pace.overdue());
        }
        if self.sent >= self.needed {
            (self.next, self.judged) = (None, Some(now + self.pace.last_wait()));
        } else {
            self.next = Some(now + self.pace.spread() / self.needed.max(2).saturating_sub(1));
        }
    }

    /// There is no road that answers: probes go on, ever more seldom, until one does.
    pub(super) fn despair(&mut self, now: Instant) {
        let rest = self.pace.spread() / 2;
        (self.rest, self.next, self.others) = (Some(rest), Some(now + rest), now + rest);
        (self.mirror, self.judged) = (None, None);
    }

    /// Whether the road in use was found dead, and any other that answers takes over.
    pub(super) fn is_hopeless(&self) -> bool {
        self.rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_road_that_loses_more_is_given_more_probes_within_bounds() {
        let mut losses = Losses::default();
        assert_eq!(losses.probes_needed(), 11, "nothing is known");
        (0..200).for_each(|_| losses.answered(0));
        assert_eq!(losses.probes_needed(), PROBES_MIN);
        // 19% and 36% of round trips fail.
        let mut losses = Losses::default();
        (0..200).for_each(|n| losses.answered(u32::from(n % 4 == 0)));
        assert!((9..=11).contains(&losses.probes_needed()), "{losses:?}");
        (0..200).for_each(|n| losses.answered(u32::from(n % 2 == 0)));
        assert!((13..=16).contains(&losses.probes_needed()), "{losses:?}");
        losses.answered(u32::MAX);
        assert_eq!(losses.probes_needed(), PROBES_MAX);
        assert!(losses.asked <= LOSS_WINDOW);
    }

    #[test]
    fn a_dead_road_is_found_out_within_a_second_or_300_ms_and_five_round_trips() {
        // By round trip and jitter, a third of it, in the worst way that it can vary: from the first datagram in vain.
        for rtt in [1, 20, 100, 300, 600] {
            let mut measured = Rtt::default();
            for n in 0..100 {
                measured.sample(MS * rtt + MS * rtt / 3 * (n % 4) / 3);
            }
            let pace = Pace::of(measured);
            for needed in [PROBES_MIN, PROBES_MAX] {
                let start = Instant::now();
                // Only short ones were sent: the slower way of the two.
                let asked = start + PATIENCE_MIN + 50 * MS;
                let mut now = asked + pace.overdue();
                let mut doubt = Doubt::new(pace, needed, now);
                let mut probes = 0;
                loop {
                    match doubt.step(now) {
                        Some(Step::Judge) => break,
                        Some(Step::Ask) => probes += 1,
                        Some(_) => {}
                        None => now = doubt.timeout().unwrap(),
                    }
                }
                let limit = if rtt <= 100 { 1000 * MS } else { 300 * MS + 5 * MS * rtt };
                assert!(now - start <= limit, "RTT {rtt} ms: {:?}", now - start);
                assert_eq!(probes, needed);
            }
        }
    }

    #[test]
    fn answers_that_take_longer_since_a_queue_filled_are_waited_for() {
        let start = Instant::now();
        let before = Pace::of(Rtt::of(750 * MS, 5 * MS, 9));
        let by_now = Pace::of(Rtt::of(1200 * MS, 5 * MS, 9));
        let left_after = |pace: Option<Pace>| {
            let mut doubt = Doubt::new(before, PROBES_MIN, start);
            let (mut now, mut mirrored) = (start, None);
            loop {
                match doubt.step(now) {
                    Some(Step::Mirror) => mirrored = Some(now - start),
                    Some(Step::Judge) => return (mirrored.unwrap(), now - start),
                    Some(_) => {}
                    None => {
                        now = doubt.timeout().unwrap();
                        if let (Some(pace), Some(_)) = (pace, doubt.judged) {
                            doubt.pace_is(pace);
                        }
                    }
                }
            }
        };
        let (mirrored, left) = left_after(None);
        assert_eq!(left_after(Some(before)), (mirrored, left));
        // Each deadline moves once, by the difference.
        let (later_mirrored, later_left) = left_after(Some(by_now));
        assert_eq!(later_mirrored, mirrored + 450 * MS);
        assert_eq!(later_left, left + 450 * MS);
    }

    #[test]
    fn a_process_that_stood_still_waits_once_more_before_it_judges() {
        let start = Instant::now();
        let mut doubt = Doubt::new(Pace::of(Rtt::of(20 * MS, MS, 9)), PROBES_MIN, start);
        let mut now = start;
        while doubt.judged.is_none() {
            doubt.step(now);
            now = now.max(doubt.timeout().unwrap());
        }
        let late = now + Duration::from_secs(5);
        let steps: Vec<_> = std::iter::from_fn(|| doubt.step(late)).collect();
        assert!(!steps.contains(&Step::Judge), "{steps:?}");
        // A second time, however late, is no excuse: or a host that is always late would never leave a road.
        let at = doubt.judged.unwrap() + Duration::from_secs(5);
        assert!(std::iter::from_fn(|| doubt.step(at)).any(|step| step == Step::Judge));
    }
}
