//! What a host says of a flow or a connection that it doesn't know: perhaps it has restarted.
//!
//! ```text
//! unknown  0x0C  what  zero[6]  name[8]
//! ```
//!
//! `what` is the first byte of the frame that drew it, and the name is that frame's token or tag. Whoever has lost its keys can't
//! authenticate that it has, so that it proves nothing: its receiver asks at its own connection to whoever is there, once a second at
//! most, and changes nothing else. It is shorter than any probe, no longer than any data frame, and rationed.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use crate::{
    limits::prefix,
    wire::{
        frame::{PROBE, Tag},
        relay_frame::{DATA, FlowToken},
    },
};

pub(crate) const UNKNOWN: u8 = 0x0c;

/// Length of such a frame: no longer than the shortest data frame.
pub(crate) const UNKNOWN_BYTES: usize = 16;

/// In a second, at most so many in all, and to one address prefix. Guesses: 8 KB a second; ten thousand hosts, each of which asks once
/// in 20 s, or dozens behind one router, are told so.
const EACH_SECOND: u32 = 512;
const TO_EACH_PREFIX: u32 = 32;

/// What isn't known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The flow that a data frame names.
    Flow(FlowToken),
    /// The connection that a probe names.
    Tag(Tag),
}

impl Unknown {
    pub(crate) fn encode(self) -> [u8; UNKNOWN_BYTES] {
        let (what, name) = match self {
            Self::Flow(FlowToken(token)) => (DATA, token.to_be_bytes()),
            Self::Tag(tag) => (PROBE, tag),
        };
        let mut bytes = [0; UNKNOWN_BYTES];
        (bytes[0], bytes[1]) = (UNKNOWN, what);
        bytes[8..].copy_from_slice(&name);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, name) = bytes.split_first_chunk::<8>()?;
        let name: [u8; 8] = name.try_into().ok()?;
        match *head {
            [UNKNOWN, DATA, 0, 0, 0, 0, 0, 0] => {
                Some(Self::Flow(FlowToken(u64::from_be_bytes(name))))
            }
            [UNKNOWN, PROBE, 0, 0, 0, 0, 0, 0] => Some(Self::Tag(name)),
            _ => None,
        }
    }
}

/// How many more may go out.
#[derive(Debug, Default)]
pub(crate) struct Ration {
    since: Option<Instant>,
    said: u32,
    to: HashMap<IpAddr, u32>,
}

impl Ration {
    /// Whether one may go to `ip`, which is then counted.
    pub(crate) fn take(&mut self, ip: IpAddr, now: Instant) -> bool {
        if self.since.is_none_or(|since| now >= since + Duration::from_secs(1)) {
            (self.since, self.said) = (Some(now), 0);
            self.to.clear();
        }
        if self.said >= EACH_SECOND {
            return false;
        }
        let there = self.to.entry(prefix(ip.to_canonical())).or_default();
        if *there >= TO_EACH_PREFIX {
            return false;
        }
        *there += 1;
        self.said += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_the_way_and_nothing_else_is_one() {
        for unknown in [Unknown::Flow(FlowToken(0x0123_4567_89ab_cdef)), Unknown::Tag([7; 8])] {
            let bytes = unknown.encode();
            assert_eq!(Unknown::decode(&bytes), Some(unknown));
            for end in 0..UNKNOWN_BYTES {
                assert_eq!(Unknown::decode(&bytes[..end]), None);
            }
            assert_eq!(Unknown::decode(&[&bytes[..], &[0]].concat()), None);
            for index in 0..8 {
                let mut other = bytes;
                other[index] ^= 0x40;
                assert_eq!(Unknown::decode(&other), None);
            }
        }
    }

    #[test]
    fn each_prefix_is_told_so_often_a_second_and_all_of_them_together() {
        let (mut ration, now) = (Ration::default(), Instant::now());
        let ip = |a: u8, b: u8| IpAddr::from([a, b, 1, 1]);
        assert_eq!(
            (0..100).filter(|_| ration.take(ip(1, 1), now)).count(),
            TO_EACH_PREFIX as usize
        );
        let others = (0..100_u8).flat_map(|b| (0..100).map(move |_| ip(2, b)));
        let told = others.filter(|ip| ration.take(*ip, now)).count();
        assert_eq!(told, (EACH_SECOND - TO_EACH_PREFIX) as usize);
        assert!(ration.to.len() <= EACH_SECOND as usize);
        assert!(ration.take(ip(1, 1), now + Duration::from_secs(1)));
    }
}
