//! Faults as they travel: a code, a number that few use, and at most 200 bytes of reason.

use super::{FrameError, cursor::Cursor, cursor::put_bytes, varint};
use crate::codec::payload::{REASON_MAX, shorten};
use crate::ground::error::Fault;
use std::time::Duration;
use webmesh_transport::printable;

/// Appends a fault. Those that only a sender finds out by itself have no code and travel as "no reply".
pub(crate) fn put(out: &mut Vec<u8>, fault: &Fault) {
    let (code, number, reason) = match fault {
        Fault::NoSuchActor => (1, 0, ""),
        Fault::WrongProtocol => (2, 0, ""),
        Fault::UnknownMessage => (3, 0, ""),
        Fault::BadPayload(why) => (4, 0, why.as_str()),
        Fault::Unencodable(why) => (5, 0, why.as_str()),
        Fault::TooLarge { limit } => (6, *limit, ""),
        Fault::Stopped => (7, 0, ""),
        Fault::Panicked => (8, 0, ""),
        // To whoever doesn't know the number it reads as plain `Panicked`.
        Fault::Quarantined { left } => (8, millis(*left), ""),
        Fault::Unsupported => (10, 0, ""),
        Fault::Full => (11, 0, ""),
        Fault::ShutDown => (12, 0, ""),
        // To whoever doesn't know the code it reads as `NoReply`.
        Fault::ReplyDropped => (13, 0, ""),
        _ => (9, 0, ""),
    };
    out.push(code);
    varint::put(out, number.min(varint::MAX));
    let reason = &reason[..reason.floor_char_boundary(REASON_MAX)];
    put_bytes(out, reason.as_bytes());
}

/// In whole milliseconds, at least 1.
fn millis(left: Duration) -> u64 {
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// Reads a fault. A code from a newer version reads as "no reply", so that codes can be added.
pub(crate) fn get(cursor: &mut Cursor<'_>) -> Result<Fault, FrameError> {
    let code = cursor.byte("fault's code")?;
    let number = cursor.number("fault's number")?;
    let reason = cursor.text("fault's reason", REASON_MAX)?;
    let reason = || shorten(printable(reason));
    Ok(match code {
        1 => Fault::NoSuchActor,
        2 => Fault::WrongProtocol,
        3 => Fault::UnknownMessage,
        4 => Fault::BadPayload(reason()),
        5 => Fault::Unencodable(reason()),
        6 => Fault::TooLarge { limit: number },
        7 => Fault::Stopped,
        8 if number > 0 => Fault::Quarantined { left: Duration::from_millis(number) },
        8 => Fault::Panicked,
        10 => Fault::Unsupported,
        11 => Fault::Full,
        // The other side's mesh is shut down, not ours.
        12 => Fault::PeerGone,
        13 => Fault::ReplyDropped,
        _ => Fault::NoReply,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_survive_the_wire() {
        for fault in [
            Fault::NoSuchActor,
            Fault::WrongProtocol,
            Fault::UnknownMessage,
            Fault::BadPayload("missing field `text`".into()),
            Fault::Unencodable("no".into()),
            Fault::TooLarge { limit: 7 },
            Fault::Stopped,
            Fault::Panicked,
            Fault::Quarantined { left: Duration::from_secs(59) },
            Fault::NoReply,
            Fault::ReplyDropped,
            Fault::Unsupported,
            Fault::Full,
        ] {
            let mut out = Vec::new();
            put(&mut out, &fault);
            let mut cursor = Cursor::new(&out);
            assert_eq!(get(&mut cursor), Ok(fault));
            assert_eq!(cursor.end(), Ok(()));
        }
    }

    #[test]
    fn a_reason_from_elsewhere_gives_no_orders_to_a_terminal() {
        let mut out = Vec::new();
        put(&mut out, &Fault::BadPayload("\u{1b}[2Jgone\n".into()));
        let read = get(&mut Cursor::new(&out));
        assert_eq!(read, Ok(Fault::BadPayload("\u{fffd}[2Jgone\u{fffd}".into())));
    }
}
