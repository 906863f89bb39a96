//! Start-up from what is on disk: folds the log's entries into the control state, and finds where each aggregator goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use tally_aggregate::{Attached, Control, Detached, Entries, Entry, IdWindow, Note};
use tally_state::Store;
use tally_storage::Storage;
use tally_wal::{Reader, View};

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

/// The control state at the end of the log, and the event ids that it remembers there: at most `most`, of the last `micros` microseconds.
/// Reads the last segment.
pub fn at_end<S: Storage>(
    reader: &mut Reader<S>,
    last_frame: u64,
    most: usize,
    micros: i64,
) -> anyhow::Result<(Control, IdWindow)> {
    let mut window = IdWindow::new(most, micros);
    let control = fold(reader, None, last_frame, |entry| {
        if let (Entry::Ids { arrival, ids }, true) = (entry, window.is_on()) {
            window.restore(*arrival, tally_aggregate::entry::ids(ids));
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
        let saved = store.load(name)?.map(|saved| Meta::from_bytes(name, &saved.meta)).transpose()?;
        let after_cut = saved.map_or(attached.applies_after, |meta| meta.cut);
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
    for name in store.aggregators()? {
        if let Some(saved) = store.load(&name)? {
            let meta = Meta::from_bytes(&name, &saved.meta)?;
            anyhow::ensure!(
                meta.frame <= control.frame,
                "the log ends at frame {}, but aggregator {name} has saved frame {}: the end of the log is lost",
                control.frame,
                meta.frame
            );
            // Also of those that do not run now: a record that is not written yet may hold a part of them, or an anchor wait
            // for the total that they saved.
            progress.update(|facts| facts.saved.insert(name.clone(), meta.clone()));
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
    reader.seek_segment_of(last_frame)?;
    let mut segment_start = None;
    loop {
        while reader.advance()?
            && let Some(View { number, body, .. }) = reader.current()
        {
            segment_start = segment_start.or(Some(number));
            for entry in Entries::new(body) {
                if let Entry::Barrier(barrier) = entry.with_context(|| format!("frame {number} of the log"))?
                    && barrier.cut == cut
                {
                    return Ok(Position { frame: number, cut });
                }
            }
        }
        // Not in this segment: look in the one before.
        let Some(before) = segment_start.take().and_then(|first| first.checked_sub(1)).filter(|before| *before > 0)
        else {
            anyhow::bail!("cut {cut} is not in the log any more");
        };
        reader.seek_segment_of(before).with_context(|| format!("looking for cut {cut} before frame {before}"))?;
    }
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
