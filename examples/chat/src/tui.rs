//! Chat on a whole terminal: members, history and an input line.

use crate::{
    Left,
    member::{News, Seat},
    protocol::{Change, Line, Welcome},
};
use anyhow::Context as _;
use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::{
    DefaultTerminal, Frame,
    layout::{Constraint, Layout, Position},
    style::{Style, Stylize},
    text::{Line as TextLine, Span},
    widgets::{Block, List, ListItem, Paragraph, Wrap},
};
use std::collections::VecDeque;
use tokio::sync::mpsc;

/// Lines that can be scrolled back to.
const SCROLLBACK_MAX: usize = 2_000;

/// Texts that wait while the room's answer to an earlier one is awaited.
const UNSAID_MAX: usize = 32;

/// One entry of the history pane.
enum Entry {
    Said(Line),
    Notice(String),
}

struct Screen {
    title: String,
    invite: Option<String>,
    me: String,
    members: Vec<String>,
    entries: VecDeque<Entry>,
    input: String,
    /// Wrapped rows between the end of the history and what is shown.
    scrolled: u16,
}

/// Runs until one wants to leave, or until the room is lost.
///
/// # Errors
/// If the terminal can't be used.
pub(crate) async fn run(
    seat: &Seat,
    welcome: Welcome,
    news: mpsc::Receiver<News>,
    invite: Option<String>,
    notes: Vec<String>,
) -> anyhow::Result<Left> {
    let mut screen = Screen {
        title: welcome.room,
        invite,
        me: welcome.name,
        members: welcome.members,
        entries: welcome.history.into_iter().map(Entry::Said).collect(),
        input: String::new(),
        scrolled: 0,
    };
    for note in notes {
        screen.add(Entry::Notice(note));
    }
    // Asked first, by itself: the screen may be a terminal without there being keys.
    crossterm::terminal::enable_raw_mode()
        .context("there is no terminal to read keys from; --plain chats by lines")?;
    let _restore = Restore;
    let mut terminal = ratatui::try_init()?;
    let (say, texts) = mpsc::channel(UNSAID_MAX);
    let (refuse, refusals) = mpsc::channel(1);
    let talk = Talk { news, refusals, say };
    // Side by side: the screen stays alive while the room's answer is awaited.
    tokio::select! {
        result = drive(&mut terminal, &mut screen, talk) => result,
        () = speak(seat, texts, refuse) => Ok(Left::Room),
    }
}

/// Gives the terminal back as it was, also when the program is asked to end by a signal.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        // The terminal may be gone, and standard error with it: `ratatui::restore` would panic.
        let _ = ratatui::try_restore();
    }
}

/// What comes from the room and goes there.
struct Talk {
    news: mpsc::Receiver<News>,
    refusals: mpsc::Receiver<String>,
    say: mpsc::Sender<String>,
}

/// Posts one text after the other, in their order; ends with the screen.
async fn speak(seat: &Seat, mut texts: mpsc::Receiver<String>, refuse: mpsc::Sender<String>) {
    while let Some(text) = texts.recv().await {
        if let Err(why) = seat.post(text).await {
            let _ = refuse.send(why).await;
        }
    }
}

async fn drive(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    mut talk: Talk,
) -> anyhow::Result<Left> {
    let mut events = terminal_events();
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        tokio::select! {
            item = talk.news.recv() => match item {
                Some(News::Over(why)) => return Ok(Left::LostRoom(why)),
                Some(item) => screen.take_news(item),
                None => return Ok(Left::LostRoom("the member actor ended".to_owned())),
            },
            event = events.recv() => match event {
                Some(event) => match screen.take_event(event?) {
                    Action::Nothing => {}
                    Action::Quit => return Ok(Left::Room),
                    Action::Post(text) => {
                        if talk.say.try_send(text).is_err() {
                            let why = "not posted: the room takes nothing at the moment";
                            screen.add(Entry::Notice(why.to_owned()));
                        }
                    }
                },
                None => return Ok(Left::Room),
            },
            Some(why) = talk.refusals.recv() => {
                screen.add(Entry::Notice(format!("not posted: {why}")));
            }
        }
    }
}

/// Key presses and the like; a thread of its own reads them, for the terminal offers only a blocking read.
fn terminal_events() -> mpsc::Receiver<std::io::Result<Event>> {
    let (sender, receiver) = mpsc::channel(64);
    std::thread::spawn(move || {
        loop {
            let event = crossterm::event::read();
            let failed = event.is_err();
            if sender.blocking_send(event).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

enum Action {
    Nothing,
    Post(String),
    Quit,
}

impl Screen {
    fn add(&mut self, entry: Entry) {
        if self.entries.len() == SCROLLBACK_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }

    fn take_news(&mut self, news: News) {
        match news {
            News::Said(line) => self.add(Entry::Said(line)),
            News::Presence(name, change) => {
                self.members.retain(|member| *member != name);
                self.add(Entry::Notice(format!("{name} {change}")));
                if change == Change::Joined {
                    self.members.push(name);
                }
            }
            News::Over(_) => {}
        }
    }

    fn take_event(&mut self, event: Event) -> Action {
        let key = match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => key,
            Event::Paste(text) => {
                self.input.extend(text.chars().filter(|c| !c.is_control()));
                return Action::Nothing;
            }
            _ => return Action::Nothing,
        };
        match key.code {
            KeyCode::Esc => return Action::Quit,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Action::Quit;
            }
            KeyCode::Char(c) => self.input.push(c),
            KeyCode::Backspace => drop(self.input.pop()),
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_add(10),
            KeyCode::PageDown => self.scrolled = self.scrolled.saturating_sub(10),
            KeyCode::Enter if !self.input.trim().is_empty() => {
                self.scrolled = 0;
                return Action::Post(std::mem::take(&mut self.input));
            }
            _ => {}
        }
        Action::Nothing
    }

    fn draw(&mut self, frame: &mut Frame) {
        // Without a border, so that a terminal's selection takes the invite and nothing else.
        let invite = self
            .invite
            .as_ref()
            .map(|invite| Paragraph::new(invite.as_str()).wrap(Wrap { trim: false }));
        let rows = invite.as_ref().map_or(0, |invite| invite.line_count(frame.area().width) as u16);
        let parts = [Constraint::Length(rows), Constraint::Min(3), Constraint::Length(3)];
        let [top, main, below] = Layout::vertical(parts).areas(frame.area());
        if let Some(invite) = invite {
            frame.render_widget(invite, top);
        }
        let [history, side] =
            Layout::horizontal([Constraint::Min(20), Constraint::Length(24)]).areas(main);
        self.draw_history(frame, history);

        let members = self.members.iter().map(|name| {
            let item = ListItem::new(name.clone());
            if *name == self.me { item.bold() } else { item }
        });
        frame.render_widget(List::new(members).block(Block::bordered().title(" members ")), side);

        // The end of a long input is what one is writing.
        let room = below.width.saturating_sub(3) as usize;
        let shown: String =
            self.input.chars().skip(self.input.chars().count().saturating_sub(room)).collect();
        let cursor = TextLine::from(shown.as_str()).width() as u16;
        let title = " Enter sends, PgUp/PgDn scroll, Esc leaves ";
        frame.render_widget(Paragraph::new(shown).block(Block::bordered().title(title)), below);
        frame.set_cursor_position(Position::new(below.x + 1 + cursor, below.y + 1));
    }

    fn draw_history(&mut self, frame: &mut Frame, area: ratatui::layout::Rect) {
        let lines = self.entries.iter().map(|entry| match entry {
            Entry::Said(line) => {
                let style = if line.name == self.me { Style::new().bold() } else { Style::new() };
                TextLine::from(vec![
                    Span::styled(format!("<{}> ", line.name), style),
                    Span::raw(line.text.clone()),
                ])
            }
            Entry::Notice(text) => TextLine::from(format!("* {text}")).dim(),
        });
        let lines: Vec<TextLine> = lines.collect();
        let block = Block::bordered().title(format!(" {} ", self.title));
        let inner = block.inner(area);
        let history = Paragraph::new(lines).wrap(Wrap { trim: false });
        let rows = history.line_count(inner.width) as u16;
        let beyond = rows.saturating_sub(inner.height);
        self.scrolled = self.scrolled.min(beyond);
        frame.render_widget(history.block(block).scroll((beyond - self.scrolled, 0)), area);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::{Terminal, backend::TestBackend};

    #[test]
    fn the_screen_shows_members_history_and_input() {
        let line = Line { number: 1, name: "ann".into(), text: "hello".into() };
        let mut screen = Screen {
            title: "attic".into(),
            invite: Some("wm1abc".into()),
            me: "bob".into(),
            members: vec!["ann".into(), "bob".into()],
            entries: VecDeque::from([Entry::Said(line)]),
            input: "typing".into(),
            scrolled: 0,
        };
        screen.take_news(News::Presence("cid".into(), Change::Joined));
        let mut terminal = Terminal::new(TestBackend::new(80, 12)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let shown = terminal.backend().to_string();
        for part in ["attic", "wm1abc", "<ann> hello", "* cid joined", "members", "typing"] {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
        screen.take_news(News::Presence("ann".into(), Change::Lost));
        assert_eq!(screen.members, ["bob", "cid"]);
    }
}
