//! The inlet alone: who gets a place when, and that nothing is lost or doubled.

use super::*;
use crate::mailbox::delivery::Surroundings;
use crate::mailbox::reservation::InletLane;
use std::collections::HashSet;
use std::sync::atomic::AtomicU32;

struct Nobody;
impl Actor for Nobody {
    type Context = actix::Context<Self>;
}

/// A message that counts when it is refused.
struct Counted(Arc<AtomicU32>);
impl Delivery<Nobody> for Counted {
    fn deliver(&mut self, _: &mut Nobody, _: &mut actix::Context<Nobody>, _: &Surroundings) {}
    fn refuse(&mut self, why: Fault) {
        assert_eq!(why, Fault::Stopped);
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Scene {
    inlet: Arc<Inlet<Nobody>>,
    hand: Hand<Nobody>,
    refused: Arc<AtomicU32>,
}

impl Scene {
    fn new(capacity: usize) -> Self {
        Self { inlet: Inlet::new(capacity, false), hand: Hand::default(), refused: Arc::default() }
    }

    fn message(&self) -> Box<dyn Delivery<Nobody>> {
        Box::new(Counted(self.refused.clone()))
    }

    fn tell(&self) -> Queued {
        self.inlet.send(WhenFull::Queue, |_| Some(self.message())).unwrap()
    }

    fn take_one(&mut self) -> bool {
        let taken = self.hand.next().is_some();
        self.hand.done();
        taken
    }

    /// How many messages the handler could take now; takes so many at the most.
    fn take(&mut self, most: usize) -> usize {
        let cx = &mut Context::from_waker(Waker::noop());
        for taken in 0..most {
            if self.take_one() {
                continue;
            }
            if self.inlet.poll_refill(&mut self.hand, cx).is_pending() {
                return taken;
            }
            assert!(self.take_one());
        }
        self.inlet.settle_waiting(&mut self.hand, cx);
        most
    }

    fn commit(&self, lane: &mut InletLane<Nobody>, count: u32) {
        lane.commit(&mut (0..count).map(|_| self.message()).collect());
    }
}

fn line_len(shared: &Shared<Nobody>) -> usize {
    shared.near_line.len() + shared.far_line.len()
}

fn reserve(lane: &mut InletLane<Nobody>, want: usize) -> Poll<usize> {
    lane.poll_reserve(&mut Context::from_waker(Waker::noop()), want)
}

fn taken(lane: &mut InletLane<Nobody>) -> u64 {
    lane.poll_taken(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn lanes_and_senders_stand_in_one_line() {
    let mut scene = Scene::new(4);
    let (mut one, mut two) = (scene.inlet.open_lane(), scene.inlet.open_lane());
    assert_eq!(reserve(&mut one, 3), Poll::Ready(3));
    scene.commit(&mut one, 3);
    assert!(matches!(scene.tell(), Queued::Accepted));
    // Full: from here on everybody waits, in this order.
    let waiting = [scene.tell(), scene.tell()];
    assert!(reserve(&mut two, 8).is_pending());
    assert!(reserve(&mut one, 1).is_pending());
    assert_eq!(scene.take(2), 2);
    assert!(reserve(&mut two, 8).is_pending(), "the two senders were first");
    assert_eq!(scene.take(3), 3);
    assert_eq!(reserve(&mut two, 8), Poll::Ready(2), "as many as there were, no more");
    assert_eq!(reserve(&mut one, 1), Poll::Ready(1), "what became free later goes to the next");
    let third = scene.tell();
    assert!(matches!(third, Queued::Waiting(_)));
    scene.commit(&mut two, 1);
    assert_eq!(
        line_len(&scene.inlet.shared.lock()),
        0,
        "what a lane doesn't use goes to the next, too"
    );
    drop(waiting);
}

#[test]
fn a_lane_learns_how_many_of_its_messages_were_taken() {
    let mut scene = Scene::new(8);
    let (mut one, mut two) = (scene.inlet.open_lane(), scene.inlet.open_lane());
    assert_eq!(reserve(&mut one, 2), Poll::Ready(2));
    scene.commit(&mut one, 2);
    assert_eq!(reserve(&mut two, 3), Poll::Ready(3));
    scene.commit(&mut two, 3);
    assert_eq!((taken(&mut one), taken(&mut two)), (0, 0));
    scene.take(3);
    assert_eq!((taken(&mut one), taken(&mut two)), (2, 1));
    scene.take(2);
    assert_eq!((taken(&mut one), taken(&mut two)), (2, 3));
}

#[test]
fn a_lane_that_goes_gives_its_places_back() {
    let scene = Scene::new(4);
    let mut lane = scene.inlet.open_lane();
    assert_eq!(reserve(&mut lane, 100), Poll::Ready(4));
    let waiting = scene.tell();
    assert!(matches!(waiting, Queued::Waiting(_)));
    drop(lane);
    assert_eq!(scene.inlet.shared.lock().queues.len(), 1);
    assert_eq!(scene.inlet.shared.lock().reserved, 0);
}

#[test]
fn a_lane_that_cannot_use_what_it_asked_for_gives_it_up_granted_or_not() {
    let mut scene = Scene::new(4);
    let (mut one, mut two) = (scene.inlet.open_lane(), scene.inlet.open_lane());
    let full: Vec<_> = (0..4).map(|_| scene.tell()).collect();
    assert!(reserve(&mut one, 4).is_pending() && reserve(&mut two, 4).is_pending());
    let behind = scene.tell();
    assert_eq!(scene.take(2), 2);
    assert_eq!(scene.inlet.shared.lock().reserved, 2, "granted to the first lane");
    two.withdraw();
    one.withdraw();
    let shared = scene.inlet.shared.lock();
    assert_eq!((shared.reserved, line_len(&shared)), (0, 0), "the one who waited behind is in");
    drop(shared);
    assert_eq!(reserve(&mut one, 4), Poll::Ready(1), "and one place is free");
    drop((full, behind));
}

#[test]
fn the_end_refuses_everything_once_and_counts_it_as_taken() {
    let mut scene = Scene::new(4);
    let mut lane = scene.inlet.open_lane();
    assert_eq!(reserve(&mut lane, 3), Poll::Ready(3));
    scene.commit(&mut lane, 3);
    scene.take(1);
    let _waiting = [scene.tell(), scene.tell(), scene.tell()];
    let left = scene.inlet.close(&mut scene.hand, &Fault::Stopped);
    // Two of the lane and two that had found places; the third tell stood in line.
    assert_eq!((left, scene.refused.load(Ordering::Relaxed)), (4, 5));
    assert_eq!(taken(&mut lane), 3);
    assert_eq!(reserve(&mut lane, 1), Poll::Ready(0));
    scene.commit(&mut lane, 2);
    assert_eq!((taken(&mut lane), scene.refused.load(Ordering::Relaxed)), (5, 7));
    assert!(scene.inlet.send(WhenFull::Queue, |_| unreachable!()).is_err());
}

#[test]
fn no_more_than_the_capacity_is_ever_held_whatever_happens() {
    use rand::{RngExt, SeedableRng, rngs::StdRng};
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let capacity = random.random_range(1..20);
        let mut scene = Scene::new(capacity);
        let mut lanes: Vec<_> = (0..3).map(|_| scene.inlet.open_lane()).collect();
        let (mut waiting, mut sent, mut handled) = (Vec::new(), 0, 0);
        for _ in 0..300 {
            match random.random_range(0..6) {
                0 | 1 => {
                    sent += 1;
                    waiting.push(scene.tell());
                }
                2 => {
                    let lane = random.random_range(0..lanes.len());
                    if let Poll::Ready(places) = reserve(&mut lanes[lane], 4) {
                        let count = random.random_range(0..=places);
                        sent += u32::try_from(count).unwrap();
                        scene.commit(&mut lanes[lane], u32::try_from(count).unwrap());
                    }
                }
                3 => handled += scene.take(random.random_range(0..6)),
                4 => {
                    let lane = random.random_range(0..lanes.len());
                    lanes[lane].withdraw();
                }
                _ => {
                    let lane = random.random_range(0..lanes.len());
                    lanes[lane] = scene.inlet.open_lane();
                }
            }
            let shared = scene.inlet.shared.lock();
            assert!(shared.queues.len() + shared.reserved + scene.hand.queues.len() <= capacity);
            let near = shared.near_line.iter().map(|waiter| waiter.ticket);
            let tickets: HashSet<_> =
                near.chain(shared.far_line.iter().map(|waiter| waiter.ticket)).collect();
            assert_eq!(tickets.len(), line_len(&shared));
        }
        drop(lanes);
        while let more @ 1.. = scene.take(100) {
            handled += more;
        }
        assert_eq!(handled, sent as usize, "seed {seed}: everything arrives, once");
    }
}

/// Which messages are taken, in order: `n` of this process, `f` of others.
fn taken_kinds(scene: &mut Scene, most: usize) -> String {
    let mut kinds = String::new();
    while kinds.len() < most {
        scene.inlet.top_up(&mut scene.hand);
        let far = scene.hand.queues.far_len();
        if !scene.take_one() {
            let cx = &mut Context::from_waker(Waker::noop());
            if scene.inlet.poll_refill(&mut scene.hand, cx).is_pending() {
                break;
            }
            continue;
        }
        kinds.push(if scene.hand.queues.far_len() < far { 'f' } else { 'n' });
    }
    kinds
}

#[test]
fn what_lanes_have_sent_waits_its_turn_behind_this_process_and_gets_it() {
    let mut scene = Scene::new(1000);
    let mut lane = scene.inlet.open_lane();
    assert_eq!(reserve(&mut lane, 1000), Poll::Ready(875), "an eighth is left to this process");
    scene.commit(&mut lane, 875);
    assert_eq!(taken_kinds(&mut scene, 2), "ff");
    // It is in the actor's hand already; a message of this process goes before all the same.
    assert!(matches!(scene.tell(), Queued::Accepted));
    assert_eq!(taken_kinds(&mut scene, 3), "nff");
    (0..20).for_each(|_| drop(scene.tell()));
    assert_eq!(taken_kinds(&mut scene, 22), "nnnnnnnnfnnnnnnnnfnnnn");
    assert_eq!(taken_kinds(&mut scene, 1000).len(), 875 - 6);
}

#[test]
fn a_lane_in_line_takes_no_more_than_its_turn_of_the_places_that_become_free() {
    let mut scene = Scene::new(80);
    let mut lane = scene.inlet.open_lane();
    (0..80).for_each(|_| drop(scene.tell()));
    assert!(reserve(&mut lane, 70).is_pending());
    let waiting: Vec<_> = (0..160).map(|_| scene.tell()).collect();
    assert_eq!(scene.take(80), 80);
    assert_eq!(reserve(&mut lane, 70), Poll::Ready(20));
    assert_eq!(scene.inlet.shared.lock().near_line.len(), 100);
    drop(waiting);
}
