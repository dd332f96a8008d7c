//! Tests that measure the memory of their process have one to themselves: a neighbour's is no fault of theirs, and
//! what a neighbour gave back costs anew when they are lent it (3 MiB a QUIC endpoint were seen).

use std::{
    env,
    process::Command,
    sync::{Mutex, PoisonError},
};

const ALONE: &str = "WEBMESH_TEST_ALONE";

/// One at a time, as most of them are floods.
static TURN: Mutex<()> = Mutex::new(());

/// Whether this process is `test`'s own. If it isn't, the test has been run in one that is, and has passed there.
pub fn is_alone(test: &str) -> bool {
    if env::var_os(ALONE).is_some() {
        return true;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let own = Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    print!("{}{}", String::from_utf8_lossy(&own.stdout), String::from_utf8_lossy(&own.stderr));
    let ran = String::from_utf8_lossy(&own.stdout).contains("1 passed");
    assert!(own.status.success() && ran, "{test} in a process of its own: {}", own.status);
    false
}

/// Resident memory of this process in bytes.
pub fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}
