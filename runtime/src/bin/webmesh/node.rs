//! `webmesh node`: a node that runs until it is asked to end.

mod ending;
mod reference;

use crate::{
    DataDir,
    failure::{Code, Failure},
    joining::{Joining, listenable, reachable},
    output::Output,
};
use serde_json::json;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::ExitCode,
    time::SystemTime,
};
use webmesh::{AddressRef, Mesh, Router};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    data: DataDir,
    /// An address to listen on, repeatable; [::] is IPv6 alone [default: all interfaces, any free port].
    #[arg(long, value_name = "IP:PORT", value_parser = listenable)]
    listen: Vec<SocketAddr>,
    /// An address under which others reach this node, repeatable [default: those of its interfaces].
    #[arg(long, value_name = "IP:PORT", value_parser = reachable)]
    advertise: Vec<SocketAddr>,
    /// Don't serve other hosts as their rendezvous.
    #[arg(long)]
    no_serve: bool,
    /// Introduce other hosts to each other, and relay nothing between those that can't reach each other.
    #[arg(long)]
    no_relay: bool,
    /// Where to take hosts whose network blocks UDP, by TLS over TCP [default: port 443, if it can be had].
    #[arg(long, value_name = "IP:PORT", value_parser = listenable, conflicts_with_all = ["no_serve", "private"])]
    relay_tls: Option<SocketAddr>,
    /// Ask the router of this network to forward a port (PCP, NAT-PMP or UPnP), so that others reach this node directly.
    #[arg(long)]
    map_port: bool,
    /// A host that others can't reach by themselves: it never serves.
    #[arg(long)]
    private: bool,
    #[command(flatten)]
    joining: Joining,
}

pub(crate) async fn run(args: &Args, output: &Output) -> Result<ExitCode, Failure> {
    if !args.advertise.is_empty() {
        // Each of them is an address; together they may be too many, or one of them twice.
        AddressRef::new(&args.advertise)
            .map_err(|error| Failure::new(Code::Usage, format_args!("--advertise: {error}")))?;
    }
    let serves = !args.no_serve && !args.private;
    let dir = args.data.path()?;
    reference::look_at_clock(SystemTime::now());
    let mut builder = Mesh::builder().data_dir(&dir).serve(serves).relay(!args.no_relay);
    match (args.relay_tls, https(&args.listen)) {
        (Some(address), _) => builder = builder.relay_tls(address),
        (None, Some(address)) if serves => builder = builder.relay_tls_if_free(address),
        _ => {}
    }
    if args.map_port {
        builder = builder.map_port(Router::Default);
    }
    for address in &args.listen {
        builder = builder.listen(*address);
    }
    for address in &args.advertise {
        builder = builder.advertise(*address);
    }
    let mesh = args.joining.apply(builder).start().await?;
    // Before `ready`: whoever reads that may ask us to end at once.
    let asked_to_end = ending::asked(&mesh);
    #[cfg(unix)]
    let _server = crate::status::server::start(&dir, mesh.clone())
        .await
        .inspect_err(|error| {
            crate::output::complain(format_args!("`webmesh status` can't ask this node: {error}"));
        })
        .ok();
    let running = async {
        args.joining.attached_or_later(&mesh).await;
        run_on(&mesh, &dir, output).await
    };
    let result = tokio::select! {
        result = running => result,
        asked = asked_to_end => asked.map_err(|error| Failure::new(Code::System, error)),
    };
    mesh.shutdown().await;
    result.map(|()| ExitCode::SUCCESS)
}

/// Says that the node is ready, and from then on where it is found, as long as that can be printed. Ends only if the first can't be.
async fn run_on(mesh: &Mesh, dir: &Path, output: &Output) -> Result<(), Failure> {
    let mut changes = mesh.peer_ref_changes();
    let mut present = mesh.peer_ref();
    reference::keep(dir, &present);
    reference::look_at(&present);
    let (peer, peer_ref) = (mesh.peer_id().to_string(), present.to_string());
    let listen: Vec<String> = mesh.listen_addresses().iter().map(ToString::to_string).collect();
    let files = mesh.descriptors();
    let limit = files.limit.map_or_else(|| "any number".to_owned(), |limit| limit.to_string());
    let needed = files.needed;
    if files.are_short() {
        tracing::warn!(
            "this node may need {needed} file descriptors and may have {limit}: raise the limit (ulimit -n; systemd: LimitNOFILE=), \
             or else it takes fewer hosts whose network blocks UDP"
        );
    }
    let text = format!(
        "peer    {peer}\nlisten  {}\nfiles   may need {needed}, may have {limit}\n{peer_ref}",
        listen.join(" ")
    );
    let descriptors = json!({ "needed": needed, "limit": files.limit });
    let object = json!({ "event": "ready", "peer": peer, "peer_ref": peer_ref, "listen": listen, "descriptors": descriptors });
    // For a daemon that is no way to end well: nobody can reach it without its reference.
    let read = |failure| match failure {
        Failure::Unread => Failure::new(Code::Output, failure),
        failure => failure,
    };
    output.print(object, text).map_err(read)?;
    let mut is_read = true;
    while let Some(changed) = changes.next().await {
        // It may have changed just before it was told as that of the node that is ready.
        if changed == present {
            continue;
        }
        present = changed;
        reference::keep(dir, &present);
        reference::look_at(&present);
        let peer_ref = present.to_string();
        let text = format!("now     {peer_ref}");
        let object = json!({ "event": "peer_ref", "peer_ref": peer_ref });
        // Who started it had its reference, and may have stopped reading since: others still depend on the node.
        if is_read && let Err(failure) = output.print(object, text) {
            is_read = false;
            tracing::warn!(
                "the PeerRef has changed and can't be printed: {failure}; ask by `webmesh status`"
            );
        }
    }
    std::future::pending().await
}

/// Where tunnels are taken unless the user says where: at the port that passes most firewalls, on the address that is
/// listened on. Nobody outside needs them where only this host gets in.
fn https(listen: &[SocketAddr]) -> Option<SocketAddr> {
    let ip = listen.first().map_or(IpAddr::from(Ipv4Addr::UNSPECIFIED), SocketAddr::ip);
    (!ip.is_loopback()).then_some(SocketAddr::new(ip, 443))
}
