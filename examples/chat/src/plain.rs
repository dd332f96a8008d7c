//! Chat by lines: what is said goes to standard output, each line of standard input is posted.

use crate::{
    member::{BACK, News, Seat},
    printer::Printer,
    protocol::{Line, TEXT_BYTES_MAX, Welcome},
};
use std::{convert::Infallible, future::pending, io};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, BufReader},
    sync::mpsc,
};

/// Prints the greeting, the history and what happens until the room is lost, and returns why it was. Standard input may
/// end earlier: then this goes on listening.
///
/// # Errors
/// If standard output cannot be written.
pub(crate) async fn run(
    seat: &Seat,
    greeting: String,
    welcome: Welcome,
    news: mpsc::Receiver<News>,
    out: &Printer,
) -> anyhow::Result<String> {
    let complaints = Printer::start(io::stderr)?;
    out.print(greeting).await?;
    for line in &welcome.history {
        print_line(out, line).await?;
    }
    // Side by side: who waits for an answer to what he said would miss what the others say.
    let why = tokio::select! {
        why = listen(news, out) => why?,
        why = out.broken() => return Err(why.into()),
        never = speak(seat, &complaints) => match never {},
    };
    out.written().await;
    Ok(why)
}

async fn listen(mut news: mpsc::Receiver<News>, out: &Printer) -> io::Result<String> {
    loop {
        match news.recv().await {
            Some(News::Said(line)) => print_line(out, &line).await?,
            Some(News::Presence(name, change)) => out.print(format!("* {name} {change}")).await?,
            Some(News::Back(_)) => out.print(format!("* {BACK}")).await?,
            Some(News::Over(why)) => return Ok(why),
            None => return Ok("the member actor ended".to_owned()),
        }
    }
}

async fn speak(seat: &Seat, complaints: &Printer) -> Infallible {
    let mut input = BufReader::new(tokio::io::stdin());
    // That standard error can't be written ends nobody's chat: the results of `print` are of no interest.
    loop {
        let text = match next_line(&mut input).await {
            Ok(Some(text)) => text,
            Ok(None) => break,
            Err(why) => {
                let _ =
                    complaints.print(format!("chat: standard input can't be read: {why}")).await;
                break;
            }
        };
        if text.trim().is_empty() {
            continue;
        }
        if let Err(why) = seat.post(text).await {
            let _ = complaints.print(why.to_string()).await;
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

async fn print_line(out: &Printer, line: &Line) -> io::Result<()> {
    out.print(format!("<{}> {}", line.name, line.text)).await
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
