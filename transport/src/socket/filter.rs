//! A filter in the kernel (classic BPF) that drops garbage before it costs this process anything.
//!
//! A datagram that nobody waits for costs some 3 µs of the network thread, nearly all of it in the kernel's
//! wake-up and receive path. What can be told from its first bytes never gets that far. The same rules
//! stand in `demux`, which is asked anyway: other systems have no such filter, and within a batch that the
//! kernel merged (GRO) the filter sees the first datagram only.

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use linux::attach;

/// Elsewhere `demux` alone does it.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn attach(_socket: &socket2::Socket) {}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use socket2::{SockFilter, Socket};

    use crate::{
        quic::QUIC_V1,
        socket::{
            demux::SHORT_BYTES_MIN,
            pieces::PIECE,
            unknown::{UNKNOWN, UNKNOWN_BYTES},
        },
        wire::{
            frame::{FRAME_BYTES, KEEP, PROBE},
            relay_frame::{DATA, HEADER_BYTES},
        },
    };

    /// The filter of a UDP socket sees the UDP header first (RFC 768).
    const HEADER: u32 = 8;

    /// No frame of a relay is shorter than a header and the least of QUIC.
    const RELAY_BYTES_MIN: usize = HEADER_BYTES + SHORT_BYTES_MIN;

    /// Pieces follow the frames of a relay, and are no shorter.
    const BEYOND_PIECE: u32 = PIECE as u32 + 1;

    /// Probes, answers, calls and keeps follow each other.
    const BEYOND_KEEP: u32 = KEEP as u32 + 1;

    // Instructions of classic BPF, as linux/filter.h has them.
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_WORD: u16 = 0x20;
    const LOAD_LENGTH: u16 = 0x80;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;

    /// Attaches the filter. Where that is forbidden, datagrams are merely dropped later.
    pub(crate) fn attach(socket: &Socket) {
        if let Err(e) = socket.attach_filter(&program()) {
            tracing::debug!("no filter in the kernel: {e}");
        }
    }

    fn program() -> [SockFilter; 21] {
        let op = SockFilter::new;
        let at_least = |bytes: usize| HEADER + bytes as u32;
        // A load beyond the end of the datagram drops it. Jumps count from the next instruction.
        [
            op(LOAD_BYTE, 0, 0, HEADER),
            op(JUMP_AT_LEAST, 15, 0, 0xc0),       // to 17: long header
            op(JUMP_AT_LEAST, 17, 0, 0x80),       // to 20: neither QUIC's nor ours
            op(JUMP_AT_LEAST, 11, 0, 0x40),       // to 15: short header
            op(JUMP_EQUAL, 4, 0, UNKNOWN.into()), // to 9
            op(JUMP_AT_LEAST, 14, 0, BEYOND_PIECE), // to 20
            op(JUMP_AT_LEAST, 6, 0, DATA.into()), // to 13
            op(JUMP_AT_LEAST, 12, 0, BEYOND_KEEP), // to 20
            op(JUMP_AT_LEAST, 2, 11, PROBE.into()), // to 11 or 20
            op(LOAD_LENGTH, 0, 0, 0),
            op(JUMP_EQUAL, 8, 9, at_least(UNKNOWN_BYTES)), // to 19 or 20
            op(LOAD_LENGTH, 0, 0, 0),
            op(JUMP_AT_LEAST, 6, 7, at_least(FRAME_BYTES)), // to 19 or 20
            op(LOAD_LENGTH, 0, 0, 0),
            op(JUMP_AT_LEAST, 4, 5, at_least(RELAY_BYTES_MIN)), // to 19 or 20
            op(LOAD_LENGTH, 0, 0, 0),
            op(JUMP_AT_LEAST, 2, 3, at_least(SHORT_BYTES_MIN)), // to 19 or 20
            op(LOAD_WORD, 0, 0, HEADER + 1),
            op(JUMP_EQUAL, 0, 1, QUIC_V1), // else to 20
            op(RETURN, 0, 0, u32::MAX),
            op(RETURN, 0, 0, 0),
        ]
    }

    #[cfg(test)]
    mod tests {
        use std::{net::UdpSocket, time::Duration};

        use super::*;
        use crate::socket::demux::{Kind, kind};

        #[test]
        fn the_filter_passes_what_sift_would_take_and_drops_what_it_would_not() {
            let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
            let receiver = Socket::from(receiver);
            attach(&receiver);
            let receiver = UdpSocket::from(receiver);
            receiver.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            let to = receiver.local_addr().unwrap();
            let mut expected = Vec::new();
            for first in 0..=255_u8 {
                for length in [1, 15, 16, 17, 20, 21, 36, 37, 50, 51, 52, 1200] {
                    for version in [QUIC_V1, 2, 0] {
                        let mut datagram = vec![0; length];
                        datagram[0] = first;
                        if let Some(room) = datagram.get_mut(1..5) {
                            room.copy_from_slice(&version.to_be_bytes());
                        }
                        let passes = match first {
                            UNKNOWN => length == UNKNOWN_BYTES,
                            PROBE..=KEEP => length >= FRAME_BYTES,
                            DATA..=PIECE => length >= RELAY_BYTES_MIN,
                            0..=0x3f => false,
                            0x40..=0x7f => length >= SHORT_BYTES_MIN,
                            0x80..=0xbf => false,
                            0xc0.. => length >= 5 && version == QUIC_V1,
                        };
                        // Nothing that sift has a use for is lost here.
                        let useful = match kind(&datagram) {
                            Kind::Garbage => false,
                            Kind::Ours if (DATA..=PIECE).contains(&first) => {
                                length >= RELAY_BYTES_MIN
                            }
                            Kind::Ours if first == UNKNOWN => length == UNKNOWN_BYTES,
                            Kind::Ours => crate::wire::frame::Frame::tag(&datagram).is_some(),
                            _ => true,
                        };
                        assert!(passes || !useful, "{first:#x} {length} {version}");
                        sender.send_to(&datagram, to).unwrap();
                        let mut room = [0; 2048];
                        if passes {
                            let count = receiver.recv(&mut room).unwrap();
                            assert_eq!(room[..count], datagram);
                        }
                        expected.push(passes);
                    }
                }
            }
            assert!(receiver.recv(&mut [0; 2048]).is_err(), "something passed that should not");
            assert!(expected.contains(&true) && expected.contains(&false));
        }
    }
}
