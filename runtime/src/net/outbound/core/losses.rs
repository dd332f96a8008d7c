//! Tells that may be lost and of which no sender has been told yet.
//!
//! A ref that was resolved when its name had passed to a successor hears nothing of what its predecessor lost, so losses
//! are counted by the lane's *era*: how often the name was found to have passed to another publication.

/// Eras whose losses are kept apart. Beyond, the two oldest become one. A guess: each takes a resolution that found a
/// successor, and senders that never called again.
const ERAS_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Losses {
    /// Era and tells, eras rising.
    of_eras: Vec<(u64, u64)>,
}

impl Losses {
    /// Tells of a stream or sender of this era are in doubt.
    pub(super) fn add(&mut self, era: u64, tells: u64) {
        match self.of_eras.binary_search_by_key(&era, |(era, _)| *era) {
            Ok(at) => self.of_eras[at].1 = self.of_eras[at].1.saturating_add(tells),
            Err(at) => self.of_eras.insert(at, (era, tells)),
        }
        if self.of_eras.len() > ERAS_MAX {
            let (_, oldest) = self.of_eras.remove(0);
            self.of_eras[0].1 = self.of_eras[0].1.saturating_add(oldest);
        }
    }

    /// Whether there is something to tell a ref of this era.
    #[inline]
    pub(super) fn concern(&self, era: u64) -> bool {
        self.of_eras.last().is_some_and(|(last, _)| *last >= era)
    }

    /// What a ref of this era is to be told.
    pub(super) fn since(&self, era: u64) -> u64 {
        let of_eras = self.of_eras.iter().filter(|(of, _)| *of >= era);
        of_eras.fold(0, |sum, (_, tells)| sum.saturating_add(*tells))
    }

    /// A ref of this era was told.
    pub(super) fn told(&mut self, era: u64) {
        self.of_eras.retain(|(of, _)| *of < era);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ref_is_told_of_its_own_era_and_later_ones_and_of_none_twice() {
        let mut losses = Losses::default();
        losses.add(1, 3);
        assert!(losses.concern(0) && losses.concern(1) && !losses.concern(2));
        losses.add(2, 4);
        losses.add(1, 1);
        assert_eq!((losses.since(0), losses.since(2), losses.since(3)), (8, 4, 0));
        losses.told(2);
        assert_eq!((losses.since(0), losses.since(2)), (4, 0));
        for era in 10..100 {
            losses.add(era, 1);
        }
        assert_eq!((losses.of_eras.len(), losses.since(0)), (ERAS_MAX, 94));
    }
}
