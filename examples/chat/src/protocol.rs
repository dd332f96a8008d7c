//! What a room and its members say to each other.
//!
//! An application with clients of its own would keep this in a crate that they link without the room.

use serde::{Deserialize, Serialize};
use webmesh::{ActorRef, Message, Protocol, Reply};

/// The name under which every host publishes its room: an invite is then the host's PeerRef alone.
pub(crate) const PUBLISHED_NAME: &str = "chat/room";

/// Longest accepted message, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 4096;
/// Longest accepted name of a member or a room, in characters.
pub(crate) const NAME_CHARS_MAX: usize = 32;
/// Lines that a late comer gets: with [`TEXT_BYTES_MAX`] this bounds the reply to a join at about 420 KiB.
pub(crate) const HISTORY_LINES_MAX: usize = 100;

/// What somebody said, in the order of the room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Grows by one with each line of the room.
    pub(crate) number: u64,
    /// Who said it.
    pub(crate) name: String,
    /// What was said: at most [`TEXT_BYTES_MAX`] bytes, no control characters.
    pub(crate) text: String,
}

/// What a new member is told.
#[derive(Debug, Serialize, Deserialize, Reply)]
pub(crate) struct Welcome {
    /// The name of the room.
    pub(crate) room: String,
    /// The name that the newcomer goes by: the one asked for, or with a number behind it where that was taken.
    pub(crate) name: String,
    /// What the newcomer posts with.
    pub(crate) seat: u64,
    /// Everybody present, the newcomer too.
    pub(crate) members: Vec<String>,
    /// The last lines, at most [`HISTORY_LINES_MAX`].
    pub(crate) history: Vec<Line>,
}

/// Enters the room.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(id = "chat.join", reply = Result<Welcome, String>)]
pub(crate) struct Join {
    /// The name wished for.
    pub(crate) name: String,
    /// Where the room sends what is said.
    pub(crate) member: ActorRef<Member>,
}

/// Says something; answered with the line's number.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(id = "chat.post", reply = Result<u64, String>)]
pub(crate) struct Post {
    /// From [`Welcome::seat`].
    pub(crate) seat: u64,
    /// What is said.
    pub(crate) text: String,
}

/// Leaves the room.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(id = "chat.leave")]
pub(crate) struct Leave {
    /// From [`Welcome::seat`].
    pub(crate) seat: u64,
}

/// A room, as its members hold it.
#[derive(Debug, Protocol)]
#[protocol(id = "webmesh.example.chat.room/1", accepts(Join, Post, Leave))]
pub(crate) struct Room;

/// Somebody said something.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(id = "chat.said")]
pub(crate) struct Said {
    /// What was said.
    pub(crate) line: Line,
}

/// Somebody came or went.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(id = "chat.presence")]
pub(crate) struct Presence {
    /// Who.
    pub(crate) name: String,
    /// What happened.
    pub(crate) change: Change,
}

/// The room shows a member the door, for it did not keep up. Nothing that is said later gets there.
#[derive(Debug, Serialize, Deserialize, Message)]
#[message(id = "chat.dismissed")]
pub(crate) struct Dismissed;

/// How the company of a room changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// Entered.
    Joined,
    /// Said goodbye.
    Left,
    /// Is gone without a goodbye: its program crashed or its network failed.
    Lost,
    /// Did not keep up with what is said, and was shown the door.
    TooSlow,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Change::Joined => "joined",
            Change::Left => "left",
            Change::Lost => "was lost",
            Change::TooSlow => "was too slow and had to go",
        })
    }
}

/// A member, as the room holds it.
#[derive(Debug, Protocol)]
#[protocol(id = "webmesh.example.chat.member/1", accepts(Said, Presence, Dismissed))]
pub(crate) struct Member;

/// Whether `c` would change how what stands around it is shown: a terminal obeys control characters, and the marks of
/// Unicode that turn the direction of writing or break lines make one line pass for another.
fn changes_others(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether `c` can't be seen, so that two names would look the same. (Texts may have them: emoji are joined by some.)
fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200d}'
    ) || matches!(c, '\u{2060}'..='\u{2065}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}')
        || matches!(c, '\u{e0000}'..='\u{e0fff}')
}

/// `text` without what would change how others are shown (a tab becomes a space), cut at a character within `bytes_max`.
pub(crate) fn printable(text: &str, bytes_max: usize) -> String {
    let spaced = text.chars().map(|c| if c == '\t' { ' ' } else { c });
    let mut clean: String = spaced.filter(|c| !changes_others(*c)).collect();
    while clean.len() > bytes_max {
        clean.pop();
    }
    clean
}

/// Whether `name` can stand in `<name> text` without doubt about where it ends.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
        return Err(format!("a name has 1 to {NAME_CHARS_MAX} characters"));
    }
    let bad =
        |c: char| changes_others(c) || is_invisible(c) || c.is_whitespace() || c == '<' || c == '>';
    if name.chars().any(bad) {
        return Err("a name has no spaces, control or invisible characters, '<' or '>'".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\n", 100), "a[2Jb");
        assert_eq!(printable("a\u{9b}2J\tb \u{202e}c\u{2028}", 100), "a2J b c");
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        assert_eq!(printable("ééé", 5), "éé");
    }

    #[test]
    fn a_name_cannot_pass_for_another_line() {
        assert!(check_name("bob").is_ok());
        for bad in ["", "a> b", "two words", "x\n", "x\u{202e}", "x\u{200b}", &"n".repeat(33)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
