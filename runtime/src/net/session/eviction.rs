//! Core: which lane ends when another one needs its stream.
//!
//! The one that is idle longest, if any has been idle for a while; else the one that carries least, which is a recent one as a rule. So
//! when more actors are busy than there are streams, few of the lanes take turns, and the others stay.

use std::collections::BTreeMap;

/// Rounds of the housekeeping without use after which a lane counts as idle. A guess: 2 s.
const IDLE_ROUNDS: u64 = 2;

/// What a lane did, as it is seen from outside.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Activity {
    /// The round in which it was last used.
    pub(crate) last_used: u64,
    /// Messages that its stream has carried.
    pub(crate) sent: u64,
}

/// How much each lane of a link is used.
#[derive(Debug, Default)]
pub(super) struct Uses(BTreeMap<u64, Use>);

#[derive(Debug, Default)]
struct Use {
    /// Messages, those before each look counting half of those since.
    weight: u64,
    /// What it had sent when it was last looked at.
    seen: u64,
}

impl Uses {
    /// A stream of this id was opened for a lane.
    pub(super) fn opened(&mut self, stream: u64) {
        self.0.insert(stream, Use::default());
    }

    /// It has ended.
    pub(super) fn closed(&mut self, stream: u64) {
        self.0.remove(&stream);
    }

    /// The stream to be ended for another one. `look` says what its lane does; `None`: it is ending by itself.
    pub(super) fn choose(&mut self, look: impl Fn(u64) -> Option<Activity>) -> Option<u64> {
        let mut seen: Vec<(u64, u64, u64)> = Vec::with_capacity(self.0.len());
        for (&stream, of) in &mut self.0 {
            if let Some(Activity { last_used, sent }) = look(stream) {
                of.weight = of.weight / 2 + sent.saturating_sub(of.seen);
                of.seen = sent;
                seen.push((stream, last_used, of.weight));
            }
        }
        let latest = seen.iter().map(|(_, last_used, _)| *last_used).max()?;
        let is_idle = |last_used: u64| latest.saturating_sub(last_used) >= IDLE_ROUNDS;
        let idle = seen.iter().filter(|(_, last_used, _)| is_idle(*last_used));
        let idle = idle.min_by_key(|(stream, last_used, _)| (*last_used, *stream));
        // Of two that carry the same, the later one.
        let least = || seen.iter().min_by_key(|(stream, _, weight)| (*weight, u64::MAX - stream));
        idle.or_else(least).map(|(stream, ..)| *stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    #[test]
    fn an_idle_lane_ends_first_and_the_one_that_was_used_longest_ago_before_others() {
        let mut uses = Uses::default();
        (0..4).for_each(|stream| uses.opened(stream));
        let last_used = [9, 3, 5, 10];
        let look = |sent: u64| {
            move |stream: u64| Some(Activity { last_used: last_used[stream as usize], sent })
        };
        assert_eq!(uses.choose(look(1)), Some(1));
        uses.closed(1);
        assert_eq!(uses.choose(look(2)), Some(2));
        uses.closed(2);
        // Those that are left are busy.
        assert_eq!(uses.choose(look(3)), Some(3));
        assert_eq!(uses.choose(|_| None), None);
    }

    #[test]
    fn one_lane_too_many_makes_few_take_turns() {
        const STREAMS: usize = 64;
        // Which stream each of 65 lanes has, and what that has sent; all send alike.
        let mut streams: HashMap<usize, (u64, u64)> = HashMap::new();
        let (mut uses, mut next, mut evicted, mut evictions) =
            (Uses::default(), 0, HashSet::new(), 0);
        for step in 0..20_000 {
            let lane = step % 65;
            if !streams.contains_key(&lane) {
                if streams.len() == STREAMS {
                    let sent: HashMap<u64, u64> = streams.values().copied().collect();
                    let look = |stream| Some(Activity { last_used: 1, sent: sent[&stream] });
                    let ends = uses.choose(look).unwrap();
                    let of = *streams.iter().find(|(_, (id, _))| *id == ends).unwrap().0;
                    streams.remove(&of);
                    uses.closed(ends);
                    evicted.insert(of);
                    evictions += 1;
                }
                uses.opened(next);
                streams.insert(lane, (next, 0));
                next += 1;
            }
            if let Some((_, sent)) = streams.get_mut(&lane) {
                *sent += 1;
            }
        }
        assert!(evicted.len() <= 3, "{evicted:?}");
        // Each of those few, when it is its turn: if all took turns, it would be twenty times as many.
        assert!(evictions <= 3 * 20_000 / 65 + 3, "{evictions}");
    }
}
