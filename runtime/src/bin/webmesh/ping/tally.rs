//! Core: what became of the pings, and the figures of the summary.

use crate::{
    failure::{Code, Failure},
    output::Output,
};
use serde_json::json;
use std::collections::HashMap;
use webmesh::{PathKind, Pong};

/// What became of the pings so far.
#[derive(Default)]
pub(super) struct Tally {
    sent: u64,
    /// In milliseconds, one for each reply.
    round_trips: Vec<f64>,
    changes: Changes,
    /// Why the last one that was lost was lost.
    last_lost: Option<(Code, String)>,
}

impl Tally {
    pub(super) fn sent(&mut self) {
        self.sent += 1;
    }

    /// `rtt_ms` is that of `pong`, as it is printed.
    pub(super) fn received(&mut self, pong: &Pong, rtt_ms: f64) {
        self.round_trips.push(rtt_ms);
        self.changes.seen(pong);
    }

    pub(super) fn lost(&mut self, code: Code, problem: String) {
        self.last_lost = Some((code, problem));
    }

    /// A failure if nothing came back, of the kind of the last ping that was lost.
    pub(super) fn outcome(self) -> Result<(), Failure> {
        if !self.round_trips.is_empty() {
            return Ok(());
        }
        let interrupted =
            || (Code::Interrupted, "interrupted before there was an answer".to_owned());
        let (code, problem) = self.last_lost.unwrap_or_else(interrupted);
        Err(Failure::new(code, format_args!("none of {} pings was answered: {problem}", self.sent)))
    }

    pub(super) fn print(&self, output: &Output) -> Result<(), Failure> {
        let mut sorted = self.round_trips.clone();
        sorted.sort_by(f64::total_cmp);
        let of = |percent| percentile(&sorted, percent);
        let (min, p50, p95, max) = (of(0), of(50), of(95), of(100));
        let (sent, received, changes) = (self.sent, sorted.len(), self.changes.count());
        let loss = loss_percent(sent, received as u64);
        let text = match (min, p50, p95, max) {
            (Some(min), Some(p50), Some(p95), Some(max)) => format!(
                "{sent} sent, {received} received, {loss} % lost, min {min} ms, p50 {p50} ms, p95 {p95} ms, max {max} ms, {changes} changes of the road"
            ),
            _ => format!("{sent} sent, none received"),
        };
        let object = json!({
            "event": "summary",
            "sent": sent,
            "received": received,
            "loss_percent": loss,
            "min_ms": min,
            "p50_ms": p50,
            "p95_ms": p95,
            "max_ms": max,
            "changes": changes,
        });
        output.print(object, text)
    }
}

/// With two digits behind the point.
fn loss_percent(sent: u64, received: u64) -> f64 {
    let lost = sent.saturating_sub(received);
    let hundredths = (lost as f64 * 10_000.0 / sent.max(1) as f64).round();
    hundredths / 100.0
}

/// The smallest of the values that at least `percent` in a hundred of them don't exceed: one that was measured (nearest rank).
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// Changes of the road in use from the first reply to the last. The first one from a relay to a direct road isn't counted: that is
/// how a road gets better, and not how it is lost.
#[derive(Default)]
struct Changes {
    /// By connection: how often its road had changed by its last reply.
    connections: HashMap<u64, u64>,
    total: u64,
    /// The road of the last reply.
    road: Option<(PathKind, std::net::SocketAddr)>,
    /// Whether no reply has come along a direct road yet.
    only_relayed: bool,
    upgraded: bool,
}

impl Changes {
    fn seen(&mut self, pong: &Pong) {
        let road = (pong.path, pong.via);
        let relayed = matches!(pong.path, PathKind::RelayUdp | PathKind::RelayTls);
        match (self.road.replace(road), self.connections.insert(pong.connection, pong.road_changes))
        {
            // What changed before the first reply isn't asked for.
            (None, _) => self.only_relayed = relayed,
            (Some(_), Some(before)) => self.total += pong.road_changes.saturating_sub(before),
            // Another connection has taken the place of the one before, and perhaps another road.
            (Some(before), None) => self.total += pong.road_changes + u64::from(before != road),
        }
        if self.only_relayed && !relayed {
            (self.only_relayed, self.upgraded) = (false, true);
        }
    }

    fn count(&self) -> u64 {
        self.total.saturating_sub(self.upgraded.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let percentiles = |values: &[f64]| [0, 50, 95, 100].map(|p| percentile(values, p));
        assert_eq!(percentiles(&[]), [None; 4]);
        assert_eq!(percentiles(&[7.0]), [Some(7.0); 4]);
        assert_eq!(percentiles(&[1.0, 9.0]), [1.0, 1.0, 9.0, 9.0].map(Some));
        assert_eq!(percentiles(&[1.0, 2.0, 9.0]), [1.0, 2.0, 9.0, 9.0].map(Some));
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentiles(&hundred), [1.0, 50.0, 95.0, 100.0].map(Some));
        let twenty: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(percentiles(&twenty), [1.0, 10.0, 19.0, 20.0].map(Some));
    }

    #[test]
    fn loss_is_what_has_no_reply() {
        let cases = [(0, 0, 0.0), (4, 4, 0.0), (3, 2, 33.33), (300, 291, 3.0), (1, 0, 100.0)];
        for (sent, received, percent) in cases {
            assert_eq!(loss_percent(sent, received), percent, "{received} of {sent}");
        }
    }

    /// Replies along roads of one connection after another: which, how, at which port, after how many changes.
    fn changes(replies: &[(u64, PathKind, u16, u64)]) -> u64 {
        let mut changes = Changes::default();
        for (connection, path, port, road_changes) in replies {
            changes.seen(&Pong {
                peer: webmesh::SecretKey::from_bytes([1; 32]).peer_id(),
                rtt: Duration::from_millis(1),
                path: *path,
                via: ([192, 0, 2, 1], *port).into(),
                connection: *connection,
                road_changes: *road_changes,
            });
        }
        changes.count()
    }

    #[test]
    fn the_first_way_from_a_relay_to_a_direct_road_is_no_change_and_all_others_are() {
        use PathKind::{Direct, Punched, RelayUdp};
        assert_eq!(changes(&[]), 0);
        // Before the first reply, whatever it was.
        assert_eq!(changes(&[(1, Punched, 1, 3), (1, Punched, 1, 3)]), 0);
        assert_eq!(changes(&[(1, RelayUdp, 9, 0), (1, Punched, 1, 1)]), 0);
        let back = [(1, RelayUdp, 9, 0), (1, Punched, 1, 1), (1, RelayUdp, 9, 2)];
        assert_eq!(changes(&back), 1);
        assert_eq!(changes(&[back.as_slice(), &[(1, Punched, 1, 3)]].concat()), 2);
        // There and back between two replies.
        assert_eq!(changes(&[(1, Direct, 1, 1), (1, Direct, 1, 3)]), 2);
        // From one relay to another, and then to the peer.
        assert_eq!(changes(&[(1, RelayUdp, 9, 0), (1, RelayUdp, 8, 1), (1, Direct, 1, 2)]), 1);
        // The change was counted in one reply, and its road is seen in the next.
        assert_eq!(changes(&[(1, RelayUdp, 9, 0), (1, RelayUdp, 9, 1), (1, Direct, 1, 1)]), 0);
    }

    #[test]
    fn another_connection_goes_on_counting() {
        use PathKind::{Direct, RelayUdp};
        // A restarted peer at the same place, and at another.
        assert_eq!(changes(&[(1, Direct, 1, 2), (2, Direct, 1, 0)]), 0);
        assert_eq!(changes(&[(1, Direct, 1, 2), (2, Direct, 5, 0)]), 1);
        assert_eq!(changes(&[(1, Direct, 1, 0), (2, Direct, 1, 1), (2, Direct, 1, 2)]), 2);
        assert_eq!(changes(&[(1, RelayUdp, 9, 0), (2, Direct, 1, 0)]), 0);
        // Replies of both in turn.
        let turns = [(1, Direct, 1, 0), (2, Direct, 1, 0), (1, Direct, 1, 0), (2, Direct, 1, 1)];
        assert_eq!(changes(&turns), 1);
    }
}
