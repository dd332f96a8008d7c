//! Whether a lane may keep the memory that was granted to it.
//!
//! Credit can't be taken back, and a peer could ask for much and send nothing. So while somebody waits for memory, a
//! lane that was granted more than every lane has at its start must use it: if little comes for a while, its sender is
//! asked to end it (RECLAIM; an honest one drains it and opens the next one when it has something to say), and one that
//! doesn't is ended.

use super::budget::Budget;
use super::credit::Credit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;
use std::time::Duration;
use tokio::time::Sleep;

/// How long a lane may bring less than [`PROGRESS_MIN`] while others wait. A guess: beyond a lost packet's repetition on
/// a bad line, and well within an ask's 30 s.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Bytes within that time that count as progress: 100 kbit/s. A guess: less than any line over which one would send
/// large messages.
const PROGRESS_MIN: u64 = 64 * 1024;

/// How often a lane is looked at after its sender was asked to end it, before it is ended. A guess: 10 s.
const PATIENCE: u32 = 2;

/// Watches over what one lane keeps.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Bytes of bodies that have arrived, counted by those who receive them.
    pub(super) body_bytes: Arc<AtomicU64>,
    look: Option<Pin<Box<Sleep>>>,
    /// What had arrived when it was last looked at.
    before: u64,
    /// How often it was looked at since the sender was asked.
    asked: Option<u32>,
}

/// What is to be done about a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Keep,
    /// Ask its sender to end it.
    Reclaim,
    /// End it.
    End,
}

impl Keeping {
    /// Looks at the lane when it is time to. `finished`: its sender sends nothing more on it; `missing` says whether
    /// bodies that were announced aren't here yet. Costs nothing while the lane has only what every lane has.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        credit: &Credit,
        budget: &Budget,
        finished: bool,
        missing: impl Fn() -> bool,
    ) -> Verdict {
        if credit.paid() == 0 {
            (self.look, self.asked) = (None, None);
            return Verdict::Keep;
        }
        loop {
            let look = self.look.get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOK_EVERY)));
            if look.as_mut().poll(cx).is_pending() {
                return Verdict::Keep;
            }
            self.look = None;
            let now = credit.received_bytes() + self.body_bytes.load(Ordering::Relaxed);
            let idle = now - std::mem::replace(&mut self.before, now) < PROGRESS_MIN;
            if !idle || !budget.is_waited_for() {
                self.asked = None;
                continue;
            }
            let times = *self.asked.insert(self.asked.map_or(0, |times| times + 1));
            // What has arrived in whole waits for the actor, which is not the sender's fault.
            if times >= PATIENCE && (!finished || missing()) {
                return Verdict::End;
            }
            if times == 0 && !finished {
                // To set the timer for the next look.
                cx.waker().wake_by_ref();
                return Verdict::Reclaim;
            }
        }
    }
}
