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
    let measured = async {
        args.joining.attached(&mesh).await?;
        pings(&mesh, args, output).await
    };
    let result = tokio::select! {
        result = measured => result,
        // Interrupted: what was learnt so far has been printed.
        signal = mesh.until_ctrl_c() => signal.map_err(Failure::failed).map(|()| ExitCode::FAILURE),
    };
    mesh.shutdown().await;
    result
}

async fn pings(mesh: &Mesh, args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let mut interval = tokio::time::interval(Duration::from_millis(args.interval_ms.max(1)));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut round_trips = Vec::new();
    for seq in 0..args.count {
        interval.tick().await;
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
                round_trips.push(rtt_ms);
                output.print(
                    json!({ "event": "pong", "seq": seq, "peer": peer, "rtt_ms": rtt_ms, "took_ms": took_ms, "path": path, "via": via }),
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
    round_trips.sort_by(f64::total_cmp);
    let (received, p50) = (round_trips.len(), round_trips.get(round_trips.len() / 2).copied());
    let text = match p50 {
        Some(p50) => format!("{} sent, {received} received, p50 {p50} ms", args.count),
        None => format!("{} sent, none received", args.count),
    };
    output.print(
        json!({ "event": "summary", "sent": args.count, "received": received, "p50_ms": p50 }),
        text,
    )?;
    Ok(if received > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// With the microseconds behind the point, which is as exact as the clocks are.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
