//! Messages whose sender has lost its right are taken out of the queue, and out of the pump's hand.

use super::queues::Queues;
use super::reservation::InletLane;
use super::{Hand, Inlet, Item, refuse};
use crate::ground::error::Fault;
use actix::Actor;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::task::Waker;

impl<A: Actor> InletLane<A> {
    /// What this lane put in and no handler has taken is refused by the pump when it is next polled, before it hands out
    /// anything more.
    pub(crate) fn refuse_untaken(&mut self) {
        let mut shared = self.inlet.shared.lock();
        if shared.closed.is_some() {
            return;
        }
        shared.unwanted.push(self.id);
        self.inlet.unwanted.store(true, Ordering::Release);
        let wakers = [shared.pump.take(), shared.waiting.take()];
        drop(shared);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}

impl<A: Actor> Inlet<A> {
    /// Refuses what lanes put in that have lost their right since.
    pub(crate) fn refuse_unwanted(&self, hand: &mut Hand<A>) {
        if self.unwanted.load(Ordering::Acquire) {
            self.sort_out(hand);
        }
    }

    #[cold]
    fn sort_out(&self, hand: &mut Hand<A>) {
        let refused: Vec<Item<A>> = {
            let mut shared = self.shared.lock();
            self.unwanted.store(false, Ordering::Relaxed);
            let lanes: HashSet<u32> = std::mem::take(&mut shared.unwanted).into_iter().collect();
            let mut refused = take_out(&mut hand.queues, &lanes);
            refused.append(&mut take_out(&mut shared.queues, &lanes));
            refused
        };
        for item in refused {
            refuse(item.delivery, &Fault::NoSuchActor);
        }
        // Their places are free.
        self.settle(hand);
    }
}

fn take_out<A: Actor>(queues: &mut Queues<A>, lanes: &HashSet<u32>) -> Vec<Item<A>> {
    if !queues.iter().any(|item| lanes.contains(&item.lane)) {
        return Vec::new();
    }
    let all: Vec<_> = queues.drain().collect();
    let (out, kept): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|item| lanes.contains(&item.lane));
    kept.into_iter().for_each(|item| queues.push(item));
    out
}
