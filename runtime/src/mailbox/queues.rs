//! Messages in order, those of this process apart from those that came by lanes.
//!
//! Apart, so that what strangers send can't hold up the program that the actor belongs to: an actor takes a message of
//! others after every [`NEAR_TURNS`] of its own process's while both wait, and either kind at once while the other has
//! nothing. Between senders of one kind, first come is first served.

use super::{Item, KEEP_ITEMS, NEAR};
use actix::Actor;
use std::collections::VecDeque;

/// Messages of this process that are taken for each of others, while both wait. A guess: others get a ninth at least, and
/// cost this process less than a fifth of what it would have without them.
pub(super) const NEAR_TURNS: usize = 8;

/// What waits for an actor.
pub(super) struct Queues<A: Actor> {
    near: VecDeque<Item<A>>,
    far: VecDeque<Item<A>>,
    /// Messages in each.
    near_count: usize,
    far_count: usize,
}

impl<A: Actor> Default for Queues<A> {
    fn default() -> Self {
        Self { near: VecDeque::new(), far: VecDeque::new(), near_count: 0, far_count: 0 }
    }
}

impl<A: Actor> Queues<A> {
    pub(super) fn push(&mut self, item: Item<A>) {
        if item.lane == NEAR {
            self.near_count += item.count;
            self.near.push_back(item);
        } else {
            self.far_count += item.count;
            self.far.push_back(item);
        }
    }

    /// Whether there is no item, not even one that a panic has left empty.
    pub(super) fn is_empty(&self) -> bool {
        self.near.is_empty() && self.far.is_empty()
    }

    /// Messages in all.
    pub(super) fn len(&self) -> usize {
        self.near_count + self.far_count
    }

    /// Messages that came by lanes.
    pub(super) fn far_len(&self) -> usize {
        self.far_count
    }

    /// Whether all that waits came by lanes.
    #[inline]
    pub(super) fn are_far_only(&self) -> bool {
        self.near_count == 0 && self.far_count > 0
    }

    /// Takes over what the other holds, which is the later.
    pub(super) fn append(&mut self, later: &mut Self) {
        self.near.append(&mut later.near);
        self.far.append(&mut later.far);
        self.near_count += std::mem::take(&mut later.near_count);
        self.far_count += std::mem::take(&mut later.far_count);
    }

    /// Gives back the memory of queues that have grown and are empty.
    pub(super) fn shrink(&mut self) {
        for queue in [&mut self.near, &mut self.far] {
            if queue.is_empty() && queue.capacity() > KEEP_ITEMS {
                *queue = VecDeque::new();
            }
        }
    }

    /// All items, in no order that matters between the kinds.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Item<A>> + use<A> {
        (self.near_count, self.far_count) = (0, 0);
        std::mem::take(&mut self.near).into_iter().chain(std::mem::take(&mut self.far))
    }

    /// Keeps the items that are wanted.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&Item<A>) -> bool) {
        self.near.retain(&is_wanted);
        self.far.retain(&is_wanted);
        let count = |queue: &VecDeque<Item<A>>| queue.iter().map(|item| item.count).sum();
        (self.near_count, self.far_count) = (count(&self.near), count(&self.far));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Item<A>> {
        self.near.iter().chain(&self.far)
    }
}

/// Whose turn it is.
#[derive(Default)]
pub(super) struct Turns {
    /// Messages of this process that were taken since the last one of others, while those waited.
    near: usize,
    /// The item in hand came by a lane.
    far_in_hand: bool,
}

impl Turns {
    /// The item that has the next message; that message is counted off.
    #[inline]
    pub(super) fn next<'a, A: Actor>(
        &mut self,
        queues: &'a mut Queues<A>,
    ) -> Option<&'a mut Item<A>> {
        // Left over by a panic.
        while queues.near.front().is_some_and(|item| item.count == 0) {
            queues.near.pop_front();
        }
        while queues.far.front().is_some_and(|item| item.count == 0) {
            queues.far.pop_front();
        }
        self.far_in_hand = match (queues.near_count, queues.far_count) {
            (0, 0) => return None,
            (0, _) => true,
            (_, 0) => false,
            _ => self.near >= NEAR_TURNS,
        };
        let item = if self.far_in_hand {
            self.near = 0;
            queues.far_count -= 1;
            queues.far.front_mut()
        } else {
            self.near = if queues.far_count > 0 { self.near + 1 } else { 0 };
            queues.near_count -= 1;
            queues.near.front_mut()
        }?;
        item.count -= 1;
        Some(item)
    }

    /// The item in hand, if nothing is left in it.
    #[inline]
    pub(super) fn done<A: Actor>(&mut self, queues: &mut Queues<A>) -> Option<Item<A>> {
        let queue = if self.far_in_hand { &mut queues.far } else { &mut queues.near };
        if queue.front().is_some_and(|item| item.count == 0) { queue.pop_front() } else { None }
    }
}
