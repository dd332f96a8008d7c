//! Scenarios under a computed clock: nothing sleeps.

use std::{collections::BTreeMap, net::SocketAddr};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::{socket::handles::ROADS_MAX, wire::relay_frame::FlowToken};

mod both_ends;
mod unproven;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn road(n: u8) -> Road {
    Road { wire: 0, remote: SocketAddr::from(([10, 0, 0, n], 1000)), local: None, flow: None }
}

/// A peer at the other end of some roads, each with its round-trip time; it answers every probe along them.
struct World {
    roads: Roads,
    start: Instant,
    now: Instant,
    alive: BTreeMap<u8, Duration>,
    /// Answers on their way: when, along which road, to which nonce.
    flying: Vec<(Instant, Road, u64)>,
    probes: Vec<(Duration, u8)>,
    opened: Vec<(Duration, u8)>,
    answers: Vec<u8>,
    switches: Vec<(Duration, u8)>,
    proven: Vec<u8>,
    sized: Vec<(Duration, u8)>,
    /// Roads that take no long probes.
    narrow: Vec<u8>,
    /// What was last said of the road in use.
    whole: bool,
    /// Along which road things were to go as well, and until when.
    mirrors: Vec<(Duration, Option<u8>)>,
    /// The share of datagrams that is lost each way, and what chance has in store.
    loss: f64,
    dice: StdRng,
}

impl World {
    /// Road 1 is in use, with a round trip of 20 ms.
    fn new() -> Self {
        let start = Instant::now();
        Self {
            roads: Roads::new(road(1), Nonces::new([1; 16]), start),
            start,
            now: start,
            alive: BTreeMap::from([(1, 20 * MS)]),
            flying: Vec::new(),
            probes: Vec::new(),
            opened: Vec::new(),
            answers: Vec::new(),
            switches: Vec::new(),
            proven: Vec::new(),
            sized: Vec::new(),
            narrow: Vec::new(),
            whole: true,
            mirrors: Vec::new(),
            loss: 0.0,
            dice: StdRng::seed_from_u64(1),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.roads.poll() {
            let at = self.now - self.start;
            let number = |road: Road| match road.remote.ip() {
                std::net::IpAddr::V4(ip) => ip.octets()[3],
                std::net::IpAddr::V6(_) => unreachable!(),
            };
            match output {
                Output::Probe(road, nonce) => {
                    let n = number(road);
                    self.probes.push((at, n));
                    let lost = (0..2).any(|_| self.dice.random::<f64>() < self.loss);
                    if let Some(rtt) = self.alive.get(&n).filter(|_| !lost) {
                        self.flying.push((self.now + *rtt, road, nonce));
                    }
                }
                Output::Open(road, _) => self.opened.push((at, number(road))),
                Output::Answer(road, _) => self.answers.push(number(road)),
                Output::Size(road, nonce) => {
                    let n = number(road);
                    assert!(self.proven.contains(&n), "nobody asked for so much");
                    self.sized.push((at, n));
                    if let Some(rtt) = self.alive.get(&n).filter(|_| !self.narrow.contains(&n)) {
                        self.flying.push((self.now + *rtt, road, nonce));
                    }
                }
                Output::Whole(whole) => self.whole = whole,
                Output::Mirror { road, .. } => self.mirrors.push((at, Some(number(road)))),
                Output::Sure => self.mirrors.push((at, None)),
                Output::Proven(road) => {
                    let number = number(road);
                    assert!(!self.proven.contains(&number), "said once");
                    self.proven.push(number);
                }
                Output::Switch(road) => {
                    let number = number(road);
                    assert!(number == 1 || self.proven.contains(&number), "before it was proven");
                    self.switches.push((at, number));
                }
            }
        }
    }

    /// Lets time pass, asking the road in use each 500 ms if somebody expects answers.
    fn run(&mut self, length: Duration, expecting: bool) {
        let (end, mut next_probe) = (self.now + length, self.now);
        loop {
            self.drain();
            let arrival = self.flying.iter().map(|(at, ..)| *at).min();
            let probe = expecting.then_some(next_probe);
            let next = [arrival, probe, self.roads.timeout()].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let index = self.flying.iter().position(|(at, ..)| *at == next).unwrap();
                let (_, road, nonce) = self.flying.remove(index);
                self.roads.answered(road, nonce, self.now);
            } else if probe == Some(next) {
                self.roads.probe(self.now);
                next_probe = self.now + 500 * MS;
            } else {
                self.roads.advance(self.now);
            }
        }
        self.now = end;
        self.roads.advance(end);
        self.drain();
    }

    fn probed(&mut self, n: u8, nonce: u64) {
        self.roads.probed(road(n), nonce, FRAME_BYTES, self.now);
        self.drain();
    }

    fn probes_to(&self, n: u8) -> usize {
        self.probes.iter().filter(|(_, to)| *to == n).count()
    }
}

#[test]
fn a_peer_that_moved_is_followed_once_its_new_address_answered_and_the_old_one_is_silent() {
    let mut world = World::new();
    world.run(3 * SECOND, true);
    world.alive = BTreeMap::from([(2, 30 * MS)]);
    world.probed(2, 77);
    assert_eq!(world.answers, [2]);
    world.run(2 * SECOND, true);
    let [(at, to)] = world.switches[..] else { panic!("{:?}", world.switches) };
    assert_eq!(to, 2);
    assert!(at <= 4 * SECOND, "after {at:?}");
    assert_eq!(world.roads.active(), road(2));
}

#[test]
fn a_probe_from_elsewhere_moves_nothing_while_the_road_in_use_works() {
    let mut world = World::new();
    world.alive.insert(2, 19 * MS);
    for n in 0..20 {
        world.probed(2, n);
        world.run(500 * MS, true);
    }
    assert!(world.roads.known[1].proven);
    assert_eq!(world.switches, []);
}

#[test]
fn an_answer_counts_once_and_only_along_the_road_that_was_asked() {
    let mut world = World::new();
    world.roads.add(road(2), world.now);
    let nonce = world.roads.probe(world.now);
    let later = world.now + 10 * MS;
    assert_eq!(world.roads.answered(road(2), nonce, later), None);
    assert_eq!(world.roads.answered(road(9), nonce, later), None);
    assert!(!world.roads.known[1].proven);
    let answered = world.roads.answered(road(1), nonce, later);
    assert_eq!(answered.map(|answered| answered.rtt), Some(10 * MS));
    assert_eq!(world.roads.answered(road(1), nonce, later), None);
}

#[test]
fn a_standby_takes_over_within_a_second_after_the_road_in_use_died() {
    let mut world = World::new();
    world.alive.insert(2, 60 * MS);
    world.roads.add(road(2), world.now);
    world.run(30 * SECOND, true);
    assert_eq!(world.switches, []);
    world.run(100 * MS, false);
    let died = world.now - world.start;
    world.alive.remove(&1);
    world.run(5 * SECOND, true);
    let [(at, 2)] = world.switches[..] else { panic!("{:?}", world.switches) };
    // The question that begins it comes at once.
    assert!(at - died <= 500 * MS, "after {:?}", at - died);
    // And back, when that dies and the first works again.
    world.alive = BTreeMap::from([(1, 20 * MS)]);
    world.run(5 * SECOND, true);
    assert_eq!(world.switches.last().map(|(_, to)| *to), Some(1));
}

#[test]
fn a_road_that_works_is_kept_at_ten_percent_of_loss_each_way() {
    for seed in 0..40 {
        for (rtt, other) in [(1, 1), (20, 10), (100, 5), (300, 300), (600, 20)] {
            let mut world = World::new();
            (world.loss, world.dice) = (0.1, StdRng::seed_from_u64(seed));
            world.alive = BTreeMap::from([(1, rtt * MS)]);
            world.run(SECOND, true);
            // Known only now, lest the faster one be taken for that.
            world.alive.insert(2, other * MS);
            let relay = Road { flow: Some(FlowToken(7)), ..road(2) };
            world.roads.add(relay, world.now);
            world.run(600 * SECOND, true);
            let switches = &world.switches;
            assert_eq!(switches.len(), 0, "seed {seed}, RTT {rtt} ms: {switches:?}");
        }
    }
}

#[test]
fn one_lost_probe_moves_nothing_though_another_road_answers_at_once() {
    let mut world = World::new();
    world.alive = BTreeMap::from([(1, 20 * MS), (2, 19 * MS)]);
    world.roads.add(road(2), world.now);
    world.run(2 * SECOND, true);
    for _ in 0..20 {
        // Each time six in a row are lost, over the time that a doubt takes to come so far.
        world.run(100 * MS, false);
        let one = world.alive.remove(&1).unwrap();
        world.roads.probe(world.now);
        let before = world.probes_to(1);
        while world.probes_to(1) < before + 6 {
            world.run(MS, false);
            assert_eq!(world.switches, []);
        }
        world.alive.insert(1, one);
        world.run(20 * SECOND, false);
        assert_eq!(world.switches, []);
    }
}

#[test]
fn what_quic_got_acknowledged_keeps_a_road_though_every_probe_is_lost() {
    let mut world = World::new();
    world.alive.insert(2, 19 * MS);
    world.roads.add(road(2), world.now);
    world.run(SECOND, true);
    world.alive.remove(&1);
    for _ in 0..1000 {
        world.run(20 * MS, true);
        let (sent, rtt) = (Some(world.now - 20 * MS), Rtt::of(20 * MS, MS, 50));
        world.roads.acked(Proof { sent, rtt, sampled: Some(world.now) }, world.now);
    }
    assert_eq!(world.switches, []);
    assert!(world.mirrors.is_empty());
    world.run(SECOND, true);
    assert_eq!(world.switches.len(), 1, "now nothing is acknowledged either");
}

#[test]
fn in_doubt_the_likeliest_other_road_is_used_as_well_until_one_takes_over() {
    let mut world = World::new();
    for n in [2, 3] {
        world.alive.insert(n, u32::from(n) * 10 * MS);
        world.roads.add(road(n), world.now);
    }
    world.run(SECOND, true);
    assert_eq!(world.mirrors, []);
    // A false alarm is over before that.
    world.roads.suspect(world.now);
    world.run(SECOND, false);
    assert_eq!((world.mirrors.len(), world.switches.len()), (0, 0));
    // The first choice is dead too.
    world.alive = BTreeMap::from([(3, 30 * MS)]);
    let begun = world.now - world.start;
    world.roads.suspect(world.now);
    world.run(SECOND, false);
    let [(at, 3)] = world.switches[..] else { panic!("{:?}", world.switches) };
    assert!(at - begun <= 400 * MS, "{:?}", at - begun);
    let [(mirrored, Some(3)), (over, None)] = world.mirrors[..] else {
        panic!("{:?}", world.mirrors)
    };
    assert!(mirrored < at && over == at, "{:?}", world.mirrors);
}

#[test]
fn where_a_peer_seems_to_have_moved_to_is_mirrored_to_as_soon_as_an_answer_is_overdue() {
    let mut world = World::new();
    world.run(SECOND, true);
    world.alive = BTreeMap::from([(2, 20 * MS)]);
    world.probed(2, 77);
    let moved = world.now - world.start;
    world.run(SECOND, true);
    let [(at, 2)] = world.switches[..] else { panic!("{:?}", world.switches) };
    assert!(at - moved <= 500 * MS, "{:?}", at - moved);
    let Some((mirrored, Some(2))) = world.mirrors.first() else { panic!("{:?}", world.mirrors) };
    assert!(*mirrored - moved <= 100 * MS, "{:?}", *mirrored - moved);
}

#[test]
fn when_the_peer_uses_another_road_the_one_in_use_is_asked_and_no_more() {
    let mut world = World::new();
    for n in [2, 3] {
        world.alive.insert(n, u32::from(n) * 10 * MS);
        world.roads.add(road(n), world.now);
    }
    world.run(SECOND, true);
    let before = world.probes_to(1);
    world.probed(3, 77);
    assert_eq!(world.probes_to(1), before, "the road in use has just answered");
    world.run(SECOND, false);
    world.probed(3, 78);
    world.run(SECOND, false);
    assert_eq!(world.probes_to(1), before + 1);
    assert_eq!((world.mirrors.len(), world.switches.len()), (0, 0));
}

#[test]
fn a_direct_road_that_was_left_is_taken_again_after_three_answers_and_ever_later() {
    let mut world = World::new();
    let relay = Road { flow: Some(FlowToken(7)), ..road(2) };
    world.alive.insert(2, 30 * MS);
    world.roads.add(relay, world.now);
    world.run(SECOND, true);
    let mut away = Vec::new();
    for _ in 0..5 {
        world.alive.remove(&1);
        world.run(3 * SECOND, true);
        assert_eq!(world.roads.active(), relay);
        let (left, _) = *world.switches.last().unwrap();
        world.alive.insert(1, 20 * MS);
        world.run(100 * SECOND, true);
        assert_eq!(world.roads.active(), road(1));
        away.push(world.switches.last().unwrap().0 - left);
        // It breaks again at once.
        let known = &mut world.roads.known[0];
        known.take(world.now);
    }
    assert!(away[0] >= 2 * known::RETURN_ASK_EVERY, "{away:?}");
    assert!(away.is_sorted(), "{away:?}");
}

#[test]
fn a_much_faster_road_takes_over_once_and_a_little_faster_one_never() {
    for (rtt, switches) in [(60, 1), (76, 0), (97, 0)] {
        let mut world = World::new();
        world.alive = BTreeMap::from([(1, 100 * MS), (2, rtt * MS)]);
        world.roads.add(road(2), world.now);
        world.run(300 * SECOND, true);
        assert_eq!(world.switches.len(), switches, "{rtt} ms");
    }
}

#[test]
fn a_road_in_use_that_is_silent_alone_is_kept() {
    let mut world = World::new();
    world.run(3 * SECOND, true);
    world.alive.clear();
    world.run(60 * SECOND, true);
    assert_eq!(world.roads.active(), road(1));
    assert!(world.roads.known[0].open.len() <= OPEN_MAX);
    world.alive.insert(1, 20 * MS);
    world.run(SECOND, true);
    world.run(SECOND, false);
    assert_eq!(world.roads.known[0].asked, None);
}

#[test]
fn whatever_happens_bounds_hold_and_the_road_in_use_was_proven() {
    for seed in 0..200 {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut world = World::new();
        let (mut given, mut nonce) = (BTreeMap::<u8, usize>::new(), 0);
        let mut answered = std::collections::BTreeSet::from([1]);
        for _ in 0..300 {
            let n = dice.random_range(1..30);
            match dice.random_range(0..8) {
                0 => drop(world.alive.insert(n, dice.random_range(1..400) * MS)),
                1 => drop(world.alive.remove(&n)),
                2 if n < 10 => world.roads.add(road(n), world.now),
                3 | 4 => {
                    nonce += 1;
                    *given.entry(n).or_default() += FRAME_BYTES;
                    let replay = dice.random_range(0..4) == 0;
                    world.probed(n, if replay { nonce / 2 } else { nonce });
                }
                5 => drop(world.roads.answered(road(n), dice.random(), world.now)),
                _ => {
                    let length = dice.random_range(0..2000) * MS;
                    world.run(length, dice.random_range(0..2) == 0);
                }
            }
            world.drain();
            answered.extend(world.alive.keys());
            assert!(world.roads.known.len() <= ROADS_MAX, "seed {seed}");
            assert!(world.roads.known[world.roads.active].proven, "seed {seed}");
            assert!(world.roads.outbox.is_empty());
        }
        // Addresses that never answered and that nobody named drew at most three times what came from them.
        for (n, given) in given.into_iter().filter(|(n, _)| *n >= 10 && !answered.contains(n)) {
            let answers = world.answers.iter().filter(|to| **to == n).count();
            let drawn = (answers + world.probes_to(n)) * FRAME_BYTES;
            assert!(
                drawn <= super::known::AMPLIFICATION_MAX * given,
                "seed {seed}: {n} drew {drawn} of {given}"
            );
        }
    }
}

fn relayed(n: u8) -> Road {
    Road { flow: Some(FlowToken(n.into())), ..road(n) }
}

/// All that is to be done, and the nonce of the last probe along `road` in it.
fn drain(roads: &mut Roads, road: Road) -> (Vec<Output>, Option<u64>) {
    let outputs: Vec<_> = std::iter::from_fn(|| roads.poll()).collect();
    let nonce = outputs.iter().rev().find_map(|output| match output {
        Output::Probe(along, nonce) if *along == road => Some(*nonce),
        _ => None,
    });
    (outputs, nonce)
}

#[test]
fn a_direct_road_takes_over_from_a_relay_at_once_however_slow_and_never_the_other_way_round() {
    let start = Instant::now();
    let mut roads = Roads::new(relayed(1), Nonces::new([1; 16]), start);
    roads.add(road(2), start);
    let (_, nonce) = drain(&mut roads, road(2));
    let late = start + 400 * MS;
    roads.answered(road(2), nonce.unwrap(), late);
    assert!(drain(&mut roads, road(2)).0.contains(&Output::Switch(road(2))));
    let mut answered = 0;
    for turn in 1..10 {
        let now = late + STANDBY_EVERY * turn;
        roads.advance(now);
        if let (_, Some(nonce)) = drain(&mut roads, relayed(1)) {
            // The relay answers in no time.
            roads.answered(relayed(1), nonce, now);
            answered += 1;
        }
        assert_eq!(roads.active(), road(2));
    }
    assert!(answered > super::known::SAMPLES_MIN);
}

#[test]
fn when_the_direct_road_is_cut_the_relay_takes_over() {
    let start = Instant::now();
    let mut roads = Roads::new(relayed(1), Nonces::new([1; 16]), start);
    roads.add(road(2), start);
    let (_, nonce) = drain(&mut roads, road(2));
    roads.answered(road(2), nonce.unwrap(), start + MS);
    assert_eq!(roads.active(), road(2));
    roads.probe(start + SECOND);
    drain(&mut roads, road(2));
    let mut now = start + SECOND;
    while roads.active() == road(2) {
        now = now.max(roads.timeout().unwrap());
        assert!(now <= start + 2 * SECOND);
        roads.advance(now);
        if let (_, Some(nonce)) = drain(&mut roads, relayed(1)) {
            roads.answered(relayed(1), nonce, now);
        }
    }
    assert_eq!(roads.active(), relayed(1));
}

#[test]
fn a_road_is_sized_when_it_is_proven_and_a_narrow_one_again_each_minute() {
    let mut world = World::new();
    world.alive.insert(2, 5 * MS);
    world.narrow.push(2);
    world.roads.add(road(2), world.now);
    world.run(100 * SECOND, true);
    assert_eq!(world.switches.last().map(|(_, n)| *n), Some(2));
    assert!(!world.whole, "it takes no long ones");
    let at: Vec<_> = world.sized.iter().map(|(at, n)| (at.as_secs(), *n)).collect();
    assert_eq!(at.len(), 2 * asking::SIZE_TRIES, "{at:?}");
    assert_eq!((at[0], at[asking::SIZE_TRIES]), ((0, 2), (61, 2)));
    world.narrow.clear();
    world.run(60 * SECOND, true);
    assert!(world.whole, "now it does");
    let sized = world.sized.len();
    world.run(200 * SECOND, true);
    assert_eq!(world.sized.len(), sized, "once is enough");
}

#[test]
fn an_answer_that_somebody_held_back_is_no_sign_of_life() {
    let mut world = World::new();
    let sent = world.now;
    let nonce = world.roads.probe(sent);
    let late = sent + 6 * SECOND;
    assert_eq!(world.roads.answered(road(1), nonce, late), None);
    assert!(world.roads.known[0].rtt.samples() == 0, "nor a round trip");
    // And none is kept for longer, whatever is asked.
    for n in 0..1000 {
        world.roads.probe(late + n * 100 * MS);
    }
    assert!(world.roads.known[0].open.len() <= 51, "{}", world.roads.known[0].open.len());
}
