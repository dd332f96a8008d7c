//! The frames of a lane: *forward* from the side that has messages for an object, *backward* from the object's side.

use super::cursor::{Cursor, put_bytes, put_frame};
use super::{FrameError, ID_MAX, NUMBERS_MAX, PAYLOAD_INLINE_MAX, fault, varint};
use crate::codec::payload::BODIES_MAX;
use crate::ground::error::Fault;

mod kind {
    pub(super) const OPEN: u8 = 0x01;
    pub(super) const TELL: u8 = 0x02;
    pub(super) const ASK: u8 = 0x03;
    pub(super) const FLUSH: u8 = 0x04;
    pub(super) const NEED: u8 = 0x05;
    pub(super) const TELL_WITH_BODIES: u8 = 0x06;
    pub(super) const ASK_WITH_BODIES: u8 = 0x07;
    pub(super) const CANCEL: u8 = 0x08;
    // 0x10..=0x1f: streams; 0x20..=0x2f: targets that are the result of an ask still under way. Reserved.
    pub(super) const OPENED: u8 = 0x41;
    pub(super) const REFUSED: u8 = 0x42;
    pub(super) const CREDIT: u8 = 0x43;
    pub(super) const REPLY: u8 = 0x44;
    pub(super) const REPLY_WITH_BODIES: u8 = 0x45;
    pub(super) const FAULT: u8 = 0x46;
    pub(super) const DRAINED: u8 = 0x47;
    pub(super) const RECLAIM: u8 = 0x48;
    pub(super) const UNDELIVERED: u8 = 0x49;
    pub(super) const WITHDRAWN: u8 = 0x4a;
    // 0x50..=0x5f: streams. Reserved.
}

/// The bodies that travel beside a message or reply.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Beside {
    /// Their lengths, in order.
    pub(crate) lens: Vec<u64>,
    /// Whether the last of them is the payload itself, which was too large for the lane.
    pub(crate) payload: bool,
}

impl Beside {
    /// Bytes in all.
    pub(crate) fn total(&self) -> u64 {
        self.lens.iter().sum()
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.push(self.lens.len() as u8 | if self.payload { 0x80 } else { 0 });
        for &len in &self.lens {
            varint::put(out, len);
        }
    }

    fn get(cursor: &mut Cursor<'_>, total_max: u64) -> Result<Self, FrameError> {
        let first = cursor.byte("bodies")?;
        let (count, payload) = (usize::from(first & 0x7f), first & 0x80 != 0);
        // One more than a message can set aside: the payload.
        if count == 0 || count > BODIES_MAX + usize::from(payload) {
            return Err(FrameError::TooLong {
                what: "bodies",
                len: count as u64,
                max: BODIES_MAX as u64,
            });
        }
        let mut lens = Vec::with_capacity(count);
        let mut left = total_max;
        for _ in 0..count {
            let len = cursor.bounded("body", left)?;
            left -= len;
            // Each costs us a task and a stream, so its bytes, of which only so many are granted, must be worth that.
            if len <= PAYLOAD_INLINE_MAX as u64 {
                return Err(FrameError::SmallBody(len));
            }
            lens.push(len);
        }
        Ok(Self { lens, payload })
    }
}

/// A frame from the sender's side.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Forward<'a> {
    /// The first frame: which object, under which protocol.
    Open { object: [u8; 16], protocol: &'a str },
    /// A message; an ask if it has a number to answer to.
    Message {
        ask: Option<u64>,
        number: usize,
        id: Option<&'a str>,
        beside: Option<Beside>,
        payload: &'a [u8],
    },
    /// Answer when everything before was taken by the handler.
    Flush { ask: u64 },
    /// Nobody waits for the answer to an ask or flush any more.
    Cancel { ask: u64 },
    /// What the sender has waiting for credit.
    Need { messages: u64, bytes: u64 },
}

/// Reads the frame that most are while messages stream, a tell without bodies and with one of the first 64 ids: its
/// number and payload. `None`: another one, for [`forward`].
#[inline]
pub(crate) fn usual_tell(frame: &[u8], known: usize) -> Option<(usize, &[u8])> {
    let [kind::TELL, number @ 0..0x40, payload @ ..] = frame else { return None };
    let number = usize::from(*number);
    (number < known).then_some((number, payload))
}

/// Reads a forward frame. `known` is how many message ids the lane has introduced so far; `total_max` bounds the bodies.
pub(crate) fn forward(
    frame: &[u8],
    known: usize,
    total_max: u64,
) -> Result<Forward<'_>, FrameError> {
    let mut cursor = Cursor::new(frame);
    let kind = cursor.byte("kind")?;
    let (is_ask, has_bodies) = match kind {
        kind::TELL => (false, false),
        kind::ASK => (true, false),
        kind::TELL_WITH_BODIES => (false, true),
        kind::ASK_WITH_BODIES => (true, true),
        kind::OPEN => {
            let object = cursor.array("object id")?;
            let protocol = cursor.text("protocol id", ID_MAX)?;
            cursor.end()?;
            return Ok(Forward::Open { object, protocol });
        }
        kind::FLUSH => {
            let ask = cursor.number("ask")?;
            cursor.end()?;
            return Ok(Forward::Flush { ask });
        }
        kind::CANCEL => {
            let ask = cursor.number("ask")?;
            cursor.end()?;
            return Ok(Forward::Cancel { ask });
        }
        kind::NEED => {
            let (messages, bytes) = (cursor.number("messages")?, cursor.number("bytes")?);
            cursor.end()?;
            return Ok(Forward::Need { messages, bytes });
        }
        unknown => return Err(FrameError::UnknownKind(unknown)),
    };
    let ask = if is_ask { Some(cursor.number("ask")?) } else { None };
    let number =
        cursor.bounded("message number", (known as u64).min(NUMBERS_MAX as u64 - 1))? as usize;
    let id = if number == known { Some(cursor.text("message id", ID_MAX)?) } else { None };
    let beside = if has_bodies { Some(Beside::get(&mut cursor, total_max)?) } else { None };
    let payload = cursor.rest();
    if beside.as_ref().is_some_and(|beside| beside.payload) && !payload.is_empty() {
        return Err(FrameError::Trailing(payload.len()));
    }
    Ok(Forward::Message { ask, number, id, beside, payload })
}

/// Appends OPEN.
pub(crate) fn put_open(out: &mut Vec<u8>, object: &[u8; 16], protocol: &str) {
    put_frame(out, |out| {
        out.push(kind::OPEN);
        out.extend_from_slice(object);
        put_bytes(out, protocol.as_bytes());
    });
}

/// The header of a message up to its payload, and the whole frame's size on the wire.
pub(crate) struct MessageHeader<'a> {
    pub(crate) ask: Option<u64>,
    pub(crate) number: usize,
    pub(crate) id: Option<&'a str>,
    pub(crate) beside: Option<&'a Beside>,
    pub(crate) payload_len: usize,
}

impl MessageHeader<'_> {
    #[inline]
    fn body_len(&self) -> usize {
        let ask = self.ask.map_or(0, varint::len);
        let id = self.id.map_or(0, |id| varint::len(id.len() as u64) + id.len());
        let beside = self
            .beside
            .map_or(0, |b| 1 + b.lens.iter().map(|&len| varint::len(len)).sum::<usize>());
        1 + ask + varint::len(self.number as u64) + id + beside + self.payload_len
    }

    /// Bytes that the frame takes of a stream.
    pub(crate) fn size(&self) -> usize {
        let body = self.body_len();
        varint::len(body as u64) + body
    }

    /// Appends the frame up to its payload, which the caller appends behind it.
    #[inline]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let body = self.body_len() as u64;
        if let (None, None, None) = (self.ask, self.id, self.beside)
            && let Some(header) = usual_header(self.number, body)
        {
            out.extend_from_slice(&header);
            return;
        }
        varint::put(out, body);
        out.push(match (self.ask.is_some(), self.beside.is_some()) {
            (false, false) => kind::TELL,
            (true, false) => kind::ASK,
            (false, true) => kind::TELL_WITH_BODIES,
            (true, true) => kind::ASK_WITH_BODIES,
        });
        if let Some(ask) = self.ask {
            varint::put(out, ask);
        }
        varint::put(out, self.number as u64);
        if let Some(id) = self.id {
            put_bytes(out, id.as_bytes());
        }
        if let Some(beside) = self.beside {
            beside.put(out);
        }
    }
}

/// Appends a tell without bodies whose id is known, if it takes at most `room` bytes of the stream. Says how many.
#[inline]
pub(crate) fn put_tell(out: &mut Vec<u8>, number: usize, payload: &[u8], room: u64) -> Option<u64> {
    let payload_len = payload.len();
    let size = match usual_header(number, payload_len as u64 + 2) {
        Some(header) => {
            let size = header.len() + payload_len;
            if size as u64 > room {
                return None;
            }
            out.reserve(size);
            out.extend_from_slice(&header);
            size
        }
        None => {
            let header = MessageHeader { ask: None, number, id: None, beside: None, payload_len };
            let size = header.size();
            if size as u64 > room {
                return None;
            }
            header.put(out);
            size
        }
    };
    out.extend_from_slice(payload);
    Some(size as u64)
}

/// The header of a tell of the usual size, 64 B to 16 KiB, with one of the first 64 ids: four bytes, in one go.
#[inline]
fn usual_header(number: usize, body: u64) -> Option<[u8; 4]> {
    let (0..0x40, 0x40..0x4000) = (number, body) else { return None };
    let [high, low] = (body as u16 | 0x4000).to_be_bytes();
    Some([high, low, kind::TELL, number as u8])
}

/// Size of a FLUSH on the wire.
pub(crate) fn flush_size(ask: u64) -> usize {
    2 + varint::len(ask)
}

/// Appends FLUSH.
pub(crate) fn put_flush(out: &mut Vec<u8>, ask: u64) {
    put_frame(out, |out| {
        out.push(kind::FLUSH);
        varint::put(out, ask);
    });
}

/// Appends CANCEL.
pub(crate) fn put_cancel(out: &mut Vec<u8>, ask: u64) {
    put_frame(out, |out| {
        out.push(kind::CANCEL);
        varint::put(out, ask);
    });
}

/// Appends NEED.
pub(crate) fn put_need(out: &mut Vec<u8>, messages: u64, bytes: u64) {
    put_frame(out, |out| {
        out.push(kind::NEED);
        varint::put(out, messages);
        varint::put(out, bytes);
    });
}

/// A frame from the object's side.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Backward<'a> {
    /// The object is there. `limit`: the largest message with its bodies that its mesh takes, in bytes.
    Opened { limit: u64 },
    /// It isn't, or not for this caller.
    Refused(Fault),
    /// The sender may have sent this many messages and bytes in all; the handler has taken this many messages.
    Credit { messages: u64, bytes: u64, taken: u64 },
    /// The answer to an ask, or (empty) to a flush.
    Reply { ask: u64, beside: Option<Beside>, payload: &'a [u8] },
    /// The failure of an ask.
    Fault { ask: u64, fault: Fault },
    /// Everything that was sent before the end of the forward direction is in the object's inlet.
    Drained,
    /// Please end this lane; it holds memory that others need, or its object is no more.
    Reclaim,
    /// So many tells couldn't be delivered, the last for this reason.
    Undelivered { tells: u64, fault: Fault },
    /// As the sender wished, nothing more of the stream is passed on. The first so many messages have been.
    Withdrawn { passed: u64 },
}

/// Reads a backward frame. `total_max` bounds the bodies.
pub(crate) fn backward(frame: &[u8], total_max: u64) -> Result<Backward<'_>, FrameError> {
    let mut cursor = Cursor::new(frame);
    let kind = cursor.byte("kind")?;
    let read = match kind {
        kind::REPLY | kind::REPLY_WITH_BODIES => {
            let ask = cursor.number("ask")?;
            let beside =
                if kind == kind::REPLY { None } else { Some(Beside::get(&mut cursor, total_max)?) };
            let payload = cursor.rest();
            if beside.as_ref().is_some_and(|beside| beside.payload) && !payload.is_empty() {
                return Err(FrameError::Trailing(payload.len()));
            }
            return Ok(Backward::Reply { ask, beside, payload });
        }
        kind::OPENED => Backward::Opened { limit: cursor.number("limit")? },
        kind::REFUSED => Backward::Refused(fault::get(&mut cursor)?),
        kind::CREDIT => Backward::Credit {
            messages: cursor.number("messages")?,
            bytes: cursor.number("bytes")?,
            taken: cursor.number("taken")?,
        },
        kind::FAULT => {
            Backward::Fault { ask: cursor.number("ask")?, fault: fault::get(&mut cursor)? }
        }
        kind::DRAINED => Backward::Drained,
        kind::RECLAIM => Backward::Reclaim,
        kind::UNDELIVERED => Backward::Undelivered {
            tells: cursor.number("tells")?,
            fault: fault::get(&mut cursor)?,
        },
        kind::WITHDRAWN => Backward::Withdrawn { passed: cursor.number("passed")? },
        unknown => return Err(FrameError::UnknownKind(unknown)),
    };
    cursor.end()?;
    Ok(read)
}

/// Appends a backward frame.
pub(crate) fn put_backward(out: &mut Vec<u8>, frame: &Backward<'_>) {
    if let Backward::Reply { ask, beside, payload } = frame {
        return put_reply(out, *ask, beside.as_ref(), payload);
    }
    put_frame(out, |out| match frame {
        Backward::Opened { limit } => {
            out.push(kind::OPENED);
            varint::put(out, *limit);
        }
        Backward::Refused(fault) => {
            out.push(kind::REFUSED);
            fault::put(out, fault);
        }
        Backward::Credit { messages, bytes, taken } => {
            out.push(kind::CREDIT);
            varint::put(out, *messages);
            varint::put(out, *bytes);
            varint::put(out, *taken);
        }
        Backward::Fault { ask, fault } => {
            out.push(kind::FAULT);
            varint::put(out, *ask);
            fault::put(out, fault);
        }
        Backward::Drained => out.push(kind::DRAINED),
        Backward::Reclaim => out.push(kind::RECLAIM),
        Backward::Undelivered { tells, fault } => {
            out.push(kind::UNDELIVERED);
            varint::put(out, *tells);
            fault::put(out, fault);
        }
        Backward::Withdrawn { passed } => {
            out.push(kind::WITHDRAWN);
            varint::put(out, *passed);
        }
        Backward::Reply { .. } => {}
    });
}

/// Appends REPLY, copying the payload once.
pub(crate) fn put_reply(out: &mut Vec<u8>, ask: u64, beside: Option<&Beside>, payload: &[u8]) {
    let bodies =
        beside.map_or(0, |b| 1 + b.lens.iter().map(|&len| varint::len(len)).sum::<usize>());
    varint::put(out, (1 + varint::len(ask) + bodies + payload.len()) as u64);
    out.push(if beside.is_some() { kind::REPLY_WITH_BODIES } else { kind::REPLY });
    varint::put(out, ask);
    if let Some(beside) = beside {
        beside.put(out);
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(frame: &[u8]) -> &[u8] {
        let (len, prefix) = varint::get(frame).unwrap().unwrap();
        assert_eq!(frame.len(), prefix + len as usize);
        &frame[prefix..]
    }

    #[test]
    fn messages_survive_with_ids_bodies_and_asks() {
        let beside = Beside { lens: vec![70_000, 65_537], payload: false };
        for (ask, number, id, beside) in [
            (None, 0, Some("chat.post"), None),
            (Some(5_000_000_000), 3, None, None),
            (Some(1), 4, Some("x"), Some(&beside)),
            (None, 2, None, Some(&beside)),
        ] {
            let payload = [9; 100];
            let header = MessageHeader { ask, number, id, beside, payload_len: payload.len() };
            let mut out = Vec::new();
            header.put(&mut out);
            out.extend_from_slice(&payload);
            assert_eq!(out.len(), header.size());
            let known = if id.is_some() { number } else { 4 };
            assert_eq!(
                forward(body(&out), known, 1 << 20),
                Ok(Forward::Message {
                    ask,
                    number,
                    id,
                    beside: beside.cloned(),
                    payload: &payload
                })
            );
        }
    }

    #[test]
    fn control_frames_survive() {
        let mut out = Vec::new();
        put_open(&mut out, &[7; 16], "example.chat.room/1");
        assert_eq!(
            forward(body(&out), 0, 0),
            Ok(Forward::Open { object: [7; 16], protocol: "example.chat.room/1" })
        );
        out.clear();
        put_flush(&mut out, 900);
        assert_eq!(out.len(), flush_size(900));
        assert_eq!(forward(body(&out), 0, 0), Ok(Forward::Flush { ask: 900 }));
        out.clear();
        put_cancel(&mut out, 901);
        assert_eq!(forward(body(&out), 0, 0), Ok(Forward::Cancel { ask: 901 }));
        out.clear();
        put_need(&mut out, 1, 8 << 20);
        assert_eq!(forward(body(&out), 0, 0), Ok(Forward::Need { messages: 1, bytes: 8 << 20 }));
        for frame in [
            Backward::Opened { limit: 64 << 20 },
            Backward::Refused(Fault::NoSuchActor),
            Backward::Credit { messages: 1, bytes: 2, taken: 3 },
            Backward::Reply { ask: 4, beside: None, payload: b"abc" },
            Backward::Reply {
                ask: 4,
                beside: Some(Beside { lens: vec![70_000], payload: true }),
                payload: b"",
            },
            Backward::Fault { ask: 1, fault: Fault::BadPayload("why".into()) },
            Backward::Drained,
            Backward::Reclaim,
            Backward::Undelivered { tells: 3, fault: Fault::UnknownMessage },
            Backward::Withdrawn { passed: 5 },
        ] {
            let mut out = Vec::new();
            put_backward(&mut out, &frame);
            assert_eq!(backward(body(&out), 1 << 20), Ok(frame));
        }
    }

    #[test]
    fn bodies_that_would_fit_into_the_message_are_refused() {
        let mut out = Vec::new();
        let beside = Beside { lens: vec![1 << 20, 65_536], payload: false };
        put_reply(&mut out, 1, Some(&beside), b"");
        assert_eq!(backward(body(&out), 2 << 20), Err(FrameError::SmallBody(65_536)));
    }

    #[test]
    fn bodies_beyond_the_limit_and_numbers_that_skip_are_refused() {
        let beside = Beside { lens: vec![1 << 20, 65_537], payload: false };
        let header = MessageHeader {
            ask: None,
            number: 0,
            id: Some("a"),
            beside: Some(&beside),
            payload_len: 0,
        };
        let mut out = Vec::new();
        header.put(&mut out);
        assert!(forward(body(&out), 0, (1 << 20) + 65_537).is_ok());
        assert!(matches!(forward(body(&out), 0, 1 << 20), Err(FrameError::TooLong { .. })));
        let header = MessageHeader { ask: None, number: 2, id: None, beside: None, payload_len: 0 };
        let mut out = Vec::new();
        header.put(&mut out);
        assert!(matches!(forward(body(&out), 1, 0), Err(FrameError::TooLong { .. })));
        assert_eq!(forward(&[0x10], 0, 0), Err(FrameError::UnknownKind(0x10)));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_decoders_panic(frame in proptest::collection::vec(proptest::num::u8::ANY, 0..100), known in 0usize..5) {
            let _ = forward(&frame, known, 1 << 20);
            let _ = backward(&frame, 1 << 20);
        }
    }
}
