//! Addresses that have never answered, or no longer do: what they may cost.

use super::*;

#[test]
fn a_silent_source_gets_no_more_than_five_probes_and_three_times_its_bytes() {
    let mut world = World::new();
    world.probed(2, 1);
    world.run(60 * SECOND, true);
    assert_eq!((world.probes_to(2), world.answers.len()), (2, 1));
    for nonce in 2..100 {
        world.probed(2, nonce);
        world.run(100 * MS, true);
    }
    assert_eq!(world.probes_to(2), 5);
}

#[test]
fn an_address_that_the_peer_names_gets_five_probes_and_no_more_when_it_is_named_again() {
    let mut world = World::new();
    for _ in 0..10 {
        world.roads.add(road(2), world.now);
        world.run(20 * SECOND, false);
    }
    let times: Vec<_> = world.probes.iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(times, [0, 500, 1500, 3500, 7500]);
}

#[test]
fn a_nat_is_opened_at_once_and_probed_through_when_the_peer_has_opened_its_own() {
    let at = |n| n * MS;
    let mut world = World::new();
    world.roads.open(road(2), world.now);
    world.run(100 * MS, false);
    assert_eq!((world.opened.clone(), world.probes_to(2)), (vec![(at(0), 2)], 0));
    world.roads.invited(world.now);
    world.run(10 * SECOND, false);
    let to_2: Vec<_> = world.probes.iter().filter(|(_, to)| *to == 2).collect();
    // Five with the one that went only a short way.
    assert_eq!(to_2, [&(at(100), 2), &(at(600), 2), &(at(1600), 2), &(at(3600), 2)]);
    assert_eq!(world.opened.len(), 1);
    // By then the peer is known to be ready.
    world.roads.open(road(3), world.now);
    world.drain();
    assert_eq!((world.opened.len(), world.probes_to(3)), (1, 1));
}

#[test]
fn a_probe_that_came_through_or_half_a_second_without_a_word_is_as_good_as_an_invitation() {
    let mut world = World::new();
    world.roads.open(road(2), world.now);
    world.roads.open(road(3), world.now);
    world.alive = BTreeMap::from([(1, 20 * MS), (2, 20 * MS)]);
    world.run(100 * MS, false);
    world.probed(2, 77);
    world.run(300 * MS, false);
    assert_eq!(world.opened.iter().map(|(_, to)| *to).collect::<Vec<_>>(), [2, 3]);
    assert_eq!((world.answers.clone(), world.proven.clone()), (vec![2], vec![2]));
    assert_eq!(world.probes_to(3), 0);
    world.run(SECOND, false);
    assert_eq!(world.probes.iter().find(|(_, to)| *to == 3), Some(&(500 * MS, 3)));
    world.run(20 * SECOND, false);
    assert_eq!(world.probes_to(3), 4);
}

#[test]
fn a_check_that_came_too_early_is_made_again_as_soon_as_the_peer_comes_through() {
    let mut world = World::new();
    world.roads.open(road(2), world.now);
    world.roads.invited(world.now);
    world.run(100 * MS, false);
    assert_eq!(world.probes_to(2), 1);
    world.probed(2, 77);
    world.probed(2, 78);
    assert_eq!(world.probes_to(2), 2, "once");
    world.run(20 * SECOND, false);
    assert_eq!(world.opened.len() + world.probes_to(2), 5);
}

#[test]
fn a_replayed_probe_starts_nothing() {
    let mut world = World::new();
    world.probed(1, 5);
    for n in 2..200 {
        world.probed(n, 5);
    }
    assert_eq!((world.answers.as_slice(), world.probes.len()), (&[1][..], 0));
    assert_eq!(world.roads.known.len(), 1);
}

#[test]
fn fresh_probes_from_everywhere_take_few_places_and_cost_no_answer_of_ours() {
    let mut world = World::new();
    for n in 0..2000_u64 {
        world.probed((2 + n % 250) as u8, 1000 + n);
        if n % 10 == 0 {
            world.run(20 * MS, false);
        }
        assert!(world.roads.known.len() <= 1 + room::OBSERVED_MAX);
    }
    let nonce = world.roads.probe(world.now);
    assert!(world.roads.answered(road(1), nonce, world.now + 20 * MS).is_some());
    assert_eq!(world.switches, []);
}

#[test]
fn dead_addresses_that_somebody_named_keep_no_peer_from_moving() {
    let mut world = World::new();
    world.run(SECOND, true);
    for n in 10..40 {
        world.roads.add(road(n), world.now);
        world.drain();
    }
    assert!(world.roads.known.len() < ROADS_MAX);
    // At once, and when they have had their chance, and are named again and again.
    for moved in [2, 3, 4] {
        world.alive = BTreeMap::from([(moved, 20 * MS)]);
        world.probed(moved, 1000 + u64::from(moved));
        world.run(3 * SECOND, true);
        assert_eq!(world.roads.active(), road(moved));
        world.run(20 * SECOND, true);
        for n in 10..40 {
            world.roads.add(road(n), world.now);
            world.drain();
        }
    }
}

#[test]
fn a_dead_standby_is_left_in_peace_and_asked_again_in_need() {
    let mut world = World::new();
    world.alive.insert(2, 60 * MS);
    world.roads.add(road(2), world.now);
    world.run(SECOND, false);
    world.alive.remove(&2);
    world.run(600 * SECOND, false);
    assert_eq!(world.probes_to(2), 1 + 5);
    world.alive = BTreeMap::from([(2, 60 * MS)]);
    world.run(2 * SECOND, true);
    assert_eq!(world.switches.len(), 1);
}

#[test]
fn an_address_that_never_answered_is_asked_once_more_if_the_peer_is_there_by_other_means() {
    let start = Instant::now();
    let mut roads = Roads::new(relayed(1), Nonces::new([1; 16]), start);
    roads.add(road(2), start);
    roads.add(road(3), start);
    let mut now = start;
    for _ in 0..20 {
        now += 10 * SECOND;
        roads.advance(now);
    }
    drain(&mut roads, road(2));
    for _ in 0..3 {
        now += 10 * SECOND;
        roads.retest(road(2).remote.ip(), now);
        let (outputs, nonce) = drain(&mut roads, road(2));
        assert!(nonce.is_some());
        assert!(
            !outputs.iter().any(|output| matches!(output, Output::Probe(to, _) if *to == road(3)))
        );
        roads.advance(now + SECOND);
        assert_eq!(drain(&mut roads, road(2)).1, None, "once each time");
    }
}

#[test]
fn a_silent_host_is_probed_five_times_in_all_however_many_ports_of_it_are_named() {
    let start = Instant::now();
    let mut roads = Roads::new(road(1), Nonces::new([1; 16]), start);
    let port = |n| Road { remote: SocketAddr::from(([10, 0, 0, 9], n)), ..road(9) };
    let mut now = start;
    let mut probes = |roads: &mut Roads, until: Instant| {
        let mut count = 0;
        while now <= until {
            roads.advance(now);
            while let Some(output) = roads.poll() {
                let there = |to: Road| to.remote.ip() == port(1).remote.ip();
                count += usize::from(matches!(output, Output::Probe(to, _) if there(to)));
            }
            now += 100 * MS;
        }
        count
    };
    for n in 1..12 {
        roads.add(port(n), start);
    }
    assert_eq!(probes(&mut roads, start + 60 * SECOND), 5);
    roads.add(port(13), start + 60 * SECOND);
    assert_eq!(probes(&mut roads, start + 120 * SECOND), 0);
    // It is there by other means: one more.
    roads.retest(port(1).remote.ip(), start + 120 * SECOND);
    assert_eq!(probes(&mut roads, start + 121 * SECOND), 1);
}

#[test]
fn a_silent_address_gets_one_more_probe_for_each_reason_and_only_where_the_peer_named_it() {
    let mut world = World::new();
    let silent = road(9);
    world.roads.add(silent, world.now);
    world.run(30 * SECOND, false);
    let sent = |world: &World| world.probes.iter().filter(|(_, n)| *n == 9).count();
    assert_eq!(sent(&world), CHECKS_MAX as usize);
    for (at_once, more) in [(true, 1), (true, 2), (false, 2), (false, 2)] {
        world.roads.once_more(silent.remote, at_once, world.now);
        world.roads.once_more(road(8).remote, at_once, world.now);
        world.run(30 * SECOND, false);
        assert_eq!(sent(&world), CHECKS_MAX as usize + more);
    }
    // What was kept for the peer's call is there when it comes, and once.
    world.roads.probed(silent, 1, FRAME_BYTES, world.now);
    world.roads.probed(silent, 2, FRAME_BYTES, world.now);
    world.run(30 * SECOND, false);
    assert_eq!(sent(&world), CHECKS_MAX as usize + 3);
    assert_eq!(world.probes.iter().filter(|(_, n)| *n == 8).count(), 0);
}

#[test]
fn a_dead_road_is_not_sized() {
    let mut world = World::new();
    world.alive.insert(2, 5 * MS);
    world.narrow.push(2);
    world.roads.add(road(2), world.now);
    world.run(100 * SECOND, true);
    world.alive = BTreeMap::from([(1, 20 * MS)]);
    world.run(200 * SECOND, true);
    assert_eq!(world.roads.active(), road(1));
    let sized = world.sized.len();
    world.run(600 * SECOND, true);
    assert_eq!(world.sized.len(), sized);
}
