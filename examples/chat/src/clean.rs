//! What a terminal may be given of what others say.
//!
//! Neither side trusts the other: the room cleans what members post, and a member cleans what it gets from the room, for
//! the room is a program on somebody else's machine. Whatever comes from there passes [`welcome`], [`line()`], [`name`] or
//! [`text`] once, in `member`; both faces get clean things only.

use crate::protocol::{
    HISTORY_LINES_MAX, Line, MEMBERS_MAX, NAME_CHARS_MAX, TEXT_BYTES_MAX, Welcome,
};

/// What the room puts behind a name that is taken: a dash and up to three digits, for it has at most [`MEMBERS_MAX`]
/// members.
const NUMBER_CHARS_MAX: usize = 4;

/// Stands for a name of which nothing is left.
const NAMELESS: &str = "?";

/// Whether `c` selects a variant of the character before it, as the emoji of a heart instead of its sign: invisible, but
/// meant for texts. Variation_Selector in PropList.txt of the Unicode Character Database.
fn selects_a_variant(c: char) -> bool {
    matches!(c, '\u{180b}'..='\u{180d}' | '\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

/// Whether `c` is by itself nothing that one sees. Default_Ignorable_Code_Point in DerivedCoreProperties.txt of the
/// Unicode Character Database, among them everything that turns the direction of writing and everything of no width.
fn is_ignorable(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}')
        || matches!(c, '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
        || matches!(c, '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}')
        || matches!(c, '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Whether `c` is blank or means something to a program only, though Unicode does not call it ignorable or white space:
/// the marks of annotations, the Braille pattern without dots, the filler of Khitan, the note without a head.
fn is_blank(c: char) -> bool {
    matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{2800}' | '\u{16fe4}' | '\u{1d159}')
}

/// Whether `c` may stand in a text: not what a terminal obeys (C0, C1, DEL), what breaks or turns lines, or what is of no
/// width. (Emoji that are joined by U+200D fall into their parts.)
pub(crate) fn may_stand_in_text(c: char) -> bool {
    let breaks_lines = matches!(c, '\u{2028}' | '\u{2029}');
    let annotates = matches!(c, '\u{fff9}'..='\u{fffb}');
    !(c.is_control() || breaks_lines || annotates || (is_ignorable(c) && !selects_a_variant(c)))
}

/// Whether `c` may stand in a name: what may stand in a text, and can be seen, and leaves no doubt about where the name
/// in `<name> text` ends.
fn may_stand_in_name(c: char) -> bool {
    !(c.is_control()
        || c.is_whitespace()
        || is_ignorable(c)
        || is_blank(c)
        || matches!(c, '<' | '>'))
}

/// `text` without what may not stand in one (a tab becomes a space), cut at a character within [`TEXT_BYTES_MAX`].
pub(crate) fn text(text: &str) -> String {
    let spaced = text.chars().map(|c| if c == '\t' { ' ' } else { c });
    let mut clean = String::new();
    for c in spaced.filter(|c| may_stand_in_text(*c)) {
        if clean.len() + c.len_utf8() > TEXT_BYTES_MAX {
            break;
        }
        clean.push(c);
    }
    clean
}

/// The name of a member or a room as it may be shown, whatever the room says it is.
pub(crate) fn name(name: &str) -> String {
    let fit = name.chars().filter(|c| may_stand_in_name(*c));
    let clean: String = fit.take(NAME_CHARS_MAX + NUMBER_CHARS_MAX).collect();
    if clean.is_empty() { NAMELESS.to_owned() } else { clean }
}

/// A line as it may be shown.
pub(crate) fn line(line: Line) -> Line {
    Line { number: line.number, name: name(&line.name), text: text(&line.text) }
}

/// A welcome as it may be shown: of too many members the first, of too long a history the end.
pub(crate) fn welcome(welcome: Welcome) -> Welcome {
    let beyond = welcome.history.len().saturating_sub(HISTORY_LINES_MAX);
    Welcome {
        room: name(&welcome.room),
        name: name(&welcome.name),
        seat: welcome.seat,
        members: welcome.members.iter().take(MEMBERS_MAX).map(|member| name(member)).collect(),
        history: welcome.history.into_iter().skip(beyond).map(line).collect(),
    }
}

/// Whether one may go by `name`, or call a room so.
///
/// # Errors
/// What a name has to be.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
        return Err(format!("a name has 1 to {NAME_CHARS_MAX} characters"));
    }
    if !name.chars().all(may_stand_in_name) {
        return Err("a name has no spaces, control or invisible characters, '<' or '>'".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind: C0, C1, DEL, line ends, turners of direction, what has no width.
    const HARMFUL: [char; 22] = [
        '\0', '\x07', '\x1b', '\n', '\r', '\x7f', '\u{85}', '\u{9b}', '\u{ad}', '\u{61c}',
        '\u{200b}', '\u{200d}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}', '\u{202a}',
        '\u{202e}', '\u{2060}', '\u{2066}', '\u{2069}', '\u{feff}',
    ];

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(text("a\x1b[2Jb\r\n"), "a[2Jb");
        assert_eq!(text("a\u{9b}2J\tb \u{202e}c\u{2028}"), "a2J b c");
        for c in HARMFUL {
            assert_eq!(text(&format!("a{c}b")), "ab", "{c:?}");
            assert_eq!(name(&format!("a{c}b")), "ab", "{c:?}");
        }
    }

    #[test]
    fn writings_and_emoji_stay() {
        for said in ["naïve 日本語 🙂 ❤\u{fe0f} שלום नमस्ते", "葛\u{e0100}", "a\u{301}"]
        {
            assert_eq!(text(said), said);
        }
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(text(&"é".repeat(TEXT_BYTES_MAX)).len(), TEXT_BYTES_MAX);
        assert_eq!(text(&format!("x{}", "é".repeat(TEXT_BYTES_MAX))).len(), TEXT_BYTES_MAX - 1);
    }

    #[test]
    fn a_name_cannot_pass_for_another_line() {
        assert!(check_name("bob").is_ok() && check_name("Zoë").is_ok());
        for bad in ["", "a> b", "two words", "x\n", "x\u{202e}", "x\u{200b}", &"n".repeat(33)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_cannot_look_empty_or_like_another() {
        let unseen = [
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{17b4}',
            '\u{180b}',
            '\u{180f}',
            '\u{2800}',
            '\u{3000}',
            '\u{3164}',
            '\u{fe0f}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{1d159}',
            '\u{1d173}',
            '\u{1bca0}',
            '\u{e0001}',
            '\u{e0100}',
        ];
        for c in unseen.into_iter().chain(HARMFUL) {
            assert!(check_name(&c.to_string()).is_err(), "{c:?}");
            assert!(check_name(&format!("bob{c}")).is_err(), "{c:?}");
            assert_eq!(name(&c.to_string()), NAMELESS, "{c:?}");
        }
    }

    #[test]
    fn what_a_host_hands_out_is_bounded() {
        let said = |number| Line { number, name: "n".repeat(1000), text: "t".repeat(10_000) };
        let clean = welcome(Welcome {
            room: "r".repeat(1000),
            name: "<\x1b[2J> ".into(),
            seat: 7,
            members: vec!["m\n".into(); 10_000],
            history: (0..1000).map(said).collect(),
        });
        assert_eq!(clean.room.len(), NAME_CHARS_MAX + NUMBER_CHARS_MAX);
        assert_eq!(clean.name, "[2J");
        assert_eq!(clean.members, vec!["m"; MEMBERS_MAX]);
        assert_eq!(clean.history.len(), HISTORY_LINES_MAX);
        assert_eq!(clean.history.last().unwrap().number, 999);
        assert!(clean.history.iter().all(|line| line.text.len() == TEXT_BYTES_MAX));
        assert!(clean.history.iter().all(|line| line.name.len() == clean.room.len()));
    }
}
