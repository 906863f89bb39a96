//! `tally top`: a daemon watched live. This file is the loop of keys, samples and frames; asking is in `poll`, what an
//! answer means in `sample`, what came of several of them in `screen`, and how that looks in `columns` and `view`.

mod columns;
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
use tally_daemon::config::parse_duration;

use crate::client::Target;
use crate::outcome::{Usage, print};
use poll::{Poll, Polled};
use screen::Screen;

/// How often keys are looked at.
const KEYS: Duration = Duration::from_millis(50);
/// The shortest interval.
const SHORTEST: Duration = Duration::from_millis(100);

/// Watches a daemon live: rates, queue, lag, log, flushes, sources, and what each aggregator costs.
///
/// Of an aggregator: events given to it per second, events that it has not looked at yet (behind), time and instructions per event
/// (of late, otherwise since the daemon started; an instruction is a unit of wasmtime's fuel), the largest share of its compute
/// budget that a call has used, memory, saved bytes. Keys: q ends, p pauses, up and down choose an aggregator, left and right the
/// column to sort by. It goes on when the daemon goes away, and shows it again when it is back. Where stdout is no terminal, it
/// prints one frame as --once does.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  tally top --to /tmp/tally.sock.query
  tally top --interval 5s --to /tmp/tally.sock.query
  tally top --once --to http://localhost:7073 | head -3")]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// Print one frame as plain text, after measuring for an interval, and end
    #[arg(long)]
    once: bool,
    /// How often to ask
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    interval: Duration,
}

/// Watches until told to stop.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.interval < SHORTEST {
        return Err(Usage(anyhow!("--interval {:?} is too short; give 100ms or more", args.interval)).into());
    }
    let poll = Poll::start(&args.target, args.interval)?;
    if args.once || !std::io::stdout().is_terminal() {
        print(&once(&poll)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut terminal = ratatui::try_init()
        // Half of it may be done.
        .inspect_err(|_| drop(ratatui::try_restore()))
        .context("cannot draw on this terminal; try `tally top --once`")?;
    let outcome = watch(&mut terminal, &poll);
    ratatui::restore();
    outcome?;
    Ok(ExitCode::SUCCESS)
}

/// Two samples, since rates need two; then a frame as large as it has to be.
fn once(poll: &Poll) -> anyhow::Result<String> {
    let mut screen = Screen::new(poll.address());
    for _ in 0..2 {
        match poll.next().context("the thread that asks has ended")? {
            Polled::Sample(sample) => screen.take(*sample),
            Polled::Lost(error) => bail!("{error}"),
            Polled::Ended => bail!("a signal ended it"),
        }
    }
    text(&screen, view::width(&screen), view::height(&screen))
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
                Ok(Polled::Sample(sample)) => screen.take(*sample),
                Ok(Polled::Lost(error)) => screen.lose(error),
                Ok(Polled::Ended) => return Ok(()),
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
        KeyCode::Right | KeyCode::Char('l') => screen.sort(1),
        KeyCode::Left | KeyCode::Char('h') => screen.sort(-1),
        _ => {}
    }
    false
}
