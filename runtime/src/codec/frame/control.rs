//! The frames of the control stream, the same in both directions: names are resolved and actors watched.

use super::cursor::{Cursor, put_bytes, put_frame};
use super::{FrameError, ID_MAX, NAME_MAX, varint};
use webmesh_transport::printable;

mod kind {
    pub(super) const RESOLVE: u8 = 0x01;
    pub(super) const RESOLVED: u8 = 0x02;
    pub(super) const UNRESOLVED: u8 = 0x03;
    pub(super) const WATCH: u8 = 0x04;
    pub(super) const UNWATCH: u8 = 0x05;
    pub(super) const DOWN: u8 = 0x06;
    pub(super) const RESTARTED: u8 = 0x07;
    pub(super) const WATCHING: u8 = 0x08;
    pub(super) const WITHDRAW: u8 = 0x09;
    // 0x10..=0x1f: reserved.
}

/// Largest encoded ref in a RESOLVED frame, in bytes: a peer, two ids, eight addresses.
const REF_MAX: usize = 1024;

/// One frame of the control stream. Requests carry a number that the sender chose, answers repeat it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Control<'a> {
    /// Which object is published under this name, in a version that fits (a semver requirement)? The answer is a ref of
    /// this protocol.
    Resolve { request: u64, name: &'a str, requirement: &'a str, protocol: &'a str },
    /// This one: a ref as it travels in messages.
    Resolved { request: u64, reference: &'a [u8] },
    /// None, and why.
    Unresolved { request: u64, refusal: Refusal },
    /// Tell what happens to an object. `epoch` as in its ref. `actor`: what `Watching` said of this watch on another link.
    Watch { watch: u64, object: [u8; 16], epoch: u64, actor: Option<u64> },
    /// No more.
    Unwatch { watch: u64 },
    /// It ended; the last that is said of this watch.
    Down { watch: u64, reason: DownCode },
    /// It panicked and goes on.
    Restarted { watch: u64, incarnation: u64 },
    /// The watch has found this actor behind a published object.
    Watching { watch: u64, actor: u64 },
    /// Pass on nothing more of the lanes of whoever says this, and say of each how much of it was.
    Withdraw,
}

/// Why a name was not resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Nothing of that name that the caller may use.
    Unknown,
    /// No version fits; these are there.
    NoMatchingVersion(Vec<String>),
    /// It serves this protocol.
    WrongProtocol(String),
    /// The query is not well-formed.
    Malformed(String),
}

/// Versions told to a caller whose requirement none meets, and their length in bytes.
const VERSIONS_MAX: usize = 16;
const VERSION_MAX: usize = 128;

impl Refusal {
    fn put(&self, out: &mut Vec<u8>) {
        let (code, texts): (u8, &[String]) = match self {
            Self::Unknown => (1, &[]),
            Self::NoMatchingVersion(versions) => (2, &versions[..versions.len().min(VERSIONS_MAX)]),
            Self::WrongProtocol(found) => (3, std::slice::from_ref(found)),
            Self::Malformed(why) => (4, std::slice::from_ref(why)),
        };
        out.push(code);
        let max = if texts.len() > 1 { VERSION_MAX } else { NAME_MAX };
        varint::put(out, texts.len() as u64);
        for text in texts {
            put_bytes(out, &text.as_bytes()[..text.floor_char_boundary(max)]);
        }
    }

    fn get(cursor: &mut Cursor<'_>) -> Result<Self, FrameError> {
        let code = cursor.byte("refusal's code")?;
        let count = cursor.bounded("refusal's texts", VERSIONS_MAX as u64)?;
        let mut texts = Vec::new();
        for _ in 0..count {
            // They end up in errors and logs.
            texts.push(printable(cursor.text("refusal's text", NAME_MAX)?));
        }
        Ok(match code {
            2 => Self::NoMatchingVersion(texts),
            3 => Self::WrongProtocol(texts.pop().unwrap_or_default()),
            4 => Self::Malformed(texts.pop().unwrap_or_default()),
            _ => Self::Unknown,
        })
    }
}

/// Why a watch ended, as its host knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DownCode {
    Stopped,
    Panicked,
    NoSuchActor,
    Revoked,
    Stale,
    /// The host watches as much for this peer as it is willing to.
    TooMany,
}

impl DownCode {
    const ALL: [Self; 6] = [
        Self::Stopped,
        Self::Panicked,
        Self::NoSuchActor,
        Self::Revoked,
        Self::Stale,
        Self::TooMany,
    ];
}

/// Reads a frame.
pub(crate) fn control(frame: &[u8]) -> Result<Control<'_>, FrameError> {
    let mut cursor = Cursor::new(frame);
    let kind = cursor.byte("kind")?;
    let number = match kind {
        kind::RESOLVE..=kind::WATCHING => cursor.number("number")?,
        kind::WITHDRAW => {
            cursor.end()?;
            return Ok(Control::Withdraw);
        }
        unknown => return Err(FrameError::UnknownKind(unknown)),
    };
    let read = match kind {
        kind::RESOLVE => Control::Resolve {
            request: number,
            name: cursor.text("name", NAME_MAX)?,
            requirement: cursor.text("version requirement", NAME_MAX)?,
            protocol: cursor.text("protocol id", ID_MAX)?,
        },
        kind::RESOLVED => {
            Control::Resolved { request: number, reference: cursor.bytes("ref", REF_MAX)? }
        }
        kind::UNRESOLVED => {
            Control::Unresolved { request: number, refusal: Refusal::get(&mut cursor)? }
        }
        kind::WATCH => Control::Watch {
            watch: number,
            object: cursor.array("object id")?,
            epoch: cursor.number("epoch")?,
            actor: if cursor.is_empty() { None } else { Some(cursor.number("actor")?) },
        },
        kind::UNWATCH => Control::Unwatch { watch: number },
        kind::DOWN => {
            let code = cursor.byte("reason")?;
            // A reason from a newer version reads as the mildest: it is no more.
            let reason = DownCode::ALL.get(usize::from(code)).copied().unwrap_or(DownCode::Stopped);
            Control::Down { watch: number, reason }
        }
        kind::RESTARTED => {
            Control::Restarted { watch: number, incarnation: cursor.number("incarnation")? }
        }
        _ => Control::Watching { watch: number, actor: cursor.number("actor")? },
    };
    cursor.end()?;
    Ok(read)
}

/// Appends a frame.
pub(crate) fn put_control(out: &mut Vec<u8>, frame: &Control<'_>) {
    let mut head = |kind: u8, number: u64, fields: &dyn Fn(&mut Vec<u8>)| {
        put_frame(out, |out| {
            out.push(kind);
            varint::put(out, number);
            fields(out);
        });
    };
    match frame {
        Control::Resolve { request, name, requirement, protocol } => {
            head(kind::RESOLVE, *request, &|out| {
                put_bytes(out, name.as_bytes());
                put_bytes(out, requirement.as_bytes());
                put_bytes(out, protocol.as_bytes());
            })
        }
        Control::Resolved { request, reference } => {
            head(kind::RESOLVED, *request, &|out| put_bytes(out, reference));
        }
        Control::Unresolved { request, refusal } => {
            head(kind::UNRESOLVED, *request, &|out| refusal.put(out))
        }
        Control::Watch { watch, object, epoch, actor } => head(kind::WATCH, *watch, &|out| {
            out.extend_from_slice(object);
            varint::put(out, (*epoch).min(varint::MAX));
            if let Some(actor) = actor {
                varint::put(out, *actor);
            }
        }),
        Control::Unwatch { watch } => head(kind::UNWATCH, *watch, &|_| {}),
        Control::Down { watch, reason } => {
            let code = DownCode::ALL.iter().position(|code| code == reason).unwrap_or(0) as u8;
            head(kind::DOWN, *watch, &|out| out.push(code));
        }
        Control::Restarted { watch, incarnation } => {
            head(kind::RESTARTED, *watch, &|out| varint::put(out, *incarnation));
        }
        Control::Watching { watch, actor } => {
            head(kind::WATCHING, *watch, &|out| varint::put(out, *actor));
        }
        Control::Withdraw => put_frame(out, |out| out.push(kind::WITHDRAW)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_survives() {
        let mut frames = vec![
            Control::Resolve { request: 1, name: "chat/rust", requirement: "^1", protocol: "p" },
            Control::Resolved { request: 1, reference: b"ref" },
            Control::Unresolved { request: 1, refusal: Refusal::Unknown },
            Control::Unresolved {
                request: 1,
                refusal: Refusal::NoMatchingVersion(vec!["1.0.0".into(), "2.0.0".into()]),
            },
            Control::Unresolved { request: 1, refusal: Refusal::WrongProtocol("chat/1".into()) },
            Control::Watch { watch: 7, object: [3; 16], epoch: 1_700_000_000_000, actor: None },
            Control::Watch { watch: 7, object: [3; 16], epoch: 0, actor: Some(varint::MAX) },
            Control::Watching { watch: 7, actor: 5 },
            Control::Unwatch { watch: 7 },
            Control::Restarted { watch: 7, incarnation: 2 },
            Control::Withdraw,
        ];
        frames.extend(DownCode::ALL.map(|reason| Control::Down { watch: 9, reason }));
        for frame in frames {
            let mut out = Vec::new();
            put_control(&mut out, &frame);
            let (len, prefix) = varint::get(&out).unwrap().unwrap();
            assert_eq!(out.len(), prefix + len as usize);
            assert_eq!(control(&out[prefix..]), Ok(frame));
        }
    }

    #[test]
    fn long_names_and_trailing_bytes_are_refused() {
        let long = "x".repeat(256);
        let mut out = Vec::new();
        put_control(
            &mut out,
            &Control::Resolve { request: 1, name: &long, requirement: "", protocol: "" },
        );
        assert!(matches!(
            control(&out[2..]),
            Err(FrameError::TooLong { what: "name", len: 256, .. })
        ));
        assert_eq!(control(&[5, 7, 0]), Err(FrameError::Trailing(1)));
        assert_eq!(control(&[9, 0]), Err(FrameError::Trailing(1)));
        assert_eq!(control(&[0]), Err(FrameError::UnknownKind(0)));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(frame in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
            let _ = control(&frame);
        }
    }
}
