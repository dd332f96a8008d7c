//! `webmesh id`: who this host is.

use crate::{DataDir, failure::Failure, output::Output};
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    data: DataDir,
}

pub(crate) fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    let peer = webmesh::identity_in(args.data.path()?)?.peer_id();
    output.print(json!({ "peer": peer.to_string() }), peer)?;
    Ok(ExitCode::SUCCESS)
}
