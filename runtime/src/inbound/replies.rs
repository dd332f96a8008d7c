//! The way back of one lane: replies are encoded on the actors' threads into a buffer that the stream's writer takes.

use crate::cork;
use crate::error::Fault;
use crate::frame::PAYLOAD_INLINE_MAX;
use crate::frame::lane::{Backward, Beside, put_backward, put_reply};
use crate::objects::ReplyPort;
use crate::outbound::core::{Bodies, Output};
use crate::payload::{EncodeError, Encoder};
use crate::scratch::with_encoder;
use bytes::Bytes;
use parking_lot::Mutex;
use std::task::{Context, Poll, Waker};

/// Bytes of replies that wait for the asker to read them before no more of its asks are handled. A guess.
const BACKLOG_MAX: usize = 4 << 20;

/// Asks of one lane that may be without an answer before no more are handled: bounds the futures of slow handlers. A guess.
const UNANSWERED_MAX: u64 = 16 * 1024;

/// One lane's way back.
#[derive(Debug)]
pub(crate) struct Replies {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    out: Vec<u8>,
    out_hint: usize,
    bodies: Vec<Bodies>,
    groups: u64,
    body_bytes: usize,
    unanswered: u64,
    writer: Option<Waker>,
    lane: Option<Waker>,
    finish: bool,
    closed: bool,
}

impl State {
    fn is_full(&self) -> bool {
        self.out.len() + self.body_bytes > BACKLOG_MAX || self.unanswered >= UNANSWERED_MAX
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
    /// `limit`: the largest reply with its bodies, in bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::new(State::default()) }
    }

    /// One more ask (or flush) will be answered.
    pub(crate) fn expect(&self) {
        self.state.lock().unanswered += 1;
    }

    /// Sends a frame that answers no ask.
    pub(crate) fn send(&self, frame: &Backward<'_>) {
        let waker = {
            let mut state = self.state.lock();
            if state.closed {
                return;
            }
            put_backward(&mut state.out, frame);
            state.wake_writer()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Ready while there's room for more answers.
    pub(crate) fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.is_full() && !state.closed {
            state.lane = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Ready when every ask has been answered.
    pub(crate) fn poll_all_answered(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.unanswered > 0 && !state.closed {
            state.lane = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
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
        let wakers = {
            let mut state = self.state.lock();
            let wakers = [state.writer.take(), state.lane.take()];
            *state = State { closed: true, ..State::default() };
            wakers
        };
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Ready when the stream's writer has something to do. Stores its waker if there's nothing.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if !state.out.is_empty() || state.closed || state.finish {
            return Poll::Ready(());
        }
        state.keep_writer(cx);
        Poll::Pending
    }

    /// What the stream's writer has to do. Stores its waker if there's nothing.
    pub(crate) fn poll_output(&self, cx: &mut Context<'_>) -> Poll<Output> {
        let mut state = self.state.lock();
        if !state.out.is_empty() {
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

    /// The writer is done with what it took: so many bytes of bodies are off our hands.
    pub(crate) fn written(&self, body_bytes: usize) {
        let waker = {
            let mut state = self.state.lock();
            state.body_bytes = state.body_bytes.saturating_sub(body_bytes);
            if state.is_full() { None } else { state.lane.take() }
        };
        waker.into_iter().for_each(Waker::wake);
    }

    fn answer(&self, put: impl FnOnce(&mut State)) {
        let (writer, lane) = {
            let mut state = self.state.lock();
            if state.closed {
                return;
            }
            let was_full = state.is_full();
            state.unanswered = state.unanswered.saturating_sub(1);
            if state.out.is_empty() {
                let hint = state.out_hint;
                state.out.reserve(hint);
            }
            put(&mut state);
            let lane = if state.unanswered == 0 || (was_full && !state.is_full()) {
                state.lane.take()
            } else {
                None
            };
            (state.wake_writer(), lane)
        };
        writer.into_iter().chain(lane).for_each(cork::wake);
    }
}

impl ReplyPort for Replies {
    fn reply(&self, ask: u64, encode: &mut dyn FnMut(&mut Encoder) -> Result<(), EncodeError>) {
        with_encoder(self.limit, |encoder| match encode(encoder) {
            Ok(())
                if encoder.bytes().len() <= PAYLOAD_INLINE_MAX && encoder.bodies().is_empty() =>
            {
                self.answer(|state| put_reply(&mut state.out, ask, None, encoder.bytes()));
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
                self.answer(|state| {
                    put_reply(&mut state.out, ask, Some(&beside), &inline);
                    state.body_bytes += beside.total() as usize;
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
        self.answer(|state| put_backward(&mut state.out, &Backward::Fault { ask, fault }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::lane::backward;

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn replies_and_failures_are_written_and_the_last_one_is_noticed() {
        let replies = Replies::new(1000);
        for _ in 0..3 {
            replies.expect();
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
        let replies = Replies::new(64 << 20);
        assert!(replies.poll_room(&cx()).is_ready());
        replies.expect();
        let body = crate::Bytes::from(vec![0; 5 << 20]);
        replies.reply(0, &mut |encoder| encoder.encode(&body));
        assert!(replies.poll_room(&cx()).is_pending());
        drop(replies.poll_output(&mut cx()));
        assert!(replies.poll_room(&cx()).is_pending());
        replies.written(5 << 20);
        assert!(replies.poll_room(&cx()).is_ready());
    }

    #[test]
    fn after_the_stream_is_gone_nothing_is_kept() {
        let replies = Replies::new(1000);
        replies.expect();
        replies.close();
        replies.reply(5, &mut |encoder| encoder.encode("hi"));
        assert_eq!(replies.poll_output(&mut cx()), Poll::Ready(Output::Gone));
    }
}
