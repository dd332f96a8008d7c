//! The options of every command that uses the network: through whom others reach this host.

use crate::failure::{Code, Failure};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};
use webmesh::{AddressRef, Mesh, MeshBuilder, PeerRef, peer_ref};

/// How long the sessions may take to stand. A guess, three times what a dial may take.
const ATTACHED_MAX: Duration = Duration::from_secs(30);

/// After this a node goes on without sessions. A guess: what a dial may take, and a little.
const ATTACHED_SOON: Duration = Duration::from_secs(12);

#[derive(clap::Args)]
pub(crate) struct Joining {
    /// A public node through which others reach this host: a PeerRef (wm1…) or IP:PORT; repeatable.
    #[arg(long, value_name = "TARGET", value_parser = target)]
    join: Vec<PeerRef>,
    /// With how many of them a session is kept at a time [default: 2]. Each costs ~64 KB an hour.
    #[arg(long, value_name = "N")]
    rendezvous: Option<usize>,
    /// An HTTP proxy through which TLS is tried where UDP is blocked.
    #[arg(long, value_name = "IP:PORT", value_parser = address)]
    proxy: Option<SocketAddr>,
}

/// An IP address and a port.
fn address(text: &str) -> Result<SocketAddr, String> {
    let example =
        "not IP:PORT, as 192.0.2.1:4433 or [2001:db8::1]:4433 are; names of hosts aren't looked up";
    text.parse().map_err(|_| example.to_owned())
}

/// How long an answer is waited for: of the commands that ask one peer.
#[derive(clap::Args)]
pub(crate) struct Patience {
    /// Seconds after which an answer is no longer waited for; making the connection counts too, which takes up to 10.
    #[arg(long, value_name = "SECONDS", default_value_t = 12, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

impl Patience {
    /// What `asked` brings in time.
    pub(crate) async fn wait<T, E: Into<Failure>>(
        &self,
        asked: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(Duration::from_secs(self.timeout), asked).await {
            Ok(answered) => answered.map_err(Into::into),
            Err(_) => Err(Failure::new(
                Code::NoAnswer,
                format_args!("no answer within {} s", self.timeout),
            )),
        }
    }
}

/// What was meant by a reference that a terminal or a mail broke into lines.
pub(crate) fn unbroken(text: &str) -> String {
    text.lines().map(str::trim).collect()
}

/// A text that is neither a PeerRef nor an address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadReference(String);

impl std::fmt::Display for BadReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadReference {}

/// A PeerRef, or an address whose owner is not known.
pub(crate) fn target(text: &str) -> Result<PeerRef, BadReference> {
    read_target(text).map_err(BadReference)
}

fn read_target(text: &str) -> Result<PeerRef, String> {
    let text = &unbroken(text);
    if text.parse::<SocketAddr>().is_ok() {
        let address = reachable(text)?;
        return AddressRef::new([address])
            .map(PeerRef::Addresses)
            .map_err(|error| error.to_string());
    }
    text.parse::<PeerRef>().map_err(|error| match error {
        peer_ref::ParseError::NotAPeerRef => {
            "neither a PeerRef (wm1…) nor IP:PORT; names of hosts aren't looked up".to_owned()
        }
        error => error.to_string(),
    })
}

/// An address of this host, which may be all of them.
pub(crate) fn listenable(text: &str) -> Result<SocketAddr, String> {
    let address = address(text)?;
    let groups = address.ip().is_multicast() || address.ip() == IpAddr::V4(Ipv4Addr::BROADCAST);
    match address {
        _ if groups => {
            Err("it stands for many hosts; a node listens on an address of its own".into())
        }
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            let plain = SocketAddr::new(address.ip().to_canonical(), address.port());
            Err(format!("it must be written in its plain form: {plain}"))
        }
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() && v6.scope_id() == 0 => {
            Err(format!(
                "a link-local address needs the number of its interface: [{}%2]:{}, for example",
                v6.ip(),
                v6.port()
            ))
        }
        address => Ok(address),
    }
}

/// An address at which a host can be reached from elsewhere.
pub(crate) fn reachable(text: &str) -> Result<SocketAddr, String> {
    let address = address(text)?;
    AddressRef::new([address]).map(|_| address).map_err(|error| error.to_string())
}

impl Joining {
    /// Has a mesh attach to the nodes that were named.
    pub(crate) fn apply(&self, mut builder: MeshBuilder) -> MeshBuilder {
        for node in &self.join {
            builder = builder.join(node.clone());
        }
        if let Some(proxy) = self.proxy {
            builder = builder.proxy(proxy);
        }
        match self.rendezvous {
            Some(sessions) => builder.rendezvous(sessions),
            None => builder,
        }
    }

    /// Waits for the sessions to stand, up to a bound.
    pub(crate) async fn attached(&self, mesh: &Mesh) -> Result<(), Failure> {
        self.attached_within(ATTACHED_MAX, mesh).await
    }

    /// The same for a host that goes on: its mesh keeps trying, and the log says that no session stands yet.
    pub(crate) async fn attached_or_later(&self, mesh: &Mesh) {
        if let Err(none) = self.attached_within(ATTACHED_SOON, mesh).await {
            tracing::warn!(
                "{none}. This node goes on without, and tries again at least each 40 s."
            );
        }
    }

    /// Whether sessions stand within the bound; or what to say about that.
    async fn attached_within(&self, limit: Duration, mesh: &Mesh) -> Result<(), Failure> {
        if self.join.is_empty() || self.rendezvous == Some(0) {
            return Ok(());
        }
        if tokio::time::timeout(limit, mesh.attached()).await.is_ok() {
            return Ok(());
        }
        match mesh.attached_to().len() {
            0 => Err(Failure::new(
                Code::NoSession,
                format_args!(
                    "none of the nodes named by --join gave a session within {} s: is one running there, and does it serve?",
                    limit.as_secs()
                ),
            )),
            standing => {
                tracing::warn!(
                    standing,
                    "not as many sessions with rendezvous stand as were asked for"
                );
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_that_was_broken_into_lines_is_whole_again_and_one_with_a_space_is_mistyped() {
        let whole = AddressRef::new(["192.0.2.1:1".parse::<SocketAddr>().unwrap()]).unwrap();
        let whole = PeerRef::Addresses(whole);
        let text = whole.to_string();
        let (begin, end) = text.split_at(9);
        assert_eq!(target(&format!("  {begin}\r\n   {end} \n")), Ok(whole));
        assert_eq!(target(" 192.0.2.1:1\n").map(|target| target.to_string()), Ok(text.clone()));
        assert!(target(&format!("{begin} {end}")).unwrap_err().to_string().contains("mistyped"));
    }

    #[test]
    fn what_nobody_can_listen_on_is_refused_with_a_word_of_help() {
        for (text, help) in [
            ("224.0.0.1:1", "of its own"),
            ("255.255.255.255:1", "of its own"),
            ("[ff02::1]:1", "of its own"),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1"),
            ("[fe80::1]:1", "[fe80::1%2]:1"),
            ("localhost:4433", "aren't looked up"),
            ("4433", "192.0.2.1:4433"),
        ] {
            let refused = listenable(text).unwrap_err();
            assert!(refused.contains(help), "{text}: {refused}");
        }
        for text in ["0.0.0.0:0", "[::]:0", "127.0.0.1:1", "[::1]:1", "[fe80::1%2]:1"] {
            assert!(listenable(text).is_ok(), "{text}");
        }
    }
}
