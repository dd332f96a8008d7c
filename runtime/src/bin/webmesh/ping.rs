//! `webmesh ping`: how far away a peer is, by which road, and how well that road holds.
//!
//! As ping(8) does, it sends at the interval, whatever comes back; a lost ping holds up no other.

mod tally;

use crate::{
    failure::{Code, Failure},
    joining::{Joining, Patience, target},
    output::Output,
};
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::json;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};
use tally::Tally;
use webmesh::{Mesh, PeerRef, Pong};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A PeerRef (wm1…), or IP:PORT to accept whoever answers there.
    #[arg(value_parser = target)]
    target: PeerRef,
    /// How many pings to send.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// Milliseconds from one ping to the next, whatever becomes of it.
    #[arg(long, value_name = "M", default_value_t = 1000)]
    interval_ms: u64,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    joining: Joining,
}

pub(crate) async fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let builder = args.joining.apply(Mesh::builder().serve(false));
    let mesh = builder.start().await?;
    let mut tally = Tally::default();
    let measured = async {
        args.joining.attached(&mesh).await?;
        pings(&mesh, args, output, &mut tally).await
    };
    let result = tokio::select! {
        result = measured => result,
        // Interrupted: what was learnt so far is worth a summary too.
        signal = mesh.until_ctrl_c() => signal.map_err(|error| Failure::new(Code::System, error)),
    };
    mesh.shutdown().await;
    result?;
    tally.print(output)?;
    tally.outcome().map(|()| ExitCode::SUCCESS)
}

async fn pings(
    mesh: &Mesh,
    args: &Args,
    output: &Output,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let mut interval = tokio::time::interval(Duration::from_millis(args.interval_ms.max(1)));
    // After this process stood still, it doesn't send at once all that it missed.
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut under_way = FuturesUnordered::new();
    let mut seq = 0;
    while seq < args.count || !under_way.is_empty() {
        tokio::select! {
            biased;
            _ = interval.tick(), if seq < args.count => {
                tally.sent();
                under_way.push(ping(mesh, args, seq));
                seq += 1;
            }
            Some(outcome) = under_way.next() => report(outcome, output, tally)?,
        }
    }
    Ok(())
}

/// What became of a ping, and how long that took.
struct Outcome {
    seq: u64,
    took: Duration,
    pong: Result<Pong, Failure>,
}

async fn ping(mesh: &Mesh, args: &Args, seq: u64) -> Outcome {
    let asked = Instant::now();
    let pong = args.patience.wait(mesh.ping(&args.target)).await;
    Outcome { seq, took: asked.elapsed(), pong }
}

fn report(outcome: Outcome, output: &Output, tally: &mut Tally) -> Result<(), Failure> {
    let Outcome { seq, took, pong } = outcome;
    match pong {
        Ok(pong) => {
            let (peer, via, path) =
                (pong.peer.to_string(), pong.via.to_string(), pong.path.to_string());
            let (rtt_ms, took_ms) = (milliseconds(pong.rtt), milliseconds(took));
            tally.received(&pong, rtt_ms);
            output.print(
                json!({ "event": "pong", "seq": seq, "peer": peer, "rtt_ms": rtt_ms, "path": path, "via": via, "took_ms": took_ms }),
                format_args!("seq {seq}  {rtt_ms} ms  {path} via {via}  {peer}"),
            )
        }
        Err(Failure::Failed { code, problem }) => {
            output.print(
                json!({ "event": "lost", "seq": seq, "error": problem, "code": code.name() }),
                format_args!("seq {seq}  lost: {problem}"),
            )?;
            tally.lost(code, problem);
            Ok(())
        }
        Err(unread) => Err(unread),
    }
}

/// With the microseconds behind the point, which is as exact as the clocks are.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
