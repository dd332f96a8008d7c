//! PeerRefs in the hands of the command: `webmesh inspect`, and what is no reference.

use crate::command::{Node, complaint, objects, run};
use serde_json::Value;
use std::path::Path;

#[test]
fn inspect_explains_a_good_reference_and_tells_a_typing_error_apart() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path(), "127.0.0.1:0");
    let good = run(&["--json", "inspect", node.text("peer_ref")]);
    assert!(good.status.success());
    let object = &objects(&good)[0];
    assert_eq!((&object["verdict"], &object["signer"]), (&"valid".into(), &node.ready["peer"]));
    assert_eq!(object["addresses"], node.ready["listen"]);
    assert!(object["size"].as_u64().unwrap() <= 1000);

    let mut typo = node.text("peer_ref").to_owned().into_bytes();
    let last = typo.len() - 10;
    typo[last] = if typo[last] == b'a' { b'b' } else { b'a' };
    let mistyped = run(&["--json", "inspect", std::str::from_utf8(&typo).unwrap()]);
    assert_eq!(mistyped.status.code(), Some(2));
    assert!(complaint(&mistyped).contains("mistyped"), "{}", complaint(&mistyped));
}

#[test]
fn an_address_without_a_port_is_told_what_a_target_looks_like() {
    let output = run(&["ping", "192.0.2.7"]);
    assert!(complaint(&output).contains("neither a PeerRef (wm1…) nor IP:PORT"));
}

#[test]
fn every_bad_reference_of_the_vectors_has_its_verdict_and_its_exit_code() {
    let vectors = include_str!("../../../transport/tests/vectors/peer_ref.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for case in vectors["cases"].as_array().unwrap() {
        let (text, verdict) = (case["text"].as_str().unwrap(), case["verdict"].as_str().unwrap());
        let code = match verdict {
            "valid" | "unsigned" => continue, // whether these have expired by now is the calendar's matter
            "expired" | "bad-signature" => 1,
            _ => 2,
        };
        let output = run(&["--json", "inspect", text]);
        assert_eq!(objects(&output)[0]["verdict"], verdict, "{}", case["name"]);
        assert_eq!(output.status.code(), Some(code), "{}", case["name"]);
        // A dial refuses them as well: what cannot be read as wrong usage, what has expired as a failure.
        if seen.insert(verdict) {
            let ping = run(&["ping", text, "--count", "1"]);
            let code = if verdict == "expired" { 1 } else { 2 };
            assert_eq!(ping.status.code(), Some(code), "{}: {}", case["name"], complaint(&ping));
        }
    }
    assert!(
        seen.contains("expired") && seen.contains("bad-signature") && seen.contains("mistyped")
    );
}

/// A PeerRef that was valid once.
pub(crate) fn expired() -> String {
    let vectors = include_str!("../../../transport/tests/vectors/peer_ref.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    let case = cases.iter().find(|case| case["verdict"] == "expired").unwrap();
    case["text"].as_str().unwrap().to_owned()
}

/// What the node with this data directory signs: that it is there, or there, until then.
pub(crate) fn signed(
    data: &Path,
    addresses: &[&str],
    through: Option<&Node>,
    expires: u64,
) -> String {
    use webmesh_transport::peer_ref::{RefContent, RendezvousPoint, SignedRef};
    let secret = webmesh_transport::SecretKey::load(data.join("identity.key")).unwrap();
    let point = |node: &Node| RendezvousPoint {
        peer: node.text("peer").parse().unwrap(),
        addresses: vec![node.address().parse().unwrap()],
        tls: Vec::new(),
    };
    let content = RefContent {
        version: 1,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        rendezvous: through.map(point).into_iter().collect(),
        expires,
    };
    webmesh::PeerRef::from(SignedRef::sign(&secret, content).unwrap()).to_string()
}

pub(crate) const LONG_AGO: u64 = 1_000_000;
pub(crate) const LONG_AFTER: u64 = 4_000_000_000;

#[test]
fn an_expiry_is_told_in_words() {
    let output = run(&["inspect", &expired()]);
    let printed = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(printed.contains(" d ago (Unix time "), "{printed}");
    assert!(complaint(&output).contains(" d ago; ask for a newer one"), "{}", complaint(&output));
}
