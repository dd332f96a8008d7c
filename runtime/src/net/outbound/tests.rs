//! The sender's half of a lane, told as stories.

mod leaving;

use super::core::{Core, Effects, Submitted, Understands, Want};
use super::ticket::Ticket;
use crate::codec::frame::lane::{Forward, forward};
use crate::codec::frame::varint;
use crate::codec::limits::{INITIAL_BYTES, INITIAL_MESSAGES, INLINE_MAX};
use crate::codec::payload::Encoder;
use crate::ground::error::Fault;
use crate::net::output::{Bodies, Output};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A lane, and what the other side has seen of it.
struct Lane {
    core: Core<u32>,
    known: Vec<String>,
    bodies: Vec<Bodies>,
    answers: Vec<(u32, Fault)>,
    opens: usize,
    lost: u64,
    /// The other side understands CANCEL.
    cancels: bool,
}

#[derive(Debug, PartialEq, Eq, Clone)]
enum Seen {
    Open,
    Tell(u64),
    Ask(u64, u64),
    Flush(u64),
    Cancel(u64),
    Need(u64),
    Beside(Vec<u64>, bool),
    Finish,
}

impl Lane {
    fn new() -> Self {
        Self {
            core: Core::new([1; 16], "p"),
            known: vec![],
            bodies: vec![],
            answers: vec![],
            opens: 0,
            lost: 0,
            cancels: false,
        }
    }

    fn opened() -> (Self, u64) {
        Self::new().into_opened()
    }

    fn into_opened(self) -> (Self, u64) {
        let mut lane = self;
        lane.core
            .submit(
                0,
                Want::Answer(999),
                "first",
                &mut encoder(&0u64),
                false,
                &mut Effects::default(),
            )
            .unwrap();
        let stream = lane.open();
        lane.with(|core, fx| core.accepted(stream, u64::MAX, fx));
        lane.credit(stream, 1000, 1 << 20, 0);
        assert_eq!(lane.seen(stream), [Seen::Open, Seen::Ask(0, 0)]);
        (lane, stream)
    }

    fn with<R>(&mut self, change: impl FnOnce(&mut Core<u32>, &mut Effects<u32>) -> R) -> R {
        let mut fx = Effects::default();
        let result = change(&mut self.core, &mut fx);
        self.answers.append(&mut fx.failed);
        self.opens += usize::from(fx.open);
        self.lost += fx.lost;
        result
    }

    fn open(&mut self) -> u64 {
        self.known.clear();
        let cancels = self.cancels;
        self.with(|core, fx| core.opened(Understands { cancels, envelopes: true }, fx))
    }

    fn tell(&mut self, n: u64) -> Result<Submitted, Fault> {
        self.tell_or_refuse(n, false)
    }

    fn try_tell(&mut self, n: u64) -> Result<Submitted, Fault> {
        self.tell_or_refuse(n, true)
    }

    fn tell_or_refuse(&mut self, n: u64, refuse: bool) -> Result<Submitted, Fault> {
        if self.append(n) {
            return Ok(Submitted::Accepted);
        }
        self.with(|core, fx| core.submit(0, Want::Nothing, "tell", &mut encoder(&n), refuse, fx))
    }

    /// The short way, which every tell tries first.
    fn append(&mut self, n: u64) -> bool {
        self.core.append_tell(0, "tell", encoder(&n).bytes())
    }

    fn ask(&mut self, slot: u32, n: u64) -> Result<Submitted, Fault> {
        self.with(|core, fx| core.submit(0, Want::Answer(slot), "ask", &mut encoder(&n), false, fx))
    }

    fn credit(&mut self, stream: u64, messages: u64, bytes: u64, taken: u64) {
        self.with(|core, fx| core.credit(stream, messages, bytes, taken, fx)).unwrap();
    }

    /// What the stream carries since the last call.
    fn seen(&mut self, stream: u64) -> Vec<Seen> {
        let mut seen = vec![];
        loop {
            match self.core.poll_output(stream, &mut Context::from_waker(Waker::noop())) {
                Poll::Pending | Poll::Ready(Output::Gone) => return seen,
                Poll::Ready(Output::Finish) => seen.push(Seen::Finish),
                Poll::Ready(Output::Write { bytes, mut bodies }) => {
                    self.bodies.append(&mut bodies);
                    let mut rest = &bytes[..];
                    while let Some((len, prefix)) = varint::get(rest).unwrap() {
                        let (frame, after) = rest[prefix..].split_at(len as usize);
                        rest = after;
                        seen.push(match forward(frame, self.known.len(), 1 << 40).unwrap() {
                            Forward::Open { .. } => Seen::Open,
                            Forward::Flush { ask } => Seen::Flush(ask),
                            Forward::Cancel { ask } => Seen::Cancel(ask),
                            Forward::Need { bytes, .. } => Seen::Need(bytes),
                            Forward::Message { ask, id, beside, payload, .. } => {
                                self.known.extend(id.map(str::to_owned));
                                match (beside, ask) {
                                    (Some(beside), _) => Seen::Beside(beside.lens, beside.payload),
                                    (None, Some(ask)) => {
                                        Seen::Ask(ask, rmp_serde::from_slice(payload).unwrap())
                                    }
                                    (None, None) => {
                                        Seen::Tell(rmp_serde::from_slice(payload).unwrap())
                                    }
                                }
                            }
                        });
                    }
                }
            }
        }
    }
}

fn encoder(value: &(impl serde::Serialize + ?Sized)) -> Encoder {
    let mut encoder = Encoder::new(1 << 30);
    encoder.encode(value).unwrap();
    encoder
}

fn poll(ticket: &Arc<Ticket>) -> Poll<Result<(), Fault>> {
    ticket.poll(&mut Context::from_waker(Waker::noop()))
}

fn waiting(submitted: Result<Submitted, Fault>) -> Arc<Ticket> {
    match submitted {
        Ok(Submitted::Waiting(ticket)) => ticket,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_first_ask_leaves_together_with_the_opening() {
    let mut lane = Lane::new();
    let ticket = waiting(lane.ask(7, 42));
    assert_eq!(lane.opens, 1);
    let stream = lane.open();
    assert_eq!(poll(&ticket), Poll::Ready(Ok(())));
    assert_eq!(lane.seen(stream), [Seen::Open, Seen::Ask(0, 42)]);
    assert_eq!(lane.core.answered(stream, 0), Ok(Some(7)));
    assert!(lane.core.answered(stream, 0).is_err());
    assert!(lane.core.answered(stream, 1).is_err());
}

#[test]
fn a_first_tell_waits_to_hear_whether_there_is_such_an_actor() {
    let mut lane = Lane::new();
    let ticket = waiting(lane.tell(1));
    let stream = lane.open();
    let second = waiting(lane.tell(2));
    assert_eq!(lane.seen(stream), [Seen::Open, Seen::Tell(1), Seen::Tell(2)]);
    assert_eq!(poll(&ticket), Poll::Pending);
    lane.with(|core, fx| core.refused(stream, &Fault::NoSuchActor, fx));
    assert_eq!(poll(&ticket), Poll::Ready(Err(Fault::NoSuchActor)));
    assert_eq!(poll(&second), Poll::Ready(Err(Fault::NoSuchActor)));
    assert_eq!(lane.lost, 0);
    // The next use tries anew.
    waiting(lane.tell(3));
    assert_eq!(lane.opens, 2);
}

#[test]
fn messages_beyond_the_credit_wait_in_line_and_nobody_overtakes() {
    let (mut lane, stream) = Lane::opened();
    for n in 1..1000 {
        assert!(matches!(lane.tell(n), Ok(Submitted::Accepted)));
    }
    let first = waiting(lane.tell(1000));
    let second = waiting(lane.ask(5, 1001));
    assert_eq!(lane.try_tell(0).unwrap_err(), Fault::Full);
    let seen = lane.seen(stream);
    assert_eq!(seen.len(), 1000);
    assert!(matches!(seen[999], Seen::Need(_)));
    lane.credit(stream, 1001, 1 << 20, 900);
    assert_eq!(poll(&first), Poll::Ready(Ok(())));
    assert_eq!(poll(&second), Poll::Pending);
    assert_eq!(lane.try_tell(0).unwrap_err(), Fault::Full);
    let seen = lane.seen(stream);
    assert_eq!(seen[0], Seen::Tell(1000));
    assert!(matches!(seen[1], Seen::Need(_)));
    lane.credit(stream, 1002, 1 << 20, 900);
    assert_eq!(lane.seen(stream), [Seen::Ask(1, 1001)]);
}

#[test]
fn the_short_way_is_for_tells_that_follow_others_and_nothing_else() {
    let (mut lane, stream) = Lane::opened();
    assert!(!lane.append(1), "the id is not introduced");
    assert!(matches!(lane.tell(1), Ok(Submitted::Accepted)));
    assert!(lane.append(2));
    lane.with(|core, fx| core.hold(true, fx));
    assert!(!lane.append(3), "the peer is silent");
    lane.with(|core, fx| core.hold(false, fx));
    assert_eq!(lane.seen(stream), [Seen::Tell(1), Seen::Tell(2)]);
    assert!(!lane.append(3), "nobody would wake the writer");
    assert!(matches!(lane.tell(3), Ok(Submitted::Accepted)));
    for _ in 4..1000 {
        assert!(lane.append(3));
    }
    assert!(!lane.append(4), "there is no credit");
    let in_line = waiting(lane.tell(4));
    lane.credit(stream, 2000, 1 << 20, 0);
    assert_eq!(poll(&in_line), Poll::Ready(Ok(())));
    let seen = lane.seen(stream);
    assert_eq!(seen[..997], vec![Seen::Tell(3); 997]);
    assert_eq!(seen[997..], [Seen::Need(1025), Seen::Tell(4)]);
    // Both ways count alike: what was taken, and what is in doubt.
    assert!(matches!(lane.tell(5), Ok(Submitted::Accepted)));
    assert!(lane.append(6));
    lane.credit(stream, 2000, 1 << 20, 1001);
    lane.with(|core, fx| core.ended(stream, Err(Fault::PeerGone), fx));
    assert_eq!(lane.lost, 2);
    assert!(!lane.append(7), "there are losses to be told");
    assert!(matches!(lane.tell(7), Err(Fault::LostTells { at_most: 2 })));
}

#[test]
fn a_sender_that_gives_up_withdraws_its_message_only() {
    let (mut lane, stream) = Lane::opened();
    (1..1000).for_each(|n| drop(lane.tell(n)));
    let tickets: Vec<_> = (0..3).map(|n| waiting(lane.tell(5000 + n))).collect();
    lane.with(|core, fx| core.withdraw(&tickets[1], fx));
    lane.seen(stream);
    lane.credit(stream, 2000, 1 << 20, 0);
    assert_eq!(lane.seen(stream), [Seen::Tell(5000), Seen::Tell(5002)]);
    // Too late: it is under way.
    lane.with(|core, fx| core.withdraw(&tickets[2], fx));
}

#[test]
fn large_bodies_and_large_payloads_travel_beside() {
    let (mut lane, stream) = Lane::opened();
    let body = crate::Bytes::from(vec![1; INLINE_MAX + 1]);
    lane.with(|core, fx| core.submit(0, Want::Nothing, "b", &mut encoder(&body), false, fx))
        .unwrap();
    let text = "x".repeat(INLINE_MAX);
    lane.with(|core, fx| core.submit(0, Want::Nothing, "t", &mut encoder(&text), false, fx))
        .unwrap();
    let text_len = INLINE_MAX as u64 + 5;
    assert_eq!(
        lane.seen(stream),
        [Seen::Beside(vec![INLINE_MAX as u64 + 1], false), Seen::Beside(vec![text_len], true)]
    );
    assert_eq!(lane.bodies[0].bodies[0].as_ptr(), body.as_ptr());
    assert_eq!((lane.bodies[0].group, lane.bodies[1].group), (0, 1));
    assert_eq!(lane.bodies[1].bodies[0], encoder(&text).bytes());
}

#[test]
fn a_message_too_large_for_its_credit_asks_for_as_much_and_keeps_its_bytes() {
    let (mut lane, stream) = Lane::opened();
    let body = crate::Bytes::from(vec![1; 8 << 20]);
    let text = "x".repeat(2 << 20);
    let ticket = waiting(
        lane.with(|core, fx| core.submit(0, Want::Nothing, "b", &mut encoder(&body), false, fx)),
    );
    waiting(
        lane.with(|core, fx| core.submit(0, Want::Nothing, "t", &mut encoder(&text), false, fx)),
    );
    let seen = lane.seen(stream);
    assert!(matches!(seen[..], [Seen::Need(bytes)] if bytes > 8 << 20 && bytes < (8 << 20) + 2000));
    lane.credit(stream, 1000, 9 << 20, 0);
    assert_eq!(poll(&ticket), Poll::Ready(Ok(())));
    let seen = lane.seen(stream);
    assert_eq!(seen[0], Seen::Beside(vec![8 << 20], false));
    assert!(matches!(seen[1], Seen::Need(_)));
    lane.credit(stream, 1000, 20 << 20, 0);
    assert_eq!(lane.seen(stream), [Seen::Beside(vec![(2 << 20) + 5], true)]);
    assert_eq!(lane.bodies[1].bodies[0], encoder(&text).bytes());
}

#[test]
fn tells_lost_with_a_link_are_told_once_at_the_next_use() {
    let (mut lane, stream) = Lane::opened();
    (0..10).for_each(|n| drop(lane.tell(n)));
    lane.ask(5, 0).unwrap();
    lane.credit(stream, 1000, 1 << 20, 4);
    lane.with(|core, fx| core.ended(stream, Err(Fault::PeerGone), fx));
    assert_eq!(lane.lost, 7);
    assert_eq!(lane.answers.len(), 2);
    assert!(lane.answers.contains(&(5, Fault::PeerGone)));
    assert_eq!(lane.tell(11).unwrap_err(), Fault::LostTells { at_most: 7 });
    let ticket = waiting(lane.tell(11));
    assert_eq!(lane.opens, 1);
    let stream = lane.open();
    assert_eq!(lane.seen(stream), [Seen::Open, Seen::Tell(11)]);
    lane.with(|core, fx| core.accepted(stream, 100, fx));
    assert_eq!(poll(&ticket), Poll::Ready(Ok(())));
}

#[test]
fn an_answer_confirms_what_was_sent_before_its_ask() {
    let (mut lane, stream) = Lane::opened();
    (0..10).for_each(|n| drop(lane.tell(n)));
    lane.ask(5, 0).unwrap();
    assert_eq!(lane.core.answered(stream, 1), Ok(Some(5)));
    lane.with(|core, fx| core.ended(stream, Err(Fault::PeerGone), fx));
    assert_eq!(lane.lost, 0);
}

#[test]
fn messages_in_line_survive_a_lost_link_and_go_out_on_the_next() {
    let (mut lane, stream) = Lane::opened();
    (1..1000).for_each(|n| drop(lane.tell(n)));
    lane.seen(stream);
    waiting(lane.tell(1000));
    lane.credit(stream, 1000, 1 << 20, 1000);
    lane.with(|core, fx| core.ended(stream, Err(Fault::PeerGone), fx));
    assert_eq!((lane.lost, lane.opens), (0, 1));
    let stream = lane.open();
    assert_eq!(lane.seen(stream), [Seen::Open, Seen::Tell(1000)]);
}

#[test]
fn a_successor_waits_until_the_drained_stream_is_in_the_inlet() {
    let (mut lane, stream) = Lane::opened();
    lane.tell(1).unwrap();
    lane.ask(5, 2).unwrap();
    lane.with(|core, fx| core.drain(fx));
    let ticket = waiting(lane.tell(3));
    assert!(lane.with(|core, fx| core.drained(stream, fx)).is_err());
    assert_eq!(lane.seen(stream), [Seen::Tell(1), Seen::Ask(1, 2), Seen::Finish]);
    assert_eq!(lane.opens, 0);
    lane.with(|core, fx| core.drained(stream, fx)).unwrap();
    assert_eq!(lane.opens, 1);
    let next = lane.open();
    assert_eq!(lane.seen(next), [Seen::Open, Seen::Tell(3)]);
    lane.with(|core, fx| core.accepted(next, 1 << 20, fx));
    assert_eq!(poll(&ticket), Poll::Ready(Ok(())));
    // The old stream still brings its reply; when it is lost instead, only what it carried is in doubt.
    assert_eq!(lane.core.answered(stream, 1), Ok(Some(5)));
    assert!(lane.core.answered(next, 0).is_err());
    lane.with(|core, fx| core.ended(stream, Err(Fault::PeerGone), fx));
    assert_eq!(lane.lost, 1);
    assert!(lane.core.is_open());
}

#[test]
fn a_drained_stream_that_still_talks_changes_nothing_of_its_successor() {
    let (mut lane, stream) = Lane::opened();
    lane.ask(5, 1).unwrap();
    lane.tell(2).unwrap();
    lane.with(|core, fx| core.drain(fx));
    lane.tell(3).unwrap();
    lane.seen(stream);
    lane.with(|core, fx| core.drained(stream, fx)).unwrap();
    // Its handler goes on taking messages while the successor is being opened,
    lane.credit(stream, 2_000, 2 << 20, 3);
    // and a peer that refuses what it accepted before doesn't have a second stream opened.
    lane.with(|core, fx| core.refused(stream, &Fault::NoSuchActor, fx));
    lane.tell(4).unwrap();
    assert_eq!(lane.opens, 1);
    let next = lane.open();
    assert_eq!(lane.seen(next), [Seen::Open, Seen::Tell(3), Seen::Tell(4)]);
    lane.with(|core, fx| core.ended(stream, Err(Fault::PeerGone), fx));
    assert_eq!(lane.lost, 0);
}

#[test]
fn a_stream_that_ended_well_leaves_nothing_in_doubt() {
    let (mut lane, stream) = Lane::opened();
    lane.tell(1).unwrap();
    lane.with(|core, fx| core.drain(fx));
    lane.seen(stream);
    lane.with(|core, fx| core.drained(stream, fx)).unwrap();
    lane.with(|core, fx| core.ended(stream, Ok(()), fx));
    assert_eq!(lane.lost, 0);
    assert!(lane.core.is_closed());
}

#[test]
fn try_tell_before_a_stream_exists_takes_no_more_than_one_may_carry() {
    let mut lane = Lane::new();
    for n in 0..INITIAL_MESSAGES {
        assert!(matches!(lane.try_tell(n), Ok(Submitted::Accepted)));
    }
    assert_eq!(lane.try_tell(0).unwrap_err(), Fault::Full);
    let huge = "x".repeat(INITIAL_BYTES as usize);
    assert!(
        Lane::new()
            .with(|core, fx| core.submit(0, Want::Nothing, "t", &mut encoder(&huge), true, fx))
            .is_err()
    );
    lane.with(|core, fx| core.open_failed(&Fault::Unreachable, fx));
    assert_eq!(lane.lost, INITIAL_MESSAGES);
    assert_eq!(lane.tell(1).unwrap_err(), Fault::LostTells { at_most: INITIAL_MESSAGES });
}

#[test]
fn silence_of_the_peer_ends_asks_but_keeps_tells_in_line() {
    let (mut lane, stream) = Lane::opened();
    (1..1000).for_each(|n| drop(lane.tell(n)));
    lane.seen(stream);
    waiting(lane.tell(1000));
    lane.seen(stream);
    lane.ask(5, 1).unwrap();
    lane.with(|core, fx| core.fail_asks(&Fault::Unreachable, fx));
    assert_eq!(lane.answers.len(), 2);
    lane.credit(stream, 2000, 1 << 20, 900);
    assert_eq!(lane.seen(stream), [Seen::Tell(1000)]);
    // A late answer finds nobody.
    assert_eq!(lane.core.answered(stream, 0), Ok(None));
}

#[test]
fn a_message_larger_than_the_receiver_takes_is_refused_here() {
    let (mut lane, stream) = Lane::opened();
    lane.with(|core, fx| core.accepted(stream, 100, fx));
    let text = "x".repeat(100);
    let refused =
        lane.with(|core, fx| core.submit(0, Want::Nothing, "t", &mut encoder(&text), false, fx));
    assert_eq!(refused.unwrap_err(), Fault::TooLarge { limit: 100 });
    assert!(matches!(lane.tell(1), Ok(Submitted::Accepted)));
}

#[test]
fn a_receiver_that_takes_more_than_was_sent_is_refused() {
    let (mut lane, stream) = Lane::opened();
    assert!(lane.with(|core, fx| core.credit(stream, 2000, 1 << 20, 2, fx)).is_err());
}

#[test]
fn a_flush_takes_its_place_in_line() {
    let (mut lane, stream) = Lane::opened();
    lane.tell(1).unwrap();
    lane.with(|core, fx| core.submit(0, Want::Flushed(8), "", &mut Encoder::new(0), false, fx))
        .unwrap();
    lane.tell(2).unwrap();
    assert_eq!(lane.seen(stream), [Seen::Tell(1), Seen::Flush(1), Seen::Tell(2)]);
    assert_eq!(lane.core.answered(stream, 1), Ok(Some(8)));
}

#[test]
fn a_second_answer_to_an_ask_is_refused() {
    let (mut lane, stream) = Lane::opened();
    lane.ask(5, 1).unwrap();
    assert_eq!(lane.core.answered(stream, 0), Ok(Some(999)));
    assert_eq!(lane.core.answered(stream, 1), Ok(Some(5)));
    assert!(lane.core.answered(stream, 0).is_err());
}

#[test]
fn a_flush_fails_when_a_tell_before_it_was_not_delivered() {
    let (mut lane, stream) = Lane::opened();
    lane.tell(1).unwrap();
    lane.with(|core, fx| core.submit(0, Want::Flushed(8), "", &mut Encoder::new(0), false, fx))
        .unwrap();
    lane.with(|core, fx| core.undelivered(stream, 1, fx));
    assert_eq!(lane.answers, [(8, Fault::LostTells { at_most: 1 })]);
    assert_eq!(lane.core.answered(stream, 1), Ok(None));
    // The sender knows; the next one goes on.
    lane.tell(2).unwrap();
}

#[test]
fn a_flush_in_line_does_not_outlive_the_stream_with_the_tells_before_it() {
    let (mut lane, stream) = Lane::opened();
    (1..1000).for_each(|n| drop(lane.tell(n)));
    lane.with(|core, fx| core.submit(0, Want::Flushed(8), "", &mut Encoder::new(0), false, fx))
        .unwrap();
    waiting(lane.tell(1000));
    lane.with(|core, fx| core.ended(stream, Err(Fault::PeerGone), fx));
    assert_eq!(lane.answers, [(999, Fault::PeerGone), (8, Fault::LostTells { at_most: 999 })]);
    let next = lane.open();
    assert_eq!(lane.seen(next), [Seen::Open, Seen::Tell(1000)]);
}

#[test]
fn a_drained_stream_cannot_reclaim_its_successor() {
    let (mut lane, stream) = Lane::opened();
    lane.with(|core, fx| core.drain(fx));
    assert_eq!(lane.seen(stream), [Seen::Finish]);
    lane.with(|core, fx| core.drained(stream, fx)).unwrap();
    drop(lane.tell(1));
    let next = lane.open();
    lane.with(|core, fx| core.reclaimed(stream, fx));
    assert!(lane.core.is_flowing());
    lane.with(|core, fx| core.reclaimed(next, fx));
    assert!(!lane.core.is_flowing());
}

#[test]
fn an_ask_that_is_given_up_is_forgotten_at_once_and_the_other_side_is_told() {
    for cancels in [true, false] {
        let (mut lane, stream) = Lane { cancels, ..Lane::new() }.into_opened();
        lane.ask(5, 1).unwrap();
        lane.ask(6, 2).unwrap();
        assert_eq!(lane.with(|core, fx| core.cancel(1, fx)), Some(5));
        assert_eq!(lane.with(|core, fx| core.cancel(1, fx)), None, "once");
        let told: &[Seen] = if cancels { &[Seen::Cancel(1)] } else { &[] };
        assert_eq!(lane.seen(stream), [&[Seen::Ask(1, 1), Seen::Ask(2, 2)], told].concat());
        // Each ask is answered, also this one; the other goes on.
        assert_eq!(lane.core.answered(stream, 1), Ok(None));
        assert_eq!(lane.core.answered(stream, 2), Ok(Some(6)));
        assert_eq!(lane.with(|core, fx| core.cancel(2, fx)), None, "it was answered");
        // On a stream that is ended nothing more can be said.
        lane.ask(7, 3).unwrap();
        lane.with(|core, fx| core.drain(fx));
        assert_eq!(lane.seen(stream), [Seen::Ask(3, 3), Seen::Finish]);
        assert_eq!(lane.with(|core, fx| core.cancel(3, fx)), Some(7));
        assert_eq!(lane.seen(stream), []);
    }
}

#[test]
fn asks_that_end_by_the_peers_silence_are_taken_back_when_it_hears_again() {
    let (mut lane, stream) = Lane { cancels: true, ..Lane::new() }.into_opened();
    lane.ask(5, 1).unwrap();
    lane.with(|core, fx| {
        core.hold(true, fx);
        core.fail_asks(&Fault::Unreachable, fx);
    });
    assert_eq!(lane.seen(stream), [Seen::Ask(1, 1), Seen::Cancel(0), Seen::Cancel(1)]);
}

#[test]
fn ten_million_asks_that_are_given_up_leave_the_lane_as_it_was() {
    let (mut lane, stream) = Lane { cancels: true, ..Lane::new() }.into_opened();
    assert_eq!(lane.core.answered(stream, 0), Ok(Some(999)));
    let mut encoder = encoder(&7u64);
    // What is written meanwhile is not looked at.
    lane.known.push("ask".into());
    let waker = Waker::noop();
    let (mut fx, mut largest) = (Effects::default(), 0);
    // By hand and with one list of effects, for these are many.
    for batch in 0..100_000u64 {
        let asks = 1 + 100 * batch..1 + 100 * (batch + 1);
        for ask in asks.clone() {
            let slot = ask as u32;
            let want = Want::Answer(slot);
            drop(lane.core.submit(0, want, "ask", &mut encoder, false, &mut fx).unwrap());
            assert!(lane.core.cancel(ask, &mut fx) == Some(slot));
        }
        match lane.core.poll_output(stream, &mut Context::from_waker(waker)) {
            Poll::Ready(Output::Write { bytes, .. }) => largest = largest.max(bytes.len()),
            other => panic!("{other:?}"),
        }
        for ask in asks.clone() {
            assert!(lane.core.answered(stream, ask) == Ok(None));
        }
        lane.credit(stream, asks.end + 1000, 1 << 40, asks.end);
        let (memory, left) = (lane.core.memory(), fx.failed.len() + fx.wake.len());
        assert!(memory < 64 << 10 && left == 0, "{memory} bytes after {batch} batches");
    }
    assert!(largest < 100 * 32, "{largest}");
    assert!(lane.core.is_quiet() || !lane.core.has_asks());
    assert!(lane.core.memory() < 64 << 10, "{}", lane.core.memory());
    let ask = 10_000_001;
    assert_eq!(lane.seen(stream), []);
    assert!(matches!(lane.ask(5, 42), Ok(Submitted::Accepted)));
    assert!(matches!(lane.tell(43), Ok(Submitted::Accepted)));
    assert_eq!(lane.seen(stream), [Seen::Ask(ask, 42), Seen::Tell(43)]);
    assert_eq!(lane.core.answered(stream, ask), Ok(Some(5)));
}

#[test]
fn senders_that_give_up_in_line_one_after_the_other_leave_nothing_behind() {
    let (mut lane, stream) = Lane { cancels: true, ..Lane::new() }.into_opened();
    (1..1000).for_each(|n| drop(lane.tell(n)));
    lane.seen(stream);
    for n in 0..1_000_000 {
        let ticket = waiting(lane.ask(5, 7));
        lane.with(|core, fx| core.withdraw(&ticket, fx));
        assert_eq!(lane.with(|core, fx| core.cancel(n + 1, fx)), None);
    }
    // What waits is asked for once, not once a sender.
    assert!(matches!(lane.seen(stream)[..], [Seen::Need(_)]));
    lane.credit(stream, 2000, 1 << 20, 0);
    assert!(matches!(lane.ask(5, 42), Ok(Submitted::Accepted)));
    assert_eq!(lane.seen(stream), [Seen::Ask(1_000_001, 42)]);
}
