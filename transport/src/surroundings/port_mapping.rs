//! Keeps the port that the router in front of this host forwards to it, and the own PeerRef up to date with it.

use std::{
    num::NonZeroU16,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    nat::port_mapping::{LIFETIME, Mapped, MappingError, Router, map},
    shared::Shared,
};

/// Before a mapping that couldn't be renewed is tried again: it lasts for half of its time yet. A guess.
const RENEW_AGAIN: Duration = Duration::from_secs(60);

/// Before a router that refused is asked again: hosts move to other networks. A guess.
const RETRY_EVERY: Duration = Duration::from_secs(600);

/// What is there after a mapping couldn't be renewed, and a new one was asked for: the new one, or else the old one for as long as it lasts.
fn again(
    before: Mapped,
    failed: &str,
    anew: Result<Mapped, MappingError>,
) -> Result<Mapped, String> {
    match anew {
        Ok(mapped) => Ok(mapped),
        Err(_) if Instant::now() < before.until => {
            tracing::info!(outside = %before.outside, "the forwarded port isn't renewed yet: {failed}");
            Ok(before)
        }
        Err(e) => Err(e.to_string()),
    }
}

/// Keeps a port, and the own PeerRef up to date with it, until the endpoint is gone.
pub(crate) async fn keep(shared: Weak<Shared>, router: Router, port: NonZeroU16) {
    loop {
        let kept = shared.upgrade().and_then(|shared| shared.mapped.lock().take());
        let mapped = match kept {
            Some(mut mapped) => match mapped.renew().await {
                Ok(()) => Ok(mapped),
                // No answer doesn't take the port back.
                Err(e) => again(mapped, &e, map(router, port).await),
            },
            None => map(router, port).await.map_err(|e| e.to_string()),
        };
        let Some(shared) = shared.upgrade() else { return };
        let wait = match mapped {
            Ok(mapped) if mapped.until < Instant::now() + LIFETIME / 2 => {
                shared.set_mapped(Some(mapped));
                RENEW_AGAIN
            }
            Ok(mapped) => {
                tracing::info!(outside = %mapped.outside, "the router forwards a port to this host");
                shared.set_mapped(Some(mapped));
                LIFETIME / 2
            }
            Err(e) => {
                tracing::info!("the router forwards no port to this host: {e}");
                shared.set_mapped(None);
                RETRY_EVERY
            }
        };
        let sleep = shared.socket.sleep(wait);
        drop(shared);
        sleep.await;
    }
}

impl Shared {
    fn set_mapped(&self, mapped: Option<Mapped>) {
        self.own_ref.lock().set_mapped(mapped.as_ref().map(|mapped| mapped.outside));
        *self.mapped.lock() = mapped;
    }

    /// Gives the port back, if there is one.
    pub(crate) async fn unmap(self: &Arc<Self>) {
        let mapped = self.mapped.lock().take();
        if let Some(mapped) = mapped {
            // On the network runtime, whose clock its time-outs see.
            let (done, given) = tokio::sync::oneshot::channel();
            self.socket.spawn(async move {
                mapped.give_back().await;
                let _ = done.send(());
            });
            let _ = given.await;
        }
    }
}
