//! Addresses on this side of a NAT64, and beyond.

use std::{net::SocketAddr, time::Duration};

use crate::shared::Shared;

/// How long a dial that has no other road waits for the first answer. A guess: name servers answer in a tenth of it.
const DIAL_WAITS_MAX: Duration = Duration::from_secs(2);
const DIAL_LOOKS_EVERY: Duration = Duration::from_millis(50);

impl Shared {
    /// As they are reached from here: where there is a NAT64 and no IPv4, by way of that.
    pub(crate) fn translated(
        &self,
        addresses: impl IntoIterator<Item = SocketAddr>,
    ) -> Vec<SocketAddr> {
        self.nat64.lock().translate(addresses)
    }

    /// As others know it: what only this network's NAT64 means something by is nobody's address elsewhere.
    pub(crate) fn original(&self, address: SocketAddr) -> SocketAddr {
        self.nat64.lock().original(address).unwrap_or(address)
    }

    /// Waits a moment for what the name server says, if it is being asked.
    pub(crate) async fn nat64_known(&self) {
        let mut waited = Duration::ZERO;
        while waited < DIAL_WAITS_MAX && self.nat64.lock().is_waiting() {
            self.socket.sleep(DIAL_LOOKS_EVERY).await;
            waited += DIAL_LOOKS_EVERY;
        }
    }
}
