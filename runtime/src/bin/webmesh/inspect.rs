//! `webmesh inspect`: what a PeerRef says, and whether that may be believed.

use crate::{failure::Failure, joining::unbroken, output::Output};
use serde_json::{Value, json};
use std::{
    fmt::Write,
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use webmesh::peer_ref::{Claims, Inspection, Verdict, in_words, inspect};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The PeerRef to explain (wm1…).
    #[arg(value_name = "PEERREF")]
    peer_ref: String,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let now = SystemTime::now();
    let inspection = inspect(&unbroken(&args.peer_ref), now);
    let unix_now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    match output.print(as_object(&inspection), as_text(&inspection, unix_now)) {
        // Whoever read the first line only may still ask what the verdict was.
        Ok(()) | Err(Failure::Unread) => {}
        Err(failure) => return Err(failure),
    }
    match inspection.verdict {
        Verdict::Valid | Verdict::Unsigned => Ok(ExitCode::SUCCESS),
        verdict => Err(verdict.into()),
    }
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

fn as_object(inspection: &Inspection) -> Value {
    let mut object = json!({});
    match &inspection.claims {
        None => {}
        Some(Claims::Addresses(plain)) => {
            object["class"] = "addresses".into();
            object["addresses"] = texts(plain.addresses()).into();
        }
        Some(Claims::Signed { peer, content }) => {
            object["class"] = "signed".into();
            object["signer"] = peer.to_string().into();
            object["version"] = content.version.into();
            object["addresses"] = texts(&content.addresses).into();
            let points = content.rendezvous.iter().map(|point| {
                let addresses = texts(&point.dialled_at().collect::<Vec<_>>());
                let (peer, tls) = (point.peer.to_string(), texts(&point.tls));
                json!({ "peer": peer, "addresses": addresses, "tls": tls, "relays": point.relays() })
            });
            object["rendezvous"] = points.collect();
            object["expiry"] = content.expires.into();
        }
    }
    object["size"] = inspection.size.into();
    object["verdict"] = inspection.verdict.name().into();
    object["explanation"] = inspection.verdict.to_string().into();
    object
}

fn as_text(inspection: &Inspection, unix_now: u64) -> String {
    let mut text = format!("verdict     {}", inspection.verdict);
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{name:<11} {value}");
    };
    match &inspection.claims {
        None => {}
        Some(Claims::Addresses(plain)) => {
            line("class", "addresses only".into());
            line("addresses", texts(plain.addresses()).join(" "));
        }
        Some(Claims::Signed { peer, content }) => {
            line("class", "signed".into());
            line("signer", peer.to_string());
            line("version", content.version.to_string());
            line("addresses", texts(&content.addresses).join(" "));
            for point in &content.rendezvous {
                let udp: Vec<_> = point.dialled_at().collect();
                let addresses = [texts(&udp), texts(&point.tls)].concat().join(" ");
                let relays = if point.relays() { "" } else { " (introduces, doesn't relay)" };
                line("rendezvous", format!("{} {addresses}{relays}", point.peer));
            }
            line("expiry", expiry(content.expires, unix_now));
        }
    }
    if let Some(size) = inspection.size {
        line("size", format!("{size} bytes"));
    }
    text
}

/// When, from now, and in Unix seconds.
fn expiry(expires: u64, unix_now: u64) -> String {
    let words = |seconds| in_words(Duration::from_secs(seconds));
    match expires.checked_sub(unix_now) {
        Some(left) => format!("in {} (Unix time {expires})", words(left)),
        None => format!("{} ago (Unix time {expires})", words(unix_now - expires)),
    }
}
