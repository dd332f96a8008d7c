//! Chat by lines: what is said goes to standard output, each line of standard input is posted.

use crate::{
    member::{News, Seat},
    protocol::{Line, Welcome},
};
use std::io::Write;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::mpsc,
};

/// Runs until the room is lost (an error) or the program is asked to end. Standard input may end earlier: then this
/// goes on listening.
pub(crate) async fn run(
    seat: &Seat,
    welcome: Welcome,
    mut news: mpsc::Receiver<News>,
) -> anyhow::Result<()> {
    for line in &welcome.history {
        print_line(line)?;
    }
    let mut input = BufReader::new(tokio::io::stdin()).lines();
    let mut reading = true;
    loop {
        tokio::select! {
            item = news.recv() => match item {
                Some(News::Said(line)) => print_line(&line)?,
                Some(News::Presence(name, change)) => print(&format!("* {name} {change}"))?,
                Some(News::RoomLost(why)) => anyhow::bail!("the room is gone: {why}"),
                None => anyhow::bail!("the member actor ended"),
            },
            line = input.next_line(), if reading => match line? {
                Some(text) if text.trim().is_empty() => {}
                Some(text) => {
                    if let Err(why) = seat.post(text).await {
                        eprintln!("not posted: {why}");
                    }
                }
                None => reading = false,
            },
        }
    }
}

fn print_line(line: &Line) -> std::io::Result<()> {
    print(&format!("<{}> {}", line.name, line.text))
}

/// Prints one line at once, also into a pipe.
pub(crate) fn print(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
