//! Chat rooms as published actors.
//!
//! `chat` opens a room on a node of its own and prints the invite; `chat --join INVITE --name N` in another terminal
//! enters it. The map: [`protocol`] is what room and members say to each other, [`clean`] what a terminal may be given of
//! X

mod clean;
mod ending;
mod member;
mod plain;
mod printer;
mod protocol;
mod room;
mod tui;

use anyhow::{Context as _, anyhow};
use clap::Parser;
use ending::Ending;
use member::{News, Seat};
use printer::{Printer, complain};
use protocol::{PUBLISHED_NAME, Room, Welcome};
use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;
use webmesh::{ActorRef, AddressRef, Anyone, Mesh, PeerRef, ResolveError};

/// How long a silent peer counts as present: long enough for a hiccup of a home network, short enough that a crash is
/// noticed while people still remember who was speaking. A guess.
const PEER_GONE_AFTER: Duration = Duration::from_secs(10);

/// The room that is opened unless another is named.
const DEFAULT_ROOM: &str = "lobby";

/// How long it may take until others can reach this node through those it joined. A guess, three times a slow dial.
const ATTACHED_MAX: Duration = Duration::from_secs(30);

/// How long a goodbye may take. A guess: long enough for a slow road, short enough not to annoy.
const GOODBYE_MAX: Duration = Duration::from_secs(2);

/// How long a program that is asked to end waits for standard output to take what was said before. A guess: what takes
/// longer is hardly read.
const LAST_LINES_MAX: Duration = Duration::from_millis(500);

/// A chat room on your own machine.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The invite of the room to enter (wm1…, or the command that was printed with it, in quotation marks), or a public node (wm1… or IP:PORT) through which others reach this one;
    /// repeatable. White space in it is ignored, for an invite that was copied from a screen may hold some. Without an
    /// invite, a room is opened here.
    #[arg(long, value_name = "INVITE", value_parser = target)]
    join: Vec<PeerRef>,
    /// With how many public nodes a session is kept at a time [default: 2]. Each costs ~64 KB an hour.
    #[arg(long, value_name = "N")]
    rendezvous: Option<usize>,
    /// The name to go by.
    #[arg(long, default_value = "guest", value_parser = name)]
    name: String,
    /// Opens a room of this name [default: lobby]; whatever is joined is then a public node.
    #[arg(long, value_parser = name)]
    room: Option<String>,
    /// Where the identity is kept; without it a new one is made for this run.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The address to listen on; without it, the loopback interface and the local networks' addresses with any free port.
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Chat by lines of standard input and output (the default when standard output is no terminal).
    #[arg(long)]
    plain: bool,
}

impl Args {
    /// Whether to chat by lines.
    fn is_plain(&self) -> bool {
        self.plain || !io::stdout().is_terminal()
    }
}

fn name(text: &str) -> Result<String, String> {
    clean::check_name(text).map(|()| text.to_owned())
}

/// A PeerRef, or an address whose owner is not known.
fn target(text: &str) -> Result<PeerRef, String> {
    let mut text = text.trim().trim_start_matches("chat --join").to_owned();
    text.retain(|c| !c.is_ascii_whitespace());
    match text.parse::<SocketAddr>() {
        Ok(address) => {
            AddressRef::new([address]).map(PeerRef::Addresses).map_err(|error| error.to_string())
        }
        Err(_) => text.parse::<PeerRef>().map_err(|error| error.to_string()),
    }
}

#[webmesh::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(log_filter())
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        // Where a record can't be written, neither can that, and trying panics.
        .log_internal_errors(false)
        .init();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // It may quote what another program said.
            complain(clean::text(&format!("chat: {error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// What `RUST_LOG` says; errors alone if it says nothing, lest they disturb the chat.
fn log_filter() -> EnvFilter {
    let default = || EnvFilter::new("error");
    let Some(text) = std::env::var_os("RUST_LOG").filter(|text| !text.is_empty()) else {
        return default();
    };
    let text = text.to_string_lossy();
    EnvFilter::try_new(&text).unwrap_or_else(|error| {
        complain(format!("chat: RUST_LOG={text} is ignored: {error}"));
        default()
    })
}

async fn run(args: Args) -> anyhow::Result<()> {
    let mut ending = Ending::listen(!args.is_plain()).context("signals cannot be heard")?;
    let mut builder = Mesh::builder().peer_gone_after(PEER_GONE_AFTER);
    if let Some(dir) = &args.data {
        builder = builder.data_dir(dir);
    }
    if let Some(address) = args.listen {
        builder = builder.listen(address);
    }
    if let Some(sessions) = args.rendezvous {
        builder = builder.rendezvous(sessions);
    }
    let mesh = tokio::select! {
        mesh = builder.start() => mesh.map_err(|why| anyhow!("the node did not start: {why}"))?,
        () = ending.asked() => return Ok(()),
    };
    let result = chat(&mesh, &args, &mut ending).await;
    tokio::select! {
        () = mesh.shutdown() => {}
        // Asked again: at once then.
        () = ending.asked() => {}
    }
    result
}

/// Enters or opens a room and chats, until one wants to leave, the room is lost (an error), or the program is asked to
/// end.
async fn chat(mesh: &Mesh, args: &Args, ending: &mut Ending) -> anyhow::Result<()> {
    let entered = tokio::select! {
        entered = enter(mesh, args) => entered?,
        // Nobody was told more than that somebody dials.
        () = ending.asked() => return Ok(()),
    };
    let Entered { seat, welcome, news, invite, notes } = entered;
    let out = Printer::start(io::stdout)?;
    let face = async {
        if !args.is_plain() {
            return tui::run(&seat, welcome, news, invite, notes).await;
        }
        for note in notes {
            complain(format!("chat: {note}"));
        }
        let greeting = match invite {
            Some(invite) => invite.clone(),
            None => format!("joined {}", welcome.room),
        };
        plain::run(&seat, greeting, welcome, news, &out).await.map(Left::LostRoom)
    };
    let left = tokio::select! {
        left = face => left,
        () = ending.asked() => Ok(Left::Room),
    };
    if let Ok(Left::LostRoom(why)) = left {
        anyhow::bail!(why);
    }
    let goodbye = async {
        // Whether the room still hears it or not: we go. Also when the terminal is gone, for the others need not wonder.
        let _ = tokio::time::timeout(GOODBYE_MAX, seat.leave()).await;
        let _ = tokio::time::timeout(LAST_LINES_MAX, out.written()).await;
    };
    tokio::select! {
        () = goodbye => {}
        () = ending.asked() => {}
    }
    left.map(drop)
}

/// How a face ends, other than by an error of its own.
enum Left {
    /// One wants to leave.
    Room,
    /// There is no room any more, for this reason.
    LostRoom(String),
}

/// What one has who is in a room.
struct Entered {
    seat: Seat,
    welcome: Welcome,
    news: mpsc::Receiver<News>,
    /// The command by which others get into the room, if it is here.
    invite: Option<String>,
    /// What turned out otherwise than one may have expected.
    notes: Vec<String>,
}

async fn enter(mesh: &Mesh, args: &Args) -> anyhow::Result<Entered> {
    let (invited, nodes) = match &args.room {
        Some(_) => (None, args.join.clone()),
        None => sort(mesh, &args.join).await?,
    };
    for node in &nodes {
        mesh.join(node.clone())?;
    }
    let mut notes = Vec::new();
    let (room, invite) = match invited {
        Some(room) => (room, None),
        None => {
            let name = args.room.as_deref().unwrap_or(DEFAULT_ROOM);
            let room = open(mesh, name).await?;
            tokio::time::timeout(ATTACHED_MAX, mesh.attached())
                .await
                .context("none of the nodes named by --join lets others reach this one")?;
            if args.room.is_none() && !nodes.is_empty() {
                notes.push(format!(
                    "there is no room where --join leads to; the room {name} was opened here"
                ));
            }
            (room, Some(format!("chat --join {}", mesh.peer_ref())))
        }
    };
    let (seat, welcome, news) = Seat::take(mesh, room, &args.name).await?;
    if welcome.name != args.name {
        notes.push(format!("the name {} is taken; you are {}", args.name, welcome.name));
    }
    Ok(Entered { seat, welcome, news, invite, notes })
}

async fn open(mesh: &Mesh, name: &str) -> anyhow::Result<ActorRef<Room>> {
    let name = name.to_owned();
    let room = mesh.spawn(move || room::RoomActor::new(name.clone()));
    mesh.publish(PUBLISHED_NAME, &room).allow(Anyone).await?;
    Ok(room)
}

/// Which of these is an invite: the room there, if there is one, and the other nodes.
async fn sort(
    mesh: &Mesh,
    joined: &[PeerRef],
) -> anyhow::Result<(Option<ActorRef<Room>>, Vec<PeerRef>)> {
    let (mut room, mut nodes) = (None, Vec::new());
    for target in joined {
        match mesh.resolve(PUBLISHED_NAME).at(target).await {
            Ok(found) if room.is_none() => room = Some(found),
            Ok(_) => anyhow::bail!("two of the invites lead to rooms: enter one at a time"),
            Err(ResolveError::Unknown) => nodes.push(target.clone()),
            Err(error) => return Err(error).context("the room cannot be reached"),
        }
    }
    Ok((room, nodes))
}
