//! `webmesh explain`: by which road a peer is reached, and why by no better one.

use crate::{
    failure::{Code, Failure},
    joining::{Joining, Patience, target},
    output::Output,
};
use serde_json::{Value, json};
use std::{fmt::Write, process::ExitCode, time::Duration};
use webmesh::{Explanation, Mapping, Mesh, NatClass, PathKind, PeerRef};

/// How long a better road is waited for, and how often it is looked for. The probes of new roads take 1.5 s at most.
const SETTLED_MAX: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why the NAT in front of this host may be unknown.
const OWN_UNKNOWN: &str =
    " (it takes two nodes on different hosts that see this one: name them by --join)";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A PeerRef (wm1…), or IP:PORT to accept whoever answers there.
    #[arg(value_parser = target)]
    target: PeerRef,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    joining: Joining,
}

pub(crate) async fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let builder = args.joining.apply(Mesh::builder().serve(false));
    let mesh = builder.start().await?;
    let result = tokio::select! {
        explained = settled(&mesh, args) => explained.and_then(|explanation| {
            output.print(object(&explanation), text(&explanation)).map(|()| ExitCode::SUCCESS)
        }),
        signal = mesh.until_ctrl_c() => Err(match signal {
            Ok(()) => Failure::new(Code::Interrupted, "interrupted before the peer was reached"),
            Err(error) => Failure::new(Code::System, error),
        }),
    };
    mesh.shutdown().await;
    result
}

/// What is to be said once better roads have had their chance.
async fn settled(mesh: &Mesh, args: &Args) -> Result<Explanation, Failure> {
    args.joining.attached(mesh).await?;
    let started = tokio::time::Instant::now();
    loop {
        let explanation = args.patience.wait(mesh.explain(&args.target)).await?;
        let best = matches!(explanation.path, PathKind::Direct | PathKind::Punched);
        if best || started.elapsed() >= SETTLED_MAX {
            return Ok(explanation);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn object(explanation: &Explanation) -> Value {
    let candidates: Vec<Value> = explanation
        .candidates
        .iter()
        .map(|candidate| {
            json!({
                "address": candidate.address.to_string(),
                "path": candidate.path.to_string(),
                "in_use": candidate.in_use,
                "rtt_ms": candidate.rtt.map(milliseconds),
                "why": candidate.why,
            })
        })
        .collect();
    json!({
        "event": "explanation",
        "peer": explanation.peer.to_string(),
        "path": explanation.path.to_string(),
        "via": explanation.via.to_string(),
        "rtt_ms": explanation.rtt.map(milliseconds),
        "reason": explanation.reason,
        "nat": explanation.own_nat.to_string(),
        "peer_nat": nat(explanation.peer_nat),
        "candidates": candidates,
    })
}

fn text(explanation: &Explanation) -> String {
    let Explanation { peer, path, via, reason, own_nat, peer_nat, .. } = explanation;
    let mut text = format!(
        "peer       {peer}\nroad       {path} via {via}\nbecause    {reason}\nown NAT    {own_nat}{}\npeer's NAT {}",
        if own_nat.mapping == Mapping::Unknown { OWN_UNKNOWN } else { "" },
        nat(*peer_nat)
    );
    for candidate in &explanation.candidates {
        let rtt =
            candidate.rtt.map(|rtt| format!(" ({} ms)", milliseconds(rtt))).unwrap_or_default();
        let _ =
            write!(text, "\n  {} {}: {}{rtt}", candidate.path, candidate.address, candidate.why);
    }
    text
}

fn nat(class: Option<NatClass>) -> String {
    class.unwrap_or_default().to_string()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
