//! One's own presence in a room: an actor that the room calls, and the handle that posts. Whatever the room says passes
//! `clean` here.

use crate::{
    clean,
    protocol::{Change, Dismissed, Join, Leave, Line, Member, Post, Presence, Room, Said, Welcome},
};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::mpsc;
use webmesh::{
    ActorRef, AskError, Down, Event, Mesh, RemoteActor, WatchEvent, prelude::*, this, watch_events,
};

/// News that wait for the screen; when it is slower, the room's messages wait in line behind them.
const NEWS_MAX: usize = 256;

/// What happens in the room, in the order of its happening; clean.
#[derive(Debug)]
pub(crate) enum News {
    /// Somebody (perhaps oneself) said something.
    Said(Line),
    /// Somebody came or went.
    Presence(String, Change),
    /// The room was started anew, empty, and one is in it again.
    Back(Welcome),
    /// There will be no more news, for this reason.
    Over(String),
}

/// What members are told who are back in a room.
pub(crate) const BACK: &str = "the room failed and was started anew; what was said before is gone";

/// How long the way back into a room that was started anew may take. A guess, as long as an ask of a far actor is worth waiting for.
const BACK_WITHIN: Duration = Duration::from_secs(10);

#[derive(RemoteActor)]
#[remote(serves(Member))]
struct MemberActor {
    room: ActorRef<Room>,
    news: mpsc::Sender<News>,
    /// The name to go by, and what one posts with.
    name: String,
    seat: Arc<AtomicU64>,
}

impl MemberActor {
    /// Hands on one piece of news; the next message waits until it was taken.
    fn report(&self, news: News) -> AtomicResponse<Self, ()> {
        let sender = self.news.clone();
        let hand_on = async move {
            // Nobody listens any more: the program is about to end.
            let _ = sender.send(news).await;
        };
        AtomicResponse::new(Box::pin(hand_on.into_actor(self)))
    }
}

impl Actor for MemberActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        watch_events(ctx, &self.room);
    }
}

/// After a panic a room knows nobody any more: whoever was in it joins again.
impl Handler<WatchEvent> for MemberActor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, event: WatchEvent, ctx: &mut Context<Self>) -> Self::Result {
        if !matches!(event.event, Event::Restarted { .. }) {
            return AtomicResponse::new(Box::pin(std::future::ready(()).into_actor(self)));
        }
        let join = Join { name: self.name.clone(), member: this(ctx) };
        let answer = self.room.ask(join).timeout(BACK_WITHIN);
        let (sender, seat) = (self.news.clone(), self.seat.clone());
        // What the room says to its new member is handled after the welcome.
        let back = async move {
            let news = match answer.await {
                Ok(Ok(welcome)) => {
                    let welcome = clean::welcome(welcome);
                    seat.store(welcome.seat, Ordering::Relaxed);
                    News::Back(welcome)
                }
                Ok(Err(why)) => {
                    let why = clean::text(&why);
                    News::Over(format!("the room was started anew and does not let you in: {why}"))
                }
                // It has panicked again, and tells so again.
                Err(AskError::Panicked) => return,
                Err(why) => {
                    let why = clean::text(&why.to_string());
                    News::Over(format!("the room was started anew and is not reached: {why}"))
                }
            };
            let _ = sender.send(news).await;
        };
        AtomicResponse::new(Box::pin(back.into_actor(self)))
    }
}

impl Handler<Said> for MemberActor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, said: Said, _: &mut Context<Self>) -> Self::Result {
        self.report(News::Said(clean::line(said.line)))
    }
}

impl Handler<Presence> for MemberActor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, presence: Presence, _: &mut Context<Self>) -> Self::Result {
        self.report(News::Presence(clean::name(&presence.name), presence.change))
    }
}

impl Handler<Down> for MemberActor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, down: Down, _: &mut Context<Self>) -> Self::Result {
        self.report(News::Over(clean::text(&format!("the room is gone: {}", down.reason))))
    }
}

impl Handler<Dismissed> for MemberActor {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, _: Dismissed, _: &mut Context<Self>) -> Self::Result {
        self.report(News::Over("you did not keep up with what is said, and had to go".to_owned()))
    }
}

/// A seat in a room.
pub(crate) struct Seat {
    room: ActorRef<Room>,
    seat: Arc<AtomicU64>,
}

/// Why something was not posted, clean.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unposted {
    /// Nobody has got it.
    Refused(String),
    /// It may have been posted, or may yet be.
    Unknown(String),
}

impl From<AskError> for Unposted {
    fn from(error: AskError) -> Self {
        let why = clean::text(&error.to_string());
        match error {
            AskError::NoSuchActor
            | AskError::WrongProtocol
            | AskError::UnknownMessage
            | AskError::BadPayload(_)
            | AskError::Unencodable(_)
            | AskError::Connect(_)
            | AskError::LostTells { .. }
            | AskError::NotReached
            | AskError::Quarantined { .. }
            | AskError::Unbound
            | AskError::ShutDown
            | AskError::Unsupported => Self::Refused(why),
            // The handler had it, or may have had it: docs/guarantees.md.
            _ => Self::Unknown(why),
        }
    }
}

impl fmt::Display for Unposted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "not posted: {why}"),
            Self::Unknown(why) => write!(f, "perhaps posted, perhaps not: {why}"),
        }
    }
}

impl Seat {
    /// Enters `room` under `name`. The welcome is clean.
    pub(crate) async fn take(
        mesh: &Mesh,
        room: ActorRef<Room>,
        name: &str,
    ) -> anyhow::Result<(Seat, Welcome, mpsc::Receiver<News>)> {
        let (news, receiver) = mpsc::channel(NEWS_MAX);
        let seat = Arc::new(AtomicU64::new(0));
        let member = mesh.spawn({
            let (room, name, seat) = (room.clone(), name.to_owned(), seat.clone());
            move || MemberActor {
                room: room.clone(),
                news: news.clone(),
                name: name.clone(),
                seat: seat.clone(),
            }
        });
        let join = Join { name: name.to_owned(), member };
        let answer = room.ask(join).await.map_err(|why| clean::text(&why.to_string()));
        let welcome = match answer.map_err(anyhow::Error::msg)? {
            Ok(welcome) => clean::welcome(welcome),
            Err(why) => anyhow::bail!("the room does not let you in: {}", clean::text(&why)),
        };
        seat.store(welcome.seat, Ordering::Relaxed);
        Ok((Seat { room, seat }, welcome, receiver))
    }

    /// Says something; an error says why the room did not take it, or that nobody knows.
    pub(crate) async fn post(&self, text: String) -> Result<(), Unposted> {
        let seat = self.seat.load(Ordering::Relaxed);
        match self.room.ask(Post { seat, text }).await? {
            Ok(_) => Ok(()),
            Err(why) => Err(Unposted::Refused(clean::text(&why))),
        }
    }

    /// Says goodbye, so that the others need not wonder.
    pub(crate) async fn leave(self) -> Result<(), AskError> {
        self.room.ask(Leave { seat: self.seat.load(Ordering::Relaxed) }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A room of one that panics when somebody says so, and then knows nobody.
    #[derive(RemoteActor)]
    #[remote(serves(Room))]
    struct Shaky {
        seat: u64,
        taken: bool,
    }

    impl Actor for Shaky {
        type Context = Context<Self>;
    }

    impl Handler<Join> for Shaky {
        type Result = Result<Welcome, String>;
        fn handle(&mut self, join: Join, _: &mut Context<Self>) -> Self::Result {
            self.taken = true;
            let (room, name, seat) = ("shaky".to_owned(), join.name, self.seat);
            Ok(Welcome { room, members: vec![name.clone()], name, seat, history: Vec::new() })
        }
    }

    impl Handler<Post> for Shaky {
        type Result = Result<u64, String>;
        fn handle(&mut self, post: Post, _: &mut Context<Self>) -> Self::Result {
            assert_ne!(post.text, "panic", "as asked");
            (self.taken && post.seat == self.seat).then_some(1).ok_or("join the room first".into())
        }
    }

    impl Handler<Leave> for Shaky {
        type Result = ();
        fn handle(&mut self, _: Leave, _: &mut Context<Self>) {}
    }

    async fn mesh() -> Mesh {
        Mesh::builder().listen("127.0.0.1:0".parse().unwrap()).start().await.unwrap()
    }

    #[webmesh::test(clock = "real")]
    async fn members_near_and_far_are_back_in_their_room_after_it_panicked() {
        let (host, guest) = (mesh().await, mesh().await);
        let mut next = 1;
        let near = host.spawn(move || {
            next += 1;
            Shaky { seat: next, taken: false }
        });
        host.publish("room", &near).allow(webmesh::Anyone).await.unwrap();
        let far = guest.resolve("room").at(&host.peer_ref()).await.unwrap();
        for (mesh, room) in [(&host, near), (&guest, far)] {
            let (seat, welcome, mut news) = Seat::take(mesh, room, "ann").await.unwrap();
            assert_eq!(seat.post("hello".into()).await, Ok(()));
            let panicked = seat.post("panic".into()).await.unwrap_err();
            assert!(matches!(&panicked, Unposted::Unknown(why) if why.contains("panicked")));
            match news.recv().await.unwrap() {
                News::Back(back) => {
                    assert!(back.seat > welcome.seat && back.members == ["ann"], "{back:?}");
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(seat.post("hello again".into()).await, Ok(()));
        }
        guest.shutdown().await;
        host.shutdown().await;
    }

    #[test]
    fn what_is_not_known_is_never_called_not_posted() {
        let unknown =
            [AskError::Timeout, AskError::Unreachable, AskError::PeerGone, AskError::NoReply];
        for error in unknown {
            let said = Unposted::from(error).to_string();
            assert!(!said.contains("not posted"), "{said}");
        }
        let refused = Unposted::from(AskError::Connect("no way".into())).to_string();
        assert_eq!(refused, "not posted: cannot connect to the peer: no way");
    }
}
