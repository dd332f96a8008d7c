//! How a command fails: each kind of failure has one code, one exit code and one remedy, which docs/cli.md lists.

use std::{fmt::Display, process::ExitCode};
use webmesh::{
    BindError, ConnectError, JoinError, KeyFileError, PingError, StartError, peer_ref::Verdict,
    shortage,
};

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Usage,
    BadReference,
    NoDataDir,
    DataDir,
    KeyFile,
    KeyInUse,
    Listen,
    Resources,
    Start,
    OwnKey,
    Expired,
    BadSignature,
    NoSession,
    NoAddress,
    NotIntroduced,
    WrongPeer,
    Handshake,
    NobodyListens,
    NoRelay,
    NoAnswer,
    Proxy,
    Mtu,
    Network,
    NotRunning,
    NotAllowed,
    SilentNode,
    BadAnswer,
    #[cfg_attr(unix, allow(dead_code, reason = "there are Unix sockets"))]
    Unsupported,
    Interrupted,
    Output,
    System,
}

impl Code {
    /// All of them, as the page lists them.
    #[cfg(test)]
    const ALL: [Self; 31] = [
        Self::Usage,
        Self::BadReference,
        Self::NoDataDir,
        Self::DataDir,
        Self::KeyFile,
        Self::KeyInUse,
        Self::Listen,
        Self::Resources,
        Self::Start,
        Self::OwnKey,
        Self::Expired,
        Self::BadSignature,
        Self::NoSession,
        Self::NoAddress,
        Self::NotIntroduced,
        Self::WrongPeer,
        Self::Handshake,
        Self::NobodyListens,
        Self::NoRelay,
        Self::NoAnswer,
        Self::Proxy,
        Self::Mtu,
        Self::Network,
        Self::NotRunning,
        Self::NotAllowed,
        Self::SilentNode,
        Self::BadAnswer,
        Self::Unsupported,
        Self::Interrupted,
        Self::Output,
        Self::System,
    ];

    /// As it stands in `"code"`.
    pub(crate) fn name(self) -> &'static str {
        self.words().0
    }

    /// What to do about it.
    pub(crate) fn remedy(self) -> &'static str {
        self.words().1
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Usage => ("usage", "see --help"),
            Self::BadReference => ("bad-reference", "copy the reference again, whole"),
            Self::NoDataDir => ("no-data-dir", "name a directory by --data DIR"),
            Self::DataDir => ("data-dir", "give the path of a directory that can be written"),
            Self::KeyFile => ("key-file", "mend the key file, or name another directory by --data"),
            Self::KeyInUse => {
                ("key-in-use", "end the other node, or name another directory by --data")
            }
            Self::Listen => ("listen", "choose another address to listen on"),
            Self::Resources => ("resources", "raise what the system allows this process"),
            Self::Start => ("start", "look into the log (RUST_LOG=webmesh=debug)"),
            Self::OwnKey => ("own-key", "name another node"),
            Self::Expired => ("expired", "ask for a newer one"),
            Self::BadSignature => ("bad-signature", "don't use it; ask its host for another"),
            Self::NoSession => ("no-session", "join a node that runs and serves"),
            Self::NoAddress => {
                ("no-address", "ask for a newer reference, or join a public node by --join")
            }
            Self::NotIntroduced => {
                ("not-introduced", "see that the peer runs, and ask for a newer reference")
            }
            Self::WrongPeer => ("wrong-peer", "ask the peer for a newer reference"),
            Self::Handshake => ("handshake", "see that a Webmesh node of this version runs there"),
            Self::NobodyListens => {
                ("nobody-listens", "start a node there, or name its real address")
            }
            Self::NoRelay => (
                "no-relay",
                "have one of the two join a node that relays, or forward a port to it (--map-port)",
            ),
            Self::NoAnswer => (
                "no-answer",
                "see that the peer runs and that UDP gets through, or wait longer (--timeout)",
            ),
            Self::Proxy => ("proxy", "mend the proxy, or have the network pass UDP"),
            Self::Mtu => {
                ("mtu", "raise the MTU of the interface, tunnel or router that it leads through")
            }
            Self::Network => ("network", "look into the log (RUST_LOG=webmesh=debug)"),
            Self::NotRunning => ("not-running", "start a node with this directory"),
            Self::NotAllowed => ("not-allowed", "ask as the user that runs the node"),
            Self::SilentNode => ("silent-node", "look into the node's log, or restart it"),
            Self::BadAnswer => ("bad-answer", "restart the node with this version of webmesh"),
            Self::Unsupported => ("unsupported", "ask on a system with Unix sockets"),
            Self::Interrupted => ("interrupted", "let it run to its end"),
            Self::Output => ("output", "make room for what is printed"),
            Self::System => ("system", "see what the system says"),
        }
    }

    /// 2 for wrong usage and malformed input, else 1.
    pub(crate) fn exit(self) -> u8 {
        match self {
            Self::Usage | Self::BadReference | Self::NoDataDir => 2,
            _ => 1,
        }
    }
}

/// Why a command could not do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It failed, or was called wrongly.
    Failed { code: Code, problem: String },
    /// Whoever reads its output has had enough, as `head` does: exit code 0.
    Unread,
}

impl Failure {
    pub(crate) fn new(code: Code, problem: impl Display) -> Self {
        Self::Failed { code, problem: problem.to_string() }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed { code, .. } => ExitCode::from(code.exit()),
            Self::Unread => ExitCode::SUCCESS,
        }
    }
}

impl Display for Failure {
    /// What happened, and what to do about it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed { code, problem } if problem.contains(code.remedy()) => {
                f.write_str(problem)
            }
            Self::Failed { code, problem } => write!(f, "{problem}; {}", code.remedy()),
            Self::Unread => f.write_str("nobody reads standard output"),
        }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let code = match &error {
            // Whatever was being done when it showed.
            error if is_shortage(error) => Code::Resources,
            StartError::Identity(KeyFileError::InUse { .. }) => Code::KeyInUse,
            StartError::DataDir { .. } | StartError::Identity(KeyFileError::Create { .. }) => {
                Code::DataDir
            }
            StartError::Identity(_) => Code::KeyFile,
            StartError::Placement(_) | StartError::Random(_) => Code::Resources,
            StartError::Bind(BindError::Listen { .. }) => Code::Listen,
            StartError::Bind(BindError::Join(JoinError::Myself)) => Code::OwnKey,
            _ => Code::Start,
        };
        Self::new(code, error)
    }
}

/// Whether a start failed because the system lacks something.
fn is_shortage(error: &StartError) -> bool {
    match error {
        StartError::Identity(
            KeyFileError::Read { source, .. } | KeyFileError::Create { source, .. },
        )
        | StartError::DataDir { source, .. }
        | StartError::Bind(BindError::Listen { source, .. } | BindError::Quic(source)) => {
            shortage::is_shortage(source)
        }
        _ => false,
    }
}

/// What kind of failure it is that a peer isn't reached.
pub(crate) fn of_connect(error: &ConnectError) -> Code {
    match error {
        ConnectError::WrongPeer { .. } => Code::WrongPeer,
        ConnectError::NoAddress => Code::NoAddress,
        ConnectError::NotIntroduced(_) => Code::NotIntroduced,
        ConnectError::Refused(_) => Code::NobodyListens,
        ConnectError::NoRelay => Code::NoRelay,
        ConnectError::Timeout(_) => Code::NoAnswer,
        ConnectError::Proxy(_) => Code::Proxy,
        ConnectError::TooNarrow(_) => Code::Mtu,
        ConnectError::Handshake(_) | ConnectError::Hello(_) => Code::Handshake,
        ConnectError::Expired { .. } => Code::Expired,
        ConnectError::Myself => Code::OwnKey,
        _ => Code::Network,
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        Self::new(of_connect(&error), error)
    }
}

impl From<PingError> for Failure {
    fn from(error: PingError) -> Self {
        match error {
            PingError::Connect(error) => error.into(),
            error => Self::new(Code::NoAnswer, error),
        }
    }
}

/// Why a PeerRef isn't to be believed.
impl From<Verdict> for Failure {
    fn from(verdict: Verdict) -> Self {
        let code = match verdict {
            Verdict::Expired(_) => Code::Expired,
            Verdict::BadSignature => Code::BadSignature,
            // Whatever else there is, the input isn't a whole PeerRef.
            _ => Code::BadReference,
        };
        Self::new(code, verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// The rows of the page's table of codes: exit code and remedy by name.
    fn page() -> BTreeMap<&'static str, (u8, &'static str)> {
        let page = include_str!("../../../../docs/cli.md");
        let (_, table) = page.split_once("## Codes\n").unwrap();
        let table = table.split("\n## ").next().unwrap();
        let rows = table.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let name = cells.next()?.trim_end_matches('`');
            let exit = cells.next()?.parse().ok()?;
            Some((name, (exit, cells.nth(1)?.trim_end_matches(" |"))))
        });
        rows.collect()
    }

    #[test]
    fn the_page_lists_each_code_with_its_exit_code_and_its_remedy_and_no_other() {
        let known: BTreeMap<_, _> =
            Code::ALL.iter().map(|code| (code.name(), (code.exit(), code.remedy()))).collect();
        assert_eq!(known.len(), Code::ALL.len(), "two codes of one name");
        assert_eq!(page(), known);
    }

    #[test]
    fn failures_to_reach_a_peer_that_need_different_remedies_have_different_codes() {
        let at = "192.0.2.1:1".parse().unwrap();
        let peer = webmesh::SecretKey::from_bytes([1; 32]).peer_id();
        let errors = [
            ConnectError::WrongPeer { expected: peer, found: peer },
            ConnectError::NoAddress,
            ConnectError::NotIntroduced("it isn't here".into()),
            ConnectError::NoRelay,
            ConnectError::Refused(at),
            ConnectError::Timeout(std::time::Duration::from_secs(10)),
            ConnectError::Proxy("the proxy refused".into()),
            ConnectError::TooNarrow(at),
            ConnectError::Handshake("closed".into()),
            ConnectError::Myself,
            ConnectError::Closed,
        ];
        let codes: BTreeMap<_, _> =
            errors.iter().map(|error| (of_connect(error).name(), error)).collect();
        assert_eq!(codes.len(), errors.len(), "{codes:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_shortage_is_one_whatever_was_being_done_when_it_showed() {
        use std::io;
        // Too many open files, and an address that is taken or a place that can't be written.
        let lacking = || io::Error::from_raw_os_error(24);
        let other = || io::Error::from(io::ErrorKind::PermissionDenied);
        let (path, address) = (|| "key".into(), "192.0.2.1:1".parse().unwrap());
        let errors: [(&dyn Fn(io::Error) -> StartError, Code); 4] = [
            (&|source| KeyFileError::Create { path: path(), source }.into(), Code::DataDir),
            (&|source| KeyFileError::Read { path: path(), source }.into(), Code::KeyFile),
            (&|source| StartError::DataDir { path: path(), source }, Code::DataDir),
            (&|source| BindError::Listen { address, source }.into(), Code::Listen),
        ];
        let code = |error: StartError| match Failure::from(error) {
            Failure::Failed { code, .. } => code,
            Failure::Unread => panic!(),
        };
        for (error, otherwise) in errors {
            assert_eq!(code(error(lacking())), Code::Resources);
            assert_eq!(code(error(other())), otherwise);
        }
    }

    #[test]
    fn a_remedy_is_told_once() {
        let expired = Failure::new(Code::Expired, "it expired; ask for a newer one");
        assert_eq!(expired.to_string(), "it expired; ask for a newer one");
        let taken = Failure::new(Code::Listen, "it is taken");
        assert_eq!(taken.to_string(), "it is taken; choose another address to listen on");
    }
}
