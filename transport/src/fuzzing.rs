//! What the fuzz targets (fuzz/) and the tests of their seeds (tests/fuzz_seeds.rs) do with an input: decode it, and if it
//! was accepted, check what must then hold. Not part of the API.

#![allow(missing_docs)]

use std::net::SocketAddr;
use std::time::SystemTime;

use quinn::udp::RecvMeta;
use ring::hmac;

use crate::{
    identity::{PeerId, key_file, version},
    peer_ref::{PeerRef, inspect},
    socket::{
        demux::{Kind, Staged, Verdict, kind, sift},
        pieces::{self, Pieces},
    },
    tunnel::{self, frame::Splitter},
    wire::{
        frame::{self, FRAME_BYTES, Frame, MTU_MAX, SIZING},
        hello::Hello,
        relay_frame::{self, HEADER_BYTES, is_relay},
        rendezvous::{BODY_BYTES_MAX, Message},
        road::Source,
    },
};

/// A target's name, which is also that of its seeds' folder, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("peer_ref_bytes", peer_ref_bytes),
    ("peer_ref_text", peer_ref_text),
    ("peer_id_text", peer_id_text),
    ("key_file", key_file),
    ("version_file", version_file),
    ("hello", hello),
    ("rendezvous_message", rendezvous_message),
    ("own_frame", own_frame),
    ("datagrams", datagrams),
    ("relay_frame", relay_frame),
    ("piece", piece),
    ("tunnel_stream", tunnel_stream),
];

pub fn peer_ref_bytes(data: &[u8]) {
    if let Ok(reference) = PeerRef::from_bytes(data) {
        assert_eq!(reference.to_bytes(), data, "a content has one encoding");
    }
}

pub fn peer_ref_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let found = inspect(text, SystemTime::UNIX_EPOCH);
    let parsed = text.parse::<PeerRef>();
    assert_eq!(parsed.is_ok(), found.verdict.is_usable(), "in 1970 nothing has expired");
    if let Ok(reference) = parsed {
        assert_eq!(reference.to_string(), text.to_ascii_lowercase(), "a reference has one text");
    }
}

pub fn peer_id_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(peer) = text.parse::<PeerId>() {
        assert_eq!(peer.to_string(), text, "a peer has one text");
    }
}

pub fn key_file(data: &[u8]) {
    if let Ok(secret) = key_file::decode(data) {
        let text = String::from_utf8_lossy(data);
        let kept = key_file::encode(&secret);
        assert_eq!(text.trim_ascii_end(), kept.trim_ascii_end(), "a secret has one file");
    }
}

pub fn version_file(data: &[u8]) {
    if let Some(kept) = version::decode(data) {
        assert_eq!(version::encode(kept).as_bytes(), data, "a version has one file");
    }
}

/// What follows the length of a HELLO.
pub fn hello(data: &[u8]) {
    if let Ok(hello) = Hello::decode(data) {
        assert_eq!(hello.encode().get(2..), Some(data), "a HELLO has one encoding");
    }
}

/// The body of a note between a host and its rendezvous.
pub fn rendezvous_message(data: &[u8]) {
    if let Ok(message) = Message::decode(data) {
        assert_eq!(message.encode(), data, "a message has one encoding");
        assert!(data.len() <= BODY_BYTES_MAX);
    }
}

/// One of our own frames, as it is and with its MAC put right (which only a peer can do).
pub fn own_frame(data: &[u8]) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
    let tag = Frame::tag(data);
    assert!(tag.is_none() || data.len() == FRAME_BYTES || data[0] == SIZING);
    let _ = Frame::open(data, &key);
    if let Some(nonce) = frame::called(data) {
        assert_eq!(frame::call(nonce), data);
    }
    const MAC_BYTES: usize = 16;
    let mut frame = data.to_vec();
    // What is too short is padded, since most inputs would else be refused for their length; a sizing frame keeps what follows it.
    if data.len() < FRAME_BYTES || data[0] != SIZING {
        frame.resize(FRAME_BYTES, 0);
    }
    let (body, mac) = frame[..FRAME_BYTES].split_at_mut(FRAME_BYTES - MAC_BYTES);
    mac.copy_from_slice(&hmac::sign(&key, body).as_ref()[..MAC_BYTES]);
    if let (Some(tag), Some(opened)) = (Frame::tag(&frame), Frame::open(&frame, &key)) {
        let mut sealed = opened.seal(tag, &key).to_vec();
        if let Frame::Sizing { length, .. } = opened {
            assert_eq!(usize::from(length), frame.len(), "a sizing probe is as long as it says");
            sealed.resize(length.into(), 0);
        }
        assert_eq!(Frame::open(&sealed, &key), Some(opened));
    }
}

/// A piece of a datagram as it comes, and a datagram cut up and put together again.
pub fn piece(data: &[u8]) {
    let source = Source { wire: 0, remote: SocketAddr::from(([10, 0, 0, 1], 1)), flow: None };
    let mut pieces = Pieces::default();
    let (one, two) = data.split_at(data.len() / 2);
    let frames = [data, one, two, data];
    for frame in frames {
        if let Some(datagram) = pieces.take(source, frame) {
            let length = frame.get(2..4).map(|length| u16::from_be_bytes([length[0], length[1]]));
            assert_eq!(length.map(usize::from), Some(datagram.len()), "as long as it was to be");
            assert!(datagram.len() <= usize::from(MTU_MAX));
        }
    }
    if !(2..=usize::from(MTU_MAX)).contains(&data.len()) {
        return;
    }
    // A sender's ids come once: this one is no frame's from before.
    let used = |id: u64| frames.iter().any(|frame| frame.get(4..12) == Some(&id.to_be_bytes()));
    let id = (0..=u64::MAX).rev().find(|id| !used(*id)).unwrap_or_default();
    for (first, second) in [(0, 1), (1, 0)] {
        let halves = pieces::split(data, id);
        assert_eq!(pieces.take(source, &halves[first]), None);
        assert_eq!(pieces.take(source, &halves[first]), None, "twice the same");
        let whole = pieces.take(source, &halves[second]);
        assert_eq!(whole.as_deref(), Some(data), "the parts are the whole");
    }
}

/// A frame of a relay, as it is and with its MAC put right.
pub fn relay_frame(data: &[u8]) {
    let key = [1; 32];
    let token = relay_frame::token(data);
    assert_eq!(token.is_some(), data.len() >= HEADER_BYTES);
    for kind in [relay_frame::CHALLENGE, relay_frame::BIND] {
        let _ = relay_frame::open(kind, data, &key);
        if let (Some(token), Some(challenge)) =
            (token, data.get(HEADER_BYTES..).and_then(|rest| rest.first_chunk::<8>()))
        {
            let challenge = u64::from_be_bytes(*challenge);
            let sealed = relay_frame::seal(kind, token, challenge, &key);
            assert_eq!(relay_frame::open(kind, &sealed, &key), Some(challenge));
        }
    }
    let mut readdressed = data.to_vec();
    relay_frame::readdress(&mut readdressed, relay_frame::FlowToken(7));
    assert_eq!(readdressed.len(), data.len());
}

/// What comes through a tunnel, in pieces as long as the first byte says. What comes out must be what was put in, up to
/// where it was refused.
pub fn tunnel_stream(data: &[u8]) {
    let Some((&piece, stream)) = data.split_first() else { return };
    let (mut splitter, mut rebuilt) = (Splitter::default(), Vec::new());
    for piece in stream.chunks(usize::from(piece).max(1)) {
        let fed = splitter.feed(piece, |datagram| tunnel::frame::put(&mut rebuilt, datagram));
        if fed.is_err() {
            break;
        }
    }
    assert!(stream.starts_with(&rebuilt));
}

/// A batch as the kernel hands it over: the first byte is the size of its datagrams. What comes out of the sieve must be
/// what comes out when each datagram is looked at by itself.
pub fn datagrams(data: &[u8]) {
    let Some((&stride, batch)) = data.split_first() else { return };
    let stride = usize::from(stride).max(1);
    let handle = |n: u8| SocketAddr::from(([10, 0, 0, n % 4], 1));
    // A judge that, as the real one, gives a connection id always the same handle.
    let inner = |datagram: &[u8]| match datagram.get(HEADER_BYTES..).map(kind) {
        Some(Kind::Short(cid)) => Verdict::Relayed(vec![handle(cid[0])]),
        Some(Kind::Retry { .. }) => Verdict::Relayed(vec![handle(0), handle(1)]),
        _ => Verdict::Taken,
    };
    let judge = |datagram: &[u8]| match kind(datagram) {
        Kind::Ours if is_relay(datagram) => inner(datagram),
        Kind::Short(cid) => Verdict::Quic(handle(cid[0])),
        Kind::Initial { destination, .. } => {
            Verdict::Quic(handle(destination.first().copied().unwrap_or(0)))
        }
        Kind::Retry { .. } => Verdict::QuicEach(vec![handle(0), handle(1)]),
        Kind::Handshake { .. } | Kind::Ours | Kind::Garbage => Verdict::Taken,
    };
    let mut first = None;
    let (mut kept, mut set_aside) = (Vec::new(), 0u64);
    for datagram in batch.chunks(stride) {
        let (to, skip) = match judge(datagram) {
            Verdict::Quic(to) => (to, 0),
            Verdict::Relayed(handles) if handles.len() == 1 => (handles[0], HEADER_BYTES),
            Verdict::QuicEach(handles)
            | Verdict::Relayed(handles)
            | Verdict::Rebuilt(_, handles) => {
                set_aside += handles.len() as u64;
                continue;
            }
            Verdict::Taken => continue,
        };
        if *first.get_or_insert((to, skip)) == (to, skip) {
            kept.extend_from_slice(&datagram[skip..]);
        } else {
            set_aside += 1;
        }
    }
    let mut sifted = batch.to_vec();
    let mut meta = RecvMeta { len: sifted.len(), stride, ..Default::default() };
    let mut staged = Staged::default();
    let any = sift(&mut sifted, &mut meta, &mut staged, judge);
    assert_eq!(any, !kept.is_empty());
    assert_eq!(sifted.get(..meta.len), Some(&kept[..]));
    assert!(first.is_none_or(|(first, _)| meta.addr == first));
    let mut delivered = staged.dropped;
    while !staged.is_empty() {
        let mut room = [0; 256];
        let bufs = &mut [std::io::IoSliceMut::new(&mut room)];
        delivered += staged.deliver(bufs, &mut [RecvMeta::default()]) as u64;
    }
    assert_eq!(delivered, set_aside);
}
