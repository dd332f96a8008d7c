//! What the fuzz targets (fuzz/) and the tests of their seeds (tests/fuzz_seeds.rs) do with an input: decode it, and if it
//! was accepted, check what must then hold. Not part of the API.

#![allow(missing_docs)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::bytes::{Bytes, INLINE_MAX};
use crate::payload::{Encoder, Payload};
use crate::wire_ref::WireRef;

/// A target's name, which is also that of its seeds' folder, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[("payload", payload), ("actor_ref", actor_ref)];

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
