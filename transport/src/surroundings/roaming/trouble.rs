//! What stands in the way of knowing the addresses of this host: said once, and tried again.

use std::{io, net::IpAddr};

use crate::interfaces::Addresses;

/// Whether the addresses of this host could be found when they were wanted last.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// What was said of it last; empty: nothing.
    said: String,
    /// They are still wanted.
    owed: bool,
}

impl Trouble {
    /// Whether they are to be asked for again.
    pub(super) fn is_owed(&self) -> bool {
        self.owed
    }

    /// The addresses, if they were found. What is wrong is logged when it begins, changes and ends.
    pub(crate) fn of(&mut self, found: io::Result<Addresses>) -> Option<Vec<IpAddr>> {
        self.owed = found.is_err();
        let wrong = match &found {
            Ok(Addresses { partial: None, .. }) => String::new(),
            Ok(Addresses { partial: Some(e), .. }) => format!(
                "the system doesn't let this process list the addresses of this host ({e}): only those are named from which packets \
                 leave for the internet; allow netlink (systemd: RestrictAddressFamilies=… AF_NETLINK), or advertise addresses"
            ),
            Err(e) => format!(
                "the addresses of this host can't be listed: {e}; those that are known go on being named, and it is tried again"
            ),
        };
        match (self.said.as_str(), wrong.as_str()) {
            (said, wrong) if said == wrong => {}
            (_, "") => tracing::info!("the addresses of this host can be listed again"),
            (_, wrong) => tracing::warn!("{wrong}"),
        }
        self.said = wrong;
        found.ok().map(|found| found.all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_kept_in_mind_until_the_addresses_are_there() {
        let mut trouble = Trouble::default();
        assert!(!trouble.is_owed());
        assert_eq!(trouble.of(Err(io::Error::other("short"))), None);
        assert!(trouble.is_owed() && trouble.said.contains("short"));
        let here = IpAddr::from([10, 0, 0, 1]);
        let partial = Some(io::Error::other("forbidden"));
        assert_eq!(trouble.of(Ok(Addresses { all: vec![here], partial })), Some(vec![here]));
        assert!(!trouble.is_owed() && trouble.said.contains("forbidden"));
        assert_eq!(trouble.of(Ok(Addresses { all: vec![], partial: None })), Some(vec![]));
        assert!(!trouble.is_owed() && trouble.said.is_empty());
    }
}
