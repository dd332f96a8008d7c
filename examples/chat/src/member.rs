//! One's own presence in a room: an actor that the room calls, and the handle that posts. Whatever the room says passes
//! `clean` here.

use crate::{
    clean,
    protocol::{Change, Dismissed, Join, Leave, Line, Member, Post, Presence, Room, Said, Welcome},
};
use tokio::sync::mpsc;
use webmesh::{ActorRef, AskError, Down, Mesh, RemoteActor, prelude::*, watch};

/// News that wait for the screen; when it is slower, the room's messages wait in line behind them.
const NEWS_MAX: usize = 256;

/// What happens in the room, in the order of its happening; clean.
#[derive(Debug)]
pub(crate) enum News {
    /// Somebody (perhaps oneself) said something.
    Said(Line),
    /// Somebody came or went.
    Presence(String, Change),
    /// There will be no more news, for this reason.
    Over(String),
}

#[derive(RemoteActor)]
#[remote(serves(Member))]
struct MemberActor {
    room: ActorRef<Room>,
    news: mpsc::Sender<News>,
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
        watch(ctx, &self.room);
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
    seat: u64,
}

impl Seat {
    /// Enters `room` under `name`. The welcome is clean.
    pub(crate) async fn take(
        mesh: &Mesh,
        room: ActorRef<Room>,
        name: &str,
    ) -> anyhow::Result<(Seat, Welcome, mpsc::Receiver<News>)> {
        let (news, receiver) = mpsc::channel(NEWS_MAX);
        let member = mesh.spawn({
            let room = room.clone();
            move || MemberActor { room: room.clone(), news: news.clone() }
        });
        let join = Join { name: name.to_owned(), member };
        let answer = room.ask(join).await.map_err(|why| clean::text(&why.to_string()));
        let welcome = match answer.map_err(anyhow::Error::msg)? {
            Ok(welcome) => clean::welcome(welcome),
            Err(why) => anyhow::bail!("the room does not let you in: {}", clean::text(&why)),
        };
        Ok((Seat { room, seat: welcome.seat }, welcome, receiver))
    }

    /// Says something; an error says, clean, why the room did not take it.
    pub(crate) async fn post(&self, text: String) -> Result<(), String> {
        match self.room.ask(Post { seat: self.seat, text }).await {
            Ok(answer) => answer.map(|_| ()).map_err(|why| clean::text(&why)),
            Err(error) => Err(clean::text(&error.to_string())),
        }
    }

    /// Says goodbye, so that the others need not wonder.
    pub(crate) async fn leave(self) -> Result<(), AskError> {
        self.room.ask(Leave { seat: self.seat }).await
    }
}
