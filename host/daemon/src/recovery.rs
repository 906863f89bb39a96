//! Start-up from what is on disk: folds the log's entries into the control state, and finds where each aggregator goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use tally_aggregate::{Attached, Barrier, Control, Detached, Entries, Entry, IdWindow, Note};
use tally_state::Store;
use tally_storage::Storage;
use tally_wal::{Reader, View};

use crate::aggregator::line::{self, Saved};
use crate::aggregator::{Meta, Start, presets};
use crate::feed::Position;
use crate::progress::Progress;
use crate::records::Cursor;

/// The control state right behind `until` (the end of the log for none). Reads from the opening of the segment that holds
/// it, so the cost is that of one segment.
pub fn control_at<S: Storage>(
    reader: &mut Reader<S>,
    until: Option<Position>,
    last_frame: u64,
) -> anyhow::Result<Control> {
    fold(reader, until, last_frame, |_| {})
}

/// The control state at the end of the log, and the event ids that it remembers there: at most `most`, of the last `micros` microseconds of their clock.
/// Reads the last segment.
pub fn at_end<S: Storage>(
    reader: &mut Reader<S>,
    last_frame: u64,
    most: usize,
    micros: i64,
) -> anyhow::Result<(Control, IdWindow)> {
    let mut window = IdWindow::new(most, micros);
    let control = fold(reader, None, last_frame, |entry| {
        if let (Entry::Ids { at, ids }, true) = (entry, window.is_on()) {
            window.restore(*at, tally_aggregate::entry::ids(ids));
        }
    })?;
    Ok((control, window))
}

fn fold<S: Storage>(
    reader: &mut Reader<S>,
    until: Option<Position>,
    last_frame: u64,
    mut look: impl FnMut(&Entry<'_>),
) -> anyhow::Result<Control> {
    let mut control = Control::default();
    let stop_frame = until.map_or(last_frame, |position| position.frame);
    if stop_frame == 0 {
        return Ok(control);
    }
    reader.seek_segment_of(stop_frame).with_context(|| format!("looking for frame {stop_frame} of the log"))?;
    while reader.advance().context("reading the log")?
        && let Some(View { number, body, .. }) = reader.current()
    {
        for entry in Entries::new(body) {
            let entry = entry.with_context(|| format!("frame {number} of the log"))?;
            look(&entry);
            control.apply(number, &entry);
            if let (Entry::Barrier(barrier), Some(until)) = (&entry, until)
                && number == until.frame
                && barrier.cut == until.cut
            {
                return Ok(control);
            }
        }
        control.frame = number;
        if number >= stop_frame {
            break;
        }
    }
    anyhow::ensure!(
        control.frame == stop_frame,
        "the log ends at frame {}, but the state store knows frame {stop_frame}: the log is not the one this state was made from, \
         or its end is lost",
        control.frame
    );
    Ok(control)
}

/// Quarantines of those aggregators whose plugin does not even start any more, under lower limits perhaps: that is no
/// reason for everybody else not to start. A stored plugin that is missing or changed is one.
pub fn broken<S: Storage>(
    control: &Control,
    registry: &crate::plugins::Registry<S>,
    store: &Store,
) -> anyhow::Result<Vec<Note>> {
    let mut notes = Vec::new();
    for (name, attached) in &control.plan.aggregators {
        if control.quarantined.contains_key(name) {
            continue;
        }
        let Err(error) = registry.configured(&attached.digest, &attached.settings) else { continue };
        let reason = match error.downcast::<tally_plugin::PluginError>() {
            Ok(error) => error.to_string(),
            Err(error) => return Err(error.context(format!("starting aggregator {name}"))),
        };
        tracing::error!(aggregator = name, reason, "quarantined");
        let saved = Saved::load(&store.snapshot()?, name, Some(attached.line))?;
        let after_cut = saved.map_or(attached.applies_after, |saved| saved.meta.cut);
        notes.push(Note::Quarantined { name: name.clone(), after_cut, reason });
    }
    Ok(notes)
}

/// Everything that has to run from the start: attached aggregators, and paused ones that have not yet saved the cut at
/// which they were paused. Quarantined ones stay as they are.
pub fn starts<S: Storage>(
    store: &Store,
    reader: &Reader<S>,
    control: &Control,
    progress: &Progress,
) -> anyhow::Result<Vec<Start>> {
    progress.update(|facts| facts.skips.clone_from(&control.skips));
    let left = control.detached.iter().filter_map(|(name, detached)| Some((name, detached.quarantine.as_ref()?)));
    for (name, quarantine) in control.quarantined.iter().chain(left) {
        progress
            .update(|facts| facts.quarantined.insert(name.clone(), (quarantine.after_cut, quarantine.reason.clone())));
    }
    let records = Cursor::load(store)?.log.frame;
    anyhow::ensure!(
        records <= control.frame,
        "the log ends at frame {}, but the analytics files go up to frame {records}: the end of the log is lost",
        control.frame
    );
    let mut names: BTreeMap<String, Option<Meta>> =
        control.plan.aggregators.keys().chain(control.detached.keys()).map(|name| (name.clone(), None)).collect();
    let snapshot = store.snapshot()?;
    for name in line::aggregators(store)? {
        let detached = control.detached.get(&name).map(|detached| &detached.attached);
        let line = control.plan.aggregators.get(&name).or(detached).map(|attached| attached.line);
        if let Some(Saved { meta, .. }) = Saved::load(&snapshot, &name, line)? {
            anyhow::ensure!(
                meta.frame <= control.frame,
                "the log ends at frame {}, but aggregator {name} has saved frame {}: the end of the log is lost",
                control.frame,
                meta.frame
            );
            // Also of those that do not run now: a record that is not written yet may hold a part of them, or an anchor wait
            // for the total that they saved.
            progress.update(|facts| facts.saved.insert(name.clone(), meta.clone()));
            if line.is_none() || detached.is_some() {
                // It may return as soon as the plugins are looked at.
                progress.update(|facts| facts.returning.insert(name.clone(), meta.frame));
            }
            if let Some(pinned) = &meta.pinned {
                progress.update(|facts| facts.pinned.insert(name.clone(), pinned.known()));
            }
            names.insert(name, Some(meta));
        }
    }
    let mut starts = Vec::new();
    // Most have saved the same cut.
    let mut then = None;
    for (name, meta) in names {
        if progress.facts().quarantined.contains_key(&name) {
            continue;
        }
        if let Some(start) = start_of(reader, control, &mut then, name, meta)? {
            starts.push(start);
        }
    }
    Ok(starts)
}

fn start_of<S: Storage>(
    reader: &Reader<S>,
    control: &Control,
    known: &mut Option<(Position, Control)>,
    name: String,
    meta: Option<Meta>,
) -> anyhow::Result<Option<Start>> {
    let reader = &mut reader.clone();
    let behind = |detached: &&Detached| meta.as_ref().is_none_or(|meta| meta.cut < detached.at);
    let detached = control.detached.get(&name).filter(behind).map(|detached| &detached.attached);
    let current = control.plan.aggregators.get(&name).or(detached);
    // Detached, and nothing waits for it: the log need not have what it has not seen.
    let Some(current) = current else { return Ok(None) };
    let position = match &meta {
        Some(meta) => meta.position(),
        // Attached, but the daemon ended before anything was saved of it: it begins at its attachment.
        None => find_cut(reader, current.applies_after, control.frame)?,
    };
    let then = match known.take() {
        Some((at, then)) if at == position => then,
        _ => control_at(reader, Some(position), control.frame)?,
    };
    let (_, then) = known.insert((position, then));
    let attached = match current {
        // Attached anew and still catching up: what was attached then covers everything up to there.
        attached if attached.attached_at > position.cut => {
            let attachment = find_cut(reader, attached.attached_at, control.frame)?;
            control_at(reader, Some(attachment), control.frame)?.plan.aggregators.get(&name).cloned()
        }
        _ => then.plan.aggregators.get(&name).cloned(),
    };
    let Some(attached) = attached else { return Ok(None) };
    let meta = meta.unwrap_or_else(|| Meta::start(&name, &attached, position, then.cut_sequence));
    Ok(Some(Start { name, attached, meta, presets: presets(&then.plan)? }))
}

/// The frame that holds a cut.
pub fn find_cut<S: Storage>(reader: &mut Reader<S>, cut: u64, last_frame: u64) -> anyhow::Result<Position> {
    if cut == 0 {
        return Ok(Position::default());
    }
    open_segment(reader, last_frame, |opening| opening.cut < cut)?;
    let found = scan(reader, |frame, barrier| (barrier.cut >= cut).then_some((frame, barrier.cut)))?;
    match found.filter(|(_, found)| *found == cut) {
        Some((frame, cut)) => Ok(Position { frame, cut }),
        None => anyhow::bail!("cut {cut} is not in the log any more"),
    }
}

/// A cut, and what an aggregator has not seen that begins behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begins {
    /// The cut.
    pub position: Position,
    /// The last event before it.
    pub last_sequence: u64,
    /// When it was taken, microseconds since the Unix epoch.
    pub at: i64,
}

/// The last cut up to `micros` since the Unix epoch; the beginning of everything if there is none before. Where the log does not have that
/// any more, the first cut that it has.
pub fn last_cut_until<S: Storage>(reader: &mut Reader<S>, micros: i64, last_frame: u64) -> anyhow::Result<Begins> {
    if last_frame == 0 {
        return Ok(Begins::default());
    }
    let opening = open_segment(reader, last_frame, |opening| opening.cut_at <= micros)?;
    let mut found = None;
    let first = scan(reader, |frame, barrier| {
        let begins = Begins {
            position: Position { frame, cut: barrier.cut },
            last_sequence: barrier.last_sequence,
            at: barrier.at,
        };
        if barrier.at <= micros {
            found = Some(begins);
        }
        (barrier.at > micros).then_some(begins)
    })?;
    match found {
        Some(found) => Ok(found),
        None if opening.cut == 0 => Ok(Begins::default()),
        // The last one before this segment, if the log still has that.
        None if opening.frame >= reader.first_frame() => {
            let position = find_cut(reader, opening.cut, last_frame)?;
            Ok(Begins { position, last_sequence: opening.cut_sequence, at: opening.cut_at })
        }
        None => first.context("the log has no cut yet"),
    }
}

/// That cut, or the first one that the log has if that comes later.
pub fn cut_from<S: Storage>(reader: &mut Reader<S>, cut: u64, last_frame: u64) -> anyhow::Result<Begins> {
    let first = last_cut_until(reader, i64::MIN, last_frame)?;
    if first.position.cut >= cut {
        return Ok(first);
    }
    let position = find_cut(reader, cut, last_frame)?;
    let then = control_at(reader, Some(position), last_frame)?;
    Ok(Begins { position, last_sequence: then.cut_sequence, at: then.cut_at })
}

/// Makes the frame behind the opening the next to be read of the newest segment whose opening is `before` what is looked for; of the oldest
/// that is there if none is. Gives the opening.
fn open_segment<S: Storage>(
    reader: &mut Reader<S>,
    last_frame: u64,
    before: impl Fn(&Control) -> bool,
) -> anyhow::Result<Control> {
    let mut frame = last_frame;
    loop {
        reader.seek_segment_of(frame).with_context(|| format!("looking for frame {frame} of the log"))?;
        let first = reader.position();
        let mut control = Control::default();
        if reader.advance().context("reading the log")?
            && let Some(View { number, body, .. }) = reader.current()
            && let Some(entry) = Entries::new(body).next()
            && let Entry::Opening(opening) = entry.with_context(|| format!("frame {number} of the log"))?
        {
            control = *opening;
        }
        if before(&control) || first <= reader.first_frame() {
            reader.seek_segment_of(first)?;
            return Ok(Control { frame: first.saturating_sub(1), ..control });
        }
        frame = first - 1;
    }
}

/// Looks at the barriers from here on until one is found.
fn scan<S: Storage, T>(
    reader: &mut Reader<S>,
    mut look: impl FnMut(u64, &Barrier) -> Option<T>,
) -> anyhow::Result<Option<T>> {
    while reader.advance().context("reading the log")?
        && let Some(View { number, body, .. }) = reader.current()
    {
        for entry in Entries::new(body) {
            if let Entry::Barrier(barrier) = entry.with_context(|| format!("frame {number} of the log"))?
                && let Some(found) = look(number, &barrier)
            {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// Whether the log ends without a flush behind `position`. Reads no further than to the next opening, which says how many there were.
pub fn has_no_flush_behind<S: Storage>(
    reader: &mut Reader<S>,
    position: Position,
    control: &Control,
) -> anyhow::Result<bool> {
    if control.batch_id == 0 {
        return Ok(true);
    }
    reader.seek(position.frame.max(1)).with_context(|| format!("looking for frame {} of the log", position.frame))?;
    while reader.position() <= control.frame
        && reader.advance().context("reading the log")?
        && let Some(View { number, body, .. }) = reader.current()
    {
        for entry in Entries::new(body) {
            match entry.with_context(|| format!("frame {number} of the log"))? {
                Entry::Opening(opening) => return Ok(opening.batch_id == control.batch_id),
                Entry::Barrier(barrier) if barrier.flush.is_some() && barrier.cut > position.cut => return Ok(false),
                _ => {}
            }
        }
    }
    Ok(true)
}

/// An aggregator that is attached now, at `position`.
pub fn fresh(
    name: &str,
    attached: &Attached,
    position: Position,
    sequence: u64,
    presets: Vec<tally_event::schema::Preset>,
) -> Start {
    let meta = Meta::start(name, attached, position, sequence);
    Start { name: name.to_owned(), attached: attached.clone(), meta, presets }
}

/// The parse plan of a logged plan.
pub fn decoding_plan<S: Storage>(
    control: &Control,
    registry: &crate::plugins::Registry<S>,
    limits: tally_event::plan::Limits,
) -> anyhow::Result<Arc<tally_event::plan::Plan>> {
    let mut subscribers = Vec::new();
    for (name, attached) in &control.plan.aggregators {
        if control.quarantined.contains_key(name) {
            continue;
        }
        let configured = registry.configured(&attached.digest, &attached.settings)?;
        let manifest = configured.manifest.clone();
        subscribers.push(tally_event::plan::Subscriber { name: name.as_str().into(), manifest });
    }
    let presets = presets(&control.plan)?;
    Ok(Arc::new(tally_event::plan::Plan::new(subscribers, presets, limits)?))
}

#[cfg(test)]
mod tests {
    use tally_aggregate::BodyBuilder;
    use tally_testkit::MemStorage;
    use tally_wal::{Log, Options};

    use super::*;

    /// Cuts at 10, 20, 30 ... microseconds, `each` of them in a segment of its own, two events before each.
    fn log(each: u64) -> Log<MemStorage> {
        let options = Options { spare_segments: 0, segment_bytes: 16 << 10, ..Options::default() };
        let (mut log, _) = Log::open(MemStorage::new(), options).expect("opens");
        let mut control = Control::default();
        for cut in 1..=12 {
            let mut body = BodyBuilder::default();
            if (cut - 1) % each == 0 {
                body.opening(&control);
                log.roll(body.bytes()).expect("rolls");
                body = BodyBuilder::default();
            }
            let barrier = Barrier { cut, at: 10 * cut as i64, last_sequence: 2 * cut, ..nothing() };
            body.events(barrier.at, 0, 2, [&b"{}\n{}\n"[..]].into_iter());
            body.barrier(&barrier);
            log.append(2, body.bytes()).expect("appends");
            control.events(barrier.at, 2);
            control.barrier(log.next_frame() - 1, &barrier);
        }
        log
    }

    fn nothing() -> Barrier {
        Barrier { cut: 0, reason: String::new(), at: 0, last_sequence: 0, flush: None, plan: None, anchor: false }
    }

    #[test]
    fn cuts_are_found_by_number_and_by_time() {
        for each in [1, 3, 4, 12] {
            let log = log(each);
            let (mut reader, last) = (log.reader(), log.next_frame() - 1);
            let mut frames = Vec::new();
            for cut in 1..=12 {
                let position = find_cut(&mut reader, cut, last).expect("is there");
                assert_eq!(position.cut, cut);
                frames.push(position.frame);
            }
            assert!(frames.is_sorted_by(|a, b| a < b), "{frames:?}");
            assert!(find_cut(&mut reader, 13, last).is_err());
            for micros in [i64::MIN, 0, 9, 10, 11, 59, 60, 119, 120, 500, i64::MAX] {
                let found = last_cut_until(&mut reader, micros, last).expect("is there");
                let cut = u64::try_from(micros.clamp(0, 120) / 10).expect("not negative");
                let frame = cut.checked_sub(1).map_or(0, |before| frames[before as usize]);
                let expected =
                    Begins { position: Position { frame, cut }, last_sequence: 2 * cut, at: 10 * cut as i64 };
                assert_eq!(found, expected, "{each} in a segment, until {micros}");
            }
        }
    }

    #[test]
    fn of_what_is_gone_the_first_cut_that_is_there_is_found() {
        let mut log = log(3);
        let last = log.next_frame() - 1;
        let fifth = find_cut(&mut log.reader(), 5, last).expect("is there");
        log.delete_before(fifth.frame).expect("deletes");
        let mut reader = log.reader();
        for (micros, cut) in [(i64::MIN, 4), (10, 4), (39, 4), (40, 4), (50, 5), (125, 12)] {
            let found = last_cut_until(&mut reader, micros, last).expect("is there");
            assert_eq!(found.position.cut, cut, "until {micros}");
        }
        assert!(find_cut(&mut reader, 3, last).is_err());
        assert_eq!(find_cut(&mut reader, 4, last).expect("is there").cut, 4);
    }
}
