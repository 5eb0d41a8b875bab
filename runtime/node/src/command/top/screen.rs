//! What the user does, and how a frame is drawn: pure but for the buffer that it is drawn into.

use ratatui::{
    Frame as Canvas,
    crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    text::{Line, Span},
    widgets::{Paragraph, Row, Table},
};

use super::model::{ActorLine, Frame, NodeLine, Options, WorkloadLine, frame};
use crate::{arguments::SortArgument, command::top::model::Look, render::printable};

/// Longest filter that can be typed.
const MAX_FILTER_CHARS: usize = 64;

/// The view and what the user made of it.
#[derive(Debug)]
pub struct Screen {
    options: Options,
    before: Option<Look>,
    now: Option<Look>,
    frame: Option<Frame>,
    /// Why the last look failed.
    failed: Option<String>,
    paused: bool,
    /// The filter as it is being typed.
    typing: Option<String>,
    on_actors: bool,
    scrolled: [usize; 2],
    colour: bool,
}

/// What to do after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Draw and go on.
    Draw,
    /// End.
    Quit,
}

impl Screen {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(options: Options, colour: bool) -> Self {
        Self {
            options,
            before: None,
            now: None,
            frame: None,
            failed: None,
            paused: false,
            typing: None,
            on_actors: false,
            scrolled: [0; 2],
            colour,
        }
    }

    /// The node was looked at. While paused nothing changes, also no rate.
    pub fn looked(&mut self, look: Result<Look, String>) {
        match look {
            Err(reason) => self.failed = Some(printable(&reason)),
            Ok(_) if self.paused => {}
            Ok(look) => {
                self.failed = None;
                self.before = self.now.replace(look);
                self.make();
            }
        }
    }

    fn make(&mut self) {
        self.frame = self.now.as_ref().map(|now| frame(self.before.as_ref(), now, &self.options));
    }

    /// A key was pressed.
    pub fn key(&mut self, key: KeyEvent) -> Next {
        if key.kind == KeyEventKind::Release {
            return Next::Draw;
        }
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if matches!(key.code, KeyCode::Char('c' | 'd')) { Next::Quit } else { Next::Draw };
        }
        if self.typing.is_some() {
            self.typed(key.code);
            return Next::Draw;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Next::Quit,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('/' | 'f') => self.typing = Some(self.options.filter.clone()),
            KeyCode::Char('s') => {
                self.options.sort = match self.options.sort {
                    SortArgument::Alerts => SortArgument::Events,
                    SortArgument::Events => SortArgument::Name,
                    SortArgument::Name => SortArgument::Alerts,
                };
                self.make();
            }
            KeyCode::Tab => self.on_actors = !self.on_actors,
            KeyCode::Down | KeyCode::Char('j') => self.scroll(1),
            KeyCode::Up | KeyCode::Char('k') => self.scroll(-1),
            KeyCode::PageDown => self.scroll(10),
            KeyCode::PageUp => self.scroll(-10),
            KeyCode::Home => self.scroll(isize::MIN),
            _ => {}
        }
        Next::Draw
    }

    fn typed(&mut self, code: KeyCode) {
        let Some(typing) = &mut self.typing else { return };
        match code {
            KeyCode::Char(c) if typing.chars().count() < MAX_FILTER_CHARS => typing.push(c),
            KeyCode::Backspace => drop(typing.pop()),
            KeyCode::Enter => {
                self.options.filter = self.typing.take().unwrap_or_default();
                self.scrolled = [0; 2];
                self.make();
            }
            KeyCode::Esc => self.typing = None,
            _ => {}
        }
    }

    fn scroll(&mut self, by: isize) {
        let Some(frame) = &self.frame else { return };
        let rows = if self.on_actors { frame.actors.len() } else { frame.workloads.len() };
        let at = &mut self.scrolled[usize::from(self.on_actors)];
        *at = at.saturating_add_signed(by).min(rows.saturating_sub(1));
    }

    /// Rows that show everything at once: for text.
    #[must_use]
    pub fn rows(&self) -> u16 {
        let rows = self.frame.as_ref().map_or(0, |frame| frame.workloads.len() + frame.actors.len());
        u16::try_from(rows).unwrap_or(u16::MAX).saturating_add(HEAD + 4)
    }

    /// The frame as JSON; none before the first look.
    #[must_use]
    pub fn as_json(&self) -> Option<serde_json::Value> {
        self.frame.as_ref().map(|frame| serde_json::json!(frame))
    }

    /// Draws all of it. Too small a terminal shows the beginning.
    pub fn draw(&self, canvas: &mut Canvas<'_>) {
        let Some(frame) = &self.frame else {
            let text = self.failed.clone().unwrap_or_else(|| "asking the node ...".into());
            canvas.render_widget(Paragraph::new(text), canvas.area());
            return;
        };
        let (workloads, actors) = (rows(frame.workloads.len()), rows(frame.actors.len()));
        let room = canvas.area().height.saturating_sub(HEAD + 1);
        // Half of the room each, and what one does not need to the other.
        let upper = workloads.min((room / 2).max(room.saturating_sub(actors)));
        let areas = Layout::vertical([
            Constraint::Length(HEAD),
            Constraint::Length(upper),
            Constraint::Length(room.saturating_sub(upper)),
            Constraint::Length(1),
        ]);
        let [head, upper, lower, foot] = areas.areas(canvas.area());
        canvas.render_widget(Paragraph::new(self.head(&frame.node)), head);
        self.draw_workloads(&frame.workloads, upper, canvas);
        self.draw_actors(&frame.actors, lower, canvas);
        canvas.render_widget(Paragraph::new(self.foot()), foot);
    }

    fn paint(&self, colour: Color) -> Style {
        if self.colour { Style::default().fg(colour) } else { Style::default() }
    }

    fn head(&self, node: &NodeLine) -> Vec<Line<'static>> {
        let (ready, colour) = if node.ready { ("ready", Color::Green) } else { ("NOT READY", Color::Red) };
        let alerts: Vec<String> =
            node.alerts.iter().map(|(verdict, count)| format!("{verdict} {}", short(*count))).collect();
        let alerts = if alerts.is_empty() { "no alerts".to_owned() } else { alerts.join(", ") };
        let first = format!(
            "  generation {}  policies {}  workloads {}  events/s {}  alerts/s {}",
            node.generation,
            node.policies,
            node.workloads,
            rate(node.events_per_second),
            rate(node.alerts_per_second)
        );
        let lost: Vec<String> = node.lost.iter().map(|(reason, count)| format!("{reason} {}", short(*count))).collect();
        let lost = if lost.is_empty() { "0".to_owned() } else { lost.join(" ") };
        let NodeLine { suppressed, folded, missing, malformed, refused, held_back, unwritten, missed, shed, .. } =
            *node;
        let losses = format!(
            "lost {lost}  missing {}  malformed {}  refused {}  held back {}  unwritten {}  missed {}  shed {}  suppressed {}  folded {}",
            short(missing),
            short(malformed),
            short(refused),
            short(held_back),
            short(unwritten),
            short(missed),
            short(shed),
            short(suppressed),
            short(folded)
        );
        let any = !node.lost.is_empty()
            || [missing, malformed, refused, held_back, unwritten, missed, shed, suppressed]
                .iter()
                .any(|count| *count > 0);
        let last = match (&self.failed, node.unanswered.as_slice(), node.conditions.as_slice()) {
            (Some(failed), ..) => Span::styled(format!("these are old: {failed}"), self.paint(Color::Red)),
            (None, [_, ..], _) => {
                Span::styled(format!("did not answer: {}", node.unanswered.join(", ")), self.paint(Color::Red))
            }
            (None, [], []) => Span::raw("all conditions are good"),
            (None, [], [one]) => Span::styled(one.clone(), self.paint(Color::Yellow)),
            (None, [], [first, rest @ ..]) => {
                Span::styled(format!("{first} (and {} more: palisade doctor)", rest.len()), self.paint(Color::Yellow))
            }
        };
        let bold = Style::default().add_modifier(Modifier::BOLD);
        vec![
            Line::from(vec![
                Span::styled("palisade ", bold),
                Span::styled(ready, self.paint(colour).add_modifier(Modifier::BOLD)),
                Span::raw(first),
            ]),
            Line::from(alerts),
            Line::styled(losses, if any { self.paint(Color::Yellow) } else { Style::default() }),
            Line::from(last),
        ]
    }

    fn foot(&self) -> String {
        if let Some(typing) = &self.typing {
            return format!("filter: {}_  (Enter takes it, Esc does not)", printable(typing));
        }
        let sort = match self.options.sort {
            SortArgument::Alerts => "alerts",
            SortArgument::Events => "events",
            SortArgument::Name => "name",
        };
        let filter = if self.options.filter.is_empty() {
            String::new()
        } else {
            format!(" [{}]", printable(&self.options.filter))
        };
        let paused = if self.paused { " PAUSED" } else { "" };
        format!("q quit  s sort [{sort}]  / filter{filter}  p pause{paused}  Tab, arrows scroll")
    }

    fn draw_workloads(&self, lines: &[WorkloadLine], area: Rect, canvas: &mut Canvas<'_>) {
        let verdict = |line: &WorkloadLine, verdict: &str| short(line.alerts.get(verdict).copied().unwrap_or(0));
        let rows = lines.iter().skip(self.scrolled[0]).take(usize::from(area.height)).map(|line| {
            Row::new(vec![
                line.name.clone(),
                rate(line.alerts_per_second),
                rate(line.events_per_second),
                verdict(line, "denied"),
                verdict(line, "killed"),
                verdict(line, "observed"),
                verdict(line, "unenforceable"),
                line.generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string()),
                tiers(&line.tiers),
            ])
        });
        let widths = [
            Constraint::Fill(1),
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Length(6),
            Constraint::Length(5),
            Constraint::Length(8),
        ];
        let head = Row::new(["WORKLOAD", "ALERTS/S", "EVENTS/S", "DENIED", "KILLED", "OBSERV", "UNENF", "GEN", "TIER"]);
        canvas.render_widget(Table::new(rows, widths).header(head.style(self.heading(!self.on_actors))), area);
    }

    fn draw_actors(&self, lines: &[ActorLine], area: Rect, canvas: &mut Canvas<'_>) {
        let rows = lines.iter().skip(self.scrolled[1]).take(usize::from(area.height)).map(|line| {
            let row = Row::new(vec![
                line.name.clone(),
                line.state.clone(),
                format!("{}/{}", line.depth, line.capacity),
                short(line.high_water),
                rate(line.per_second),
                line.restarts.to_string(),
                short(line.shed),
            ]);
            if line.state == "running" { row } else { row.style(self.paint(Color::Red)) }
        });
        let widths = [
            Constraint::Fill(1),
            Constraint::Length(11),
            Constraint::Length(11),
            Constraint::Length(6),
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Length(6),
        ];
        let head = Row::new(["ACTOR", "STATE", "MAILBOX", "HIGH", "PER S", "RESTARTS", "SHED"]);
        canvas.render_widget(Table::new(rows, widths).header(head.style(self.heading(self.on_actors))), area);
    }

    fn heading(&self, chosen: bool) -> Style {
        let style = Style::default().add_modifier(Modifier::BOLD);
        if chosen { style.add_modifier(Modifier::UNDERLINED) } else { style }
    }
}

/// Lines above the tables.
const HEAD: u16 = 4;

/// A table's lines, its heading included.
fn rows(of: usize) -> u16 {
    u16::try_from(of).unwrap_or(u16::MAX).saturating_add(1)
}

/// `lsm+cgr`: what the tiers are called where there is no room.
fn tiers(tiers: &[String]) -> String {
    let short = |tier: &String| match tier.as_str() {
        "bpf-lsm" => "lsm".to_owned(),
        "fmod-ret" => "fmod".to_owned(),
        "apparmor" => "aa".to_owned(),
        "selinux" => "se".to_owned(),
        "cgroup-bpf" => "cgr".to_owned(),
        "fanotify" => "fan".to_owned(),
        other => other.chars().take(5).collect(),
    };
    if tiers.is_empty() { "-".to_owned() } else { tiers.iter().map(short).collect::<Vec<_>>().join("+") }
}

/// At most five characters; exact below ten thousand.
fn short(number: u64) -> String {
    match number {
        0..10_000 => number.to_string(),
        10_000..10_000_000 => format!("{}k", number / 1_000),
        10_000_000..10_000_000_000 => format!("{}M", number / 1_000_000),
        _ => format!("{}G", number / 1_000_000_000),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate that is not negative, for people")]
fn rate(per_second: f64) -> String {
    if per_second < 100.0 { format!("{per_second:.1}") } else { short(per_second as u64) }
}
