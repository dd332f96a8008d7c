//! The futures of `ask`, `tell` and `flush`. The call itself has been made when one of them exists; what is left is to
//! wait, and each can be dropped at any time.

use crate::codec::payload::DecodeError;
use crate::ground::error::{AskError, Fault, TellError};
use crate::ground::message::Message;
use crate::refs::decode_scope::DecodeScope;
use crate::refs::near;
use crate::refs::responder::Answer;
use crate::refs::target::{AskAnswer, LocalTarget, OwnedPayload, Queued, RemoteTarget, Ticket};
use crate::refs::turn::may_block;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::Instant;
use webmesh_transport::placement::Sleep;

/// How long an ask may take unless set otherwise, as docs/guarantees.md promises.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(30);

/// A time too long for the clock is as good as this.
pub(crate) const CENTURY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// The future of [`ActorRef::ask`](crate::ActorRef::ask).
#[must_use = "an ask that is not awaited is given up, and its message with it if no handler has that yet"]
pub struct Ask<M: Message> {
    state: AskState<M>,
    ticket: Option<Ticket>,
    asked: Instant,
    timeout: Duration,
    // Made at the first poll that has to wait; most asks of a local actor on the same thread never do.
    timer: Option<Sleep>,
}

/// Given up before its time: nobody wants the answer any more.
impl<M: Message> Drop for Ask<M> {
    fn drop(&mut self) {
        self.cancel();
    }
}

enum AskState<M: Message> {
    Near {
        answer: Answer<M::Result>,
        target: Arc<dyn LocalTarget>,
    },
    Far {
        answer: AskAnswer,
        target: Arc<dyn RemoteTarget>,
        number: u64,
    },
    Failed(Fault),
    /// It has ended.
    Over,
}

// Nothing in it is pinned in place.
impl<M: Message> Unpin for Ask<M> {}

impl<M: Message> Ask<M> {
    fn new(queued: Result<Queued, Fault>, state: AskState<M>) -> Self {
        let (state, ticket) = match queued {
            Ok(Queued::Accepted) => (state, None),
            Ok(Queued::Waiting(ticket)) => (state, Some(ticket)),
            Err(fault) => (AskState::Failed(fault), None),
        };
        Self { state, ticket, asked: Instant::now(), timeout: ASK_TIMEOUT, timer: None }
    }

    pub(crate) fn near(
        queued: Result<Queued, Fault>,
        answer: Answer<M::Result>,
        target: Arc<dyn LocalTarget>,
    ) -> Self {
        Self::new(queued, AskState::Near { answer, target })
    }

    pub(crate) fn far(
        queued: Result<(Queued, u64), Fault>,
        answer: AskAnswer,
        target: Arc<dyn RemoteTarget>,
    ) -> Self {
        let number = queued.as_ref().map_or(0, |(_, number)| *number);
        Self::new(queued.map(|(queued, _)| queued), AskState::Far { answer, target, number })
    }

    pub(crate) fn failed(fault: Fault) -> Self {
        Self::new(Err(fault), AskState::Failed(Fault::NoReply))
    }

    /// Sets the time within which the ask ends, counted from the call of `ask`; 30 s by default.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self.timer = None;
        self
    }

    /// Ends it, if it hasn't ended. The place in line is given up first: what is in line was not sent.
    fn cancel(&mut self) {
        drop(self.ticket.take());
        if let AskState::Far { target, number, .. } =
            std::mem::replace(&mut self.state, AskState::Over)
        {
            target.cancel(number);
        }
    }

    /// The timer of the runtime at hand; where there is none, or where it may stand still until the answer comes, that of the mesh's
    /// network. `None`: the mesh is gone.
    fn new_timer(&self, waker: &Waker) -> Option<Sleep> {
        let deadline = self.asked + self.timeout.min(CENTURY);
        // Whether there is a runtime is cheaper to know in a task.
        let has_runtime = || tokio::task::try_id().is_some() || Handle::try_current().is_ok();
        if !may_block(waker) && has_runtime() {
            return Some(Box::pin(tokio::time::sleep_until(deadline)));
        }
        let binder = match &self.state {
            AskState::Near { target, .. } => target.binder(),
            AskState::Far { target, .. } => target.binder(),
            AskState::Failed(_) | AskState::Over => return None,
        };
        let left = deadline.saturating_duration_since(Instant::now());
        Some(binder.upgrade()?.sleep(left))
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<M::Result, AskError>> {
        Poll::Ready(match &mut self.state {
            AskState::Near { answer, target } => match ready!(answer.poll(cx, target.status())) {
                Ok(value) => match near::codec(&**target) {
                    None => Ok(value),
                    Some(codec) => codec.reply(&value),
                },
                Err(fault) => Err(fault.into()),
            },
            AskState::Far { answer, target, .. } => match ready!(Pin::new(answer).poll(cx)) {
                Ok(Ok(payload)) => decode::<M>(&payload, target.as_ref()),
                // What this side couldn't encode never got as far as a slot.
                Ok(Err(Fault::Unencodable(why))) => Err(AskError::BadReply(why)),
                Ok(Err(fault)) => Err(fault.into()),
                Err(_) => Err(AskError::PeerGone),
            },
            AskState::Failed(fault) => Err(fault.clone().into()),
            // Polled again, which no future has to bear.
            AskState::Over => Err(AskError::Timeout),
        })
    }
}

fn decode<M: Message>(
    payload: &OwnedPayload,
    target: &dyn RemoteTarget,
) -> Result<M::Result, AskError> {
    let mut binder = target.binder();
    let _scope = DecodeScope::enter(&mut binder, target.wire().peer);
    payload
        .decode::<M::Result>()
        .map_err(|error: DecodeError| AskError::BadReply(error.to_string()))
}

impl<M: Message> Future for Ask<M> {
    type Output = Result<M::Result, AskError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(ticket) = &mut this.ticket
            && let Poll::Ready(admitted) = ticket.as_mut().poll(cx)
        {
            this.ticket = None;
            if let Err(fault) = admitted {
                this.state = AskState::Over;
                return Poll::Ready(Err(fault.into()));
            }
        }
        if let Poll::Ready(answer) = this.poll_answer(cx) {
            this.state = AskState::Over;
            return Poll::Ready(answer);
        }
        let timer = match &mut this.timer {
            Some(timer) => timer,
            None => {
                let Some(timer) = this.new_timer(cx.waker()) else {
                    this.cancel();
                    return Poll::Ready(Err(AskError::ShutDown));
                };
                this.timer.insert(timer)
            }
        };
        ready!(timer.as_mut().poll(cx));
        // Before it is withdrawn, for then nothing is to be seen any more.
        let unreached =
            matches!(&this.state, AskState::Far { target, .. } if target.is_connecting());
        this.cancel();
        Poll::Ready(Err(if unreached { AskError::NotReached } else { AskError::Timeout }))
    }
}

/// The future of [`ActorRef::tell`](crate::ActorRef::tell).
#[must_use = "a tell that is not awaited is withdrawn if it has to wait for credit"]
pub struct Tell(Result<Option<Ticket>, Fault>);

impl Tell {
    pub(crate) fn new(queued: Result<Queued, Fault>) -> Self {
        Self(queued.map(|queued| match queued {
            Queued::Accepted => None,
            Queued::Waiting(ticket) => Some(ticket),
        }))
    }
}

impl Future for Tell {
    type Output = Result<(), TellError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(None) => Poll::Ready(Ok(())),
            Ok(Some(ticket)) => {
                let admitted = ready!(ticket.as_mut().poll(cx));
                self.0 = admitted.map(|()| None);
                Poll::Ready(self.0.as_ref().map(|_| ()).map_err(|fault| fault.clone().into()))
            }
            Err(fault) => Poll::Ready(Err(fault.clone().into())),
        }
    }
}

/// The future of [`ActorRef::flush`](crate::ActorRef::flush).
#[must_use = "a flush does nothing unless awaited"]
pub struct Flush {
    state: FlushState,
    ticket: Option<Ticket>,
}

enum FlushState {
    Near {
        told: oneshot::Receiver<Result<(), Fault>>,
        target: Arc<dyn LocalTarget>,
    },
    Far {
        answer: AskAnswer,
        target: Arc<dyn RemoteTarget>,
        number: u64,
    },
    Failed(Fault),
    /// It has ended.
    Over,
}

/// Given up: nobody wants to know any more.
impl Drop for Flush {
    fn drop(&mut self) {
        drop(self.ticket.take());
        if let FlushState::Far { target, number, .. } = &self.state {
            target.cancel(*number);
        }
    }
}

impl Flush {
    fn new(queued: Result<Queued, Fault>, state: FlushState) -> Self {
        match queued {
            Ok(Queued::Accepted) => Self { state, ticket: None },
            Ok(Queued::Waiting(ticket)) => Self { state, ticket: Some(ticket) },
            Err(fault) => Self { state: FlushState::Failed(fault), ticket: None },
        }
    }

    pub(crate) fn near(
        queued: Result<Queued, Fault>,
        told: oneshot::Receiver<Result<(), Fault>>,
        target: Arc<dyn LocalTarget>,
    ) -> Self {
        Self::new(queued, FlushState::Near { told, target })
    }

    pub(crate) fn far(
        queued: Result<(Queued, u64), Fault>,
        answer: AskAnswer,
        target: Arc<dyn RemoteTarget>,
    ) -> Self {
        let number = queued.as_ref().map_or(0, |(_, number)| *number);
        Self::new(queued.map(|(queued, _)| queued), FlushState::Far { answer, target, number })
    }

    pub(crate) fn failed(fault: Fault) -> Self {
        Self { state: FlushState::Failed(fault), ticket: None }
    }
}

impl Future for Flush {
    type Output = Result<(), TellError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(ticket) = &mut this.ticket
            && let Poll::Ready(admitted) = ticket.as_mut().poll(cx)
        {
            this.ticket = None;
            if let Err(fault) = admitted {
                this.state = FlushState::Over;
                return Poll::Ready(Err(fault.into()));
            }
        }
        let outcome = match &mut this.state {
            FlushState::Near { told, target } => match ready!(Pin::new(told).poll(cx)) {
                Ok(outcome) => outcome.map_err(TellError::from),
                Err(_) => Err(target.status().ended().unwrap_or(Fault::Stopped).into()),
            },
            FlushState::Far { answer, .. } => match ready!(Pin::new(answer).poll(cx)) {
                Ok(outcome) => outcome.map(|_| ()).map_err(TellError::from),
                Err(_) => Err(TellError::PeerGone),
            },
            FlushState::Failed(fault) => Err(fault.clone().into()),
            // Polled again, which no future has to bear.
            FlushState::Over => Err(TellError::Timeout),
        };
        this.state = FlushState::Over;
        Poll::Ready(outcome)
    }
}
