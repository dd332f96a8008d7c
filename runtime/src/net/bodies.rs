//! Bodies beside a lane: a one-way stream per message or reply that has any, and how the two meet again.
//!
//! The stream begins with its kind, the id of the lane's stream and the number of the message among those with bodies;
//! then come the bodies, whose lengths stand in the lane. Either may arrive first.

use crate::codec::frame::{FrameError, stream_kind, varint};
use crate::net::output::Bodies;
use crate::net::stream::STREAM_GONE;
use bytes::{BufMut, Bytes, BytesMut};
use parking_lot::Mutex;
use quinn::{ReadError, RecvStream, SendStream, WriteError};
use std::collections::{BTreeSet, HashMap};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use webmesh_transport::Link;

/// Body streams that came before the lane's frame announced them. The transport allows a peer about as many open
/// one-way streams.
const EARLY_MAX: usize = 1024;

/// Bodies yield to lanes, so that a large message hinders no small one to another actor.
const PRIORITY: i32 = -1;

/// Why bodies were not received.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The peer broke the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The stream or its connection ended.
    #[error("the bodies' stream ended: {0}")]
    Gone(String),
}

impl From<std::io::Error> for BodyError {
    fn from(error: std::io::Error) -> Self {
        Self::Gone(error.to_string())
    }
}

impl From<ReadError> for BodyError {
    fn from(error: ReadError) -> Self {
        Self::Gone(error.to_string())
    }
}

/// Sends the bodies of one message or reply of the lane whose stream has this id. Nothing is copied.
pub(crate) async fn send_bodies(link: &Link, lane: u64, bodies: Bodies) -> Result<(), WriteError> {
    let stream = link.quic().open_uni().await?;
    let mut open = Unfinished { stream, finished: false };
    let _ = open.stream.set_priority(PRIORITY);
    let mut head = vec![stream_kind::BODY];
    varint::put(&mut head, lane);
    varint::put(&mut head, bodies.group);
    open.stream.write_chunk(head.into()).await?;
    for body in bodies.bodies {
        open.stream.write_chunk(body).await?;
    }
    open.finished = open.stream.finish().is_ok();
    Ok(())
}

/// A stream of bodies. Given up, it is reset: quinn by itself would end it well.
struct Unfinished {
    stream: SendStream,
    finished: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.stream.reset(STREAM_GONE);
        }
    }
}

/// Reads a number off a stream that has only just begun, byte by byte.
async fn read_number(stream: &mut RecvStream) -> Result<u64, BodyError> {
    let mut bytes = Vec::with_capacity(8);
    while bytes.len() < 8 {
        let mut byte = [0];
        if stream.read(&mut byte).await?.is_none() {
            return Err(FrameError::EndsWithinFrame.into());
        }
        bytes.push(byte[0]);
        if let Some((number, _)) = varint::get(&bytes)? {
            return Ok(number);
        }
    }
    Err(FrameError::LongNumber.into())
}

/// A one-way stream's head: lane and group.
pub(crate) async fn read_head(stream: &mut RecvStream) -> Result<(u64, u64), BodyError> {
    let mut kind = [0];
    if stream.read(&mut kind).await?.is_none() {
        return Err(FrameError::EndsWithinFrame.into());
    }
    if kind[0] != stream_kind::BODY {
        return Err(FrameError::UnknownStream(kind[0]).into());
    }
    Ok((read_number(stream).await?, read_number(stream).await?))
}

/// Receives bodies of these lengths, each copied once into memory of its own. The lengths must have been paid for with
/// credit, or be within what an ask may bring back. `progress` is told of each chunk's bytes.
pub(crate) async fn receive(
    stream: &mut RecvStream,
    lens: &[u64],
    mut progress: impl FnMut(usize),
) -> Result<Vec<Bytes>, BodyError> {
    let mut bodies = Vec::with_capacity(lens.len());
    for &len in lens {
        let len = usize::try_from(len)
            .map_err(|_| BodyError::Gone("too large for this machine".into()))?;
        let mut body = BytesMut::with_capacity(len).limit(len);
        while body.has_remaining_mut() {
            // All that has arrived, under one lock of the connection: chunk by chunk, each takes it anew.
            match stream.read_buf(&mut body).await? {
                0 => return Err(FrameError::EndsWithinFrame.into()),
                read => progress(read),
            }
        }
        bodies.push(body.into_inner().freeze());
    }
    match stream.read_chunk(1, true).await? {
        None => Ok(bodies),
        Some(_) => Err(FrameError::Trailing(1).into()),
    }
}

enum Slot {
    Arrived(RecvStream),
    Wanted(oneshot::Sender<RecvStream>),
}

/// Numbers of a lane's bodies, nearly all from zero on without gaps.
#[derive(Default)]
struct Groups {
    /// All below this one.
    below: u64,
    beyond: BTreeSet<u64>,
}

impl Groups {
    fn add(&mut self, group: u64) {
        if group > self.below {
            self.beyond.insert(group);
        } else if group == self.below {
            self.below += 1;
        }
        // A gap that so many others have passed counts as filled.
        if self.beyond.len() > EARLY_MAX
            && let Some(first) = self.beyond.first()
        {
            self.below = *first;
        }
        while self.beyond.remove(&self.below) {
            self.below += 1;
        }
    }

    fn contains(&self, group: u64) -> bool {
        group < self.below || self.beyond.contains(&group)
    }
}

#[derive(Default)]
struct Table {
    slots: HashMap<(u64, u64), Slot>,
    early: usize,
    /// Lanes in use, by the ids of their streams, and which bodies of theirs were asked for.
    lanes: HashMap<u64, Groups>,
    /// One more than the highest id of a lane so far, of either side's (the lowest bit of a stream's id says whose).
    ids: [u64; 2],
}

/// Where the bodies of one link and the lanes that wait for them meet.
#[derive(Default)]
pub(crate) struct Meeting {
    table: Mutex<Table>,
}

impl Meeting {
    /// A lane's stream was opened, by either side. To be called in the order of the streams.
    pub(crate) fn lane_began(&self, lane: u64) {
        let mut table = self.table.lock();
        table.lanes.entry(lane).or_default();
        let id = &mut table.ids[(lane & 1) as usize];
        *id = (*id).max(lane + 1);
    }

    /// A body stream has arrived.
    pub(crate) fn arrived(
        &self,
        lane: u64,
        group: u64,
        mut stream: RecvStream,
    ) -> Result<(), FrameError> {
        let mut table = self.table.lock();
        if lane < table.ids[(lane & 1) as usize] && !table.lanes.contains_key(&lane) {
            // The lane has ended.
            let _ = stream.stop(STREAM_GONE);
            return Ok(());
        }
        match table.slots.remove(&(lane, group)) {
            // Nobody may want it any more; then it's stopped by being dropped.
            Some(Slot::Wanted(wanted)) => drop(wanted.send(stream)),
            Some(Slot::Arrived(_)) => {
                return Err(FrameError::Unexpected("a second stream for the same bodies"));
            }
            // They were given up, or were here already.
            None if table.lanes.get(&lane).is_some_and(|groups| groups.contains(group)) => {
                let _ = stream.stop(STREAM_GONE);
            }
            None if table.early >= EARLY_MAX => {
                return Err(FrameError::Unexpected("so many bodies"));
            }
            None => {
                table.early += 1;
                table.slots.insert((lane, group), Slot::Arrived(stream));
            }
        }
        Ok(())
    }

    /// The stream of the bodies that a lane announced.
    pub(crate) async fn stream(&self, lane: u64, group: u64) -> Result<RecvStream, BodyError> {
        let mut wish = {
            let mut table = self.table.lock();
            if let Some(groups) = table.lanes.get_mut(&lane) {
                groups.add(group);
            }
            match table.slots.remove(&(lane, group)) {
                Some(Slot::Arrived(stream)) => {
                    table.early -= 1;
                    return Ok(stream);
                }
                _ => {
                    let (sender, wanted) = oneshot::channel();
                    table.slots.insert((lane, group), Slot::Wanted(sender));
                    Wish { meeting: self, key: (lane, group), wanted }
                }
            }
        };
        (&mut wish.wanted).await.map_err(|_| BodyError::Gone("the lane is closed".into()))
    }

    /// A lane has ended: its bodies are wanted no more.
    pub(crate) fn lane_ended(&self, lane: u64) {
        let mut table = self.table.lock();
        table.lanes.remove(&lane);
        let gone: Vec<_> = table.slots.extract_if(|(of, _), _| *of == lane).collect();
        for (_, slot) in gone {
            if let Slot::Arrived(mut stream) = slot {
                table.early -= 1;
                let _ = stream.stop(STREAM_GONE);
            }
        }
    }
}

/// Bodies that are waited for.
struct Wish<'a> {
    meeting: &'a Meeting,
    key: (u64, u64),
    wanted: oneshot::Receiver<RecvStream>,
}

/// Given up, it leaves nothing in the table.
impl Drop for Wish<'_> {
    fn drop(&mut self) {
        self.wanted.close();
        let mut table = self.meeting.table.lock();
        if let Some(Slot::Wanted(wanted)) = table.slots.get(&self.key)
            && wanted.is_closed()
        {
            table.slots.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    #[test]
    fn bodies_that_are_announced_and_given_up_leave_nothing_but_that_they_were() {
        let meeting = Meeting::default();
        meeting.lane_began(4);
        let cx = &mut Context::from_waker(Waker::noop());
        for group in 0..10_000 {
            assert!(pin!(meeting.stream(4, group)).poll(cx).is_pending());
        }
        let mut wanted = Box::pin(meeting.stream(4, 10_000));
        assert!(wanted.as_mut().poll(cx).is_pending());
        let table = meeting.table.lock();
        assert!(table.slots.len() == 1 && table.early == 0);
        let groups = &table.lanes[&4];
        assert!(groups.contains(0) && groups.contains(10_000) && !groups.contains(10_001));
        assert!(groups.beyond.is_empty());
        drop(table);
        meeting.lane_ended(4);
        assert!(wanted.as_mut().poll(cx).is_ready());
    }

    #[test]
    fn which_bodies_were_asked_for_takes_bounded_memory_in_whatever_order() {
        let mut groups = Groups::default();
        for group in [2, 0, 3] {
            groups.add(group);
        }
        assert!(groups.contains(0) && !groups.contains(1) && groups.contains(3));
        groups.add(1);
        assert!(groups.below == 4 && groups.beyond.is_empty());
        for group in (6..100_000).step_by(2) {
            groups.add(group);
        }
        assert!(groups.beyond.len() <= EARLY_MAX && groups.contains(99_998));
    }
}
