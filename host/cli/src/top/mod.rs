//! `tally top`: a daemon watched live. This file is the loop of keys, samples and frames; asking is in `poll`, what an
//! answer means in `sample`, what came of several of them in `screen`, and how that looks in `view`.

mod poll;
mod sample;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::{DefaultTerminal, Terminal};

use crate::client::Target;
use crate::outcome::{Usage, print};
use poll::Poll;
use screen::Screen;

/// How often keys are looked at.
const KEYS: Duration = Duration::from_millis(50);
/// Columns of a frame that goes to a file or a pipe.
const WIDTH: u16 = 100;

/// Watches a daemon live: rates, queue, log, flushes, sources, aggregators.
///
/// Keys: q ends, p pauses, arrows choose an aggregator. It goes on when the daemon goes away, and shows it again when it
/// is back.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  tally top --to /tmp/tally.sock.query
  tally top --once --to http://localhost:7073 | head -3")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Print one frame as plain text, after a second of measuring, and end
    #[arg(long)]
    once: bool,
}

/// Watches until told to stop.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.once {
        print(&once(Poll::start(&args.target)?)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !std::io::stdout().is_terminal() {
        return Err(Usage(anyhow!("stdout is no terminal; `tally top --once` prints one frame as text")).into());
    }
    let poll = Poll::start(&args.target)?;
    let mut terminal = ratatui::try_init().context("cannot draw on this terminal; try `tally top --once`")?;
    let outcome = watch(&mut terminal, &poll);
    ratatui::restore();
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// Two samples, since rates need two; then a frame as high as it has to be.
fn once(poll: Poll) -> anyhow::Result<String> {
    let mut screen = Screen::new(poll.address());
    for _ in 0..2 {
        match poll.next().context("the thread that asks has ended")? {
            Ok(sample) => screen.take(sample),
            Err(error) => bail!("{error}"),
        }
    }
    text(&screen, WIDTH, view::height(&screen))
}

/// A frame as lines of text.
fn text(screen: &Screen, width: u16, height: u16) -> anyhow::Result<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height))?;
    terminal.draw(|frame| view::draw(frame, screen))?;
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(width).max(1));
    Ok(lines
        .map(|cells| cells.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_string() + "\n")
        .collect())
}

fn watch(terminal: &mut DefaultTerminal, poll: &Poll) -> anyhow::Result<()> {
    let mut screen = Screen::new(poll.address());
    screen.keys = true;
    let mut changed = true;
    loop {
        loop {
            match poll.try_next() {
                Ok(Ok(sample)) => screen.take(sample),
                Ok(Err(error)) => screen.lose(error),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => bail!("the thread that asks has ended"),
            }
            changed = true;
        }
        if changed {
            terminal.draw(|frame| view::draw(frame, &screen))?;
        }
        changed = event::poll(KEYS)?;
        if changed && press(&mut screen, &event::read()?) {
            return Ok(());
        }
    }
}

/// What a key or another event of the terminal does; true for the end.
fn press(screen: &mut Screen, event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    if key.kind == KeyEventKind::Release {
        return false;
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
        KeyCode::Char('p' | ' ') => screen.pause(),
        KeyCode::Down | KeyCode::Char('j') => screen.choose(1),
        KeyCode::Up | KeyCode::Char('k') => screen.choose(-1),
        _ => {}
    }
    false
}
