//! The node's side of `status`: whoever connects is told, and hung up on. Nothing is read, so that nobody can say anything wrong.

use super::place;
use serde_json::{Value, json};
use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    task::JoinHandle,
    time::timeout,
};
use webmesh::Mesh;

/// Answers under way at a time; who comes then is hung up on. A guess: people and a few monitors.
const AT_A_TIME: usize = 8;

/// How long one may take to read its answer. A guess.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// Links that are told of one by one. A guess: what fits a few megabytes, and nobody reads more.
const LINKS_MAX: usize = 1000;

/// How long to wait when no connection can be accepted: no file descriptors left, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The socket, which is removed with this.
pub(crate) struct Server {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // What stays is replaced by the next node.
        let _ = fs::remove_file(&self.path);
    }
}

/// Answers by a socket in `dir` from now on, in place of what a dead node left there.
///
/// # Errors
/// If there can't be a socket, or another node or something that isn't a socket is there.
pub(crate) async fn start(dir: &Path, mesh: Mesh) -> io::Result<Server> {
    let (place, path) = (place::of(dir)?, place::in_full(dir));
    match fs::symlink_metadata(&path) {
        Ok(there) if there.file_type().is_socket() => {
            // The lock of the key file says that nobody else is here; some file systems have no locks.
            let alive = timeout(Duration::from_secs(1), UnixStream::connect(place.path())).await;
            if !matches!(alive, Ok(Err(_))) {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another node answers there"));
            }
            fs::remove_file(&path)?;
        }
        Ok(_) => {
            let problem = "something that isn't a socket is in its place";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(place.path())?;
    let secured = this_user().and_then(|owner| {
        // Where others could put something else in its place, nothing is done by its name: who asks is checked anyway.
        if fs::metadata(dir)?.mode() & 0o022 == 0 {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        Ok(owner)
    });
    let owner = secured.inspect_err(|_| {
        let _ = fs::remove_file(&path);
    })?;
    let task = tokio::spawn(answer_all(listener, owner, mesh));
    Ok(Server { path, task })
}

/// The user as whom this process runs, as others see it by a socket.
fn this_user() -> io::Result<u32> {
    let (stream, _other) = UnixStream::pair()?;
    Ok(stream.peer_cred()?.uid())
}

async fn answer_all(listener: UnixListener, owner: u32, mesh: Mesh) {
    let places = Arc::new(Semaphore::new(AT_A_TIME));
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Until the mode was set, others could connect; and who is root may read everything anyway.
        let user = stream.peer_cred().map(|peer| peer.uid());
        let allowed = user.is_ok_and(|user| user == owner || user == 0);
        let Some(place) = places.clone().try_acquire_owned().ok().filter(|_| allowed) else {
            continue;
        };
        let answer = format!("{}\n", status(&mesh));
        tokio::spawn(async move {
            let written = async {
                stream.write_all(answer.as_bytes()).await?;
                stream.shutdown().await
            };
            // Who doesn't read loses the rest.
            let _ = timeout(READ_WITHIN, written).await;
            drop(place);
        });
    }
}

/// What the node says of itself.
fn status(mesh: &Mesh) -> Value {
    let mut stats = mesh.stats();
    let links = stats.links.len();
    stats.links.truncate(LINKS_MAX);
    let listen: Vec<_> = mesh.listen_addresses().iter().map(ToString::to_string).collect();
    let mut status = json!({
        "event": "status",
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "peer": mesh.peer_id().to_string(),
        "peer_ref": mesh.peer_ref().to_string(),
        "listen": listen,
        "links_total": links,
    });
    if let (Some(status), Ok(Value::Object(stats))) =
        (status.as_object_mut(), serde_json::to_value(stats))
    {
        status.extend(stats);
    }
    status
}
