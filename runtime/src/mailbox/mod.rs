//! The bounded queue in front of an actor. Every message that comes through an `ActorRef`, near or far, passes here; no
//! actix mailbox bound holds (docs/measurements.md), hence our own.
//!
//! A message needs one of `capacity` places, from the moment it is let in until the handler takes it. Who finds none
//! stands in line, first come first served, senders of this process and lanes of others alike; but lanes leave an eighth of
//! the places to this process, and take turns with it (`queues`). The pump takes the
//! whole queue at once and gives places back in batches, so that neither side pays for a lock or a wake-up per message.
//!
//! - `queues`, `reservation`, `refusing`: its lines, the places of a lane, and its end.
//! - `delivery`, `dispatch`: what lies in it; from a typed message to an actor of unknown type, and back for its reply.
//! - `deferred`: large messages from afar, which are decoded by their actor.
//! - `blame`: whose message an asynchronous response works at.
//! - `expose_request`: how a running actix actor gets one.

pub(crate) mod blame;
pub(crate) mod deferred;
pub(crate) mod delivery;
pub(crate) mod dispatch;
pub(crate) mod expose_request;
mod queues;
mod refusing;
pub(crate) mod reservation;
#[cfg(test)]
mod tests;

use queues::{NEAR_TURNS, Queues, Turns};

use crate::ground::error::Fault;
use crate::mailbox::delivery::Delivery;
use crate::refs::target::{Queued, WhenFull};
use actix::Actor;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Places in an inlet unless set otherwise. At 1,024 a local tell costs no more than actix's unbounded `do_send`, at 64
/// seven times as much; with 4,096, tells of 100 B from another process were 20% faster than with 1,024, because the
/// network's thread and the actor's wake each other less often (docs/measurements.md).
pub(crate) const CAPACITY: usize = 4096;

/// What an inlet keeps of queues and spare boxes when it runs empty; the rest of the memory is given back. Few, for most
/// actors are idle most of the time.
const KEEP_ITEMS: usize = 4;

/// How long the line may wait for half of the places to be free while the actor is busy without a pause. Letting
/// it in for every few places would wake the sender's thread as often. A guess, well below what a person notices.
const HOLD_LINE: Duration = Duration::from_millis(1);

/// Messages that make a busy spell, after which the pump looks around for more before it sleeps. A guess.
const SPELL_MESSAGES: u32 = 32;

/// How often it looks around then, giving way to others in between: a few microseconds. Where sender and actor are about
/// equally fast, a sleep and a wake-up every few messages cost more than the messages.
const LOOKS: u32 = 16;

/// How often it does so when a sender in line was just let in, whose thread takes 10 to 50 µs to wake up (measured).
const LOOKS_FOR_SENDER: u32 = 100;

/// No lane: a message of this process.
const NEAR: u32 = 0;

/// The share of the places that lanes leave to this process. A guess: with an inlet of the usual size, 512 senders that wait
/// for an answer each never meet what others have sent. An inlet of fewer than eight places is shared as a whole.
const NEAR_SHARE: usize = 8;

/// Bits of [`Inlet::news`].
const SOME_NEWS: u8 = 1;
/// See [`SOME_NEWS`].
const NEAR_NEWS: u8 = 2;

/// A message in the queue, or a run of them, and the lane that it came by.
pub(crate) struct Item<A: Actor> {
    delivery: Box<dyn Delivery<A>>,
    lane: u32,
    /// Messages in it that weren't taken yet.
    count: usize,
}

/// What the pump holds: messages out of the queue but not handled yet. It belongs to the supervisor rather than to the
/// actor's context, so that a panic loses only the message in hand.
pub(crate) struct Hand<A: Actor> {
    queues: Queues<A>,
    turns: Turns,
    /// Messages taken per lane since they were last reported.
    taken: Vec<(u32, u64)>,
    /// Messages taken since the pump last slept, up to [`SPELL_MESSAGES`].
    spell: u32,
    /// Looks around since there last was a message.
    looks: u32,
    /// A sender of this process was let in and is about to go on.
    sender_wakes: bool,
    /// When places were last offered to the line.
    offered: Option<Instant>,
    /// Boxes of messages that were handled.
    spare: Vec<Box<dyn Delivery<A>>>,
}

impl<A: Actor> Default for Hand<A> {
    fn default() -> Self {
        Self {
            queues: Queues::default(),
            turns: Turns::default(),
            taken: Vec::new(),
            spell: 0,
            looks: 0,
            sender_wakes: false,
            offered: None,
            spare: Vec::new(),
        }
    }
}

impl<A: Actor> Hand<A> {
    /// The delivery that has the next message, which counts as taken from here on. Call `done` when it was delivered.
    pub(crate) fn next(&mut self) -> Option<&mut dyn Delivery<A>> {
        let item = self.turns.next(&mut self.queues)?;
        self.spell = (self.spell + 1).min(SPELL_MESSAGES);
        if item.lane != NEAR {
            match self.taken.last_mut() {
                Some((last, count)) if *last == item.lane => *count += 1,
                _ => self.taken.push((item.lane, 1)),
            }
        }
        Some(item.delivery.as_mut())
    }

    /// How many messages it holds, and how many of those came by lanes.
    fn held(&self) -> (usize, usize) {
        (self.queues.len(), self.queues.far_len())
    }

    /// Puts an empty box aside for another message.
    pub(crate) fn done(&mut self) {
        if let Some(mut item) = self.turns.done(&mut self.queues)
            && item.delivery.reusable().is_some()
        {
            self.spare.push(item.delivery);
        }
    }
}

pub(crate) struct Inlet<A: Actor> {
    shared: Mutex<Shared<A>>,
    capacity: usize,
    /// Whether senders may be on other threads, so that looking around is of use.
    looks_around: bool,
    /// What was in the pump's hand when it last reported; never less than the truth.
    in_hand: InHand,
    /// Whether there is something in the queue, or in line, for a pump that looks around without the lock; and whether it may
    /// be this process's.
    news: AtomicU8,
    /// Whether anybody stands in line, for the pump to see without the lock.
    line_waits: AtomicBool,
    /// Whether nothing is handed out any more.
    drains: AtomicBool,
    /// Whether the actor was told to stop from outside.
    stop: AtomicBool,
    /// Whether messages of lanes are to be refused.
    unwanted: AtomicBool,
}

/// How many messages the pump holds.
#[derive(Default)]
struct InHand {
    all: AtomicUsize,
    far: AtomicUsize,
}

impl InHand {
    fn store<A: Actor>(&self, hand: &Hand<A>) {
        self.all.store(hand.queues.len(), Ordering::SeqCst);
        self.far.store(hand.queues.far_len(), Ordering::SeqCst);
    }

    /// All, and those that came by lanes.
    fn load(&self) -> (usize, usize) {
        (self.all.load(Ordering::SeqCst), self.far.load(Ordering::SeqCst))
    }
}

struct Shared<A: Actor> {
    queues: Queues<A>,
    /// Empty boxes for messages of this process; with those in hand, no more than twice as many as places.
    spare: Vec<Box<dyn Delivery<A>>>,
    /// Places granted to lanes that haven't committed yet.
    reserved: usize,
    /// Who waits for a place, of this process.
    near_line: VecDeque<NearWaiter<A>>,
    /// The lanes that wait for places.
    far_line: VecDeque<FarWaiter>,
    next_ticket: u64,
    /// Set while the pump sleeps for want of messages.
    pump: Option<Waker>,
    /// Set while the actor waits for something else, when only a stop is to wake it.
    waiting: Option<Waker>,
    lanes: BTreeMap<u32, Lane>,
    next_lane: u32,
    /// Lanes whose messages are to be refused.
    unwanted: Vec<u32>,
    closed: Option<Fault>,
}

#[derive(Default)]
struct Lane {
    granted: usize,
    taken: u64,
    /// Tells among those, that were refused because the actor has ended.
    refused_tells: u64,
    reserve_waker: Option<Waker>,
    taken_waker: Option<Waker>,
}

/// Waits to have this message in the queue, and to know when it is.
struct NearWaiter<A: Actor> {
    ticket: u64,
    item: Item<A>,
    admitted: oneshot::Sender<Result<(), Fault>>,
}

/// Waits for up to so many places.
struct FarWaiter {
    ticket: u64,
    lane: u32,
    want: usize,
}

/// Whom to wake once the lock is released.
#[derive(Default)]
struct Wakes {
    pump: Option<Waker>,
    lanes: Vec<Waker>,
    admitted: Vec<oneshot::Sender<Result<(), Fault>>>,
}

impl Wakes {
    fn wake(self) {
        if let Some(pump) = self.pump {
            pump.wake();
        }
        for lane in self.lanes {
            lane.wake();
        }
        for sender in self.admitted {
            // A sender that gave up between being admitted and being told is no loss: its message is in.
            let _ = sender.send(Ok(()));
        }
    }
}

impl<A: Actor> Shared<A> {
    /// Free places: for this process, and for lanes. `in_hand`: what the pump holds, and how much of it came by lanes.
    fn free(&self, capacity: usize, in_hand: (usize, usize)) -> (usize, usize) {
        let free = capacity.saturating_sub(self.queues.len() + self.reserved + in_hand.0);
        let of_lanes = self.queues.far_len() + self.reserved + in_hand.1;
        let for_lanes = (capacity - capacity / NEAR_SHARE).saturating_sub(of_lanes);
        (free, for_lanes.min(free))
    }

    fn nobody_waits(&self) -> bool {
        self.near_line.is_empty() && self.far_line.is_empty()
    }

    /// Lets in whoever is first in line, as long as there are places.
    fn admit(&mut self, capacity: usize, in_hand: (usize, usize), wakes: &mut Wakes) {
        loop {
            let (free, for_lanes) = self.free(capacity, in_hand);
            let near = self.near_line.front().filter(|_| free > 0).map(|first| first.ticket);
            let far = self.far_line.front().filter(|_| for_lanes > 0).map(|first| first.ticket);
            match (near, far) {
                (None, None) => return,
                (Some(near), far) if far.is_none_or(|far| near < far) => {
                    let Some(first) = self.near_line.pop_front() else { return };
                    self.queues.push(first.item);
                    wakes.admitted.push(first.admitted);
                }
                _ => {
                    let Some(FarWaiter { lane, want, .. }) = self.far_line.pop_front() else {
                        return;
                    };
                    let Some(lane) = self.lanes.get_mut(&lane) else { continue };
                    // No more than its turn while others wait behind it.
                    let turn = match self.near_line.len() {
                        0 => want,
                        waiting => want.min((waiting / NEAR_TURNS).max(1)),
                    };
                    let granted = turn.min(for_lanes);
                    lane.granted += granted;
                    self.reserved += granted;
                    wakes.lanes.extend(lane.reserve_waker.take());
                }
            }
        }
    }
}

impl<A: Actor> Inlet<A> {
    pub(crate) fn new(capacity: usize, looks_around: bool) -> Arc<Self> {
        Arc::new(Self {
            shared: Mutex::new(Shared {
                queues: Queues::default(),
                spare: Vec::new(),
                reserved: 0,
                near_line: VecDeque::new(),
                far_line: VecDeque::new(),
                next_ticket: 0,
                pump: None,
                waiting: None,
                lanes: BTreeMap::new(),
                next_lane: NEAR + 1,
                unwanted: Vec::new(),
                closed: None,
            }),
            capacity: capacity.max(1),
            looks_around,
            in_hand: InHand::default(),
            news: AtomicU8::new(0),
            line_waits: AtomicBool::new(false),
            drains: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            unwanted: AtomicBool::new(false),
        })
    }

    /// Lets a message of this process in, or puts it in line. `pack` makes it, in a spare box if one fits; it is not called
    /// if there's no room and the message is to be refused, or if the actor has ended.
    pub(crate) fn send(
        self: &Arc<Self>,
        when_full: WhenFull,
        pack: impl FnOnce(&mut Vec<Box<dyn Delivery<A>>>) -> Option<Box<dyn Delivery<A>>>,
    ) -> Result<Queued, Fault> {
        let mut shared = self.shared.lock();
        if let Some(fault) = &shared.closed {
            return Err(fault.clone());
        }
        let room =
            shared.near_line.is_empty() && shared.free(self.capacity, self.in_hand.load()).0 > 0;
        if !room && when_full == WhenFull::Refuse {
            return Err(Fault::Full);
        }
        // Under the lock: it only moves the message.
        let Some(delivery) = pack(&mut shared.spare) else { return Err(Fault::UnknownMessage) };
        let item = Item { delivery, lane: NEAR, count: 1 };
        if room {
            shared.queues.push(item);
            self.news.store(SOME_NEWS | NEAR_NEWS, Ordering::Release);
            let pump = shared.pump.take();
            drop(shared);
            if let Some(pump) = pump {
                pump.wake();
            }
            return Ok(Queued::Accepted);
        }
        let (admitted, told) = oneshot::channel();
        let ticket = shared.next_ticket;
        shared.next_ticket += 1;
        shared.near_line.push_back(NearWaiter { ticket, item, admitted });
        self.look_again(shared);
        Ok(Queued::Waiting(Box::pin(Turn { inlet: self.clone(), ticket, told, over: false })))
    }

    /// Puts a message in beyond the capacity. Only for what is bounded elsewhere: the notices of watches.
    pub(crate) fn send_beyond(&self, mut delivery: Box<dyn Delivery<A>>) {
        let mut shared = self.shared.lock();
        if let Some(fault) = shared.closed.clone() {
            drop(shared);
            delivery.refuse(fault);
            return;
        }
        shared.queues.push(Item { delivery, lane: NEAR, count: 1 });
        self.news.store(SOME_NEWS | NEAR_NEWS, Ordering::Release);
        let pump = shared.pump.take();
        drop(shared);
        if let Some(pump) = pump {
            pump.wake();
        }
    }

    /// After somebody has joined the line: the pump may have given places back just before it could see that anybody
    /// waits for them.
    fn look_again(&self, mut shared: parking_lot::MutexGuard<'_, Shared<A>>) {
        self.line_waits.store(true, Ordering::SeqCst);
        self.news.store(SOME_NEWS | NEAR_NEWS, Ordering::Release);
        let mut wakes = Wakes::default();
        shared.admit(self.capacity, self.in_hand.load(), &mut wakes);
        if !shared.queues.is_empty() {
            wakes.pump = shared.pump.take();
        }
        drop(shared);
        wakes.wake();
    }

    /// While the pump holds nothing but messages of others, gives it what this process has sent meanwhile.
    #[inline]
    pub(crate) fn top_up(&self, hand: &mut Hand<A>) {
        if hand.queues.are_far_only() && self.news.load(Ordering::Acquire) & NEAR_NEWS != 0 {
            let mut shared = self.shared.lock();
            self.news.store(0, Ordering::Relaxed);
            hand.queues.append(&mut shared.queues);
            self.in_hand.store(hand);
        }
    }

    /// The pump is out of messages: gives it the queue, or remembers to wake it.
    pub(crate) fn poll_refill(&self, hand: &mut Hand<A>, cx: &mut Context<'_>) -> Poll<()> {
        if self.looks_around
            && hand.spell >= SPELL_MESSAGES
            && self.news.load(Ordering::Acquire) == 0
        {
            let looks = if hand.sender_wakes { LOOKS_FOR_SENDER } else { LOOKS };
            if hand.looks == 0 {
                self.settle(hand);
            }
            if hand.looks < looks {
                hand.looks += 1;
                // To whoever else wants this processor; the sender, perhaps.
                std::thread::yield_now();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        (hand.looks, hand.offered) = (0, None);
        let mut wakes = Wakes::default();
        let mut shared = self.shared.lock();
        self.news.store(0, Ordering::Relaxed);
        shared.admit(self.capacity, (0, 0), &mut wakes);
        hand.sender_wakes = !wakes.admitted.is_empty();
        self.line_waits.store(!shared.nobody_waits(), Ordering::SeqCst);
        report(&mut shared, hand, &mut wakes);
        if shared.spare.len() < hand.spare.len() {
            std::mem::swap(&mut shared.spare, &mut hand.spare);
        }
        let refilled = if shared.queues.is_empty() {
            hand.spell = 0;
            shared.queues.shrink();
            hand.queues.shrink();
            if shared.spare.len() > KEEP_ITEMS {
                shared.spare.truncate(KEEP_ITEMS);
                shared.spare.shrink_to_fit();
            }
            if self.stop.load(Ordering::Acquire) {
                // Requested since the pump last looked, and nobody there to be woken.
                wakes.pump = Some(cx.waker().clone());
            } else {
                shared.pump = Some(cx.waker().clone());
            }
            Poll::Pending
        } else {
            std::mem::swap(&mut shared.queues, &mut hand.queues);
            Poll::Ready(())
        };
        self.in_hand.store(hand);
        drop(shared);
        if refilled.is_pending() && hand.spare.len() > KEEP_ITEMS {
            hand.spare = Vec::new();
        }
        wakes.wake();
        refilled
    }

    /// The pump's share of time is up while there are messages still: gives the places of the handled ones back.
    pub(crate) fn settle(&self, hand: &mut Hand<A>) {
        self.in_hand.store(hand);
        let line_waits = self.line_waits.load(Ordering::SeqCst);
        if !line_waits && hand.taken.is_empty() {
            return;
        }
        let mut wakes = Wakes::default();
        let mut shared = self.shared.lock();
        report(&mut shared, hand, &mut wakes);
        if line_waits && self.is_time_to_admit(&shared, hand) {
            shared.admit(self.capacity, hand.held(), &mut wakes);
            hand.sender_wakes |= !wakes.admitted.is_empty();
            self.line_waits.store(!shared.nobody_waits(), Ordering::SeqCst);
        }
        drop(shared);
        wakes.wake();
    }

    fn is_time_to_admit(&self, shared: &Shared<A>, hand: &mut Hand<A>) -> bool {
        let now = Instant::now();
        let offered = *hand.offered.get_or_insert(now);
        let many = shared.free(self.capacity, hand.held()).0 >= self.capacity / 2;
        if many || now.duration_since(offered) >= HOLD_LINE {
            hand.offered = Some(now);
            return true;
        }
        false
    }

    /// The actor waits for something (`ctx.wait`) and takes no messages meanwhile: gives the places of the handled ones
    /// back, and remembers how to wake the actor for a stop.
    pub(crate) fn settle_waiting(&self, hand: &mut Hand<A>, cx: &mut Context<'_>) {
        self.in_hand.store(hand);
        let mut wakes = Wakes::default();
        let mut shared = self.shared.lock();
        report(&mut shared, hand, &mut wakes);
        shared.admit(self.capacity, hand.held(), &mut wakes);
        self.line_waits.store(!shared.nobody_waits(), Ordering::SeqCst);
        if self.stop.load(Ordering::Acquire) {
            // Requested since it was last looked at, when nobody was there to be woken.
            cx.waker().wake_by_ref();
        } else {
            shared.waiting = Some(cx.waker().clone());
        }
        drop(shared);
        wakes.wake();
    }

    /// Tells the actor to stop when it is next polled.
    pub(crate) fn request_stop(&self) {
        self.stop.store(true, Ordering::Release);
        let mut shared = self.shared.lock();
        let wakers = [shared.pump.take(), shared.waiting.take()];
        drop(shared);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Takes out the notices of watches that an instance before this one began.
    pub(crate) fn forget_notices(&self, hand: &mut Hand<A>, incarnation: u64) {
        let is_wanted = |item: &Item<A>| {
            item.count == 0 || item.delivery.is_notice_to().is_none_or(|told| told >= incarnation)
        };
        let mut shared = self.shared.lock();
        shared.queues.retain(is_wanted);
        hand.queues.retain(is_wanted);
        self.in_hand.store(hand);
    }

    /// Whether the actor was told to stop since this was last asked. (It may refuse, so each request counts once.)
    pub(crate) fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed) && self.stop.swap(false, Ordering::AcqRel)
    }

    /// The actor takes no further messages, though it hasn't ended: refuses what is in the queue and in line, now and from now on, as
    /// [`Fault::Stopped`]. The pump is woken, and refuses what it has in hand. Returns how many messages were in
    /// the queue.
    pub(crate) fn drain(&self) -> usize {
        self.drains.store(true, Ordering::Release);
        self.refuse_all(&mut Hand::default(), &Fault::Stopped, false)
    }

    /// Refuses what the pump has in hand, once nothing is handed out any more. Returns how many messages that were.
    pub(crate) fn drain_hand(&self, hand: &mut Hand<A>) -> usize {
        let drains = self.drains.load(Ordering::Relaxed) && !hand.queues.is_empty();
        if drains { self.refuse_all(hand, &Fault::Stopped, false) } else { 0 }
    }

    /// The actor has ended: refuses everything in the queue and in line, now and from now on. Returns how many messages
    /// were in the queue.
    pub(crate) fn close(&self, hand: &mut Hand<A>, why: &Fault) -> usize {
        self.refuse_all(hand, why, true)
    }

    fn refuse_all(&self, hand: &mut Hand<A>, why: &Fault, for_good: bool) -> usize {
        let mut wakes = Wakes::default();
        let (mut queues, line) = {
            let mut shared = self.shared.lock();
            if shared.closed.is_none() {
                shared.closed = Some(why.clone());
            }
            if for_good {
                (shared.pump, shared.waiting) = (None, None);
            } else {
                // Both stay, for a stop: actix doesn't poll the pump while the actor waits.
                wakes.pump = shared.pump.clone();
                wakes.lanes.extend(shared.waiting.clone());
            }
            report(&mut shared, hand, &mut wakes);
            let queues = std::mem::take(&mut shared.queues);
            for item in hand.queues.iter().chain(queues.iter()) {
                if let Some(lane) = shared.lanes.get_mut(&item.lane) {
                    lane.taken += item.count as u64;
                    lane.refused_tells += item.delivery.far_tells() as u64;
                }
            }
            for lane in shared.lanes.values_mut() {
                wakes.lanes.extend(lane.reserve_waker.take());
                wakes.lanes.extend(lane.taken_waker.take());
            }
            shared.far_line.clear();
            (queues, std::mem::take(&mut shared.near_line))
        };
        wakes.wake();
        let left = hand.queues.len() + queues.len();
        for item in hand.queues.drain().chain(queues.drain()) {
            refuse(item.delivery, why);
        }
        for waiter in line {
            refuse(waiter.item.delivery, why);
            let _ = waiter.admitted.send(Err(why.clone()));
        }
        left
    }
}

/// Refuses the messages of a delivery to an actor that has ended. Dropping one runs the application's code, whose panic must
/// not keep the rest from being refused.
fn refuse<A: Actor>(mut delivery: Box<dyn Delivery<A>>, why: &Fault) {
    // Each message that panics is gone by then.
    for _ in 0..=delivery.count() {
        if catch_unwind(AssertUnwindSafe(|| delivery.refuse(why.clone()))).is_ok() {
            return;
        }
        tracing::error!(
            actor = std::any::type_name::<A>(),
            "a message panicked while it was dropped"
        );
    }
}

/// Tells lanes how many of their messages were taken.
fn report<A: Actor>(shared: &mut Shared<A>, hand: &mut Hand<A>, wakes: &mut Wakes) {
    for (lane, count) in hand.taken.drain(..) {
        if let Some(lane) = shared.lanes.get_mut(&lane) {
            lane.taken += count;
            wakes.lanes.extend(lane.taken_waker.take());
        }
    }
}

/// A place in line. Dropping it before its turn withdraws the message.
struct Turn<A: Actor> {
    inlet: Arc<Inlet<A>>,
    ticket: u64,
    told: oneshot::Receiver<Result<(), Fault>>,
    over: bool,
}

impl<A: Actor> Future for Turn<A> {
    type Output = Result<(), Fault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = std::task::ready!(Pin::new(&mut self.told).poll(cx));
        self.over = true;
        Poll::Ready(outcome.unwrap_or(Err(Fault::Stopped)))
    }
}

impl<A: Actor> Drop for Turn<A> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let mut shared = self.inlet.shared.lock();
        let place = shared.near_line.binary_search_by_key(&self.ticket, |waiter| waiter.ticket);
        let withdrawn = place.ok().and_then(|at| shared.near_line.remove(at));
        drop(shared);
        // Outside the lock: dropping a message may run the application's code.
        drop(withdrawn);
    }
}
