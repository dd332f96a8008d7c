//! What is asked along roads: probes, and long ones that find out how much a road takes.

use std::time::{Duration, Instant};

use super::{
    OPEN_MAX, Output, Roads, STANDBY_EVERY,
    known::{Known, Open, Origin, RETURN_ASK_EVERY},
    silent::CHECKS_MAX,
};
use crate::wire::frame::FRAME_BYTES;

/// Between the first two checks of a road; doubled after each. A guess.
const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Long probes in a row before a road counts as narrow, and until it is tried again. Guesses: with one datagram in ten lost each way,
/// one in 20,000 wide roads is taken for a narrow one, for a minute. They follow each other after the time of three round trips, and this.
pub(super) const SIZE_TRIES: usize = 6;
const SIZE_AGAIN: Duration = Duration::from_secs(60);
const SIZE_WAIT_MIN: Duration = Duration::from_millis(300);
impl Roads {
    /// Whether one more probe may go to the host at the other end, which is then counted.
    pub(super) fn spare(&mut self, index: usize) -> bool {
        let known = &self.known[index];
        let ip = known.road.remote.ip();
        let direct = |known: &Known| known.tier() == 0;
        let answers = |known: &Known| known.proven && direct(known) && known.road.remote.ip() == ip;
        // What an observed source is sent, it paid for; and who answers is no victim.
        !direct(known)
            || known.origin == Origin::Observed
            || self.known.iter().any(answers)
            || self.silent.ask(ip)
    }

    /// Sends a fresh nonce along a road, unless that road has had its share.
    pub(super) fn ask(&mut self, index: usize, now: Instant) -> u64 {
        let nonce = self.nonces.next();
        let (active, tier) = (index == self.active, self.known[self.active].tier());
        let known = &mut self.known[index];
        let exhausted = !known.proven && known.unanswered >= CHECKS_MAX;
        if exhausted || !known.affordable() || !self.spare(index) {
            self.known[index].next = None;
            return nonce;
        }
        let known = &mut self.known[index];
        known.forget_old(now);
        if known.open.len() == OPEN_MAX {
            known.open.pop_front();
        }
        known.open.push_back(Open { nonce, sent: now, counted: false });
        known.asked.get_or_insert(now);
        known.unanswered = known.unanswered.saturating_add(1);
        known.drawn = known.drawn.saturating_add(FRAME_BYTES);
        let opens = known.opening && !std::mem::replace(&mut known.opened, true);
        // From the second on they go all the way, whether the peer is ready or not.
        known.opening &= opens;
        let checks = known.unanswered.saturating_sub(u32::from(known.opened));
        known.next = match known.proven {
            _ if active => None,
            true if known.is_on_probation() && known.unanswered <= 1 => {
                Some(now + RETURN_ASK_EVERY)
            }
            // One that is better than the road in use is asked for ever: it may work again.
            true if known.unanswered >= CHECKS_MAX && known.tier() >= tier => None,
            true => Some(now + STANDBY_EVERY),
            false if known.unanswered >= CHECKS_MAX => None,
            false => Some(now + CHECK_EVERY * (1 << checks.saturating_sub(1))),
        };
        let output = if opens { Output::Open } else { Output::Probe };
        self.outbox.push_back(output(known.road, nonce));
        nonce
    }

    /// Sends a long probe along a proven road: a few in a row, for one may be lost, and then seldom.
    pub(super) fn size(&mut self, index: usize, now: Instant) {
        let nonce = self.nonces.next();
        let known = &mut self.known[index];
        if known.unanswered >= CHECKS_MAX {
            // It is dead: short probes come first.
            known.size_next = Some(now + SIZE_AGAIN);
            return;
        }
        if known.sizing.len() == SIZE_TRIES {
            known.sizing.clear();
        }
        known.sizing.push(nonce);
        let wait = match known.sizing.len() {
            SIZE_TRIES => SIZE_AGAIN,
            _ => SIZE_WAIT_MIN.max(known.rtt.smoothed().unwrap_or_default() * 3),
        };
        known.size_next = Some(now + wait);
        self.outbox.push_back(Output::Size(known.road, nonce));
    }

    /// Asks every proven road but the one in use.
    pub(super) fn ask_others(&mut self, now: Instant) {
        for index in 0..self.known.len() {
            if index != self.active && self.known[index].proven {
                self.ask(index, now);
            }
        }
    }
}
