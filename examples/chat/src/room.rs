//! The room: an actor that knows its members, numbers the lines and passes them on.

use crate::{
    clean,
    protocol::{
        Change, Dismissed, HISTORY_LINES_MAX, Join, Leave, Line, MEMBERS_MAX, Member, Post,
        Presence, Room, Said, TEXT_BYTES_MAX, Welcome,
    },
};
use std::{collections::VecDeque, time::Duration};
use webmesh::{ActorRef, Down, PeerId, RemoteActor, caller, prelude::*, send, watch};

/// How long a member that was too slow has to take the lines before the word that it had to go. A guess.
const DISMISSAL_MAX: Duration = Duration::from_secs(60);

struct Seat {
    number: u64,
    name: String,
    peer: PeerId,
    member: ActorRef<Member>,
    watch: webmesh::WatchId,
}

/// A room of the host. After a panic it starts empty; its members notice by their watch and join again.
#[derive(RemoteActor)]
#[remote(serves(Room))]
pub(crate) struct RoomActor {
    name: String,
    seats: Vec<Seat>,
    history: VecDeque<Line>,
    next_seat: u64,
    next_line: u64,
}

impl RoomActor {
    pub(crate) fn new(name: String) -> Self {
        Self { name, seats: Vec::new(), history: VecDeque::new(), next_seat: 1, next_line: 1 }
    }

    /// `wished`, or with the first free number behind it.
    fn free_name(&self, wished: &str) -> String {
        let taken = |name: &str| self.seats.iter().any(|seat| seat.name == name);
        if !taken(wished) {
            return wished.to_owned();
        }
        let numbered = |n: usize| format!("{wished}-{n}");
        // One more than there are seats: one of them is free.
        (2..=self.seats.len() + 2)
            .map(numbered)
            .find(|name| !taken(name))
            .unwrap_or_else(|| wished.to_owned())
    }

    fn tell_everybody<M>(&mut self, ctx: &mut Context<Self>, message: impl Fn() -> M)
    where
        M: webmesh::Message<Result = ()>,
        Member: webmesh::Accepts<M>,
    {
        let mut slow = Vec::new();
        for seat in &self.seats {
            if send(ctx, &seat.member, message()).is_err() {
                slow.push(seat.number);
            }
        }
        for number in slow {
            self.dismiss(ctx, number, Change::TooSlow);
        }
    }

    fn dismiss(&mut self, ctx: &mut Context<Self>, number: u64, change: Change) {
        let Some(at) = self.seats.iter().position(|seat| seat.number == number) else { return };
        let seat = self.seats.remove(at);
        webmesh::unwatch(ctx, seat.watch);
        if change == Change::TooSlow {
            // Behind what it has not taken yet; a member that takes nothing never learns it.
            let told = async move {
                let word = seat.member.tell(Dismissed);
                let _ = tokio::time::timeout(DISMISSAL_MAX, word).await;
            };
            ctx.spawn(told.into_actor(self));
        }
        self.tell_everybody(ctx, || Presence { name: seat.name.clone(), change });
    }
}

impl Actor for RoomActor {
    type Context = Context<Self>;
}

impl Handler<Join> for RoomActor {
    type Result = Result<Welcome, String>;

    fn handle(&mut self, join: Join, ctx: &mut Context<Self>) -> Self::Result {
        let peer = caller(ctx).ok_or("the room wants to know who asks")?.peer();
        clean::check_name(&join.name)?;
        if self.seats.len() >= MEMBERS_MAX {
            return Err(format!("the room is full ({MEMBERS_MAX} members)"));
        }
        let name = self.free_name(&join.name);
        self.tell_everybody(ctx, || Presence { name: name.clone(), change: Change::Joined });
        let number = self.next_seat;
        self.next_seat += 1;
        let watch = watch(ctx, &join.member);
        self.seats.push(Seat { number, name: name.clone(), peer, member: join.member, watch });
        Ok(Welcome {
            room: self.name.clone(),
            name,
            seat: number,
            members: self.seats.iter().map(|seat| seat.name.clone()).collect(),
            history: self.history.iter().cloned().collect(),
        })
    }
}

impl Handler<Post> for RoomActor {
    type Result = Result<u64, String>;

    fn handle(&mut self, post: Post, ctx: &mut Context<Self>) -> Self::Result {
        let peer = caller(ctx).map(|caller| caller.peer());
        let seat =
            self.seats.iter().find(|seat| seat.number == post.seat && Some(seat.peer) == peer);
        let name = seat.ok_or("join the room first")?.name.clone();
        if post.text.len() > TEXT_BYTES_MAX {
            return Err(format!("a message has at most {TEXT_BYTES_MAX} bytes"));
        }
        let line = Line { number: self.next_line, name, text: clean::text(&post.text) };
        self.next_line += 1;
        if self.history.len() == HISTORY_LINES_MAX {
            self.history.pop_front();
        }
        self.history.push_back(line.clone());
        let number = line.number;
        self.tell_everybody(ctx, || Said { line: line.clone() });
        Ok(number)
    }
}

impl Handler<Leave> for RoomActor {
    type Result = ();

    fn handle(&mut self, leave: Leave, ctx: &mut Context<Self>) {
        let peer = caller(ctx).map(|caller| caller.peer());
        if self.seats.iter().any(|seat| seat.number == leave.seat && Some(seat.peer) == peer) {
            self.dismiss(ctx, leave.seat, Change::Left);
        }
    }
}

impl Handler<Down> for RoomActor {
    type Result = ();

    fn handle(&mut self, down: Down, ctx: &mut Context<Self>) {
        if let Some(seat) = self.seats.iter().find(|seat| seat.watch == down.watch) {
            let number = seat.number;
            self.dismiss(ctx, number, Change::Lost);
        }
    }
}
