//! What the fuzz targets (fuzz/) and the tests of their seeds (tests/fuzz_seeds.rs) do with an input: decode it, and if it
//! was accepted, check what must then hold. Not part of the API.

#![allow(missing_docs)]

mod lane_sender;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::codec::bytes::Bytes;
use crate::codec::frame::control::{Control, control, put_control};
use crate::codec::frame::lane::{
    Backward, Forward, MessageHeader, backward, forward, put_backward, put_cancel, put_flush,
    put_need, put_open,
};
use crate::codec::frame::splitter::{Frames, Splitter};
use crate::codec::frame::{CONTROL_FRAME_MAX, FrameError, LANE_FRAME_MAX, NUMBERS_MAX, varint};
use crate::codec::limits::INLINE_MAX;
use crate::codec::payload::{Encoder, Payload};
use crate::codec::wire_ref::WireRef;

/// A target's name, which is also that of its seeds' folder, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("payload", payload),
    ("actor_ref", actor_ref),
    ("lane_forward", lane_forward),
    ("lane_backward", lane_backward),
    ("control_stream", control_stream),
    ("lane_sender", lane_sender),
];

/// A message with a bit of everything, and room for itself.
#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Zoo {
    text: String,
    number: i64,
    wide: u128,
    flag: bool,
    unit: (),
    letter: char,
    pair: (u8, Option<i16>),
    body: Bytes,
    names: BTreeMap<String, Vec<u32>>,
    kind: Kind,
    #[serde(default)]
    inner: Vec<Zoo>,
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
enum Kind {
    Plain,
    Wrapped(Bytes),
    Named { at: u64 },
}

/// A message: its bytes, and two bodies that placeholders in it may stand for.
pub fn payload(data: &[u8]) {
    let bodies = [bytes::Bytes::from_static(b"a"), bytes::Bytes::from(vec![7; INLINE_MAX + 1])];
    let payload = Payload { bytes: data, bodies: &bodies };
    let _ = payload.decode::<IgnoredAny>();
    let _ = payload.decode::<Vec<Bytes>>();
    let Ok(zoo) = payload.decode::<Zoo>() else { return };
    let mut encoder = Encoder::new(1 << 30);
    let encoded = encoder.encode(&zoo);
    assert!(encoded.is_ok(), "what was decoded can be encoded: {encoded:?}");
    assert_eq!(encoder.payload().decode::<Zoo>(), Ok(zoo), "and comes back as it was");
}

/// A ref inside a message.
pub fn actor_ref(data: &[u8]) {
    let Ok(wire) = (Payload { bytes: data, bodies: &[] }).decode::<WireRef>() else { return };
    let mut encoder = Encoder::new(1 << 16);
    let encoded = encoder.encode(&wire);
    assert!(encoded.is_ok(), "a ref is small: {encoded:?}");
    assert_eq!(encoder.payload().decode::<WireRef>(), Ok(wire));
}

/// Bodies a lane may announce in one frame, in the targets below.
const BODIES_LEN_MAX: u64 = 1 << 20;

/// Cuts the rest of an input into frames twice: as one chunk, and as chunks of the size that its first byte says. Both
/// must find the same frames, which `take` is given, and refuse the same streams.
fn split(data: &[u8], frame_max: usize, mut take: impl FnMut(&[u8])) {
    let Some((&step, stream)) = data.split_first() else { return };
    let whole = split_by(stream.len().max(1), stream, frame_max);
    let pieces = split_by(usize::from(step).max(1), stream, frame_max);
    assert_eq!(whole.1, pieces.1, "chunks don't matter");
    if whole.1.is_ok() {
        assert_eq!(whole.0, pieces.0, "chunks don't matter");
    }
    for frame in whole.0 {
        take(&frame);
    }
}

fn split_by(
    step: usize,
    stream: &[u8],
    frame_max: usize,
) -> (Vec<Vec<u8>>, Result<(), FrameError>) {
    let mut splitter = Splitter::new(frame_max);
    let mut found = Vec::new();
    let mut frames = Frames::default();
    for chunk in stream.chunks(step) {
        frames.clear();
        let pushed = splitter.push(bytes::Bytes::copy_from_slice(chunk), &mut frames);
        // After an error the connection is closed, whatever came before it.
        if pushed.is_err() {
            return (Vec::new(), pushed);
        }
        found.extend(frames.spans().iter().map(|span| frames.get(*span).to_vec()));
    }
    (found, splitter.end())
}

/// What is behind the length of the one frame in `out`.
fn unprefixed(out: &[u8]) -> &[u8] {
    match varint::get(out) {
        Ok(Some((len, prefix))) if out.len() as u64 == prefix as u64 + len => &out[prefix..],
        other => panic!("one whole frame: {other:?}"),
    }
}

/// A lane's stream, from the side that has messages.
pub fn lane_forward(data: &[u8]) {
    let mut known = 0;
    split(data, LANE_FRAME_MAX, |frame| {
        let Ok(read) = forward(frame, known, BODIES_LEN_MAX) else { return };
        let mut out = Vec::new();
        match read {
            Forward::Open { object, protocol } => put_open(&mut out, &object, protocol),
            Forward::Flush { ask } => put_flush(&mut out, ask),
            Forward::Cancel { ask } => put_cancel(&mut out, ask),
            Forward::Need { messages, bytes } => put_need(&mut out, messages, bytes),
            Forward::Message { ask, number, id, beside, payload } => {
                let beside = beside.as_ref();
                assert!(beside.is_none_or(|beside| beside.total() <= BODIES_LEN_MAX));
                let header = MessageHeader { ask, number, id, beside, payload_len: payload.len() };
                header.put(&mut out);
                out.extend_from_slice(payload);
                assert_eq!(out.len(), header.size());
                known += usize::from(id.is_some());
                assert!(known <= NUMBERS_MAX);
            }
        }
        assert_eq!(unprefixed(&out), frame, "a frame has one encoding");
    });
}

/// A lane's stream, from the object's side.
pub fn lane_backward(data: &[u8]) {
    split(data, LANE_FRAME_MAX, |frame| {
        let Ok(read) = backward(frame, BODIES_LEN_MAX) else { return };
        // What a newer version says may have been read as something milder, so frames are compared, not their bytes.
        let mut out = Vec::new();
        put_backward(&mut out, &read);
        let again = backward(unprefixed(&out), BODIES_LEN_MAX);
        if !matches!(
            read,
            Backward::Refused(_) | Backward::Fault { .. } | Backward::Undelivered { .. }
        ) {
            assert_eq!(again, Ok(read));
        } else {
            assert!(again.is_ok());
        }
    });
}

/// The control stream, the same in both directions.
pub fn control_stream(data: &[u8]) {
    split(data, CONTROL_FRAME_MAX, |frame| {
        let Ok(read) = control(frame) else { return };
        let mut out = Vec::new();
        put_control(&mut out, &read);
        let again = control(unprefixed(&out));
        assert!(again.is_ok());
        if !matches!(read, Control::Unresolved { .. }) {
            assert_eq!(again, Ok(read));
        }
    });
}

/// What happens to the sender's half of a lane, two bytes each.
pub fn lane_sender(data: &[u8]) {
    lane_sender::run(data);
}
