//! What was said, as the history pane shows it: wrapped to its width, seen through a window that can be moved back.

use ratatui::{
    text::Line,
    widgets::{Paragraph, Wrap},
};
use std::collections::VecDeque;

/// Lines that can be scrolled back to.
const LINES_MAX: usize = 2_000;

/// Bytes that can be scrolled back to: 256 of the longest texts. (The lines alone would allow 8 MiB.)
const BYTES_MAX: usize = 1024 * 1024;

struct Entry {
    line: Line<'static>,
    /// Of its text.
    bytes: usize,
    /// The width to which it was wrapped last, and the rows that it then took: each line is wrapped once for a width, not
    /// for each picture.
    wrapped: Option<(u16, usize)>,
}

impl Entry {
    fn rows(&mut self, width: u16) -> usize {
        match self.wrapped {
            Some((known, rows)) if known == width => rows,
            _ => {
                let rows = paragraph(vec![self.line.clone()]).line_count(width);
                self.wrapped = Some((width, rows));
                rows
            }
        }
    }
}

/// As lines are wrapped, when they are counted and when they are shown.
fn paragraph(lines: Vec<Line<'_>>) -> Paragraph<'_> {
    Paragraph::new(lines).wrap(Wrap { trim: false })
}

/// The last lines, and where one looks at them.
#[derive(Default)]
pub(super) struct Scrollback {
    entries: VecDeque<Entry>,
    /// Of all entries.
    bytes: usize,
    /// Of the window when it was last shown.
    width: u16,
    /// Rows between the end and what is shown.
    scrolled: usize,
}

impl Scrollback {
    /// Adds a line at the end. Who looks at earlier ones goes on seeing them.
    pub(super) fn add(&mut self, line: Line<'static>) {
        let bytes = line.spans.iter().map(|span| span.content.len()).sum();
        let mut entry = Entry { line, bytes, wrapped: None };
        if self.scrolled > 0 {
            self.scrolled += entry.rows(self.width);
        }
        self.bytes += bytes;
        self.entries.push_back(entry);
        while self.entries.len() > LINES_MAX || (self.bytes > BYTES_MAX && self.entries.len() > 1) {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.bytes;
        }
    }

    /// Looks so many rows further back; [`Self::window`] keeps to what there is.
    pub(super) fn back(&mut self, rows: usize) {
        self.scrolled = self.scrolled.saturating_add(rows);
    }

    /// Looks so many rows further on, at most to the end.
    pub(super) fn on(&mut self, rows: usize) {
        self.scrolled = self.scrolled.saturating_sub(rows);
    }

    /// Looks at the end.
    pub(super) fn go_to_end(&mut self) {
        self.scrolled = 0;
    }

    /// What a window of this size shows. It walks from the newest line backwards, no further than it has to, and hands
    /// out only the lines of which a row is seen: the rest need not be wrapped.
    pub(super) fn window(&mut self, width: u16, height: u16) -> Paragraph<'_> {
        self.width = width;
        if width == 0 || height == 0 {
            return paragraph(Vec::new());
        }
        let height = usize::from(height);
        let wanted = height.saturating_add(self.scrolled);
        let (mut first, mut rows) = (self.entries.len(), 0);
        for entry in self.entries.iter_mut().rev() {
            if rows >= wanted {
                break;
            }
            rows += entry.rows(width);
            first -= 1;
        }
        self.scrolled = self.scrolled.min(rows.saturating_sub(height));
        // Rows of the first line above the window: fewer than the line has, and a u16 is enough for those.
        let above = rows.saturating_sub(height + self.scrolled);
        let (mut lines, mut left) = (Vec::new(), above + height);
        for entry in self.entries.iter_mut().skip(first) {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(entry.rows(width));
            lines.push(entry.line.clone());
        }
        paragraph(lines).scroll((u16::try_from(above).unwrap_or(u16::MAX), 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::{buffer::Buffer, layout::Rect, widgets::Widget};

    fn shown(scrollback: &mut Scrollback, width: u16, height: u16) -> Vec<String> {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        scrollback.window(width, height).render(area, &mut buffer);
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| row(y).trim_end().to_owned()).collect()
    }

    fn of(lines: impl IntoIterator<Item = String>) -> Scrollback {
        let mut scrollback = Scrollback::default();
        lines.into_iter().for_each(|line| scrollback.add(Line::from(line)));
        scrollback
    }

    #[test]
    fn the_newest_is_at_the_bottom_and_the_window_moves_no_further_than_there_are_rows() {
        let mut scrollback = of((0..5).map(|number| number.to_string()));
        assert_eq!(shown(&mut scrollback, 10, 3), ["2", "3", "4"]);
        scrollback.back(1);
        assert_eq!(shown(&mut scrollback, 10, 3), ["1", "2", "3"]);
        scrollback.back(usize::MAX);
        assert_eq!(shown(&mut scrollback, 10, 3), ["0", "1", "2"]);
        scrollback.on(1);
        assert_eq!(shown(&mut scrollback, 10, 3), ["1", "2", "3"]);
        scrollback.go_to_end();
        assert_eq!(shown(&mut scrollback, 10, 7), ["0", "1", "2", "3", "4", "", ""]);
    }

    #[test]
    fn more_rows_than_sixteen_bits_count_show_the_newest_and_scroll_to_the_oldest() {
        let long = |number| format!("{number:03}{}", "x".repeat(3_997));
        // In a window of three columns each takes 1,334 rows: 133,400 together.
        let mut scrollback = of((0..100).map(long));
        scrollback.add(Line::from("end"));
        assert_eq!(shown(&mut scrollback, 3, 3), ["xxx", "x", "end"]);
        scrollback.back(100 * 1_334);
        assert_eq!(shown(&mut scrollback, 3, 3), ["000", "xxx", "xxx"]);
        scrollback.on(1_334 - 2);
        assert_eq!(shown(&mut scrollback, 3, 3), ["xxx", "x", "001"]);
    }

    #[test]
    fn a_line_longer_than_the_window_is_seen_in_parts() {
        let mut scrollback = of(["abcdefghijkl".to_owned()]);
        assert_eq!(shown(&mut scrollback, 3, 2), ["ghi", "jkl"]);
        scrollback.back(1);
        assert_eq!(shown(&mut scrollback, 3, 2), ["def", "ghi"]);
        scrollback.back(9);
        assert_eq!(shown(&mut scrollback, 3, 2), ["abc", "def"]);
    }

    #[test]
    fn wide_characters_and_words_are_counted_as_they_are_shown() {
        let mut scrollback = of(["日本語".to_owned(), "one two".to_owned(), "end".to_owned()]);
        // Each of these is two columns wide; behind each is a hidden cell.
        let rows = shown(&mut scrollback, 4, 5).join("\n").replace("日 ", "日");
        assert_eq!(rows, "日本\n語\none\ntwo\nend");
        for width in 1..20 {
            let shown = shown(&mut scrollback, width, 5).concat();
            assert!(shown.ends_with("end"), "{width}: {shown}");
        }
    }

    #[test]
    fn a_window_of_any_size_is_drawn() {
        for (width, height) in [(0, 0), (0, 5), (5, 0), (1, 1), (1, 30), (u16::MAX, 2)] {
            let mut scrollback = of(["<ann> 日本語 hello".to_owned(), String::new()]);
            scrollback.back(7);
            assert_eq!(shown(&mut scrollback, width, height).len(), usize::from(height));
        }
    }

    #[test]
    fn who_looks_back_goes_on_seeing_the_same_while_others_speak() {
        let mut scrollback = of((0..20).map(|number| number.to_string()));
        shown(&mut scrollback, 10, 3);
        scrollback.back(5);
        let before = shown(&mut scrollback, 10, 3);
        assert_eq!(before, ["12", "13", "14"]);
        scrollback.add(Line::from("three rows, as long as it is"));
        assert_eq!(shown(&mut scrollback, 10, 3), before);
        // As many as push the oldest out.
        (0..LINES_MAX - 15).for_each(|_| scrollback.add(Line::from("more")));
        assert_eq!(shown(&mut scrollback, 10, 3), before);
    }

    #[test]
    fn what_is_kept_is_bounded_by_lines_and_by_bytes() {
        let long = of((0..1_000).map(|_| "x".repeat(4_096)));
        assert_eq!((long.entries.len(), long.bytes), (BYTES_MAX / 4_096, BYTES_MAX));
        let short = of((0..3_000).map(|_| "x".to_owned()));
        assert_eq!((short.entries.len(), short.bytes), (LINES_MAX, LINES_MAX));
    }

    #[test]
    fn only_what_is_seen_is_wrapped() {
        let mut scrollback = of((0..1_000).map(|number| format!("{number} of many words")));
        shown(&mut scrollback, 6, 10);
        let wrapped = scrollback.entries.iter().filter(|entry| entry.wrapped.is_some()).count();
        assert!(wrapped <= 10, "{wrapped}");
    }
}
