//! Chat by lines: what is said goes to standard output, each line of standard input is posted.

use crate::{
    member::{News, Seat},
    protocol::{Line, TEXT_BYTES_MAX, Welcome},
};
use std::{convert::Infallible, future::pending, io::Write};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, BufReader},
    sync::mpsc,
};

/// Runs until the room is lost (an error) or the program is asked to end. Standard input may end earlier: then this
/// goes on listening.
pub(crate) async fn run(
    seat: &Seat,
    welcome: Welcome,
    news: mpsc::Receiver<News>,
) -> anyhow::Result<()> {
    for line in &welcome.history {
        print_line(line)?;
    }
    // Side by side: who waits for an answer to what he said would miss what the others say.
    let never = tokio::select! {
        never = listen(news) => never?,
        never = speak(seat) => never,
    };
    match never {}
}

async fn listen(mut news: mpsc::Receiver<News>) -> anyhow::Result<Infallible> {
    loop {
        match news.recv().await {
            Some(News::Said(line)) => print_line(&line)?,
            Some(News::Presence(name, change)) => print(&format!("* {name} {change}"))?,
            Some(News::Over(why)) => anyhow::bail!("{why}"),
            None => anyhow::bail!("the member actor ended"),
        }
    }
}

async fn speak(seat: &Seat) -> Infallible {
    let mut input = BufReader::new(tokio::io::stdin());
    loop {
        let text = match next_line(&mut input).await {
            Ok(Some(text)) => text,
            Ok(None) => break,
            Err(why) => {
                eprintln!("chat: standard input can't be read: {why}");
                break;
            }
        };
        if text.trim().is_empty() {
            continue;
        }
        if let Err(why) = seat.post(text).await {
            eprintln!("not posted: {why}");
        }
    }
    pending().await
}

/// The next line, however it is encoded. Of one that is too long to be posted, only so much that it is still too long.
async fn next_line(input: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<String>> {
    let (mut line, mut begun) = (Vec::new(), false);
    loop {
        let piece = input.fill_buf().await?;
        if piece.is_empty() {
            return Ok(begun.then(|| String::from_utf8_lossy(&line).into_owned()));
        }
        begun = true;
        let end = piece.iter().position(|byte| *byte == b'\n');
        let room = (TEXT_BYTES_MAX + 1).saturating_sub(line.len());
        let text = &piece[..end.unwrap_or(piece.len())];
        line.extend_from_slice(&text[..text.len().min(room)]);
        let used = end.map_or(piece.len(), |end| end + 1);
        input.consume(used);
        if end.is_some() {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[webmesh::test(clock = "real")]
    async fn lines_of_any_bytes_and_any_length_are_read_one_by_one() {
        let long = [b'x'; 3 * TEXT_BYTES_MAX];
        let bytes = [b"one\r\n\xff two\n\n", &long[..], b"\nlast"].concat();
        let mut input = BufReader::with_capacity(7, &bytes[..]);
        let mut lines = Vec::new();
        while let Some(line) = next_line(&mut input).await.unwrap() {
            lines.push(line);
        }
        assert_eq!(lines[..3], ["one", "\u{fffd} two", ""]);
        assert_eq!(lines[3].len(), TEXT_BYTES_MAX + 1, "still too long to be posted");
        assert_eq!(lines[4..], ["last"]);
    }
}
