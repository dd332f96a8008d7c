//! `webmesh status`: what a running node does, as it says itself by the socket in its data directory.

pub(crate) mod place;
#[cfg(unix)]
pub(crate) mod server;

use crate::{
    DataDir,
    failure::{Code, Failure},
    output::Output,
};
use serde_json::Value;
use std::{fmt::Write, path::Path, process::ExitCode};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    data: DataDir,
}

pub(crate) async fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let dir = args.data.path()?;
    let status = ask(&dir).await?;
    output.print(status.clone(), text(&status))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(not(unix))]
async fn ask(_: &Path) -> Result<Value, Failure> {
    Err(Failure::new(Code::Unsupported, "a node can't be asked on this system"))
}

/// The answer of the node that runs with this directory.
#[cfg(unix)]
async fn ask(dir: &Path) -> Result<Value, Failure> {
    use std::{io::ErrorKind, time::Duration};
    use tokio::{io::AsyncReadExt, net::UnixStream};

    /// How long a node may take. A guess: it answers at once unless its machine is overloaded.
    const ANSWER_WITHIN: Duration = Duration::from_secs(5);
    /// More isn't read: a node says at most a third of that, of a thousand links with eight roads each.
    const ANSWER_MAX: u64 = 16 << 20;

    let refused = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::NotADirectory => {
            Failure::new(
                Code::NotRunning,
                format_args!("no node runs with the data directory {}", dir.display()),
            )
        }
        ErrorKind::PermissionDenied => Failure::new(
            Code::NotAllowed,
            format_args!("the node in {} belongs to another user", dir.display()),
        ),
        _ => Failure::new(
            Code::System,
            format_args!("the node in {} can't be asked: {error}", dir.display()),
        ),
    };
    let silent = || {
        let within = ANSWER_WITHIN.as_secs();
        Failure::new(Code::SilentNode, format_args!("the node gave no answer within {within} s"))
    };
    let place = place::of(dir).map_err(refused)?;
    let asked = async {
        let stream = UnixStream::connect(place.path()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_MAX).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(ANSWER_WITHIN, asked).await.map_err(|_| silent())?;
    let answer = answer.map_err(refused)?;
    if answer.is_empty() {
        return Err(Failure::new(
            Code::NotAllowed,
            "the node hung up: it belongs to another user, or is asked by too many at a time",
        ));
    }
    let status = serde_json::from_slice::<Value>(&answer).ok();
    status.filter(|status| status["event"] == "status").ok_or_else(|| {
        Failure::new(Code::BadAnswer, "what answered by the node's socket isn't a status")
    })
}

/// What `status` says, for people. What isn't there, for the node is of another version, is left out.
fn text(status: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<10} {value}");
    };
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let list = |value: &Value| {
        let items = value.as_array().into_iter().flatten().map(plain);
        items.collect::<Vec<_>>().join(" ")
    };
    line("peer", &plain(&status["peer"]));
    line("listen", &list(&status["listen"]));
    line("up", &format!("{} s", plain(&status["uptime_s"])));
    let sessions = list(&status["sessions"]);
    line("sessions", if sessions.is_empty() { "none" } else { &sessions });
    let served = &status["served"];
    line(
        "serves",
        &format!(
            "{} sessions, {} flows, {} bytes relayed",
            plain(&served["sessions"]),
            plain(&served["flows"]),
            plain(&served["relayed_bytes"])
        ),
    );
    line("links", &plain(&status["links_total"]));
    for link in status["links"].as_array().into_iter().flatten() {
        let silent = if link["reachable"] == false { ", silent" } else { "" };
        let said = format!(
            "{} via {}, {} ms{silent}",
            plain(&link["path"]),
            plain(&link["via"]),
            plain(&link["rtt_ms"])
        );
        line("", &format!("{} {said}", plain(&link["peer"])));
        for road in link["roads"].as_array().into_iter().flatten() {
            let (path, address) = (plain(&road["path"]), plain(&road["address"]));
            line("", &format!("  {path} {address}: {}", plain(&road["why"])));
        }
    }
    for (name, key) in [("refused", "refusals"), ("dropped", "drops")] {
        let counts = status[key].as_object().into_iter().flatten();
        let some = counts.filter(|(_, count)| count.as_u64().is_some_and(|count| count > 0));
        let some: Vec<_> = some.map(|(why, count)| format!("{why} {count}")).collect();
        let some = if some.is_empty() { "nothing".to_owned() } else { some.join(", ") };
        line(name, &some);
    }
    text.push_str(&plain(&status["peer_ref"]));
    text
}
