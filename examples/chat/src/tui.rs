//! Chat on a whole terminal: members, history and an input line.

mod input;
mod scrollback;

use crate::{
    Left,
    member::{BACK, News, Seat, Unposted},
    protocol::{Change, Line, MEMBERS_MAX, TEXT_BYTES_MAX, Welcome},
};
use anyhow::Context as _;
use crossterm::{
    event::{
        DisableBracketedPaste, EnableBracketedPaste, Event, KeyCode, KeyEvent, KeyEventKind,
        KeyModifiers,
    },
    execute,
};
use input::Input;
use ratatui::{
    DefaultTerminal, Frame,
    layout::{Constraint, Layout, Position, Rect},
    style::{Style, Stylize},
    text::{Line as TextLine, Span},
    widgets::{Block, List, ListItem, Paragraph, Wrap},
};
use scrollback::Scrollback;
use std::io::{self, Write};
use tokio::sync::mpsc::{self, error::TryRecvError};

/// Texts that wait while the room's answer to an earlier one is awaited.
const UNSAID_MAX: usize = 32;

/// Keys that wait for the screen.
const KEYS_MAX: usize = 64;

/// How much of what waits is taken before the next picture; what keeps coming in would else hide itself. A guess: more
/// than waits in all the channels, and worked through before an eye notices.
const BETWEEN_PICTURES_MAX: usize = 1_024;

/// Rows by which PgUp and PgDn scroll.
const SCROLL_ROWS: usize = 10;

/// A window lower than this gets an input line without a frame.
const FRAMED_ROWS_MIN: u16 = 6;

/// What an input line without a frame begins with, and the columns below which there is no room for it.
const PROMPT: &str = "> ";
const PROMPT_COLUMNS_MIN: u16 = 4;

/// A window narrower than this does not show who is there: what is said comes first.
const MEMBERS_COLUMNS_MIN: u16 = 48;

struct Screen {
    title: String,
    invite: Option<String>,
    me: String,
    members: Vec<String>,
    history: Scrollback,
    input: Input,
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
    if let Some(invite) = &invite {
        // On the screen that the terminal goes back to: there a terminal knows where the line ends, however many rows it
        // takes.
        writeln!(io::stdout(), "{invite}").context("the terminal can't be written")?;
    }
    let mut screen = Screen::new(welcome, invite);
    for note in notes {
        screen.notice(&note);
    }
    // Asked first, by itself: the screen may be a terminal without there being keys.
    crossterm::terminal::enable_raw_mode()
        .context("there is no terminal to read keys from; --plain chats by lines")?;
    let _restore = Restore;
    let mut terminal = ratatui::try_init()?;
    execute!(io::stdout(), EnableBracketedPaste)?;
    let (say, texts) = mpsc::channel(UNSAID_MAX);
    let (refuse, refusals) = mpsc::channel(1);
    let talk = Talk { news, refusals, events: terminal_events(), say };
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
        let _ = execute!(io::stdout(), DisableBracketedPaste);
        let _ = ratatui::try_restore();
    }
}

/// What comes from the room and the keys, and goes there.
struct Talk {
    news: mpsc::Receiver<News>,
    refusals: mpsc::Receiver<Unsaid>,
    events: mpsc::Receiver<io::Result<Event>>,
    say: mpsc::Sender<String>,
}

/// What the screen has to show or to do.
enum Happening {
    News(News),
    /// What was said is not known to have been taken.
    Refusal(Unsaid),
    Event(io::Result<Event>),
    /// There are no more keys.
    NoTerminal,
}

impl Happening {
    fn news(news: Option<News>) -> Self {
        Self::News(news.unwrap_or_else(|| News::Over("the member actor ended".to_owned())))
    }

    fn event(event: Option<io::Result<Event>>) -> Self {
        event.map_or(Self::NoTerminal, Self::Event)
    }
}

impl Talk {
    async fn next(&mut self) -> Happening {
        tokio::select! {
            news = self.news.recv() => Happening::news(news),
            event = self.events.recv() => Happening::event(event),
            Some(unsaid) = self.refusals.recv() => Happening::Refusal(unsaid),
        }
    }

    /// What has happened already, keys first.
    fn waiting(&mut self) -> Option<Happening> {
        match self.events.try_recv() {
            Ok(event) => return Some(Happening::Event(event)),
            Err(TryRecvError::Disconnected) => return Some(Happening::NoTerminal),
            Err(TryRecvError::Empty) => {}
        }
        if let Ok(unsaid) = self.refusals.try_recv() {
            return Some(Happening::Refusal(unsaid));
        }
        match self.news.try_recv() {
            Ok(news) => Some(Happening::News(news)),
            Err(TryRecvError::Disconnected) => Some(Happening::news(None)),
            Err(TryRecvError::Empty) => None,
        }
    }
}

/// A text that the room is not known to have taken, and why.
struct Unsaid {
    text: String,
    why: Unposted,
}

/// Posts one text after the other, in their order; ends with the screen.
async fn speak(seat: &Seat, mut texts: mpsc::Receiver<String>, refuse: mpsc::Sender<Unsaid>) {
    while let Some(text) = texts.recv().await {
        if let Err(why) = seat.post(text.clone()).await {
            let _ = refuse.send(Unsaid { text, why }).await;
        }
    }
}

async fn drive(
    terminal: &mut DefaultTerminal,
    screen: &mut Screen,
    mut talk: Talk,
) -> anyhow::Result<Left> {
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        // One picture for all that has happened meanwhile: a picture of each would fall behind who types or talks fast.
        let mut happening = talk.next().await;
        let mut taken = 0;
        loop {
            match happening {
                Happening::News(News::Over(why)) => return Ok(Left::LostRoom(why)),
                Happening::News(news) => screen.take_news(news),
                Happening::Refusal(Unsaid { text, why }) => screen.take_back(text, &why),
                Happening::Event(event) => match screen.take_event(event?) {
                    Action::Nothing => {}
                    Action::Quit => return Ok(Left::Room),
                    Action::Post(text) => {
                        if let Err(unsaid) = talk.say.try_send(text) {
                            let why = "the room takes nothing at the moment".to_owned();
                            screen.take_back(unsaid.into_inner(), &Unposted::Refused(why));
                        }
                    }
                },
                Happening::NoTerminal => anyhow::bail!("the terminal is gone"),
            }
            taken += 1;
            if taken == BETWEEN_PICTURES_MAX {
                break;
            }
            happening = match talk.waiting() {
                Some(waiting) => waiting,
                None => break,
            };
        }
    }
}

/// Key presses and the like; a thread of its own reads them, for the terminal offers only a blocking read.
fn terminal_events() -> mpsc::Receiver<io::Result<Event>> {
    let (sender, receiver) = mpsc::channel(KEYS_MAX);
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

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Nothing,
    Post(String),
    Quit,
}

impl Screen {
    fn new(welcome: Welcome, invite: Option<String>) -> Self {
        let mut screen = Self {
            title: welcome.room,
            invite,
            me: welcome.name,
            members: welcome.members,
            history: Scrollback::default(),
            input: Input::default(),
        };
        welcome.history.into_iter().for_each(|line| screen.said(line));
        screen
    }

    fn said(&mut self, line: Line) {
        let style = if line.name == self.me { Style::new().bold() } else { Style::new() };
        let name = Span::styled(format!("<{}> ", line.name), style);
        self.history.add(TextLine::from(vec![name, Span::raw(line.text)]));
    }

    fn notice(&mut self, text: &str) {
        self.history.add(TextLine::from(format!("* {text}")).dim());
    }

    /// A text comes back that is not known to have been posted: it can be sent again.
    fn take_back(&mut self, text: String, why: &Unposted) {
        self.input.put_back(text);
        self.notice(&why.to_string());
    }

    fn take_news(&mut self, news: News) {
        match news {
            News::Said(line) => self.said(line),
            News::Presence(name, change) => {
                self.members.retain(|member| *member != name);
                self.notice(&format!("{name} {change}"));
                // A room that lies may let in any number.
                if change == Change::Joined && self.members.len() < MEMBERS_MAX {
                    self.members.push(name);
                }
            }
            News::Back(welcome) => {
                self.notice(BACK);
                (self.me, self.members) = (welcome.name, welcome.members);
            }
            News::Over(_) => {}
        }
    }

    fn take_event(&mut self, event: Event) -> Action {
        match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => self.take_key(key),
            Event::Paste(text) => {
                // Posted by Enter only, so that one sees before what it was.
                if !self.input.paste(&text) {
                    self.notice(&format!(
                        "the paste was cut: a message has at most {TEXT_BYTES_MAX} bytes"
                    ));
                }
                Action::Nothing
            }
            _ => Action::Nothing,
        }
    }

    fn take_key(&mut self, key: KeyEvent) -> Action {
        let with = |modifier| key.modifiers.contains(modifier);
        let (control, alt) = (with(KeyModifiers::CONTROL), with(KeyModifiers::ALT));
        // On Windows, the key AltGr is both at once, and writes letters.
        let letters = cfg!(windows) && control && alt;
        let other =
            with(KeyModifiers::SUPER) || with(KeyModifiers::HYPER) || with(KeyModifiers::META);
        match key.code {
            KeyCode::Esc => return Action::Quit,
            KeyCode::Char(c) if !other && (letters || !(control || alt)) => {
                self.input.push(c);
            }
            KeyCode::Char(c) if control && !alt => match c.to_ascii_lowercase() {
                'c' => return Action::Quit,
                'd' if self.input.is_empty() => return Action::Quit,
                'u' => self.input.clear(),
                'w' => self.input.rub_out_word(),
                // What terminals send that make a difference between these and the keys.
                'h' => self.input.rub_out(),
                'j' | 'm' => return self.enter(),
                _ => {}
            },
            KeyCode::Backspace if control || alt => self.input.rub_out_word(),
            KeyCode::Backspace => self.input.rub_out(),
            KeyCode::PageUp => self.history.back(SCROLL_ROWS),
            KeyCode::PageDown => self.history.on(SCROLL_ROWS),
            KeyCode::Enter => return self.enter(),
            _ => {}
        }
        Action::Nothing
    }

    fn enter(&mut self) -> Action {
        let Some(text) = self.input.take() else { return Action::Nothing };
        self.history.go_to_end();
        Action::Post(text)
    }

    fn draw(&mut self, frame: &mut Frame) {
        let area = frame.area();
        let framed = area.height >= FRAMED_ROWS_MIN;
        let input_rows = if framed { 3 } else { area.height.min(1) };
        // Without a border, so that a terminal's selection takes the invite and nothing else; whole or not at all, and
        // only where as much is left for the chat.
        let invite = self.invite.as_ref().and_then(|invite| {
            let invite = Paragraph::new(invite.as_str()).wrap(Wrap { trim: false });
            let rows = u16::try_from(invite.line_count(area.width)).ok()?;
            (rows.checked_add(2 * FRAMED_ROWS_MIN)? <= area.height).then_some((invite, rows))
        });
        let invite_rows = invite.as_ref().map_or(0, |(_, rows)| *rows);
        // By hand: of a window of a few rows the input line is the last thing to go.
        let main_rows = area.height - input_rows - invite_rows;
        let rows = |from: u16, height| Rect { y: area.y + from, height, ..area };
        let (top, main) = (rows(0, invite_rows), rows(invite_rows, main_rows));
        let below = rows(invite_rows + main_rows, input_rows);
        if let Some((invite, _)) = invite {
            frame.render_widget(invite, top);
        }
        if area.width < MEMBERS_COLUMNS_MIN {
            self.draw_history(frame, main);
        } else {
            let columns = [Constraint::Min(0), Constraint::Length(MEMBERS_COLUMNS_MIN / 2)];
            let [history, side] = Layout::horizontal(columns).areas(main);
            self.draw_history(frame, history);
            self.draw_members(frame, side);
        }
        self.draw_input(frame, below, framed);
    }

    fn draw_history(&mut self, frame: &mut Frame, area: Rect) {
        let block = Block::bordered().title(format!(" {} ", self.title));
        let inner = block.inner(area);
        frame.render_widget(block, area);
        frame.render_widget(self.history.window(inner.width, inner.height), inner);
    }

    fn draw_members(&self, frame: &mut Frame, area: Rect) {
        let members = self.members.iter().map(|name| {
            let item = ListItem::new(name.as_str());
            if *name == self.me { item.bold() } else { item }
        });
        frame.render_widget(List::new(members).block(Block::bordered().title(" members ")), area);
    }

    fn draw_input(&self, frame: &mut Frame, area: Rect, framed: bool) {
        let inner = if framed {
            let block = Block::bordered().title(" Enter sends, PgUp/PgDn scroll, Esc leaves ");
            let inner = block.inner(area);
            frame.render_widget(block, area);
            inner
        } else {
            // Without a frame, something must say that this is where one writes.
            let prompt = if area.width > PROMPT_COLUMNS_MIN { PROMPT } else { "" };
            frame.render_widget(Paragraph::new(prompt), area);
            let columns = prompt.len() as u16;
            Rect { x: area.x + columns, width: area.width - columns, ..area }
        };
        // The last column is the cursor's.
        let (shown, columns) = self.input.tail(inner.width.saturating_sub(1));
        frame.render_widget(Paragraph::new(shown), inner);
        frame.set_cursor_position(Position::new(inner.x.saturating_add(columns), inner.y));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::{Terminal, backend::TestBackend};

    fn screen(invite: &str) -> Screen {
        let line = Line { number: 1, name: "ann".into(), text: "hello".into() };
        let welcome = Welcome {
            room: "attic".into(),
            name: "bob".into(),
            seat: 1,
            members: vec!["ann".into(), "bob".into()],
            history: vec![line],
        };
        Screen::new(welcome, Some(invite.into()))
    }

    fn shown(screen: &mut Screen, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    fn press(screen: &mut Screen, code: KeyCode, modifiers: KeyModifiers) -> Action {
        screen.take_event(Event::Key(KeyEvent::new(code, modifiers)))
    }

    fn typed(screen: &Screen) -> &str {
        screen.input.tail(u16::MAX).0
    }

    #[test]
    fn the_screen_shows_members_history_and_input() {
        let mut screen = screen("wm1abc");
        assert_eq!(screen.take_event(Event::Paste("typing".into())), Action::Nothing);
        screen.take_news(News::Presence("cid".into(), Change::Joined));
        let picture = shown(&mut screen, 80, 14);
        for part in ["attic", "wm1abc", "<ann> hello", "* cid joined", "members", "typing"] {
            assert!(picture.contains(part), "{part} is missing in\n{picture}");
        }
        screen.take_news(News::Presence("ann".into(), Change::Lost));
        assert_eq!(screen.members, ["bob", "cid"]);
    }

    #[test]
    fn a_small_window_keeps_the_input_and_the_newest_line() {
        let mut screen = screen(&"w".repeat(300));
        screen.take_event(Event::Paste("typing".into()));
        for (width, height) in [(80, 9), (30, 6), (20, 5), (10, 4)] {
            let picture = shown(&mut screen, width, height);
            assert!(picture.contains("typing"), "{picture}");
            assert!(picture.contains("hello"), "{picture}");
            assert!(!picture.contains("www"), "{picture}");
        }
        // Down to a single row, whatever there is room for besides.
        for height in 1..=5 {
            for width in [10, 20, 80, 300] {
                let picture = shown(&mut screen, width, height);
                assert!(picture.contains("> typing"), "{width}x{height}\n{picture}");
            }
        }
        for (width, height) in [(1, 1), (2, 30), (300, 1), (7, 2), (3, 3)] {
            shown(&mut screen, width, height);
        }
    }

    #[test]
    fn lines_that_were_pasted_are_posted_by_enter_alone() {
        let mut screen = screen("wm1abc");
        assert_eq!(screen.take_event(Event::Paste("one\rtwo\n".into())), Action::Nothing);
        assert_eq!(
            press(&mut screen, KeyCode::Enter, KeyModifiers::NONE),
            Action::Post("one two".into())
        );
        assert_eq!(press(&mut screen, KeyCode::Enter, KeyModifiers::NONE), Action::Nothing);
        screen.take_event(Event::Paste("x".repeat(2 * TEXT_BYTES_MAX)));
        assert!(shown(&mut screen, 80, 14).contains("* the paste was cut"));
    }

    #[test]
    fn a_text_that_was_not_posted_comes_back_before_what_was_typed_since() {
        let mut screen = screen("wm1abc");
        screen.take_event(Event::Paste("lost words".into()));
        let Action::Post(text) = press(&mut screen, KeyCode::Enter, KeyModifiers::NONE) else {
            panic!("nothing is posted");
        };
        screen.take_event(Event::Paste("and more".into()));
        screen.take_back(text, &Unposted::Refused("join the room first".into()));
        assert_eq!(typed(&screen), "lost words and more");
        assert!(shown(&mut screen, 80, 14).contains("* not posted: join the room first"));
        let Action::Post(text) = press(&mut screen, KeyCode::Enter, KeyModifiers::NONE) else {
            panic!("nothing is posted");
        };
        screen.take_back(text, &Unposted::Unknown("the outcome is unknown".into()));
        assert_eq!(typed(&screen), "lost words and more");
        let picture = shown(&mut screen, 120, 14);
        assert!(
            picture.contains("* perhaps posted, perhaps not: the outcome is unknown"),
            "{picture}"
        );
        // As much as can be posted, of two that are each as long as a message may be.
        let long = "x".repeat(TEXT_BYTES_MAX);
        screen.take_back(long.clone(), &Unposted::Refused("full".into()));
        assert_eq!(typed(&screen).len(), TEXT_BYTES_MAX);
        assert!(typed(&screen).starts_with("xxx"));
    }

    #[test]
    fn a_room_that_was_started_anew_shows_who_is_in_it_now() {
        let mut screen = screen("wm1abc");
        let welcome = Welcome {
            room: "attic".into(),
            name: "bob".into(),
            seat: 2,
            members: vec!["bob".into()],
            history: Vec::new(),
        };
        screen.take_news(News::Back(welcome));
        assert_eq!(screen.members, ["bob"]);
        assert!(shown(&mut screen, 120, 14).contains("started anew"));
    }

    #[test]
    fn keys_with_control_or_alt_write_nothing() {
        let mut screen = screen("wm1abc");
        let (none, control, alt) = (KeyModifiers::NONE, KeyModifiers::CONTROL, KeyModifiers::ALT);
        let char = KeyCode::Char;
        press(&mut screen, char('A'), KeyModifiers::SHIFT);
        press(&mut screen, char('b'), none);
        for (c, modifiers) in [('a', control), ('e', alt), ('x', control), ('d', control)] {
            assert_eq!(press(&mut screen, char(c), modifiers), Action::Nothing);
        }
        assert_eq!(typed(&screen), "Ab");
        press(&mut screen, char('h'), control);
        assert_eq!(typed(&screen), "A");
        screen.take_event(Event::Paste(" word and another".into()));
        press(&mut screen, char('w'), control);
        press(&mut screen, KeyCode::Backspace, alt);
        assert_eq!(typed(&screen), "A word ");
        press(&mut screen, char('u'), control);
        assert_eq!(typed(&screen), "");
        for (code, modifiers) in [(char('d'), control), (char('c'), control), (KeyCode::Esc, none)]
        {
            assert_eq!(press(&mut screen, code, modifiers), Action::Quit);
        }
    }

    #[test]
    fn a_room_that_lies_about_who_comes_fills_no_memory() {
        let mut screen = screen("wm1abc");
        for number in 0..10_000 {
            screen.take_news(News::Presence(number.to_string(), Change::Joined));
        }
        assert_eq!(screen.members.len(), MEMBERS_MAX);
    }
}
