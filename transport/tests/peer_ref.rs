//! PeerRefs against their vectors (vectors/peer_ref.json, written by another implementation of docs/peer-ref.md), and
//! properties that hold for every reference.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::cmp::Ordering;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proptest::collection::vec;
use proptest::prelude::*;
use serde::Deserialize;
use webmesh_transport::peer_ref::{
    AddressRef, Claims, ContentError, DecodeError, PEER_REF_LEN_MAX, ParseError, RefContent,
    RendezvousPoint, SignedRef, SuccessionError, Verdict, inspect,
};
use webmesh_transport::{PeerId, PeerRef, SecretKey};

#[derive(Deserialize)]
struct Vectors {
    now: u64,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    bytes: String,
    text: String,
    verdict: String,
    content: Option<Content>,
}

#[derive(Deserialize)]
struct Content {
    /// The rest is there when the reference is signed.
    peer: Option<PeerId>,
    secret: Option<String>,
    version: Option<u64>,
    expires: Option<u64>,
    addresses: Vec<SocketAddr>,
    #[serde(default)]
    rendezvous: Vec<Point>,
}

#[derive(Deserialize)]
struct Point {
    peer: PeerId,
    addresses: Vec<SocketAddr>,
    tls: Vec<SocketAddr>,
}

impl Content {
    fn reference(self) -> PeerRef {
        let Some(secret) = self.secret else {
            return AddressRef::new(self.addresses).unwrap().into();
        };
        let secret = data_encoding::HEXLOWER.decode(secret.as_bytes()).unwrap();
        let secret = SecretKey::from_bytes(secret.try_into().unwrap());
        assert_eq!(Some(secret.peer_id()), self.peer);
        let rendezvous = self.rendezvous.into_iter();
        let content = RefContent {
            version: self.version.unwrap(),
            addresses: self.addresses,
            rendezvous: rendezvous
                .map(|p| RendezvousPoint { peer: p.peer, addresses: p.addresses, tls: p.tls })
                .collect(),
            expires: self.expires.unwrap(),
        };
        SignedRef::sign(&secret, content).unwrap().into()
    }
}

#[test]
fn every_vector_gets_its_verdict_and_every_good_one_its_bytes() {
    let vectors: Vectors = serde_json::from_str(include_str!("vectors/peer_ref.json")).unwrap();
    let now = UNIX_EPOCH + Duration::from_secs(vectors.now);
    assert!(vectors.cases.len() > 50);
    for case in vectors.cases {
        let name = &case.name;
        let bytes = data_encoding::HEXLOWER.decode(case.bytes.as_bytes()).unwrap();
        let found = inspect(&case.text, now);
        assert_eq!(found.verdict.name(), case.verdict, "{name}: {}", found.verdict);
        assert_eq!(found.verdict.is_usable(), ["valid", "unsigned"].contains(&&*case.verdict));
        let parsed = case.text.parse::<PeerRef>();
        let decoded = PeerRef::from_bytes(&bytes);
        match &*case.verdict {
            "valid" | "unsigned" | "expired" => {
                let reference = decoded.unwrap();
                assert_eq!(parsed.unwrap(), reference, "{name}");
                assert_eq!(reference.to_bytes(), bytes, "{name}");
                assert_eq!(reference.to_string(), case.text.to_lowercase(), "{name}");
                assert_eq!(found.size, Some(bytes.len()));
                if let PeerRef::Signed(signed) = &reference {
                    assert_eq!(signed.check_valid(now).is_ok(), case.verdict == "valid", "{name}");
                }
                if let Some(content) = case.content {
                    // Made anew from its parts it is the same to the last byte, signature included.
                    assert_eq!(content.reference(), reference, "{name}");
                }
            }
            "bad-signature" => {
                assert!(matches!(parsed, Err(ParseError::Refused(DecodeError::Signature { .. }))));
                assert!(matches!(decoded, Err(DecodeError::Signature { .. })));
                assert!(matches!(found.claims, Some(Claims::Signed { .. })), "{name}");
            }
            "mistyped" => assert_eq!(parsed, Err(ParseError::Mistyped), "{name}"),
            "not-a-peer-ref" => assert_eq!(parsed, Err(ParseError::NotAPeerRef), "{name}"),
            "too-long" => assert!(matches!(parsed, Err(ParseError::TooLong { .. })), "{name}"),
            "malformed" => {
                assert_eq!(parsed, Err(ParseError::Refused(decoded.unwrap_err())), "{name}");
            }
            other => panic!("{name}: no such verdict: {other}"),
        }
    }
}

fn example() -> SignedRef {
    let content = RefContent {
        version: 3,
        addresses: vec!["192.0.2.7:4433".parse().unwrap()],
        rendezvous: vec![RendezvousPoint {
            peer: SecretKey::from_bytes([2; 32]).peer_id(),
            addresses: vec!["[2001:db8::2]:443".parse().unwrap()],
            tls: vec!["198.51.100.2:443".parse().unwrap()],
        }],
        expires: 1_000_000,
    };
    SignedRef::sign(&SecretKey::from_bytes([1; 32]), content).unwrap()
}

#[test]
fn no_bit_of_a_signed_reference_can_be_flipped_unnoticed() {
    let bytes = example().to_bytes();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(PeerRef::from_bytes(&flipped).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(PeerRef::from_bytes(&bytes[..len]).is_err(), "cut to {len}");
    }
}

#[test]
fn every_slip_of_the_fingers_is_told_to_be_one() {
    for reference in
        [example().into(), AddressRef::new(["192.0.2.7:4433".parse().unwrap()]).unwrap().into()]
    {
        let reference: PeerRef = reference;
        let text = reference.to_string();
        let slipped = |text: String| {
            assert_eq!(text.parse::<PeerRef>(), Err(ParseError::Mistyped), "{text}");
        };
        for at in 3..text.len() {
            for other in "abcdefghijklmnopqrstuvwxyz0123456789-é".chars() {
                if !text[at..].starts_with(other) {
                    slipped(format!("{}{other}{}", &text[..at], &text[at + 1..]));
                }
            }
            slipped(format!("{}{}", &text[..at], &text[at + 1..]));
            slipped(format!("{}b{}", &text[..at], &text[at..]));
            slipped(text[..at].to_string());
            let mut swapped = text.clone().into_bytes();
            swapped.swap(at - 1, at);
            if at > 3 && swapped != text.as_bytes() {
                slipped(String::from_utf8(swapped).unwrap());
            }
        }
    }
}

#[test]
fn versions_put_references_of_one_host_in_order() {
    let secret = SecretKey::from_bytes([1; 32]);
    let held = example();
    let other = |change: fn(&mut RefContent)| {
        let mut content = held.content().clone();
        change(&mut content);
        SignedRef::sign(&secret, content).unwrap()
    };
    assert_eq!(held.supersedes(&held), Ok(Ordering::Equal));
    assert_eq!(other(|c| c.version = 4).supersedes(&held), Ok(Ordering::Greater));
    assert_eq!(other(|c| c.version = 2).supersedes(&held), Ok(Ordering::Less));
    let conflict = Err(SuccessionError::VersionConflict { peer: secret.peer_id(), version: 3 });
    assert_eq!(other(|c| c.addresses.clear()).supersedes(&held), conflict);
    assert_eq!(other(|c| c.expires += 1).supersedes(&held), conflict);
    let stranger =
        SignedRef::sign(&SecretKey::from_bytes([9; 32]), held.content().clone()).unwrap();
    assert_eq!(stranger.supersedes(&held), Err(SuccessionError::OtherPeer));
}

#[test]
fn expiry_allows_for_clocks_that_differ_by_five_minutes() {
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    assert!(example().check_valid(at(0)).is_ok());
    assert!(example().check_valid(at(1_000_300)).is_ok());
    let error = example().check_valid(at(1_000_301)).unwrap_err();
    assert_eq!(error.ago, Duration::from_secs(301));
    assert!(example().check_valid(UNIX_EPOCH - Duration::from_secs(9)).is_ok());
}

#[test]
fn what_is_too_much_is_refused_before_it_is_signed() {
    let secret = SecretKey::from_bytes([1; 32]);
    let sign = |addresses: usize, points: u8, each: usize| {
        let v6 = |n: usize| SocketAddr::new("2001:db8::1".parse().unwrap(), 1 + n as u16);
        let point = |n| RendezvousPoint {
            peer: SecretKey::from_bytes([100 + n; 32]).peer_id(),
            addresses: (0..each).map(v6).collect(),
            tls: vec![],
        };
        let content = RefContent {
            version: 1,
            addresses: (0..addresses).map(v6).collect(),
            rendezvous: (0..points).map(point).collect(),
            expires: 1,
        };
        SignedRef::sign(&secret, content)
    };
    assert!(sign(16, 8, 1).is_ok());
    assert_eq!(sign(17, 0, 0), Err(ContentError::TooManyAddresses { limit: 16 }));
    assert_eq!(sign(0, 9, 1), Err(ContentError::TooManyRendezvous));
    assert_eq!(sign(0, 1, 9), Err(ContentError::TooManyAddresses { limit: 8 }));
    assert_eq!(sign(0, 1, 0), Err(ContentError::NoAddress));
    // 115 bytes of frame, 16 addresses of 19, and 34 for each rendezvous beside its addresses.
    let size = |each: usize| 115 + 16 * 19 + 8 * (34 + each * 19);
    assert_eq!(sign(16, 8, 2).unwrap().to_bytes().len(), size(2));
    assert_eq!(sign(16, 8, 3), Err(ContentError::TooLarge { size: size(3) }));
}

#[test]
fn an_inspection_shows_what_a_forged_reference_claims() {
    let vectors: Vectors = serde_json::from_str(include_str!("vectors/peer_ref.json")).unwrap();
    let forged = vectors.cases.iter().find(|case| case.verdict == "bad-signature").unwrap();
    let found = inspect(&forged.text, SystemTime::UNIX_EPOCH);
    assert_eq!(found.verdict, Verdict::BadSignature);
    let Some(Claims::Signed { peer, content }) = found.claims else {
        panic!("claims are shown");
    };
    assert_eq!(peer, SecretKey::from_bytes([1; 32]).peer_id());
    assert_eq!(content.version, 9);
}

#[test]
fn a_peer_ref_survives_both_kinds_of_format() {
    let reference: PeerRef = example().into();
    let bytes = rmp_serde::to_vec(&reference).unwrap();
    assert_eq!(rmp_serde::from_slice::<PeerRef>(&bytes).unwrap(), reference);
    let json = serde_json::to_string(&reference).unwrap();
    assert_eq!(json, format!("\"{reference}\""));
    assert_eq!(serde_json::from_str::<PeerRef>(&json).unwrap(), reference);
    assert!(rmp_serde::from_slice::<PeerRef>(&bytes[..20]).is_err());
}

/// Addresses that someone may have; each list is cut to those that differ.
fn some_addresses(most: usize) -> impl Strategy<Value = Vec<SocketAddr>> {
    let v4 = any::<u32>().prop_map(|ip| IpAddr::V4(ip.into()));
    let v6 = any::<u128>().prop_map(|ip| IpAddr::V6(ip.into()));
    vec((prop_oneof![v4, v6], any::<u16>()), 0..=most).prop_map(|list| {
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for (ip, port) in list {
            let checked = webmesh_transport::peer_ref::check_address((ip, port).into());
            if let Ok(address) = checked
                && !addresses.contains(&address)
            {
                addresses.push(address);
            }
        }
        addresses
    })
}

fn some_content() -> impl Strategy<Value = RefContent> {
    let points = vec((some_addresses(4), some_addresses(2)), 0..=5).prop_map(|points| {
        let named = (50..).zip(points);
        named
            .map(|(key, (addresses, tls))| RendezvousPoint {
                peer: SecretKey::from_bytes([key; 32]).peer_id(),
                addresses,
                tls,
            })
            .filter(|point| !point.addresses.is_empty() || !point.tls.is_empty())
            .collect()
    });
    (any::<u64>(), some_addresses(16), points, any::<u64>()).prop_map(
        |(version, addresses, rendezvous, expires)| RefContent {
            version,
            addresses,
            rendezvous,
            expires,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_content_comes_back_as_it_was(seed: [u8; 32], content in some_content()) {
        match SignedRef::sign(&SecretKey::from_bytes(seed), content.clone()) {
            Ok(signed) => {
                prop_assert_eq!(signed.content(), &content);
                let reference = PeerRef::from(signed);
                let bytes = reference.to_bytes();
                prop_assert!(bytes.len() <= PEER_REF_LEN_MAX);
                prop_assert_eq!(&PeerRef::from_bytes(&bytes).unwrap(), &reference);
                prop_assert_eq!(&reference.to_string().parse::<PeerRef>().unwrap(), &reference);
            }
            Err(ContentError::TooLarge { size }) => prop_assert!(size > PEER_REF_LEN_MAX),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn bytes_that_are_taken_are_the_encoding_of_what_they_are_taken_for(bytes in vec(any::<u8>(), 0..200), class in 0u8..4) {
        let bytes = [&[class], &bytes[..]].concat();
        if let Ok(reference) = PeerRef::from_bytes(&bytes) {
            prop_assert_eq!(reference.to_bytes(), bytes);
        }
    }

    #[test]
    fn any_text_is_explained(text in "(wm1|WM1)?[a-zA-Z2-7é ]{0,100}") {
        let found = inspect(&text, UNIX_EPOCH);
        prop_assert!(!found.verdict.to_string().is_empty());
        prop_assert!(text.parse::<PeerRef>().is_ok() || !found.verdict.is_usable());
    }
}
