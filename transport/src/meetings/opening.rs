//! How a host that is about to be called lets the caller in, where no relay lends them a road: it sends something to where the rendezvous sees the
//! caller, which opens its own NAT for what comes from there (docs/decisions/0026-punching-without-a-relay.md).

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    ground::address::is_public,
    identity::PeerId,
    meetings::introduction,
    shared::Shared,
    wire::{frame, road::Reach},
};

/// Datagrams of this kind to all callers at a time, and one in half a second after that: what a rendezvous that lies about where callers are can
/// have sent to others. A guess: ten callers at once.
pub(crate) const OPENED_MAX: u64 = 32;
const OPENED_PER_SECOND: f64 = 2.0;

/// After the first one, which stays near, these go all the way: the caller's own first packets have left its NAT by then, and are repeated after a
/// second. Guesses.
const AFTERWARDS: [Duration; 2] = [Duration::from_millis(400), Duration::from_millis(800)];

impl Shared {
    /// Opens this host's NAT for `caller`, which the rendezvous at `by` sees at `seen`.
    pub(crate) fn open_for(self: &Arc<Self>, caller: PeerId, seen: SocketAddr, by: SocketAddr) {
        let Some(road) = introduction::roads(self, [seen], by).first().copied() else { return };
        let may = |shared: &Self| {
            let now = tokio::time::Instant::now().into_std();
            shared.opened.lock().take_one(OPENED_MAX, OPENED_PER_SECOND, now)
        };
        // A call with a number that nobody thought of: whoever gets it passes over it.
        let frame = frame::call(frame::OPENS);
        if !may(self) {
            return;
        }
        // There are no NATs in IPv6, nor on the way to a host on the same network.
        if seen.is_ipv4() && is_public(seen.ip()) {
            self.socket.send_short(road, &frame, Reach::Near);
        } else {
            self.socket.send_frame(road, &frame);
        }
        let shared = Arc::downgrade(self);
        let socket = self.socket.clone();
        self.socket.spawn(async move {
            for pause in AFTERWARDS {
                socket.sleep(pause).await;
                let Some(shared) = shared.upgrade() else { return };
                // Whoever is in needs no more.
                if shared.up.contains_key(&caller) || !may(&shared) {
                    return;
                }
                shared.socket.send_frame(road, &frame);
            }
        });
    }
}
