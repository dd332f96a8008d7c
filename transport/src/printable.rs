//! Texts of others, fit for one's own terminal and log.

/// The text without what moves a cursor or begins a new line: control characters are replaced by U+FFFD.
pub fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        assert_eq!(
            printable("bye\x1b[2J\r\n\u{9b}31m \u{e9}\u{1f980}"),
            "bye\u{fffd}[2J\u{fffd}\u{fffd}\u{fffd}31m \u{e9}\u{1f980}"
        );
    }
}
