//! Handshakes that others begin.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use crate::{
    dial::accept,
    limits::{Admission, prefix},
    shared::Shared,
    socket::handles::is_beside,
};

/// Admits handshakes from outside until the endpoint closes.
pub(super) async fn accept_all(shared: Arc<Shared>) {
    while let Some(incoming) = shared.quic.endpoint.accept().await {
        if shared.quic.endpoint.open_connections() >= shared.config.limits.connections_max {
            shared.refused.connections.fetch_add(1, Ordering::Relaxed);
            let from = incoming.remote_address();
            if let Some(left_out) = shared.log_quota.take(prefix(from.ip().to_canonical())) {
                tracing::debug!(%from, left_out, "a handshake is refused: there are as many connections as may be");
            }
            incoming.refuse();
            continue;
        }
        let source = incoming.remote_address();
        // The flow label of a handle isn't part of a Retry token, so such a token would never be right.
        let retriable = incoming.may_retry()
            && matches!(source, SocketAddr::V6(handle) if handle.flowinfo() == 0);
        let proven = incoming.remote_address_validated();
        let admission = match shared.admissions.admit(source.ip(), proven) {
            Admission::Retry if is_beside(source) => {
                shared.admissions.admit_beside().map_or(Admission::Ignore, Admission::Accept)
            }
            admission => admission,
        };
        match admission {
            Admission::Accept(slot) => {
                let shared = shared.clone();
                actix_rt::spawn(async move {
                    if let Some(authenticated) = accept(&shared, incoming, slot).await {
                        shared.established(authenticated, Vec::new());
                    }
                });
            }
            Admission::Retry if retriable => drop(incoming.retry()),
            Admission::Retry | Admission::Ignore => incoming.ignore(),
        }
    }
}
