//! The peer's streams: accepted, told apart, and served to their end.

use super::Session;
use crate::codec::frame::lane::{Backward, Forward, forward};
use crate::codec::frame::splitter::{Frames, Splitter};
use crate::codec::frame::{FrameError, LANE_FRAME_MAX, stream_kind};
use crate::codec::wire_ref::ObjectId;
use crate::ground::error::Fault;
use crate::net::bodies::{BodyError, read_head};
use crate::net::inbound::lane::{InLane, LaneError, Setting};
use crate::net::inbound::replies::Replies;
use crate::net::inbound::tenure::{Revocation, Tenure};
use crate::net::objects::Admitted;
use crate::net::refusals::Reason;
use crate::net::stream::{Express, STREAM_GONE, write};
use crate::refs::caller::Caller;
use quinn::{RecvStream, SendStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use webmesh_transport::{Excerpt, Inline};

impl Session {
    pub(super) async fn accept_lanes(self: Arc<Self>) {
        while let Ok((send, recv)) = self.link.quic().accept_bi().await {
            let id = u64::from(quinn::VarInt::from(recv.id()));
            self.meeting.lane_began(id);
            self.lanes_in.fetch_add(1, Ordering::AcqRel);
            let session = self.clone();
            drop(tokio::spawn(async move {
                if let Err(LaneError::Frame(error)) = session.clone().serve(id, send, recv).await {
                    session.refuse(&error);
                }
                session.meeting.lane_ended(id);
                session.lanes_in.fetch_sub(1, Ordering::AcqRel);
                session.tell_drained();
            }));
        }
    }

    pub(super) async fn accept_bodies(self: Arc<Self>) {
        while let Ok(mut stream) = self.link.quic().accept_uni().await {
            let session = self.clone();
            drop(tokio::spawn(async move {
                let met = match read_head(&mut stream).await {
                    Ok((lane, group)) => {
                        session.meeting.arrived(lane, group, stream).map_err(BodyError::Frame)
                    }
                    Err(error) => Err(error),
                };
                if let Err(BodyError::Frame(error)) = met {
                    session.refuse(&error);
                }
            }));
        }
    }

    /// A two-way stream of the peer's, to its end.
    async fn serve(
        self: Arc<Self>,
        id: u64,
        send: SendStream,
        mut recv: RecvStream,
    ) -> Result<(), LaneError> {
        let mut kind = [0];
        if recv.read(&mut kind).await?.is_none() {
            return Err(FrameError::EndsWithinFrame.into());
        }
        match kind[0] {
            stream_kind::LANE => self.serve_lane(id, send, recv).await,
            stream_kind::CONTROL if self.has_control.swap(true, Ordering::AcqRel) => {
                Err(FrameError::Unexpected("a second control stream").into())
            }
            stream_kind::CONTROL => {
                // It lasts as long as the link: not a lane that a drained link would have to wait for.
                self.lanes_in.fetch_sub(1, Ordering::AcqRel);
                self.tell_drained();
                self.clone().control_stream(send, recv).await;
                self.lanes_in.fetch_add(1, Ordering::AcqRel);
                Ok(())
            }
            unknown => Err(FrameError::UnknownStream(unknown).into()),
        }
    }

    async fn serve_lane(
        self: Arc<Self>,
        id: u64,
        send: SendStream,
        mut recv: RecvStream,
    ) -> Result<(), LaneError> {
        let mut splitter = Splitter::new(LANE_FRAME_MAX);
        let mut frames = Frames::default();
        while frames.spans().is_empty() {
            match recv.read_chunk(usize::MAX, true).await? {
                Some(chunk) => splitter.push(chunk.bytes, &mut frames)?,
                None => return Err(FrameError::EndsWithinFrame.into()),
            }
        }
        let first = frames.take_first();
        let Forward::Open { object, protocol } = forward(&first, 0, 0)? else {
            return Err(FrameError::Unexpected("a message before OPEN").into());
        };
        let Some(shared) = self.shared.upgrade() else { return Ok(()) };
        let account = shared.abandoned.account(self.link.peer(), self.link.network());
        let budget = self.replies_budget.clone();
        let replies = Arc::new(Replies::new(self.message_max as usize, budget, account));
        let writer = write(self.link.clone(), id, send, replies.clone());
        let Some(host) = shared.host() else { return Ok(()) };
        let caller = self.link.peer();
        let id_of_object = ObjectId(object);
        let sender = Caller::far(caller, self.link.network());
        let objects = host.objects();
        let opened = objects.open(&id_of_object, protocol, caller).and_then(|admitted| {
            let Admitted { object, by_name } = admitted;
            if let Some(fault) = object.refuses(&sender) {
                return Err(fault);
            }
            let own = object.clone().local().key();
            let tenure = by_name.then(|| {
                Tenure::new(|revocation| {
                    let holder: Weak<Revocation> = Arc::downgrade(&revocation);
                    objects.rights().hold(id_of_object, caller, own, holder)
                })
            });
            Ok((object, tenure))
        });
        if let Err(fault) = &opened {
            let reason = match fault {
                Fault::WrongProtocol => Reason::WrongProtocol,
                Fault::Quarantined { .. } => Reason::Quarantined,
                _ => objects.why_hidden(&id_of_object),
            };
            let what = format_args!("a stream of the protocol {}", Excerpt(protocol));
            self.refusals.refuse(caller, what, reason);
        }
        let term = shared.succession.begin(caller, id_of_object);
        drop((host, shared));
        self.spoken.store(true, Ordering::Relaxed);
        match opened {
            Err(fault) => {
                replies.send(&Backward::Refused(fault));
                replies.finish();
                let _ = recv.stop(STREAM_GONE);
                writer.await;
                Ok(())
            }
            Ok((object, tenure)) => {
                let answers = Closing(replies.clone());
                self.replies.lock().insert(id, replies.clone());
                // Whoever ends them with the link may have done so already.
                if self.down.borrow().is_some() {
                    replies.close();
                }
                // As above.
                if self.peer_withdraws.load(Ordering::Acquire) {
                    replies.withdraw();
                }
                let lane = InLane::new(Setting {
                    caller: sender,
                    object,
                    term,
                    tenure,
                    budget: self.budget.clone(),
                    meeting: self.meeting.clone(),
                    replies,
                    refusals: self.refusals.clone(),
                    message_max: self.message_max,
                    lane: id,
                    recv,
                    splitter,
                    frames,
                });
                let (done, written) = oneshot::channel::<()>();
                let writer = Inline::spawn(&Handle::current(), async move {
                    writer.await;
                    drop(done);
                });
                answers.0.set_express(Express::new(self.link.clone(), writer));
                let outcome = lane.run().await;
                let _ = written.await;
                self.replies.lock().remove(&id);
                outcome
            }
        }
    }
}

/// Nothing is kept for an asker whose lane has ended, however that came about.
struct Closing(Arc<Replies>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}
