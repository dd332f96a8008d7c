//! Texts of others, fit for one's own terminal and log.

use std::fmt::{self, Write};

/// Characters of an [`Excerpt`]. A guess: a name and why it is refused, on one or two lines of a terminal.
const EXCERPT_MAX: usize = 200;

/// The text without what moves a cursor or begins a new line: control characters are replaced by U+FFFD, and so are those that
/// separate lines or turn the direction of writing.
pub fn printable(text: &str) -> String {
    text.chars().map(plain).collect()
}

fn plain(c: char) -> char {
    // Line and paragraph separators; embeddings, overrides and isolates of direction (UAX #9).
    let shifts = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || shifts { char::REPLACEMENT_CHARACTER } else { c }
}

/// A text of others as it is written to a log: [`printable`], and its first 200 characters.
#[derive(Debug, Clone, Copy)]
pub struct Excerpt<'a>(pub &'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.chars();
        rest.by_ref().take(EXCERPT_MAX).try_for_each(|c| f.write_char(plain(c)))?;
        if rest.next().is_some() { f.write_char('…') } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        let hostile = "bye\x1b[2J\r\n\u{9b}31m \u{202e}\u{e9}\u{2028}\u{1f980}";
        let harmless = "bye\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}31m \u{fffd}\u{e9}\u{fffd}\u{1f980}";
        assert_eq!(printable(hostile), harmless);
        assert_eq!(Excerpt(hostile).to_string(), harmless);
    }

    #[test]
    fn an_excerpt_is_short_and_says_that_it_is_one() {
        assert_eq!(Excerpt(&"é".repeat(200)).to_string(), "é".repeat(200));
        assert_eq!(Excerpt(&"é".repeat(100_000)).to_string(), format!("{}…", "é".repeat(200)));
    }
}
