//! How a screen looks: from what is known to cells, for any size of terminal. Pure; what does not fit is left out from the
//! bottom up, the numbers of the head last.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Sparkline, Table, TableState, Wrap};

use super::columns::{Column, Row as Known};
use super::sample::Sample;
use super::screen::{Rates, Screen, Shown};
use crate::units::{duration, grouped, size, time};

/// Blocks of the bar that a queue fills.
const BLOCKS: u64 = 8;
/// Rows of the overview.
const OVERVIEW: u16 = 6;
/// Rows about the chosen aggregator.
const DETAIL: u16 = 2;
/// Rows that say why there is no answer.
const TROUBLE: u16 = 2;
/// Narrower than this, the overview is one column.
const TWO_COLUMNS: u16 = 80;
/// Columns of a count with its rate and its total.
const EVENTS: usize = 39;
/// Columns left of the second one.
const FIRST_COLUMN: u16 = 41;

const ALARM: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const HEAD: Style = Style::new().add_modifier(Modifier::BOLD);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Rows that show everything.
pub fn height(screen: &Screen) -> u16 {
    let Some(shown) = &screen.shown else { return 2 };
    let rows = |count: usize| u16::try_from(count).unwrap_or(u16::MAX).saturating_add(2);
    let lists = rows(shown.sample.sources.len()).saturating_add(rows(shown.sample.aggregators.len()));
    lists.saturating_add(2 + OVERVIEW + DETAIL)
}

/// Columns that show everything of every aggregator.
pub fn width(screen: &Screen) -> u16 {
    let rows = screen.rows();
    let longest = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let columns = Column::ALL.map(|column| column.head().1);
    columns[0].max(u16::try_from(longest).unwrap_or(u16::MAX)).saturating_add(columns[1..].iter().sum())
}

/// Draws the screen into the frame, whatever its size.
pub fn draw(frame: &mut Frame, screen: &Screen) {
    let foot = frame.area().height.saturating_sub(1).min(1);
    let trouble = if screen.lost.is_some() { frame.area().height.saturating_sub(2).min(TROUBLE) } else { 0 };
    let [head, rest, trouble, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(trouble),
        Constraint::Length(foot),
    ])
    .areas(frame.area());
    if let Some((reason, _)) = &screen.lost {
        frame.render_widget(Paragraph::new(Line::styled(reason, ALARM)).wrap(Wrap { trim: true }), trouble);
    }
    frame.render_widget(Paragraph::new(headline(screen)), head);
    frame.render_widget(Paragraph::new(footline(screen)), foot);
    let Some(shown) = &screen.shown else { return };
    // A blank line before each list, then its header.
    let lines = |count: usize| if count == 0 { 0 } else { u16::try_from(count).unwrap_or(u16::MAX).saturating_add(2) };
    let (sources, aggregators) = (lines(shown.sample.sources.len()), lines(shown.sample.aggregators.len()));
    // Doors give way to aggregators.
    let room = rest.height.saturating_sub(OVERVIEW + DETAIL);
    let sources = if sources.saturating_add(aggregators) <= room { sources } else { 0 };
    let [overview_area, sources_area, aggregators_area, detail_area] = Layout::vertical([
        Constraint::Length(OVERVIEW.min(rest.height)),
        Constraint::Length(sources),
        Constraint::Min(0),
        Constraint::Length(if rest.height >= OVERVIEW + sources + 3 + DETAIL { DETAIL } else { 0 }),
    ])
    .areas(rest);
    overview(frame, overview_area, screen, shown);
    source_list(frame, sources_area, shown);
    let rows = screen.rows();
    aggregator_list(frame, aggregators_area, screen, &rows);
    frame.render_widget(Paragraph::new(detail(rows.get(screen.chosen()))).wrap(Wrap { trim: true }), detail_area);
}

fn headline(screen: &Screen) -> Line<'_> {
    let mut spans = vec![Span::styled("tally", HEAD)];
    if let Some(Shown { sample, .. }) = &screen.shown {
        let Sample { version, uptime, sequence, .. } = sample;
        spans.push(Span::raw(format!(" {version}  up {}  sequence {}", duration(*uptime), grouped(*sequence))));
        if let Some(reason) = &sample.not_ready {
            spans.push(Span::styled(format!("  NOT READY: {}", reason.replace('_', " ")), ALARM));
        }
    }
    if screen.paused {
        spans.push(Span::styled("  PAUSED", ALARM));
    }
    match &screen.lost {
        Some((_, rounds)) => {
            let again = if *rounds > 1 { format!(", tried {rounds} times") } else { String::new() };
            spans.push(Span::styled(format!("  NO ANSWER{again}"), ALARM));
        }
        None if screen.shown.is_none() => spans.push(Span::raw(format!("  asking {}", screen.address))),
        None => {}
    }
    Line::from(spans)
}

fn footline(screen: &Screen) -> Line<'_> {
    let keys = match screen.keys {
        true => format!("q quit  p pause  up/down choose  left/right sort by {}  ", screen.sorted_by().head().0),
        false => String::new(),
    };
    Line::styled(format!("{keys}{}", screen.address), DIM)
}

fn overview(frame: &mut Frame, area: Rect, screen: &Screen, shown: &Shown) {
    if area.width < TWO_COLUMNS {
        let [left, right] = Layout::vertical([Constraint::Length(3), Constraint::Min(0)]).areas(area);
        frame.render_widget(Paragraph::new(events(shown, left.width)), left);
        frame.render_widget(Paragraph::new(state(&shown.sample)), right);
        return;
    }
    let state_columns = 42.min(area.width - FIRST_COLUMN);
    let [left, middle, right] =
        Layout::horizontal([Constraint::Length(FIRST_COLUMN), Constraint::Length(state_columns), Constraint::Min(0)])
            .areas(area);
    frame.render_widget(Paragraph::new(events(shown, left.width)), left);
    frame.render_widget(Paragraph::new(state(&shown.sample)), middle);
    if right.width >= 8 {
        curve(frame, right, screen);
    }
}

fn events(shown: &Shown, width: u16) -> Vec<Line<'static>> {
    let Shown { sample, rates } = shown;
    let unknown = Rates::default();
    let now = rates.as_ref().unwrap_or(&unknown);
    let line = |name: &str, rate: u64, total: u64, style: Style| {
        let rate = if rates.is_some() { format!("{}/s", grouped(rate)) } else { "-".to_string() };
        let total = if usize::from(width) < EVENTS { String::new() } else { format!("  {:>13}", grouped(total)) };
        Line::styled(format!("{name:<11}{rate:>13}{total}"), style)
    };
    let alarm = |bad: bool| if bad { ALARM } else { Style::new() };
    let read = match now.bytes.filter(|_| rates.is_some()) {
        Some(bytes) => format!("{}/s", size(bytes)),
        None => "-".to_string(),
    };
    vec![
        line("accepted", now.accepted, sample.accepted, HEAD),
        line("rejected", now.rejected, sample.rejected, alarm(now.rejected > 0)),
        Line::raw(format!("{:<11}{read:>13}", "read")),
        line("received", now.received, sample.received, Style::new()),
        line("duplicates", now.duplicates, sample.duplicates, Style::new()),
        line("dropped", now.dropped, sample.dropped, alarm(now.dropped > 0)),
    ]
}

fn state(sample: &Sample) -> Vec<Line<'static>> {
    let fill = match sample.queue_max {
        0 => 0,
        most => sample.queue.min(most) * BLOCKS / most,
    };
    let full = usize::try_from(fill).unwrap_or(0);
    let empty = usize::try_from(BLOCKS - fill).unwrap_or(0);
    let queue =
        format!("{}{} {} of {}", "█".repeat(full), "░".repeat(empty), size(sample.queue), size(sample.queue_max));
    let style = if fill * 5 >= BLOCKS * 4 { ALARM } else { Style::new() };
    // Whoever does not run is behind for good.
    let running = || sample.aggregators.values().filter(|aggregator| aggregator.state == "running");
    let behind = running().map(|aggregator| aggregator.behind).max().unwrap_or(0);
    let lag = match running().filter(|aggregator| aggregator.replaying).count() {
        0 => format!("lag      {} events", grouped(behind)),
        replaying => format!("lag      {} events, {replaying} replaying", grouped(behind)),
    };
    let took = sample.flush_lag.map(|seconds| format!(", the last in {}", time(seconds))).unwrap_or_default();
    let unwritten = match sample.records_behind {
        0 => String::new(),
        behind => format!(", {} to write", grouped(behind)),
    };
    vec![
        Line::from(vec![Span::raw("queue    "), Span::styled(queue, style)]),
        Line::raw(lag),
        Line::raw(format!("log      {}, {} in memory", size(sample.log), size(sample.tail))),
        Line::raw(format!("waiting  {} lines in the queue", grouped(sample.queue_lines))),
        Line::raw(format!("flushes  {}{took}{unwritten}", grouped(sample.flushes))),
        Line::raw(format!("open     {} events since a cut", grouped(sample.open_events))),
    ]
}

/// Accepted events per second, the newest at the right.
fn curve(frame: &mut Frame, area: Rect, screen: &Screen) {
    let width = usize::from(area.width);
    let newest: Vec<u64> = screen.history.iter().rev().take(width).rev().copied().collect();
    let data: Vec<u64> = std::iter::repeat_n(0, width - newest.len()).chain(newest).collect();
    frame.render_widget(Sparkline::default().data(data), area);
}

fn source_list(frame: &mut Frame, area: Rect, shown: &Shown) {
    let columns = [("source", 16), ("lines", 13), ("bytes", 14), ("connections", 12), ("refused", 10)];
    let rows = shown.sample.sources.iter().map(|(name, source)| {
        let rate = shown.rates.as_ref().and_then(|rates| rates.sources.get(name));
        let (lines, bytes) = match rate {
            Some((lines, bytes)) => (format!("{}/s", grouped(*lines)), format!("{}/s", size(*bytes))),
            None => ("-".to_string(), "-".to_string()),
        };
        let cells = vec![name.clone(), lines, bytes, grouped(source.connections), grouped(source.refused)];
        (cells, if source.refused > 0 { ALARM } else { Style::new() })
    });
    list(frame, area, &columns, rows.collect(), None);
}

fn aggregator_list(frame: &mut Frame, area: Rect, screen: &Screen, known: &[Known<'_>]) {
    let columns = Column::ALL.map(Column::head);
    let rows = known.iter().map(|row| {
        let cells = Column::ALL.iter().map(|column| column.cell(row)).collect();
        (cells, if is_well(row) { Style::new() } else { ALARM })
    });
    list(frame, area, &columns, rows.collect(), Some(screen.chosen()));
}

/// A table below a blank line. The first column takes what is left and may be cut off; of the others, at the right of
/// theirs, as many are shown as fit whole, since half a number is a wrong one.
fn list(
    frame: &mut Frame,
    area: Rect,
    columns: &[(&str, u16)],
    rows: Vec<(Vec<String>, Style)>,
    chosen: Option<usize>,
) {
    let mut left = area.width;
    let fitting = columns.iter().take_while(|(_, width)| {
        let fits = left >= *width;
        left = left.saturating_sub(*width);
        fits
    });
    let shown = fitting.count().max(1);
    let others: u16 = columns[1..shown].iter().map(|(_, width)| width).sum();
    let longest = rows.iter().map(|(cells, _)| cells[0].chars().count()).max().unwrap_or(0);
    let first = columns[0].1.max(u16::try_from(longest).unwrap_or(u16::MAX)).min(area.width - others.min(area.width));
    let widths =
        std::iter::once(first).chain(columns[1..shown].iter().map(|(_, width)| *width)).map(Constraint::Length);
    let align = |cells: Vec<String>| {
        let aligned = cells.into_iter().zip(columns).take(shown).enumerate();
        Row::new(aligned.map(|(index, (cell, (_, width)))| match index {
            0 => cell,
            _ => format!("{cell:>width$}", width = usize::from(*width)),
        }))
    };
    let header = align(columns.iter().map(|(name, _)| (*name).to_string()).collect()).style(HEAD);
    let rows = rows.into_iter().map(|(cells, style)| align(cells).style(style));
    let table = Table::new(rows, widths).header(header).column_spacing(0).row_highlight_style(CHOSEN);
    frame.render_stateful_widget(table, below_a_blank(area), &mut TableState::default().with_selected(chosen));
}

fn below_a_blank(area: Rect) -> Rect {
    let blank = area.height.min(1);
    Rect { y: area.y + blank, height: area.height - blank, ..area }
}

fn is_well(row: &Known) -> bool {
    row.aggregator.state == "running" && row.aggregator.complete
}

/// What there is to say of the chosen aggregator.
fn detail(chosen: Option<&Known>) -> Line<'static> {
    let Some(Known { name, aggregator, .. }) = chosen else { return Line::default() };
    let mut said = vec![
        format!("{name}: watermark {}", aggregator.watermark.as_deref().unwrap_or("-")),
        format!("{} applied", grouped(aggregator.applied)),
        format!("{} unsaved", grouped(aggregator.unsaved)),
    ];
    said.extend(aggregator.refused.iter().map(|(reason, count)| format!("{} refused ({reason})", grouped(*count))));
    if aggregator.skipped > 0 {
        said.push(format!("{} skipped", grouped(aggregator.skipped)));
    }
    said.extend(aggregator.reason.clone());
    Line::styled(said.join(", "), if aggregator.reason.is_some() { ALARM } else { DIM })
}
