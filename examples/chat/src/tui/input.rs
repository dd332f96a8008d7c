//! The line that one writes.

use crate::{clean, protocol::TEXT_BYTES_MAX};
use ratatui::text::Span;

/// A text that can be posted as it is: clean, and no longer than the room takes.
#[derive(Default)]
pub(super) struct Input {
    text: String,
}

impl Input {
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Appends `c`; returns whether there was room.
    pub(super) fn push(&mut self, c: char) -> bool {
        if !clean::may_stand_in_text(c) {
            return true;
        }
        let fits = self.text.len() + c.len_utf8() <= TEXT_BYTES_MAX;
        if fits {
            self.text.push(c);
        }
        fits
    }

    /// Appends what was pasted, its lines as one; returns whether there was room for all.
    pub(super) fn paste(&mut self, pasted: &str) -> bool {
        // Some terminals send line ends as they stand, others as the key does.
        let pasted = pasted.trim_end_matches(['\r', '\n']).replace("\r\n", "\n");
        let is_gap = |c: char| matches!(c, '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}');
        pasted.chars().all(|c| self.push(if is_gap(c) { ' ' } else { c }))
    }

    pub(super) fn rub_out(&mut self) {
        self.text.pop();
    }

    /// Removes the last word and the blanks behind it.
    pub(super) fn rub_out_word(&mut self) {
        let words = self.text.trim_end();
        let kept = words.trim_end_matches(|c: char| !c.is_whitespace()).len();
        self.text.truncate(kept);
    }

    pub(super) fn clear(&mut self) {
        self.text.clear();
    }

    /// What is to be posted, if there is anything but blanks.
    pub(super) fn take(&mut self) -> Option<String> {
        (!self.text.trim().is_empty()).then(|| std::mem::take(&mut self.text))
    }

    /// Puts back what could not be posted, before what was written since; what is too long for a message is cut off.
    pub(super) fn put_back(&mut self, mut text: String) {
        if !self.text.is_empty() {
            text = format!("{text} {}", self.text);
        }
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        self.text = text;
    }

    /// The end of the text, which is where one writes: as much as fits into so many columns, and how many that takes.
    pub(super) fn tail(&self, columns: u16) -> (&str, u16) {
        let (mut begin, mut taken) = (self.text.len(), 0);
        for (at, c) in self.text.char_indices().rev() {
            let wider = taken + Span::raw(c.to_string()).width();
            if wider > usize::from(columns) {
                break;
            }
            (begin, taken) = (at, wider);
        }
        (&self.text[begin..], u16::try_from(taken).unwrap_or(columns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Input {
        let mut input = Input::default();
        assert!(input.paste(text));
        input
    }

    #[test]
    fn pasted_lines_become_one() {
        let input = with("one\r\ntwo\nthree\rfour\tfive\x1b[2J\u{202e}\n\n");
        assert_eq!(input.text, "one two three four five[2J");
    }

    #[test]
    fn a_paste_is_cut_to_what_the_room_takes() {
        let mut input = with("x");
        assert!(!input.paste(&"é".repeat(TEXT_BYTES_MAX)));
        assert_eq!(input.text.len(), TEXT_BYTES_MAX - 1);
        assert!(input.push('y') && !input.push('z'));
    }

    #[test]
    fn words_are_rubbed_out_one_by_one() {
        let mut input = with("ein zwei  drei ");
        for left in ["ein zwei  ", "ein ", "", ""] {
            input.rub_out_word();
            assert_eq!(input.text, left);
        }
    }

    #[test]
    fn the_end_of_a_long_text_is_shown() {
        assert_eq!(with("abcdef").tail(4), ("cdef", 4));
        assert_eq!(with("日本語").tail(5), ("本語", 4));
        assert_eq!(with("日本語").tail(0), ("", 0));
    }
}
