//! `webmesh ping`: how far away a peer is, and by which road.

use crate::{
    joining::{Joining, target},
    output::{Failure, Output},
};
use serde_json::json;
use std::{process::ExitCode, time::Duration};
use webmesh::{Mesh, PeerRef};

/// How long a reply is waited for; a road slower than this is of no use to actors either. A guess.
const REPLY_MAX: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A PeerRef (wm1…), or IP:PORT to accept whoever answers there.
    #[arg(value_parser = target)]
    target: PeerRef,
    /// How many pings to send.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Milliseconds from one ping to the next.
    #[arg(long, value_name = "M", default_value_t = 1000)]
    interval_ms: u64,
    #[command(flatten)]
    joining: Joining,
}

pub(crate) async fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let builder = args.joining.apply(Mesh::builder().serve(false));
    let mesh = builder.start().await.map_err(Failure::failed)?;
    let mut tally = Tally::default();
    let measured = async {
        args.joining.attached(&mesh).await?;
        pings(&mesh, args, output, &mut tally).await
    };
    let result = tokio::select! {
        result = measured => result,
        // Interrupted: what was learnt so far is worth a summary too.
        signal = mesh.until_ctrl_c() => signal.map_err(Failure::failed),
    };
    mesh.shutdown().await;
    result?;
    tally.print(output)?;
    Ok(if tally.round_trips.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What became of the pings so far.
#[derive(Default)]
struct Tally {
    sent: u64,
    /// In milliseconds, one for each reply.
    round_trips: Vec<f64>,
}

impl Tally {
    fn print(&self, output: &Output) -> Result<(), Failure> {
        let (sent, received, p50) =
            (self.sent, self.round_trips.len(), median(self.round_trips.clone()));
        let text = match p50 {
            Some(p50) => format!("{sent} sent, {received} received, p50 {p50} ms"),
            None => format!("{sent} sent, none received"),
        };
        let object =
            json!({ "event": "summary", "sent": sent, "received": received, "p50_ms": p50 });
        output.print(object, text)
    }
}

/// The middle value, or the lower one of the two in the middle: one that was measured.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

async fn pings(
    mesh: &Mesh,
    args: &Args,
    output: &Output,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let mut interval = tokio::time::interval(Duration::from_millis(args.interval_ms.max(1)));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for seq in 0..args.count {
        interval.tick().await;
        tally.sent += 1;
        let asked = std::time::Instant::now();
        let pong = match tokio::time::timeout(REPLY_MAX, mesh.ping(&args.target)).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no reply within {} s", REPLY_MAX.as_secs())),
        };
        match pong {
            Ok(pong) => {
                let (peer, via, path) =
                    (pong.peer.to_string(), pong.via.to_string(), pong.path.to_string());
                let rtt_ms = milliseconds(pong.rtt);
                let took_ms = milliseconds(asked.elapsed());
                tally.round_trips.push(rtt_ms);
                output.print(
                    json!({ "event": "pong", "seq": seq, "peer": peer, "rtt_ms": rtt_ms, "path": path, "via": via, "took_ms": took_ms }),
                    format_args!("seq {seq}  {rtt_ms} ms  {path} via {via}  {peer}"),
                )?;
            }
            Err(error) => {
                output.print(
                    json!({ "event": "lost", "seq": seq, "error": error }),
                    format_args!("seq {seq}  lost: {error}"),
                )?;
            }
        }
    }
    Ok(())
}

/// With the microseconds behind the point, which is as exact as the clocks are.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_one_of_the_values() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![7.0]), Some(7.0));
        assert_eq!(median(vec![9.0, 1.0]), Some(1.0));
        assert_eq!(median(vec![9.0, 1.0, 2.0]), Some(2.0));
    }
}
