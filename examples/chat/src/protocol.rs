//! What a room and its members say to each other. What they promise here about lengths and numbers a hostile one may
//! break: who gets it makes sure, by `clean`.
//!
//! An application with clients of its own would keep this in a crate that they link without the room.

use serde::{Deserialize, Serialize};
use webmesh::{ActorRef, Message, Protocol, Reply};

/// The name under which every host publishes its room: an invite is then the host's PeerRef alone.
pub(crate) const PUBLISHED_NAME: &str = "chat/room";

/// Most members of one room: each line is sent to every one of them.
pub(crate) const MEMBERS_MAX: usize = 256;
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
    /// What was said: at most [`TEXT_BYTES_MAX`] bytes.
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
    /// Everybody present, the newcomer too: at most [`MEMBERS_MAX`].
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
