//! How fast bulk goes, against plain quinn on the same road.

use std::{cell::Cell as Counter, rc::Rc, time::Duration};

use webmesh_transport::MemoryNetwork;

use super::{
    raw,
    road::{Cell, Relay, Road},
};
use crate::{common::in_exact_time, world::World};

/// What the road carries, in Mbit/s.
pub(crate) const MEGABITS: u64 = 100;

/// What bulk did.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Moved {
    /// Mbit/s that arrived.
    pub(crate) megabits: f64,
    /// Datagrams with data that the relay sent to the hosts.
    pub(crate) relayed_large: u64,
    /// Changes of road at both ends.
    pub(crate) changes: u64,
}

/// Before it is measured, so that slow start is over.
fn warm_up(cell: Cell) -> Duration {
    Duration::from_secs(2) + 20 * cell.rtt()
}

/// For so long it is measured: a thousand round trips where loss keeps the window at a few packets, since chance would decide
/// otherwise, and less where the road is filled.
fn measured(cell: Cell) -> Duration {
    let trips = if cell.loss == 0 { 50 } else { 1000 };
    (trips * cell.rtt()).max(Duration::from_secs(10))
}

/// How bulk is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    /// What the road carries, in Mbit/s.
    pub(crate) megabits: u64,
    /// By what the time is divided for which it is measured.
    pub(crate) shortened: u32,
}

/// Sends without end over the first connection; what has arrived at the other.
async fn pour([from, to]: [quinn::Connection; 2]) -> Rc<Counter<u64>> {
    let arrived = Rc::<Counter<u64>>::default();
    let mut tx = from.open_uni().await.unwrap();
    tokio::task::spawn_local(async move {
        let chunk = vec![7; 1 << 16];
        while tx.write_all(&chunk).await.is_ok() {}
    });
    let count = arrived.clone();
    tokio::task::spawn_local(async move {
        let mut rx = to.accept_uni().await.unwrap();
        while let Ok(Some(chunk)) = rx.read_chunk(1 << 20, true).await {
            count.set(count.get() + chunk.bytes.len() as u64);
        }
    });
    arrived
}

async fn rate(cell: Cell, connections: [quinn::Connection; 2], measure: Measure) -> f64 {
    let arrived = pour(connections).await;
    tokio::time::sleep(warm_up(cell)).await;
    let (before, length) = (arrived.get(), measured(cell) / measure.shortened);
    tokio::time::sleep(length).await;
    (arrived.get() - before) as f64 * 8.0 / length.as_secs_f64() / 1e6
}

/// Ours.
pub(crate) fn ours(cell: Cell, measure: Measure, seed: u64) -> Moved {
    Road::run(cell, Relay::of(seed), Some(measure.megabits), seed, async |road| {
        let (before, seen) = (road.changes(), road.seen());
        let connections = [0, 1].map(|end| road.ends[end].quic().clone());
        let megabits = rate(cell, connections, measure).await;
        let changes = road.changes().iter().sum::<u64>() - before.iter().sum::<u64>();
        Moved { megabits, changes, relayed_large: road.seen().relayed_large - seen.relayed_large }
    })
}

/// Plain quinn.
pub(crate) fn raw(cell: Cell, measure: Measure, seed: u64) -> f64 {
    let network = MemoryNetwork::new(seed);
    in_exact_time(seed, &network, async |_| {
        let mut link = cell.link(Some(measure.megabits));
        let (here, there) = (World::outside(2), World::outside(3));
        let loss = std::mem::take(&mut link.loss);
        network.set_link(here, there, link.clone());
        let (connections, _endpoints) = raw::connect(&network, 2, 3, seed).await;
        network.set_link(here, there, webmesh_transport::sim::Link { loss, ..link });
        rate(cell, connections, measure).await
    })
}
