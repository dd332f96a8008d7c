//! `webmesh node`: a node that runs until it is asked to end.

use crate::{
    DataDir,
    joining::{Joining, listenable, reachable},
    output::{Failure, Output},
};
use serde_json::json;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::ExitCode,
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
            .map_err(|error| Failure::usage(format_args!("--advertise: {error}")))?;
    }
    let serves = !args.no_serve && !args.private;
    let mut builder = Mesh::builder().data_dir(args.data.path()?).serve(serves);
    builder = builder.relay(!args.no_relay);
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
    let mesh = args.joining.apply(builder).start().await.map_err(Failure::failed)?;
    // Before `ready`: whoever reads that may ask us to end at once.
    let asked_to_end = mesh.until_ctrl_c();
    tokio::pin!(asked_to_end);
    tokio::select! {
        () = args.joining.attached_or_later(&mesh) => {}
        asked = &mut asked_to_end => {
            mesh.shutdown().await;
            return asked.map(|()| ExitCode::SUCCESS).map_err(Failure::failed);
        }
    }
    let (peer, peer_ref) = (mesh.peer_id().to_string(), mesh.peer_ref().to_string());
    let listen: Vec<String> = mesh.listen_addresses().iter().map(ToString::to_string).collect();
    let files = mesh.descriptors();
    let limit = files.limit.map_or_else(|| "any number".to_owned(), |limit| limit.to_string());
    if files.are_short() {
        tracing::warn!(
            "this node may need {} file descriptors and may have {limit}: raise the limit (ulimit -n; systemd: LimitNOFILE=), \
             or else it takes fewer hosts whose network blocks UDP",
            files.needed
        );
    }
    let needed = files.needed;
    let text = format!(
        "peer    {peer}\nlisten  {}\nfiles   may need {needed}, may have {limit}\n{peer_ref}",
        listen.join(" ")
    );
    let descriptors = json!({ "needed": needed, "limit": files.limit });
    let object = json!({ "event": "ready", "peer": peer, "peer_ref": peer_ref, "listen": listen, "descriptors": descriptors });
    let result = match output.print(object, text) {
        Ok(()) => asked_to_end.await.map_err(Failure::failed),
        // For a daemon that is no way to end well: nobody can reach it without its reference.
        Err(failure @ Failure::Unread) => Err(Failure::failed(failure)),
        Err(failure) => Err(failure),
    };
    mesh.shutdown().await;
    result.map(|()| ExitCode::SUCCESS)
}

/// Where tunnels are taken unless the user says where: at the port that passes most firewalls, on the address that is
/// listened on. Nobody outside needs them where only this host gets in.
fn https(listen: &[SocketAddr]) -> Option<SocketAddr> {
    let ip = listen.first().map_or(IpAddr::from(Ipv4Addr::UNSPECIFIED), SocketAddr::ip);
    (!ip.is_loopback()).then_some(SocketAddr::new(ip, 443))
}
