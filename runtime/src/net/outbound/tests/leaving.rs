//! What a lane owes when its mesh ends, and how it takes that back.

use super::{Lane, Seen};
use crate::codec::frame::FrameError;
use crate::ground::error::Fault;
use crate::net::outbound::core::{Owed, Submitted};

fn unconfirmed(unconfirmed: u64) -> Owed {
    Owed { lost: 0, unconfirmed }
}

fn lost(lost: u64) -> Owed {
    Owed { lost, unconfirmed: 0 }
}

impl Lane {
    fn end(&mut self) -> Owed {
        self.with(|core, fx| core.shut_down(&Fault::ShutDown, fx))
    }

    fn withdrawn(&mut self, stream: u64, passed: u64) -> Result<(), FrameError> {
        self.with(|core, fx| core.withdrawn(stream, passed, fx))
    }
}

#[test]
fn what_was_accepted_is_owed_until_it_has_arrived_and_counted_if_it_never_does() {
    for arrives in [true, false] {
        let mut lane = Lane::new();
        // Before there is a stream: who waits in line was promised nothing.
        assert!(matches!(lane.tell(0), Ok(Submitted::Waiting(_))));
        for n in 1..=3 {
            assert!(matches!(lane.try_tell(n), Ok(Submitted::Accepted)));
        }
        assert_eq!(lane.core.owed(), lost(3));
        lane.core.refuse_new(&Fault::ShutDown);
        assert_eq!(lane.try_tell(4).unwrap_err(), Fault::ShutDown);
        let stream = lane.open();
        assert_eq!(lane.core.owed(), lost(3));
        lane.with(|core, fx| core.accepted(stream, u64::MAX, fx));
        // The first one's sender has its `Ok` now.
        assert_eq!(lane.core.owed(), lost(4));
        lane.credit(stream, 1000, 1 << 20, 0);
        assert_eq!(lane.seen(stream).len(), 5);
        assert_eq!(lane.core.owed(), unconfirmed(4));
        lane.credit(stream, 1000, 1 << 20, 1);
        assert_eq!(lane.core.owed(), unconfirmed(3));
        lane.with(|core, fx| core.drain(fx));
        assert_eq!(lane.seen(stream).last(), Some(&Seen::Finish));
        if arrives {
            lane.with(|core, fx| core.drained(stream, fx)).unwrap();
        }
        let owed = unconfirmed(if arrives { 0 } else { 3 });
        assert_eq!(lane.core.owed(), owed);
        assert_eq!(lane.end(), owed);
        assert_eq!(lane.end(), Owed::default());
        // The link ends after the mesh.
        lane.with(|core, fx| core.ended(stream, Err(Fault::ShutDown), fx));
        assert_eq!(lane.lost, 0);
    }
}

#[test]
fn what_never_left_is_lost_and_what_left_is_in_doubt() {
    let (mut lane, stream) = Lane::opened();
    (0..5).for_each(|n| drop(lane.tell(n)));
    assert_eq!(lane.seen(stream).len(), 5);
    assert!(lane.core.is_in_doubt());
    (5..12).for_each(|n| drop(lane.tell(n)));
    assert_eq!(lane.core.owed(), Owed { lost: 7, unconfirmed: 5 });
    // The ask before them, and two of them.
    lane.credit(stream, 1000, 1 << 20, 3);
    assert_eq!(lane.end(), Owed { lost: 7, unconfirmed: 3 });
}

#[test]
fn what_the_receiver_gives_back_is_lost_and_nothing_is_in_doubt() {
    for in_all in [7, 11] {
        let (mut lane, stream) = Lane::opened();
        (0..10).for_each(|n| drop(lane.tell(n)));
        lane.with(|core, fx| core.drain(fx));
        assert_eq!(lane.seen(stream).last(), Some(&Seen::Finish));
        lane.core.take_back(&Fault::ShutDown);
        assert!(lane.core.is_in_doubt());
        // Among them the ask before the tells.
        lane.withdrawn(stream, in_all).unwrap();
        assert!(!lane.core.is_in_doubt());
        assert_eq!(lane.answers, [(999, Fault::ShutDown)]);
        // The receiver ends the stream, of which all is known.
        lane.with(|core, fx| core.ended(stream, Ok(()), fx));
        assert_eq!((lane.core.is_quiet(), lane.lost), (in_all == 11, 0));
        assert_eq!(lane.end(), lost(11 - in_all));
    }
}

#[test]
fn nothing_leaves_any_more_once_it_is_taken_back() {
    let mut lane = Lane::new();
    (0..3).for_each(|n| drop(lane.try_tell(n)));
    assert_eq!(lane.opens, 1);
    lane.core.take_back(&Fault::ShutDown);
    let stream = lane.open();
    lane.with(|core, fx| core.accepted(stream, u64::MAX, fx));
    assert_eq!(lane.seen(stream), [Seen::Open]);
    assert!(!lane.core.is_in_doubt());
    lane.with(|core, fx| core.ended(stream, Err(Fault::PeerGone), fx));
    assert_eq!((lane.opens, lane.end()), (1, lost(3)));
}

#[test]
fn the_word_that_all_has_arrived_may_cross_the_wish_to_take_it_back() {
    let (mut lane, stream) = Lane::opened();
    (0..10).for_each(|n| drop(lane.tell(n)));
    lane.with(|core, fx| core.drain(fx));
    assert_eq!(lane.seen(stream).last(), Some(&Seen::Finish));
    lane.core.take_back(&Fault::ShutDown);
    lane.with(|core, fx| core.drained(stream, fx)).unwrap();
    lane.withdrawn(stream, 11).unwrap();
    assert_eq!(lane.end(), Owed::default());
}

#[test]
fn a_receiver_gives_nothing_back_unasked_and_no_more_than_there_was() {
    let refused = Err(FrameError::Unexpected("WITHDRAWN"));
    let (mut lane, stream) = Lane::opened();
    drop(lane.tell(1));
    assert_eq!(lane.withdrawn(stream, 1), refused);
    lane.core.take_back(&Fault::ShutDown);
    assert_eq!(lane.withdrawn(stream, 3), refused);
    assert_eq!(lane.withdrawn(stream + 1, 1), refused);
    lane.withdrawn(stream, 1).unwrap();
    assert_eq!(lane.withdrawn(stream, 1), refused);
}

#[test]
fn the_end_of_the_link_is_no_loss_of_what_had_arrived_when_the_mesh_ended() {
    let (mut lane, stream) = Lane::opened();
    (0..10).for_each(|n| drop(lane.tell(n)));
    lane.with(|core, fx| core.drain(fx));
    assert_eq!(lane.seen(stream).last(), Some(&Seen::Finish));
    lane.with(|core, fx| core.drained(stream, fx)).unwrap();
    assert_eq!(lane.end(), Owed::default());
    lane.with(|core, fx| core.ended(stream, Err(Fault::PeerGone), fx));
    assert_eq!(lane.lost, 0);
}
