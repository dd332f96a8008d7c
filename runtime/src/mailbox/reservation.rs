//! A lane's handle on an inlet: places are reserved first, then filled together.

use super::{Delivery, FarWaiter, Inlet, Item, Lane, NEAR, SOME_NEWS, Shared, Wakes, refuse};
use actix::Actor;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

impl<A: Actor> Inlet<A> {
    /// A lane of its own for one remote sender.
    pub(crate) fn open_lane(self: &Arc<Self>) -> InletLane<A> {
        let mut shared = self.shared.lock();
        let mut id = shared.next_lane;
        while id == NEAR || shared.lanes.contains_key(&id) {
            id = id.wrapping_add(1);
        }
        shared.next_lane = id.wrapping_add(1);
        shared.lanes.insert(id, Lane::default());
        drop(shared);
        InletLane { inlet: self.clone(), id }
    }
}

/// One lane's handle on an inlet.
pub(crate) struct InletLane<A: Actor> {
    pub(super) inlet: Arc<Inlet<A>>,
    pub(super) id: u32,
}

impl<A: Actor> InletLane<A> {
    /// Up to `want` places, in turn with everybody else; 0 if the actor has ended.
    pub(crate) fn poll_reserve(&mut self, cx: &mut Context<'_>, want: usize) -> Poll<usize> {
        let inlet = &self.inlet;
        let mut shared = inlet.shared.lock();
        if shared.closed.is_some() {
            return Poll::Ready(0);
        }
        let queued = shared.far_line.iter().any(|waiter| waiter.lane == self.id);
        let (nobody_waits, free) =
            (shared.nobody_waits(), shared.free(inlet.capacity, inlet.in_hand.load()).1);
        let Some(lane) = shared.lanes.get_mut(&self.id) else { return Poll::Ready(0) };
        if lane.granted > 0 {
            return Poll::Ready(lane.granted);
        }
        if nobody_waits && free > 0 {
            let granted = want.clamp(1, free);
            lane.granted = granted;
            shared.reserved += granted;
            return Poll::Ready(granted);
        }
        lane.reserve_waker = Some(cx.waker().clone());
        if !queued {
            let ticket = shared.next_ticket;
            shared.next_ticket += 1;
            let waiter = FarWaiter { ticket, lane: self.id, want: want.max(1) };
            shared.far_line.push_back(waiter);
            inlet.look_again(shared);
        }
        Poll::Pending
    }

    /// Puts messages in, one granted place each, and gives back the places left over. More messages than places are the
    /// caller's mistake; they are let in all the same rather than lost.
    pub(crate) fn commit(&mut self, deliveries: &mut Vec<Box<dyn Delivery<A>>>) {
        let mut wakes = Wakes::default();
        let count: usize = deliveries.iter().map(|delivery| delivery.count()).sum();
        let mut shared = self.inlet.shared.lock();
        let granted = match shared.lanes.get_mut(&self.id) {
            Some(lane) => std::mem::take(&mut lane.granted),
            None => 0,
        };
        debug_assert!(
            count <= granted || shared.closed.is_some(),
            "{count} messages in {granted} places"
        );
        shared.reserved -= granted;
        if let Some(fault) = shared.closed.clone() {
            if let Some(lane) = shared.lanes.get_mut(&self.id) {
                lane.taken += count as u64;
                let tells: usize = deliveries.iter().map(|delivery| delivery.far_tells()).sum();
                lane.refused_tells += tells as u64;
            }
            drop(shared);
            deliveries.drain(..).for_each(|delivery| refuse(delivery, &fault));
            return;
        }
        let lane = self.id;
        for delivery in deliveries.drain(..) {
            let count = delivery.count();
            shared.queues.push(Item { delivery, lane, count });
        }
        self.inlet.news.fetch_or(SOME_NEWS, Ordering::Release);
        if count < granted {
            shared.admit(self.inlet.capacity, self.inlet.in_hand.load(), &mut wakes);
        }
        if !shared.queues.is_empty() {
            wakes.pump = shared.pump.take();
        }
        drop(shared);
        wakes.wake();
    }

    /// Gives up the place in line, and the places that were granted and can't be used now.
    pub(crate) fn withdraw(&mut self) {
        self.give_back(|shared, id| {
            let lane = shared.lanes.get_mut(&id)?;
            lane.reserve_waker = None;
            Some(std::mem::take(&mut lane.granted))
        });
    }

    /// Takes the lane out of the line, and lets others have the places that `granted` takes from it.
    fn give_back(&mut self, granted: impl FnOnce(&mut Shared<A>, u32) -> Option<usize>) {
        let (id, inlet) = (self.id, &self.inlet);
        let mut wakes = Wakes::default();
        let mut shared = inlet.shared.lock();
        let granted = granted(&mut shared, id).unwrap_or(0);
        shared.reserved -= granted;
        shared.far_line.retain(|waiter| waiter.lane != id);
        if shared.closed.is_none() {
            shared.admit(inlet.capacity, inlet.in_hand.load(), &mut wakes);
            if !shared.queues.is_empty() {
                wakes.pump = shared.pump.take();
            }
        }
        drop(shared);
        wakes.wake();
    }

    /// How many of this lane's messages were taken so far; wakes when there are more.
    pub(crate) fn poll_taken(&mut self, cx: &mut Context<'_>) -> u64 {
        let mut shared = self.inlet.shared.lock();
        let Some(lane) = shared.lanes.get_mut(&self.id) else { return 0 };
        lane.taken_waker = Some(cx.waker().clone());
        lane.taken
    }

    /// How many of this lane's tells the end of the actor has refused since this was last asked.
    pub(crate) fn take_refused_tells(&mut self) -> u64 {
        let mut shared = self.inlet.shared.lock();
        let lane = shared.lanes.get_mut(&self.id);
        lane.map_or(0, |lane| std::mem::take(&mut lane.refused_tells))
    }
}

impl<A: Actor> Drop for InletLane<A> {
    fn drop(&mut self) {
        self.give_back(|shared, id| Some(shared.lanes.remove(&id)?.granted));
    }
}
