//! The way back of one lane: replies are encoded on the actors' threads into a buffer that the stream's writer takes.

use super::abandoned::Account;
use super::budget::Budget;
use super::outstanding::Outstanding;
use crate::codec::encoder_pool::with_encoder;
use crate::codec::frame::lane::{Backward, Beside, put_backward, put_reply};
use crate::codec::frame::{FrameError, PAYLOAD_INLINE_MAX};
use crate::codec::payload::Encoder;
use crate::ground::encoding::EncodeError;
use crate::ground::error::Fault;
use crate::net::output::{Bodies, Output};
use crate::net::stream::Express;
use crate::net::wake_batch;
use crate::refs::cancellation::Signal;
use crate::refs::way_back::ReplyPort;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

/// Bytes of replies that wait for the asker to read them before no more of its asks are handled. A guess. What those add
/// that are being handled by then is paid for out of a budget, and is not kept if that is used up.
const BACKLOG_MAX: usize = 4 << 20;

/// Asks of one lane that the inlet and the actor may have before the lane passes on no more: bounds the futures of slow handlers. A
/// guess. Those that wait in the lane don't count: were there as many of them, none would ever be passed on.
const IN_HAND_MAX: usize = 16 * 1024;

/// One lane's way back.
#[derive(Debug)]
pub(crate) struct Replies {
    limit: usize,
    budget: Arc<Budget>,
    account: Account,
    state: Mutex<State>,
    /// Whether there are abandoned asks, for actors to see without the lock.
    has_abandoned: AtomicBool,
    /// Nobody hears the answers, and nothing bounds what is asked.
    unheard: AtomicBool,
    /// The sender of the lane takes back what hasn't been passed on.
    withdrawn: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    out: Vec<u8>,
    out_hint: usize,
    bodies: Vec<Bodies>,
    groups: u64,
    body_bytes: usize,
    /// Bytes that the writer took and may still hold.
    in_hand: usize,
    /// Taken out of the budget.
    paid: u64,
    unanswered: Outstanding,
    /// How many of those wait in the lane.
    held: usize,
    /// The asker has ended its direction of the stream, so nobody can give up those that are unanswered: they count as given up.
    ended: bool,
    /// The most of them since there were none.
    at_once: usize,
    /// Asks that were given up, and answered thereby, while the inlet or the actor has them.
    abandoned: BTreeSet<u64>,
    /// How handlers hear that their asker gives up, of those that want to.
    signals: BTreeMap<u64, Arc<Signal>>,
    writer: Option<Waker>,
    /// The way to the stream for the answer to an ask that no other was under way with. Only while there is a stream, for it
    /// keeps the link's memory, and an actor may keep an ask for ever.
    express: Option<Express>,
    lane: Option<Waker>,
    /// The lane's task, for when its peer refuses the answers, or leaves.
    reader: Option<Waker>,
    finish: bool,
    /// The last frame has been said.
    over: bool,
    closed: bool,
    /// Whether a reply was dropped, which the log is told once.
    gave_up: bool,
}

impl State {
    fn backlog(&self) -> usize {
        self.out.len() + self.body_bytes + self.in_hand
    }

    fn is_full(&self) -> bool {
        let in_hand = self.unanswered.len().saturating_sub(self.held);
        self.backlog() > BACKLOG_MAX || in_hand >= IN_HAND_MAX
    }

    /// Whether a reply of this size may wait for the asker too.
    fn admits(&mut self, size: usize, budget: &Budget) -> bool {
        let fits = self.backlog() + size <= BACKLOG_MAX;
        if !fits && !budget.take_for_need(size as u64) {
            return false;
        }
        self.paid += if fits { 0 } else { size as u64 };
        true
    }

    fn settle(&mut self, budget: &Budget) {
        if self.paid > 0 && self.backlog() <= BACKLOG_MAX {
            budget.give_back(std::mem::take(&mut self.paid));
        }
    }

    fn keep_writer(&mut self, cx: &Context<'_>) {
        match &mut self.writer {
            Some(waker) => waker.clone_from(cx.waker()),
            writer => *writer = Some(cx.waker().clone()),
        }
    }

    /// After something was put into `out`: whom to wake.
    fn wake_writer(&mut self) -> Option<Waker> {
        self.writer.take()
    }
}

impl Replies {
    /// `limit`: the largest reply with its bodies, in bytes. `budget`: for what exceeds the lane's own backlog.
    /// `account`: for asks that are given up while an actor has them.
    pub(crate) fn new(limit: usize, budget: Arc<Budget>, account: Account) -> Self {
        let (state, has_abandoned) = (Mutex::default(), AtomicBool::new(false));
        let (unheard, withdrawn) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { limit, budget, account, state, has_abandoned, unheard, withdrawn }
    }

    /// Who reads the lane, and ends it when [`Self::is_unheard`].
    pub(crate) fn set_reader(&self, reader: &Waker) {
        let mut state = self.state.lock();
        if !state.closed {
            state.reader = Some(reader.clone());
        }
    }

    /// Whether the lane must end: the asker has stopped the stream of its answers, or that is gone and as many asks whose
    /// answers nobody hears are in hand as may be.
    pub(crate) fn is_unheard(&self) -> bool {
        self.unheard.load(Ordering::Acquire)
    }

    /// The asker has stopped the stream.
    pub(crate) fn refuse(&self) {
        self.unheard.store(true, Ordering::Release);
        self.close();
    }

    /// The asker has ended its direction, and all that came before is in the inlet.
    pub(crate) fn asker_ended(&self) {
        let mut state = self.state.lock();
        if !state.closed && !state.over && !std::mem::replace(&mut state.ended, true) {
            self.account.add(state.unanswered.len());
        }
    }

    /// Whether the lane is to pass on nothing more.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.withdrawn.load(Ordering::Acquire)
    }

    /// The sender of the lane leaves.
    pub(crate) fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::Release);
        let reader = self.state.lock().reader.clone();
        reader.into_iter().for_each(Waker::wake);
    }

    /// The stream has its writer.
    pub(crate) fn set_express(&self, express: Express) {
        let mut state = self.state.lock();
        if !state.closed {
            state.express = Some(express);
        }
    }

    /// One more ask (or flush) will be answered.
    ///
    /// # Errors
    /// [`FrameError::Unexpected`]: its number doesn't follow the last one's.
    pub(crate) fn expect(&self, ask: u64) -> Result<(), FrameError> {
        let mut state = self.state.lock();
        if state.closed {
            self.account.add(1);
            return Ok(());
        }
        let before = state.unanswered.len();
        state.at_once = if before == 0 { 1 } else { state.at_once.max(before + 1) };
        state.unanswered.expect(ask)
    }

    /// The asker gave up. The ask counts as answered from here on, and who has it in hand is told; `held`: nobody has. One
    /// that has been answered meanwhile is left alone.
    ///
    /// # Errors
    /// [`FrameError::Unexpected`]: there was no such ask.
    pub(crate) fn cancel(&self, ask: u64, held: bool) -> Result<(), FrameError> {
        let (writer, signal) = {
            let mut state = self.state.lock();
            if state.closed {
                self.account.release(usize::from(held));
                return Ok(());
            }
            if !state.unanswered.knows(ask) {
                return Err(FrameError::Unexpected("CANCEL"));
            }
            if !state.unanswered.settle(ask) {
                return Ok(());
            }
            put_backward(&mut state.out, &Backward::Fault { ask, fault: Fault::NoReply });
            if !held {
                state.abandoned.insert(ask);
                self.account.add(usize::from(!state.ended));
                self.has_abandoned.store(true, Ordering::Relaxed);
            }
            (state.wake_writer(), state.signals.remove(&ask))
        };
        writer.into_iter().for_each(Waker::wake);
        signal.into_iter().for_each(|signal| signal.give());
        Ok(())
    }

    /// The stream is gone, and so many of the asks that wait for an answer are dropped without the actor having had them.
    pub(crate) fn close_and_drop(&self, asks: usize) {
        // The last frame may still be on its way.
        if !self.state.lock().over {
            self.close();
        }
        self.account.release(asks);
    }

    /// Sends a frame that answers no ask.
    pub(crate) fn send(&self, frame: &Backward<'_>) {
        let waker = {
            let mut state = self.state.lock();
            if state.closed || state.over {
                return;
            }
            put_backward(&mut state.out, frame);
            state.wake_writer()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Sends this as the last frame of the stream. Whatever is answered later is dropped: to the asker it has ended by then.
    pub(crate) fn end_with(&self, last: &Backward<'_>) {
        let (waker, signals) = {
            let mut state = self.state.lock();
            if state.closed || state.over {
                return;
            }
            put_backward(&mut state.out, last);
            (state.finish, state.over) = (true, true);
            // Whoever has them answers in vain.
            let unanswered = std::mem::take(&mut state.unanswered).len();
            self.account.add(if state.ended { 0 } else { unanswered });
            state.abandoned.clear();
            self.has_abandoned.store(false, Ordering::Relaxed);
            (state.wake_writer(), std::mem::take(&mut state.signals))
        };
        waker.into_iter().for_each(Waker::wake);
        signals.into_values().for_each(|signal| signal.give());
    }

    /// Ready while the lane may pass on more. `held`: how many asks wait in it. When the stream is gone, what the lane
    /// still has is handled as far as its peer has room; then it must end, lest each connection leave something behind.
    pub(crate) fn poll_room(&self, held: usize, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        state.held = held;
        if state.is_full() && !state.closed {
            state.lane = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let room = self.account.poll_room(cx);
        if state.closed && room.is_pending() {
            self.unheard.store(true, Ordering::Release);
        }
        room
    }

    /// Ready when every ask has been answered.
    pub(crate) fn poll_all_answered(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if !state.unanswered.is_empty() && !state.closed {
            state.lane = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Whether every ask has been answered and every answer handed to QUIC.
    pub(crate) fn is_settled(&self) -> bool {
        let state = self.state.lock();
        state.closed || (state.unanswered.is_empty() && state.backlog() == 0)
    }

    /// Whether every answer that was given has been handed to QUIC.
    pub(crate) fn has_sent(&self) -> bool {
        let state = self.state.lock();
        state.closed || state.backlog() == 0
    }

    /// Ends the stream after what is in the buffer.
    pub(crate) fn finish(&self) {
        let waker = {
            let mut state = self.state.lock();
            state.finish = true;
            state.wake_writer()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// The stream is gone: what still comes is dropped.
    pub(crate) fn close(&self) {
        let before = {
            let mut state = self.state.lock();
            if state.closed {
                return;
            }
            // Whoever has them answers in vain; those that the lane still holds are dropped, and counted off, by it.
            self.account.add(if state.ended { 0 } else { state.unanswered.len() });
            std::mem::replace(&mut *state, State { closed: true, ..State::default() })
        };
        self.has_abandoned.store(false, Ordering::Relaxed);
        self.budget.give_back(before.paid);
        before.signals.into_values().for_each(|signal| signal.give());
        [before.writer, before.lane, before.reader].into_iter().flatten().for_each(Waker::wake);
    }

    /// What the stream's writer has to do. Stores its waker if there's nothing.
    pub(crate) fn poll_output(&self, cx: &mut Context<'_>) -> Poll<Output> {
        let mut state = self.state.lock();
        self.put_down(&mut state);
        if !state.out.is_empty() {
            state.in_hand = state.out.len();
            state.out_hint = state.out.len().clamp(64, 64 * 1024);
            let bytes = std::mem::take(&mut state.out);
            let bodies = std::mem::take(&mut state.bodies);
            return Poll::Ready(Output::Write { bytes, bodies });
        }
        if state.closed {
            return Poll::Ready(Output::Gone);
        }
        if std::mem::take(&mut state.finish) {
            return Poll::Ready(Output::Finish);
        }
        state.keep_writer(cx);
        Poll::Pending
    }

    /// Ready when the stream is gone. Stores the writer's waker if it isn't.
    pub(crate) fn poll_gone(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.closed {
            return Poll::Ready(());
        }
        state.keep_writer(cx);
        Poll::Pending
    }

    /// The writer comes for more: it is done with what it took last.
    fn put_down(&self, state: &mut State) {
        if std::mem::take(&mut state.in_hand) > 0 {
            state.settle(&self.budget);
            if !state.is_full()
                && let Some(lane) = state.lane.take()
            {
                lane.wake();
            }
        }
    }

    /// The writer is done with what it took: so many bytes of bodies are off our hands.
    pub(crate) fn written(&self, body_bytes: usize) {
        let waker = {
            let mut state = self.state.lock();
            state.body_bytes = state.body_bytes.saturating_sub(body_bytes);
            state.settle(&self.budget);
            if state.is_full() { None } else { state.lane.take() }
        };
        waker.into_iter().for_each(Waker::wake);
    }

    fn answer(&self, ask: u64, put: impl FnOnce(&mut State)) {
        let (writer, lane, express, counted) = {
            let mut state = self.state.lock();
            if state.closed || state.over {
                drop(state);
                return self.account.release(1);
            }
            let was_full = state.is_full();
            if !state.unanswered.settle(ask) {
                if state.abandoned.remove(&ask) {
                    self.has_abandoned.store(!state.abandoned.is_empty(), Ordering::Relaxed);
                    drop(state);
                    self.account.release(1);
                }
                return;
            }
            if !state.signals.is_empty() {
                state.signals.remove(&ask);
            }
            if state.out.is_empty() {
                let hint = state.out_hint;
                state.out.reserve(hint);
            }
            put(&mut state);
            let lane = if state.unanswered.is_empty() || (was_full && !state.is_full()) {
                state.lane.take()
            } else {
                None
            };
            let writer = state.wake_writer();
            let alone = writer.is_some() && state.at_once <= 1;
            (writer, lane, if alone { state.express.clone() } else { None }, state.ended)
        };
        if counted {
            self.account.release(1);
        }
        lane.into_iter().for_each(wake_batch::wake);
        if let Some(writer) = writer {
            wake_batch::send(writer, express);
        }
    }
}

/// The asker doesn't read its replies, and there are too many to keep.
fn give_up(state: &mut State, ask: u64) {
    if !std::mem::replace(&mut state.gave_up, true) {
        tracing::debug!(ask, "replies are dropped: too many wait for this peer to read them");
    }
    put_backward(&mut state.out, &Backward::Fault { ask, fault: Fault::ReplyDropped });
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.budget.give_back(self.state.get_mut().paid);
    }
}

impl ReplyPort for Replies {
    fn reply(&self, ask: u64, encode: &mut dyn FnMut(&mut Encoder) -> Result<(), EncodeError>) {
        with_encoder(self.limit, |encoder| match encode(encoder) {
            Ok(())
                if encoder.bytes().len() <= PAYLOAD_INLINE_MAX && encoder.bodies().is_empty() =>
            {
                self.answer(ask, |state| {
                    if state.admits(encoder.bytes().len(), &self.budget) {
                        put_reply(&mut state.out, ask, None, encoder.bytes());
                    } else {
                        give_up(state, ask);
                    }
                });
            }
            Ok(()) => {
                let (payload, mut bodies) = encoder.take();
                let whole_beside = payload.len() > PAYLOAD_INLINE_MAX;
                let mut inline = payload;
                if whole_beside {
                    bodies.push(Bytes::from(std::mem::take(&mut inline)));
                }
                let beside = Beside {
                    lens: bodies.iter().map(|body| body.len() as u64).collect(),
                    payload: whole_beside,
                };
                let total = beside.total() as usize;
                self.answer(ask, |state| {
                    if !state.admits(inline.len() + total, &self.budget) {
                        return give_up(state, ask);
                    }
                    put_reply(&mut state.out, ask, Some(&beside), &inline);
                    state.body_bytes += total;
                    state.bodies.push(Bodies { group: state.groups, bodies });
                    state.groups += 1;
                });
            }
            Err(EncodeError::TooLarge { limit }) => {
                self.fault(ask, Fault::TooLarge { limit: limit as u64 })
            }
            Err(EncodeError::Unencodable(why)) => self.fault(ask, Fault::Unencodable(why)),
        });
    }

    fn fault(&self, ask: u64, fault: Fault) {
        self.answer(ask, |state| put_backward(&mut state.out, &Backward::Fault { ask, fault }));
    }

    fn is_cancelled(&self, ask: u64) -> bool {
        self.has_abandoned.load(Ordering::Relaxed) && self.state.lock().abandoned.contains(&ask)
    }

    fn signal(&self, ask: u64) -> Option<Arc<Signal>> {
        let mut state = self.state.lock();
        if state.closed || state.abandoned.contains(&ask) {
            let signal = Arc::new(Signal::default());
            signal.give();
            return Some(signal);
        }
        Some(state.signals.entry(ask).or_default().clone())
    }

    fn undelivered(&self, tells: u64, fault: Fault) {
        let refused = matches!(fault, Fault::Quarantined { .. });
        self.send(&Backward::Undelivered { tells, fault });
        if refused {
            // The next stream is refused, so that its sender is told why.
            self.send(&Backward::Reclaim);
        }
    }

    fn is_closed(&self) -> bool {
        self.state.lock().closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::frame::lane::backward;
    use crate::net::inbound::abandoned::{Abandoned, PEER_MAX};

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn account() -> Account {
        let peer = webmesh_transport::SecretKey::generate().peer_id();
        Abandoned::default().account(peer, None)
    }

    /// Takes what there is to write and says which asks it answers.
    fn answered(replies: &Replies) -> Vec<u64> {
        let mut asks = Vec::new();
        while let Poll::Ready(Output::Write { bytes, .. }) = replies.poll_output(&mut cx()) {
            let mut rest = &bytes[..];
            while let Some((len, prefix)) = crate::codec::frame::varint::get(rest).unwrap() {
                let (frame, after) = rest[prefix..].split_at(len as usize);
                rest = after;
                match backward(frame, 0).unwrap() {
                    Backward::Reply { ask, .. } | Backward::Fault { ask, .. } => asks.push(ask),
                    _ => {}
                }
            }
        }
        asks
    }

    #[test]
    fn replies_and_failures_are_written_and_the_last_one_is_noticed() {
        let replies = Replies::new(1000, Budget::new(0, 0, None), account());
        for ask in 5..8 {
            replies.expect(ask).unwrap();
        }
        replies.reply(5, &mut |encoder| encoder.encode("hi"));
        replies.reply(6, &mut |encoder| encoder.encode(&"x".repeat(2000)));
        assert!(replies.poll_all_answered(&cx()).is_pending());
        replies.fault(7, Fault::NoReply);
        assert!(replies.poll_all_answered(&cx()).is_ready());
        let Poll::Ready(Output::Write { bytes, .. }) = replies.poll_output(&mut cx()) else {
            panic!()
        };
        assert_eq!(
            backward(&bytes[1..6], 0),
            Ok(Backward::Reply { ask: 5, beside: None, payload: b"\xa2hi" })
        );
        let second = &bytes[6..];
        let len = usize::from(second[0]);
        let fault = Fault::TooLarge { limit: 1000 };
        assert_eq!(backward(&second[1..=len], 0), Ok(Backward::Fault { ask: 6, fault }));
        replies.finish();
        assert_eq!(replies.poll_output(&mut cx()), Poll::Ready(Output::Finish));
    }

    #[test]
    fn an_asker_that_does_not_read_is_not_served_further() {
        let replies = Replies::new(64 << 20, Budget::new(64 << 20, 0, None), account());
        assert!(replies.poll_room(0, &cx()).is_ready());
        replies.expect(0).unwrap();
        let body = crate::Bytes::from(vec![0; 5 << 20]);
        replies.reply(0, &mut |encoder| encoder.encode(&body));
        assert!(replies.poll_room(0, &cx()).is_pending());
        drop(replies.poll_output(&mut cx()));
        assert!(replies.poll_room(0, &cx()).is_pending());
        replies.written(5 << 20);
        assert!(replies.poll_room(0, &cx()).is_ready());
    }

    #[test]
    fn replies_to_asks_that_were_handled_at_once_are_kept_as_far_as_the_budget_goes() {
        let budget = Budget::new(16 << 20, 0, None);
        let replies = Replies::new(64 << 20, budget.clone(), account());
        let body = crate::Bytes::from(vec![0; 1 << 20]);
        let text = "x".repeat(60_000);
        for ask in 0..100 {
            replies.expect(2 * ask).unwrap();
            replies.expect(2 * ask + 1).unwrap();
            replies.reply(2 * ask, &mut |encoder| encoder.encode(&body));
            replies.reply(2 * ask + 1, &mut |encoder| encoder.encode(&text));
        }
        assert!(replies.poll_all_answered(&cx()).is_ready());
        assert!(!budget.take_for_need(2 << 20));
        let Poll::Ready(Output::Write { bytes, bodies }) = replies.poll_output(&mut cx()) else {
            panic!()
        };
        let kept: usize = bodies.iter().flat_map(|group| &group.bodies).map(Bytes::len).sum();
        assert!((16 << 20..=21 << 20).contains(&(kept + bytes.len())), "{}", kept + bytes.len());
        replies.written(kept);
        assert!(replies.poll_output(&mut cx()).is_pending());
        assert!(budget.take_for_need(16 << 20));
    }

    #[test]
    fn after_the_stream_is_gone_nothing_is_kept() {
        let replies = Replies::new(1000, Budget::new(0, 0, None), account());
        replies.expect(5).unwrap();
        replies.close();
        replies.reply(5, &mut |encoder| encoder.encode("hi"));
        assert_eq!(replies.poll_output(&mut cx()), Poll::Ready(Output::Gone));
    }

    #[test]
    fn a_cancelled_ask_is_answered_once_and_whoever_has_it_hears_of_it() {
        let replies = Replies::new(1000, Budget::new(0, 0, None), account());
        for ask in 0..4 {
            replies.expect(ask).unwrap();
        }
        assert!(replies.expect(3).is_err() && replies.cancel(4, false).is_err());
        let (told, untold) = (replies.signal(1).unwrap(), replies.signal(2).unwrap());
        replies.cancel(0, true).unwrap();
        replies.cancel(1, false).unwrap();
        assert_eq!((told.is_given(), untold.is_given()), (true, false));
        assert!(replies.is_cancelled(1) && !replies.is_cancelled(2));
        assert!(replies.signal(1).unwrap().is_given());
        // The answer to the second crosses the word that nobody waits for it, and is the one that counts.
        replies.reply(2, &mut |encoder| encoder.encode("hi"));
        replies.cancel(2, false).unwrap();
        assert!(!untold.is_given());
        assert!(replies.poll_all_answered(&cx()).is_pending());
        replies.cancel(3, false).unwrap();
        assert!(replies.poll_all_answered(&cx()).is_ready() && !replies.is_settled());
        // Late answers go nowhere.
        replies.reply(1, &mut |encoder| encoder.encode("hi"));
        replies.fault(3, Fault::NoReply);
        assert!(!replies.is_cancelled(1));
        assert_eq!(answered(&replies), [0, 1, 2, 3]);
        let state = replies.state.lock();
        assert!(state.signals.is_empty() && state.abandoned.is_empty());
    }

    #[test]
    fn cancelled_asks_that_an_actor_has_are_counted_until_it_is_done_with_them_stream_or_not() {
        let abandoned = Abandoned::default();
        let peer = webmesh_transport::SecretKey::generate().peer_id();
        let lane = || {
            let account = abandoned.account(peer, None);
            Replies::new(1000, Budget::new(0, 0, None), account)
        };
        let (one, other) = (lane(), lane());
        for ask in 0..PEER_MAX as u64 - 1 {
            one.expect(ask).unwrap();
            one.cancel(ask, false).unwrap();
        }
        let last = PEER_MAX as u64;
        assert!(other.poll_room(0, &cx()).is_ready());
        one.expect(last).unwrap();
        one.expect(last + 1).unwrap();
        // Nobody gave these up, but nobody can hear their answers; the second of them the actor never had.
        one.close_and_drop(1);
        assert!(other.poll_room(0, &cx()).is_pending());
        one.fault(last, Fault::NoReply);
        assert!(other.poll_room(0, &cx()).is_ready());
        for ask in 0..PEER_MAX as u64 - 1 {
            one.fault(ask, Fault::NoReply);
        }
        // To the last one.
        for ask in 0..PEER_MAX as u64 - 1 {
            other.expect(ask).unwrap();
            other.cancel(ask, false).unwrap();
        }
        assert!(other.poll_room(0, &cx()).is_ready());
    }

    #[test]
    fn asks_of_an_asker_that_has_ended_its_stream_count_as_given_up_until_they_are_answered() {
        let abandoned = Abandoned::default();
        let peer = webmesh_transport::SecretKey::generate().peer_id();
        let lane = || Replies::new(1000, Budget::new(0, 0, None), abandoned.account(peer, None));
        let next = lane();
        let mut lanes = Vec::new();
        for _ in 0..PEER_MAX / 64 {
            assert!(next.poll_room(0, &cx()).is_ready());
            let lane = lane();
            (0..64).for_each(|ask| lane.expect(ask).unwrap());
            lane.asker_ended();
            lanes.push(lane);
        }
        assert!(next.poll_room(0, &cx()).is_pending());
        // Each is counted once, whether it is answered first or its stream ends first.
        lanes[0].fault(0, Fault::NoReply);
        assert!(next.poll_room(0, &cx()).is_ready());
        lanes[0].close();
        assert!(next.poll_room(0, &cx()).is_ready());
        lanes[1].end_with(&Backward::Refused(Fault::NoSuchActor));
        for (at, lane) in lanes.iter().enumerate() {
            (u64::from(at == 0)..64).for_each(|ask| lane.fault(ask, Fault::NoReply));
        }
        for ask in 0..PEER_MAX as u64 {
            assert!(next.poll_room(0, &cx()).is_ready());
            next.expect(ask).unwrap();
            next.cancel(ask, false).unwrap();
        }
        assert!(next.poll_room(0, &cx()).is_pending());
    }

    #[test]
    fn a_lane_that_holds_a_whole_window_of_asks_passes_them_on() {
        let replies = Replies::new(1000, Budget::new(0, 0, None), account());
        let window = IN_HAND_MAX as u64;
        (0..window).for_each(|ask| replies.expect(ask).unwrap());
        for held in (1..=IN_HAND_MAX).rev() {
            assert!(replies.poll_room(held, &cx()).is_ready(), "{held} wait in the lane");
        }
        assert!(replies.poll_room(0, &cx()).is_pending());
        // As many more may wait in the lane by then; it goes on with each that ends.
        (window..2 * window).for_each(|ask| replies.expect(ask).unwrap());
        assert!(replies.poll_room(IN_HAND_MAX, &cx()).is_pending());
        replies.fault(3, Fault::NoReply);
        assert!(replies.poll_room(IN_HAND_MAX, &cx()).is_ready());
        assert!(replies.poll_room(IN_HAND_MAX - 1, &cx()).is_pending());
        replies.cancel(4, false).unwrap();
        assert!(replies.poll_room(IN_HAND_MAX - 1, &cx()).is_ready());
    }

    #[test]
    fn a_lane_whose_answers_nobody_hears_is_told_and_has_no_more_room_than_its_peer() {
        #[derive(Default)]
        struct Woken(AtomicBool);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let abandoned = Abandoned::default();
        let peer = webmesh_transport::SecretKey::generate().peer_id();
        let [down, stopped] = [(); 2]
            .map(|()| Replies::new(1000, Budget::new(0, 0, None), abandoned.account(peer, None)));
        let woken = Arc::new(Woken::default());
        for replies in [&down, &stopped] {
            replies.set_reader(&Waker::from(woken.clone()));
        }
        stopped.refuse();
        assert!(woken.0.swap(false, Ordering::Relaxed) && stopped.is_unheard());
        for ask in 0..PEER_MAX as u64 {
            assert!(stopped.poll_room(0, &cx()).is_ready());
            stopped.expect(ask).unwrap();
        }
        assert!(stopped.poll_room(0, &cx()).is_pending());
        // One whose link has ended hands over what it still has as long as there is room, and ends when there is none.
        down.close();
        assert!(woken.0.load(Ordering::Relaxed) && !down.is_unheard());
        assert!(down.poll_room(0, &cx()).is_pending() && down.is_unheard());
        let other = Replies::new(1000, Budget::new(0, 0, None), abandoned.account(peer, None));
        other.close();
        stopped.fault(0, Fault::NoReply);
        assert!(stopped.poll_room(0, &cx()).is_ready());
        assert!(other.poll_room(0, &cx()).is_ready() && !other.is_unheard());
    }

    #[test]
    fn what_has_ever_been_asked_and_given_up_leaves_no_memory() {
        let replies = Replies::new(1000, Budget::new(0, 0, None), account());
        replies.expect(0).unwrap();
        for ask in 1..200_000 {
            replies.expect(ask).unwrap();
            replies.cancel(ask, ask % 2 == 0).unwrap();
            if ask % 2 == 1 {
                replies.fault(ask, Fault::NoReply);
            }
            if ask % 1000 == 0 {
                answered(&replies);
            }
        }
        assert!(replies.poll_room(0, &cx()).is_ready());
        replies.reply(0, &mut |encoder| encoder.encode("still there"));
        assert!(answered(&replies).contains(&0));
    }
}
