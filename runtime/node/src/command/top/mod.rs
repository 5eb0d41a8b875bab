//! `palisade top`: workloads, actors and losses of the running node, live.
//!
//! Invariant: however it ends (a key, a signal, a panic, a node that went) the terminal is as it was. Names that workloads chose are escaped
//! before they come near it.
//!
//! Decision: it asks the node's documents once an interval, rather than have the node push, because a view that is not looked at then costs
//! the node nothing.

mod model;
mod screen;
#[cfg(test)]
mod tests;

use std::{io::IsTerminal as _, path::Path, process::ExitCode, time::Duration};

use anyhow::Context as _;
use ratatui::{
    DefaultTerminal, Terminal,
    backend::TestBackend,
    crossterm::event::{self, Event},
};
use serde::de::DeserializeOwned;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use self::{
    model::{Look, Options},
    screen::{Next, Screen},
};
use super::Outcome;
use crate::{
    admin_client,
    arguments::{Output, TopArguments},
    render,
};

/// Width of a frame as text where there is no terminal to ask.
const TEXT_COLUMNS: u16 = 120;
/// Keys that may wait to be looked at.
const KEYS: usize = 32;
/// How often the thread that reads keys looks whether anybody wants them still.
const KEY_PATIENCE: Duration = Duration::from_millis(200);

/// Shows the node until `q`; or once, as text or JSON.
///
/// # Errors
/// No node answers, or the terminal cannot be drawn on.
pub fn run(arguments: &TopArguments) -> Outcome {
    let options = Options { sort: arguments.sort, filter: arguments.filter.clone() };
    let screen = Screen::new(options, render::may_colour());
    let machine = arguments.admin.output != Output::Text;
    // One that moves no cursor shows frames one below the other at best.
    let terminals = std::io::stdout().is_terminal() && std::io::stdin().is_terminal() && !render::is_dumb();
    if arguments.once || machine || !terminals {
        return once(arguments, screen);
    }
    // Nobody there is said before the terminal is taken.
    let runtime = super::runtime()?;
    runtime.block_on(look(&arguments.admin.admin_socket))?;
    on_terminal(|terminal| runtime.block_on(watch(arguments, screen, terminal)))?;
    Ok(ExitCode::SUCCESS)
}

/// Takes the terminal for `show`, and gives it back as it was, also where that panics: before the panic is told, so that it can be read.
fn on_terminal(show: impl FnOnce(&mut DefaultTerminal) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut terminal = ratatui::try_init().context("the terminal; `palisade top --once` needs none")?;
    let shown = show(&mut terminal);
    ratatui::restore();
    shown
}

/// Two looks, for rates.
fn once(arguments: &TopArguments, mut screen: Screen) -> Outcome {
    super::runtime()?.block_on(async {
        let socket = &arguments.admin.admin_socket;
        screen.looked(Ok(look(socket).await?));
        tokio::time::sleep(arguments.interval).await;
        screen.looked(Ok(look(socket).await?));
        anyhow::Ok(())
    })?;
    let text = match arguments.admin.output {
        Output::Text => text(&screen, TEXT_COLUMNS)?,
        output => render::document(output, &screen.as_json().context("no frame")?),
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// A whole frame without its last line, which tells of keys.
fn text(screen: &Screen, columns: u16) -> anyhow::Result<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, screen.rows()))?;
    terminal.draw(|canvas| screen.draw(canvas))?;
    let buffer = terminal.backend().buffer();
    let area = buffer.area;
    let line = |y: u16| {
        let line: String = (0..area.width).map(|x| buffer[(x, y)].symbol()).collect();
        line.trim_end().to_owned() + "\n"
    };
    let lines: Vec<String> = (0..area.height.saturating_sub(1)).map(line).collect();
    Ok(lines.concat().trim_end().to_owned() + "\n")
}

async fn watch(arguments: &TopArguments, mut screen: Screen, terminal: &mut DefaultTerminal) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    let mut keys = keys();
    let mut ticks = interval(arguments.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (looks, mut looked) = mpsc::channel(1);
    let mut looking = false;
    loop {
        terminal.draw(|canvas| screen.draw(canvas)).context("the terminal")?;
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => return Ok(()),
            // A node that hangs keeps nobody from pressing keys.
            _ = ticks.tick(), if !looking => {
                looking = true;
                let (looks, socket) = (looks.clone(), arguments.admin.admin_socket.clone());
                tokio::spawn(async move {
                    // Nobody waits for it any more: the view has ended.
                    drop(looks.send(look(&socket).await.map_err(|error| format!("{error:#}"))).await);
                });
            }
            Some(look) = looked.recv() => {
                looking = false;
                screen.looked(look);
            }
            event = keys.recv() => match event {
                None => return Ok(()),
                Some(Event::Key(key)) => if screen.key(key) == Next::Quit { return Ok(()) },
                // A resize is drawn like anything else.
                Some(_) => {}
            },
        }
    }
}

/// Reads the terminal on a thread of its own: reading blocks. It ends with the view, or with the terminal.
fn keys() -> mpsc::Receiver<Event> {
    let (sender, keys) = mpsc::channel(KEYS);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match event::poll(KEY_PATIENCE) {
                Ok(false) => {}
                Ok(true) => {
                    let Ok(event) = event::read() else { return };
                    if sender.blocking_send(event).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
    });
    keys
}

async fn look(socket: &Path) -> anyhow::Result<Look> {
    let (activity, workloads, tree, readiness, policies) = tokio::join!(
        document(socket, "/v1/activity"),
        document(socket, "/v1/workloads"),
        document(socket, "/v1/tree"),
        document(socket, "/readyz"),
        document(socket, "/v1/policies"),
    );
    Ok(Look { activity: activity?, workloads: workloads?, tree: tree?, readiness: readiness?, policies: policies? })
}

async fn document<T: DeserializeOwned>(socket: &Path, route: &str) -> anyhow::Result<T> {
    let value = admin_client::document(socket, route).await?;
    serde_json::from_value(value).with_context(|| {
        format!("{route} of this node is of another version: compare `palisade version` with the node's")
    })
}
