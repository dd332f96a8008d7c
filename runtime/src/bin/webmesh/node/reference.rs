//! The node's own PeerRef: kept in a file, and looked at whether it is of any use.

use crate::output::complain;
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use webmesh::PeerRef;

/// The file in the data directory that names the node's present PeerRef.
const NAME: &str = "peer_ref";

/// A time before which this program wasn't written: 1 November 2026, in seconds since 1970. A clock that says less is wrong.
const WRITTEN: Duration = Duration::from_secs(1_793_491_200);

/// Says so if the system's clock is wrong: what is signed by it has expired for everybody else.
pub(super) fn look_at_clock(now: SystemTime) -> bool {
    let wrong =
        now.duration_since(UNIX_EPOCH).is_ok_and(|since| since < WRITTEN) || now < UNIX_EPOCH;
    if wrong {
        complain(
            "the system's clock is behind this program's own date: the PeerRef will look expired to others; set the clock",
        );
    }
    wrong
}

/// Keeps the reference in `dir`: whole, or as it was. Where that fails, it says so, and nothing else changes.
pub(super) fn keep(dir: &Path, reference: &PeerRef) {
    if let Err(error) = replace(dir, &format!("{reference}\n")) {
        let path = dir.join(NAME);
        complain(format_args!("the PeerRef isn't kept in {}: {error}", path.display()));
    }
}

fn replace(dir: &Path, text: &str) -> io::Result<()> {
    let (path, beside) = (dir.join(NAME), dir.join("peer_ref.new"));
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    };
    written().inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}

/// Whether anybody could be led anywhere by it.
pub(super) fn is_useful(reference: &PeerRef) -> bool {
    let met = matches!(reference, PeerRef::Signed(signed) if !signed.rendezvous().is_empty());
    met || !reference.addresses().is_empty()
}

/// Says so if the reference leads nowhere.
pub(super) fn look_at(reference: &PeerRef) {
    if !is_useful(reference) {
        complain(
            "the PeerRef names no address and no rendezvous: nobody can reach this node; connect it to a network, or join a public node by --join",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use webmesh::SecretKey;
    use webmesh::peer_ref::{RefContent, SignedRef};

    fn reference(addresses: &[&str]) -> PeerRef {
        let content = RefContent {
            version: 1,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            rendezvous: Vec::new(),
            expires: u64::from(u32::MAX),
        };
        PeerRef::Signed(SignedRef::sign(&SecretKey::from_bytes([1; 32]), content).unwrap())
    }

    #[test]
    fn a_reference_without_an_address_or_a_rendezvous_is_of_no_use() {
        assert!(is_useful(&reference(&["192.0.2.1:1"])));
        assert!(!is_useful(&reference(&[])));
    }

    #[test]
    fn a_clock_of_1970_is_noticed_and_one_of_today_is_not() {
        assert!(look_at_clock(UNIX_EPOCH + Duration::from_secs(60)));
        assert!(look_at_clock(UNIX_EPOCH - Duration::from_secs(60)));
        assert!(!look_at_clock(UNIX_EPOCH + WRITTEN));
    }

    #[test]
    fn a_kept_reference_is_replaced_as_a_whole_and_stays_where_the_disk_takes_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let read = || fs::read_to_string(dir.path().join(NAME)).unwrap();
        replace(dir.path(), "first\n").unwrap();
        replace(dir.path(), "second\n").unwrap();
        assert_eq!(read(), "second\n");
        // Half-made by somebody who was killed, and something that can't be replaced.
        fs::write(dir.path().join("peer_ref.new"), "hal").unwrap();
        replace(dir.path(), "third\n").unwrap();
        fs::create_dir(dir.path().join("peer_ref.new")).unwrap();
        assert!(replace(dir.path(), "fourth\n").is_err());
        assert_eq!(read(), "third\n");
    }
}
