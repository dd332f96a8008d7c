//! The key of a host, and its file.

use crate::command::{code_of, complaint, objects, run, webmesh};
use serde_json::Value;
#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Stdio};

#[test]
fn an_identity_is_created_once_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("new").join("deep");
    let args = ["--json", "id", "--data", data.to_str().unwrap()];
    let first = run(&args);
    assert!(first.status.success(), "{}", complaint(&first));
    #[cfg(unix)]
    assert_eq!(std::fs::metadata(&data).unwrap().permissions().mode() & 0o777, 0o700);
    let peer = objects(&first)[0]["peer"].as_str().unwrap().to_owned();
    assert_eq!(peer.len(), 52);
    assert_eq!(objects(&run(&args))[0]["peer"], peer.as_str());
    let human = run(&args[1..]);
    assert_eq!(String::from_utf8(human.stdout).unwrap(), format!("{peer}\n"));
}

#[test]
fn two_processes_that_create_the_same_identity_agree() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--json", "id", "--data", dir.path().to_str().unwrap()];
    let started: Vec<Child> =
        (0..8).map(|_| webmesh(&args).stdout(Stdio::piped()).spawn().unwrap()).collect();
    let peers: Vec<Value> = started
        .into_iter()
        .map(|child| objects(&child.wait_with_output().unwrap())[0]["peer"].clone())
        .collect();
    assert!(peers.iter().all(|peer| *peer == peers[0]), "{peers:?}");
}

#[cfg(unix)]
#[test]
fn a_key_that_others_can_read_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["id", "--data", dir.path().to_str().unwrap()];
    assert!(run(&args).status.success());
    let key = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "key"));
    let key = key.unwrap();
    let before = std::fs::read(&key).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = run(&args);
    assert_eq!(refused.status.code(), Some(1));
    assert!(complaint(&refused).contains("chmod 600"), "{}", complaint(&refused));
    assert_eq!(std::fs::read(&key).unwrap(), before);
}

#[cfg(unix)]
#[test]
fn a_key_that_its_group_may_read_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--json", "id", "--data", dir.path().to_str().unwrap()];
    let peer = objects(&run(&args))[0]["peer"].clone();
    let key = dir.path().join("identity.key");
    for (mode, taken) in
        [(0o440, true), (0o640, true), (0o400, true), (0o444, false), (0o641, false)]
    {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let output = run(&args);
        assert_eq!(output.status.success(), taken, "{mode:o}: {}", complaint(&output));
        if taken {
            assert_eq!(objects(&output)[0]["peer"], peer);
        } else {
            assert_eq!(code_of(&output), "key-file");
        }
    }
}
