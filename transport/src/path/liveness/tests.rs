//! Tests of the core that keeps a peer and notices its silence.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Runs the core until `until` after `start`; the peer answers at once those probes that `answers`
/// says. Returns the times of probes and events, in ms after `start`.
fn run(
    core: &mut Liveness,
    start: Instant,
    until: Duration,
    answers: impl Fn(u128) -> bool,
) -> (Vec<u128>, Vec<(u128, Event)>) {
    let (mut probes, mut events) = (Vec::new(), Vec::new());
    let mut now = start;
    loop {
        let at = (now - start).as_millis();
        if core.poll_probe() {
            probes.push(at);
            if answers(at) {
                core.heard(now, now);
            }
        }
        events.extend(core.poll_event().map(|event| (at, event)));
        match core.timeout() {
            Some(next) if next.saturating_duration_since(start) <= until => now = next.max(now),
            _ => return (probes, events),
        }
        core.advance(now);
    }
}

#[test]
fn an_idle_peer_that_answers_is_asked_seldom() {
    let start = Instant::now();
    let mut core = Liveness::new(Patience::default(), start);
    let (probes, events) = run(&mut core, start, 65 * SECOND, |_| true);
    assert_eq!(probes, [20_000, 40_000, 60_000]);
    assert_eq!(events, []);
}

#[test]
fn with_answers_expected_silence_is_noticed_after_five_seconds_and_final_after_sixty() {
    let start = Instant::now();
    let mut core = Liveness::new(Patience::default(), start);
    core.expect(true, start);
    let (probes, events) = run(&mut core, start, 100 * SECOND, |at| at < 10_000);
    assert_eq!(&probes[..3], [500, 1000, 1500]);
    assert_eq!(events, [(14_500, Event::Unreachable), (69_500, Event::Gone)]);
}

#[test]
fn an_idle_peer_that_dies_is_gone_sixty_seconds_after_it_was_last_heard() {
    let start = Instant::now();
    let mut core = Liveness::new(Patience::default(), start);
    let (probes, events) = run(&mut core, start, 100 * SECOND, |_| false);
    assert_eq!(&probes[..3], [20_000, 20_500, 21_000]);
    assert_eq!(events, [(25_000, Event::Unreachable), (60_000, Event::Gone)]);
}

#[test]
fn a_short_patience_makes_idle_probes_more_frequent() {
    let start = Instant::now();
    let patience = Patience { gone_after: 8 * SECOND, ..Patience::default() };
    let mut core = Liveness::new(patience, start);
    let (_, events) = run(&mut core, start, 100 * SECOND, |at| at < 20_000);
    let (gone, event) = *events.last().unwrap();
    assert_eq!(event, Event::Gone);
    assert!(gone <= 20_000 + 8_000, "gone at {gone} ms");
}

#[test]
fn a_peer_that_answers_again_is_reachable_again() {
    let start = Instant::now();
    let mut core = Liveness::new(Patience::default(), start);
    core.expect(true, start);
    let silent = |at| (10_000..20_000).contains(&at);
    let (_, events) = run(&mut core, start, 40 * SECOND, |at| !silent(at));
    assert_eq!(events, [(14_500, Event::Unreachable), (20_000, Event::Reachable)]);
}

#[test]
fn the_same_sign_of_life_told_again_and_again_does_not_hide_silence() {
    let start = Instant::now();
    let mut core = Liveness::new(Patience::default(), start);
    core.expect(true, start);
    let sign = start + Duration::from_millis(100);
    let mut events = Vec::new();
    for half_seconds in 1..=20 {
        let now = start + half_seconds * SECOND / 2;
        core.heard(sign, now);
        core.advance(now);
        events.extend(core.poll_event());
    }
    assert_eq!(events, [Event::Unreachable]);
}

#[test]
fn a_process_that_stood_still_asks_again_before_it_gives_up() {
    let start = Instant::now();
    let mut core = Liveness::new(Patience::default(), start);
    core.expect(true, start);
    core.advance(start + SECOND / 2);
    assert!(core.poll_probe());
    let woken = start + 3600 * SECOND;
    core.advance(woken);
    assert!(core.poll_probe());
    assert_eq!(core.poll_event(), None);
    let (_, events) = run(&mut core, woken, 100 * SECOND, |_| false);
    let [(unreachable, Event::Unreachable), (gone, Event::Gone)] = events[..] else {
        panic!("{events:?}")
    };
    assert!((4_000..=5_000).contains(&unreachable), "after {unreachable} ms");
    assert!((59_000..=60_000).contains(&gone), "after {gone} ms");
}

#[test]
fn absurd_patience_is_bounded() {
    for length in [Duration::ZERO, Duration::MAX] {
        let patience = Patience {
            probe_every: length,
            idle_every: length,
            watch_every: length,
            unreachable_after: length,
            gone_after: length,
        };
        let start = Instant::now();
        let mut core = Liveness::new(patience, start);
        core.expect(true, start);
        core.watch(true, start);
        let (probes, _) = run(&mut core, start, SECOND, |_| true);
        assert!(probes.len() <= 101);
    }
}

#[test]
fn beginning_to_expect_asks_soon_and_ceasing_to_does_not_forget_the_silence() {
    let start = Instant::now();
    let mut core = Liveness::new(Patience::default(), start);
    core.advance(start + 10 * SECOND);
    core.expect(true, start + 10 * SECOND);
    assert!(core.poll_probe());
    core.expect(false, start + 10 * SECOND);
    let (_, events) = run(&mut core, start + 10 * SECOND, 6 * SECOND, |_| false);
    assert_eq!(events, [(5_000, Event::Unreachable)]);
}

/// The same as [`run`], for keeps: their times, and those of the probes, all of which are answered until `until`.
fn keeps(core: &mut Liveness, start: Instant, until: Duration) -> (Vec<u128>, Vec<u128>) {
    let (mut keeps, mut probes, mut now) = (Vec::new(), Vec::new(), start);
    while let Some(next) = core.timeout()
        && next.saturating_duration_since(start) <= until
    {
        now = next.max(now);
        core.advance(now);
        if core.poll_keep() {
            keeps.push((now - start).as_millis());
        }
        if core.poll_probe() {
            probes.push((now - start).as_millis());
            core.heard(now, now);
        }
    }
    (keeps, probes)
}

#[test]
fn a_session_is_kept_at_common_moments_and_asked_at_every_fourth() {
    let start = Instant::now();
    for begun in [1, 7, 19] {
        let mut core = Liveness::new(Patience::default(), start);
        core.kept_by(Keeper::Us(start), start + begun * SECOND);
        let (keeps, probes) = keeps(&mut core, start, 3600 * SECOND);
        assert_eq!(keeps[..4], [20_000, 40_000, 60_000, 100_000]);
        assert_eq!(probes[..3], [80_000, 160_000, 240_000]);
        assert_eq!(keeps.len() + probes.len(), 180);
        assert_eq!(keeps.len() + 2 * probes.len(), 225);
    }
}

#[test]
fn a_keeper_notices_within_85_seconds_that_an_idle_peer_is_silent_and_within_5_once_it_is_asked() {
    let start = Instant::now();
    let mut core = Liveness::new(Patience::default(), start);
    core.kept_by(Keeper::Us(start), start);
    let (_, events) = run(&mut core, start, 200 * SECOND, |at| at < 160_000);
    // It was last heard at 80 s.
    assert_eq!(events, [(165_000, Event::Unreachable), (200_000, Event::Gone)]);
    let mut core = Liveness::new(Patience::default(), start);
    core.kept_by(Keeper::Us(start), start);
    core.probe_now(start + 30 * SECOND);
    let (_, events) = run(&mut core, start + 30 * SECOND, 60 * SECOND, |_| false);
    assert_eq!(events[0], (5_000, Event::Unreachable));
}

#[test]
fn whom_the_peer_keeps_asks_nothing_while_that_goes_on_and_notices_its_end_within_a_minute() {
    let start = Instant::now();
    let mut core = Liveness::new(Patience::default(), start);
    core.kept_by(Keeper::Peer, start);
    for twenty in 1..30 {
        let now = start + twenty * 20 * SECOND;
        // Each fourth is a probe, which may be a replay; now and then one is lost.
        if twenty % 4 != 0 && twenty != 6 {
            core.heard(now, now);
        }
        core.advance(now);
        assert!(!core.poll_probe(), "at {} s", twenty * 20);
    }
    let last = start + 29 * 20 * SECOND;
    let (probes, events) = run(&mut core, last, 100 * SECOND, |_| false);
    assert_eq!(probes[0], 50_000);
    assert_eq!(events, [(55_000, Event::Unreachable), (60_000, Event::Gone)]);
}

#[test]
fn where_a_nat_forgets_sooner_the_signs_of_life_come_sooner_for_an_hour() {
    let start = Instant::now();
    let mut core = Liveness::new(Patience::default(), start);
    core.kept_by(Keeper::Us(start), start);
    core.remapped(start + SECOND);
    core.remapped(start + 2 * SECOND);
    core.remapped(start + 3 * SECOND);
    let (sooner, probes) = keeps(&mut core, start, 60 * SECOND);
    assert_eq!(sooner[..4], [5_000, 10_000, 15_000, 25_000]);
    assert_eq!(probes, [20_000, 40_000, 60_000]);
    let (later, _) = keeps(&mut core, start, 9000 * SECOND);
    assert_eq!(later[later.len() - 1] - later[later.len() - 2], 20_000);
}

#[test]
fn a_peer_on_which_something_depends_is_asked_each_two_seconds() {
    let start = Instant::now();
    for keeper in [Keeper::Both, Keeper::Us(start), Keeper::Peer] {
        let mut core = Liveness::new(Patience::default(), start);
        core.kept_by(keeper, start);
        core.depend(start + 9 * SECOND, start);
        let (probes, _) = run(&mut core, start, 19 * SECOND, |_| true);
        assert_eq!(probes, [2_000, 4_000, 6_000, 8_000, 10_000]);
    }
}

#[test]
fn a_session_is_kept_while_its_link_is_busy_however_long_answers_take() {
    let start = Instant::now();
    let mut core = Liveness::new(Patience::default(), start);
    core.kept_by(Keeper::Us(start), start);
    let (mut keeps, mut asked) = (0, None);
    for quarter in 1..=2400 {
        let now = start + quarter * SECOND / 4;
        core.depend(now + 9 * SECOND, now);
        core.expect(quarter % 800 < 700, now);
        if asked.is_some_and(|asked| now >= asked + SECOND) {
            asked = None;
            core.heard(now, now);
        }
        core.advance(now);
        if core.poll_probe() {
            asked.get_or_insert(now);
        }
        keeps += u32::from(core.poll_keep());
    }
    // One each 20 s, for ten minutes.
    assert!(keeps >= 28, "{keeps}");
}

#[test]
fn a_watched_peer_is_asked_each_two_seconds_whoever_keeps_it_and_as_before_when_nobody_watches() {
    let start = Instant::now();
    for (keeper, later) in
        [(Keeper::Both, 30_000), (Keeper::Us(start), 80_000), (Keeper::Peer, 60_000)]
    {
        let mut core = Liveness::new(Patience::default(), start);
        core.kept_by(keeper, start);
        core.watch(true, start);
        let (probes, events) = run(&mut core, start, 9 * SECOND, |_| true);
        assert_eq!(probes, [2_000, 4_000, 6_000, 8_000]);
        // The one that is under way is the last.
        core.watch(false, start + 9 * SECOND);
        let (probes, _) = run(&mut core, start, 100 * SECOND, |_| true);
        assert_eq!(probes[..2], [10_000, later], "{keeper:?}");
        assert_eq!(events, []);
    }
}

#[test]
fn the_silence_of_a_watched_peer_is_noticed_five_seconds_after_it_was_asked_in_vain() {
    let start = Instant::now();
    for (every, asked) in [(1, 11_000), (2, 12_000), (5, 15_000), (20, 20_000), (60, 20_000)] {
        let patience = Patience { watch_every: every * SECOND, ..Patience::default() };
        let mut core = Liveness::new(patience, start);
        core.watch(true, start);
        let (probes, events) = run(&mut core, start, 100 * SECOND, |at| at <= 10_000);
        let silent: Vec<_> = probes.into_iter().filter(|at| *at > 10_000).collect();
        assert_eq!(silent[..3], [asked, asked + 500, asked + 1_000]);
        // One that was asked within a second of its last sign of life was silent since then.
        let since = if every == 1 { 10_000 } else { asked };
        assert_eq!(events[0], (since + 5_000, Event::Unreachable));
    }
}

#[test]
fn a_watch_that_begins_asks_soon() {
    let start = Instant::now();
    let mut core = Liveness::new(Patience::default(), start);
    core.advance(start + 10 * SECOND);
    core.watch(true, start + 10 * SECOND);
    assert!(core.poll_probe());
}
