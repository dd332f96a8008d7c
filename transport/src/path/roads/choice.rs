//! Which road is in use: when the one that is may be dead, when it is left, and for which other.

use std::{
    cmp::Ordering,
    time::{Duration, Instant},
};

use super::{
    Output, Roads, STANDBY_EVERY,
    doubt::{Doubt, Pace},
    known::{Known, RETURN_ASK_EVERY},
};
use crate::quic::rtt::Rtt;

/// When the peer sends along another road, and nothing proved the one in use for so long, it is asked. A guess: less than
/// what makes the peer doubt.
const QUIET_MIN: Duration = Duration::from_millis(200);

/// A peer in doubt asks along its other roads several times in so long, and else each 20 s. A guess.
const AGAIN_MAX: Duration = Duration::from_secs(1);

/// The peer's doubts make this side doubt no more often than this, or two sides on lossy roads would keep each other busy. A guess.
const INDUCED_EVERY: Duration = Duration::from_secs(5);

/// A road that the peer itself has just come along, and that is no worse than the one in use, may be where it has moved to: so long
/// it is the first to be mirrored to. A guess: what a doubt takes.
const HINT_MAX: Duration = Duration::from_secs(3);

/// QUIC's round trips are believed once there are so many. A guess: the first are those of the handshake.
const QUIC_SAMPLES_MIN: u32 = 4;

/// A road that works is left for another only if that takes less than 3/4 of the time and 5 ms less, by at least
/// `SAMPLES_MIN` measurements of each. A guess: beyond the noise of a Wi-Fi, below what a user would notice.
const FASTER_BY_MIN: Duration = Duration::from_millis(5);

/// Of a road whose round trip isn't measured: the first time-out of RFC 6298.
const RTT_UNMEASURED: Duration = Duration::from_secs(1);
impl Roads {
    /// A road that isn't in use has answered.
    pub(super) fn standby_answered(&mut self, index: usize, first: bool, now: Instant) {
        let known = &mut self.known[index];
        (known.asked, known.unanswered) = (None, 0);
        let again = if known.is_on_probation() { RETURN_ASK_EVERY } else { STANDBY_EVERY };
        known.next = Some(now + again);
        if first {
            let (road, tier, prompted) = (known.road, known.tier(), known.prompted);
            if prompted && tier <= self.known[self.active].tier() {
                self.hint = Some((road, now));
            }
            if self.known[self.active].rtt.samples() == 0 || prompted {
                // Only now does it matter how long it takes; and the peer may have moved there.
                self.question_active(now);
            }
        }
        if self.mirror.is_some() && !self.mirror_answers() {
            self.mirror_to(index);
        }
    }

    /// The road in use works: what was sent at `sent` has arrived. Of what was asked since then nothing is known.
    pub(super) fn settled(&mut self, sent: Instant, now: Instant) {
        let active = &mut self.known[self.active];
        let later = active.open.iter().filter(|open| !open.counted && open.sent > sent);
        let (asked, count) = (later.clone().map(|open| open.sent).min(), later.count());
        (active.asked, active.unanswered) = (asked, u32::try_from(count).unwrap_or(u32::MAX));
        active.next = None;
        active.heard = active.heard.max(Some(now));
        (self.doubt, self.hint) = (None, None);
        self.be_sure();
    }

    /// The time that a round trip along the road in use asks for: by the measurements that are newest.
    pub(super) fn pace(&self) -> Pace {
        let active = &self.known[self.active];
        let (quic, sampled) = self.quic;
        let newer = sampled > active.proof && quic.samples() >= QUIC_SAMPLES_MIN;
        Pace::of(if newer || active.rtt.samples() == 0 { quic } else { active.rtt })
    }

    /// When an answer along the road in use is overdue, if there is any other road.
    pub(super) fn overdue_at(&self) -> Option<Instant> {
        let asked = self.known[self.active].asked.filter(|_| self.has_choice());
        asked.map(|asked| asked + self.pace().overdue())
    }

    pub(super) fn doubt_active(&mut self, now: Instant) {
        if self.has_choice() {
            let needed = self.known[self.active].losses.probes_needed();
            self.doubt = Some(Doubt::new(self.pace(), needed, now));
        } else {
            self.question_active(now);
        }
    }

    pub(super) fn question_active(&mut self, now: Instant) {
        if self.known[self.active].asked.is_none() {
            self.ask(self.active, now);
        }
    }

    /// The best road that has answered what it was asked since the road in use is in doubt.
    pub(super) fn successor(&self) -> Option<usize> {
        let since = self.doubt.as_ref()?.since;
        let answers = |known: &Known| known.proof.is_some_and(|sent| sent >= since);
        self.others()
            .filter(|(_, known)| answers(known))
            .min_by_key(|(_, k)| k.rank())
            .map(|(i, _)| i)
    }

    /// The road in use is dead, and this one isn't.
    pub(super) fn leave(&mut self, other: usize, now: Instant) {
        let dead = &mut self.known[self.active];
        dead.leave(now);
        // It wasn't a matter of luck that they were lost.
        dead.open.iter_mut().for_each(|open| open.counted = true);
        self.switch(other, now);
    }

    pub(super) fn switch(&mut self, better: usize, now: Instant) {
        self.known[self.active].next = Some(now + STANDBY_EVERY);
        self.known[better].take(now);
        self.active = better;
        (self.doubt, self.hint, self.quic) = (None, None, (Rtt::default(), None));
        self.outbox.push_back(Output::Switch(self.active()));
        self.outbox.push_back(Output::Whole(self.known[better].whole));
        self.be_sure();
    }

    /// The other roads that have answered before.
    pub(super) fn others(&self) -> impl Iterator<Item = (usize, &Known)> {
        let others = self.known.iter().enumerate();
        others.filter(|(index, known)| *index != self.active && known.proven)
    }

    /// What is sent goes along the best of the other roads too, until the one in use answers.
    pub(super) fn mirror_likeliest(&mut self) {
        let likeliest = |(_, known): &(usize, &Known)| (known.asked.is_some(), known.rank());
        let best = || self.others().min_by_key(likeliest).map(|(index, _)| index);
        if let (Some(index), None) = (self.successor().or_else(best), self.mirror) {
            self.mirror_to(index);
        }
    }

    pub(super) fn mirror_to(&mut self, index: usize) {
        let known = &self.known[index];
        if !self.mirror.is_some_and(|to| known.is(to)) {
            self.mirror = Some(known.road);
            let rtt = known.rtt.smoothed().unwrap_or(RTT_UNMEASURED);
            self.outbox.push_back(Output::Mirror { road: known.road, whole: known.whole, rtt });
        }
    }

    pub(super) fn be_sure(&mut self) {
        if self.mirror.take().is_some() {
            self.outbox.push_back(Output::Sure);
        }
    }

    /// Whether the road that what is sent also goes along has answered all that it was asked.
    pub(super) fn mirror_answers(&self) -> bool {
        let index = self.mirror.and_then(|road| self.find(road));
        index.is_some_and(|index| self.known[index].asked.is_none())
    }

    /// Where the peer seems to have moved to of late.
    pub(super) fn hinted(&self, now: Instant) -> Option<usize> {
        let (road, _) = self.hint.filter(|(_, at)| now < *at + HINT_MAX)?;
        self.find(road).filter(|index| *index != self.active)
    }

    /// The peer asks along another road than the one in use, which may be `by`: does that still work? If the peer does so again at
    /// once, it is in doubt itself, and no answer is waited for.
    pub(super) fn compare(&mut self, by: Option<usize>, now: Instant) {
        let quiet = QUIET_MIN.max(self.pace().overdue());
        let active = &self.known[self.active];
        let before = self.compared.replace(now);
        if active.asked.is_none() {
            if active.heard.is_none_or(|heard| now >= heard + quiet) {
                self.question_active(now);
            }
        } else if self.doubt.is_none()
            && self.has_choice()
            && before.is_some_and(|before| now < before + AGAIN_MAX)
            && self.induced.is_none_or(|before| now >= before + INDUCED_EVERY)
        {
            self.induced = Some(now);
            let needed = active.losses.probes_needed();
            self.doubt = Some(Doubt::induced(self.pace(), needed, now));
            if let Some(by) = by {
                self.ask(by, now);
            }
        }
    }

    /// When a road of a better kind than the one in use may be taken again.
    pub(super) fn return_at(&self) -> Option<Instant> {
        let tier = self.known[self.active].tier();
        let better =
            self.others().filter(|(_, known)| known.tier() < tier && known.asked.is_none());
        better.filter_map(|(_, known)| known.trusted_at()).min().filter(|_| self.doubt.is_none())
    }

    /// The road that should be in use in place of the one that is, though that works.
    pub(super) fn better(&self, now: Instant) -> Option<usize> {
        let active = &self.known[self.active];
        let takes_over = |known: &Known| {
            let works = known.asked.is_none() && known.is_trusted(now);
            works
                && match known.tier().cmp(&active.tier()) {
                    // A relay is for as long as there is nothing better.
                    Ordering::Less => true,
                    Ordering::Greater => false,
                    Ordering::Equal => match (known.measured(), active.measured()) {
                        (Some(rtt), Some(now)) => rtt < now * 3 / 4 && rtt + FASTER_BY_MIN <= now,
                        _ => false,
                    },
                }
        };
        let best = self.others().filter(|(_, known)| takes_over(known));
        best.min_by_key(|(_, known)| known.rank()).map(|(index, _)| index)
    }
}
