//! How a screen looks: from what is known to cells, for any size of terminal. Pure; what does not fit is left out from the
//! bottom up, the numbers of the head last.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Sparkline, Table, TableState, Wrap};

use super::sample::{Aggregator, Sample};
use super::screen::{Rates, Screen, Shown};

/// Blocks of the bar that a queue fills.
const BLOCKS: u64 = 8;
/// Rows of the overview.
const OVERVIEW: u16 = 4;
/// Rows about the chosen aggregator.
const DETAIL: u16 = 2;
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

/// Draws the screen into the frame, whatever its size.
pub fn draw(frame: &mut Frame, screen: &Screen) {
    let foot = frame.area().height.saturating_sub(1).min(1);
    let [head, rest, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(foot)]).areas(frame.area());
    frame.render_widget(Paragraph::new(headline(screen)), head);
    frame.render_widget(Paragraph::new(footline(screen)), foot);
    let Some(shown) = &screen.shown else { return };
    // A blank line before each list, then its header.
    let sources = match shown.sample.sources.len() {
        0 => 0,
        count => u16::try_from(count).unwrap_or(u16::MAX).saturating_add(2),
    };
    let [overview_area, sources_area, aggregators_area, detail_area] = Layout::vertical([
        Constraint::Length(OVERVIEW.min(rest.height)),
        Constraint::Length(sources.min(rest.height.saturating_sub(OVERVIEW + 3))),
        Constraint::Min(0),
        Constraint::Length(if rest.height >= OVERVIEW + sources + 3 + DETAIL { DETAIL } else { 0 }),
    ])
    .areas(rest);
    overview(frame, overview_area, screen, shown);
    source_list(frame, sources_area, shown);
    aggregator_list(frame, aggregators_area, screen, &shown.sample);
    frame.render_widget(Paragraph::new(detail(screen, &shown.sample)).wrap(Wrap { trim: true }), detail_area);
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
        Some((reason, rounds)) => {
            let again = if *rounds > 1 { format!(", tried {rounds} times") } else { String::new() };
            spans.push(Span::styled(format!("  NO ANSWER{again}: {reason}"), ALARM));
        }
        None if screen.shown.is_none() => spans.push(Span::raw(format!("  asking {}", screen.address))),
        None => {}
    }
    Line::from(spans)
}

fn footline(screen: &Screen) -> Line<'_> {
    let keys = if screen.keys { "q quit  p pause  up/down choose  " } else { "" };
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
    let dropped = match sample.dropped {
        0 => String::new(),
        dropped => format!("  {} dropped", grouped(dropped)),
    };
    vec![
        line("accepted", now.accepted, sample.accepted, HEAD),
        line("rejected", now.rejected, sample.rejected, alarm(now.rejected > 0)),
        line("duplicates", now.duplicates, sample.duplicates, Style::new()),
        Line::styled(format!("{:<11}{read:>13}{dropped}", "read"), alarm(sample.dropped > 0)),
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
    let behind = match sample.records_behind {
        0 => String::new(),
        behind => format!(", {} records to write", grouped(behind)),
    };
    vec![
        Line::from(vec![Span::raw("queue    "), Span::styled(queue, style)]),
        Line::raw(format!("log      {}, {} in memory", size(sample.log), size(sample.tail))),
        Line::raw(format!("flushes  {}{behind}", grouped(sample.flushes))),
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

fn aggregator_list(frame: &mut Frame, area: Rect, screen: &Screen, sample: &Sample) {
    let columns = [
        ("aggregator", 22),
        ("state", 12),
        ("behind", 14),
        ("refused", 12),
        ("age", 10),
        ("memory", 11),
        ("version", 12),
    ];
    let rows = sample.aggregators.iter().map(|(name, aggregator)| {
        let cells = vec![
            name.clone(),
            state_of(aggregator).to_string(),
            grouped(aggregator.lag),
            grouped(aggregator.refusals()),
            aggregator.age.map_or("-".to_string(), |age| format!("{age:.1} s")),
            aggregator.memory.map_or("-".to_string(), size),
            aggregator.version.clone(),
        ];
        (cells, if is_well(aggregator) { Style::new() } else { ALARM })
    });
    list(frame, area, &columns, rows.collect(), Some(screen.chosen));
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
    let widths = columns[..shown].iter().enumerate().map(|(index, (_, width))| match index {
        0 => Constraint::Length((*width).min(area.width)),
        _ => Constraint::Length(*width),
    });
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

fn is_well(aggregator: &Aggregator) -> bool {
    aggregator.state == "running" && aggregator.complete
}

fn state_of(aggregator: &Aggregator) -> &str {
    match aggregator.state.as_str() {
        "running" if !aggregator.complete => "incomplete",
        state => state,
    }
}

/// What there is to say of the chosen aggregator.
fn detail(screen: &Screen, sample: &Sample) -> Line<'static> {
    let Some((name, aggregator)) = sample.aggregators.iter().nth(screen.chosen) else { return Line::default() };
    let mut said = vec![
        format!("{name}: watermark {}", aggregator.watermark.as_deref().unwrap_or("-")),
        format!("{} applied", grouped(aggregator.applied)),
    ];
    said.extend(aggregator.refused.iter().map(|(reason, count)| format!("{} refused ({reason})", grouped(*count))));
    if aggregator.skipped > 0 {
        said.push(format!("{} skipped", grouped(aggregator.skipped)));
    }
    said.extend(aggregator.reason.clone());
    Line::styled(said.join(", "), if aggregator.reason.is_some() { ALARM } else { DIM })
}

/// 1234567 as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as people read them.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Seconds as people read them.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}
