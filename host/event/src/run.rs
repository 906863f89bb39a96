//! Lines of one shape and one type, one after the other, become rows together: column by column, in loops that do one thing.
//! Knows neither JSON nor manifests.
//!
//! Which lines can be taken so is decided once per shape and type, by a *recipe*: the type's columns are all text, what it
//! requires is there, and there is no event id. Whatever else a line has that matters (an escape in a wanted text, a time
//! that cannot be read) leaves it to the way of all other lines.

use crate::assemble::Assembly;
use crate::plan::Plan;
use crate::preset_plan::{PresetPlan, TypeSource};
use crate::schema::{Kind, TimestampFormat};
use crate::shapes::{Met, Shapes, Starts, TextSpan, Value};
use crate::short::{self, SHORT};
use crate::time::Clockwork;
use crate::walk::Class;

/// Rows that are added together.
const MOST_ROWS: usize = 128;
/// Types that lines of one shape may have.
const MOST_RECIPES: usize = 16;

/// How lines of a shape and a type become rows.
#[derive(Debug)]
pub(crate) struct Recipe {
    name: Name,
    /// The plan's type, or [`crate::trie::NONE`].
    event_type: u32,
    /// Where the time is, if lines of the shape have one.
    time: Option<TextSpan>,
    columns: Vec<(usize, TextSpan)>,
    /// By literal, whether the text after it is read, so that it must be without escapes.
    read: u64,
    /// Whether such lines can be taken.
    usable: bool,
}

/// The type's name, and where it is; none where the preset says what it is.
#[derive(Clone, Copy, Debug)]
struct Name {
    place: Option<TextSpan>,
    block: u128,
    mask: u128,
    length: u32,
}

impl Name {
    /// Whether the line has it.
    #[inline(always)]
    fn stands_in(&self, bytes: &[u8], starts: &Starts) -> bool {
        let Some(place) = self.place else {
            return true;
        };
        let (start, end) = place.of(starts);
        end - start == self.length && (short::padded_block(bytes, start as usize) ^ self.block) & self.mask == 0
    }
}

/// A run of lines under way.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// The shape's ending and the recipe, by their indices.
    ending: usize,
    recipe: usize,
    times: Vec<i64>,
    /// The texts, row by row.
    texts: Vec<(u32, u32)>,
    clockwork: Clockwork,
}

impl Run {
    /// Events that are not added yet.
    #[inline(always)]
    pub(crate) fn rows(&self) -> usize {
        self.times.len()
    }

    /// Takes the line that was just met, if it goes with those before; false leaves everything as it was.
    #[inline(always)]
    pub(crate) fn take(&mut self, shapes: &Shapes, met: &Met, bytes: &[u8]) -> bool {
        if met.ending != self.ending || self.times.len() == MOST_ROWS {
            return false;
        }
        let Some(recipe) = shapes.recipes(met.ending).get(self.recipe) else {
            return false;
        };
        let starts = shapes.starts();
        if !recipe.usable || recipe.read & met.escaped != 0 || !recipe.name.stands_in(bytes, starts) {
            return false;
        }
        if let Some(time) = recipe.time {
            let (start, end) = time.of(starts);
            let Some(micros) = self.clockwork.parse(&bytes[start as usize..end as usize]) else {
                return false;
            };
            self.times.push(micros);
        } else {
            self.times.push(0);
        }
        for (_, text) in &recipe.columns {
            self.texts.push(text.of(starts));
        }
        true
    }

    /// Begins a run with the line that was just met; false if it cannot be taken. There must be none under way.
    #[inline(never)]
    pub(crate) fn begin(
        &mut self,
        shapes: &mut Shapes,
        met: &Met,
        bytes: &[u8],
        plan: &Plan,
        preset: &PresetPlan,
    ) -> bool {
        let known = shapes.recipes(met.ending).iter().position(|r| r.name.stands_in(bytes, shapes.starts()));
        let recipe = known.or_else(|| {
            let known = shapes.recipes(met.ending).len();
            let new = (known < MOST_RECIPES).then(|| recipe(shapes, met, bytes, plan, preset))??;
            shapes.add_recipe(met.ending, new);
            Some(known)
        });
        let Some(recipe) = recipe else {
            return false;
        };
        (self.ending, self.recipe) = (met.ending, recipe);
        self.take(shapes, met, bytes)
    }

    /// Adds the events taken so far to the batch.
    #[inline(never)]
    pub(crate) fn add_to(&mut self, assembly: &mut Assembly, shapes: &Shapes, bytes: &[u8]) {
        let recipe = &shapes.recipes(self.ending)[self.recipe];
        let row = assembly.rows();
        for (position, &(column, _)) in recipe.columns.iter().enumerate() {
            let mut next = position;
            let texts = std::iter::from_fn(|| {
                let text = self.texts.get(next).copied();
                next += recipe.columns.len();
                text
            });
            assembly.put_texts(column, row, bytes, texts);
        }
        assembly.accept_run(recipe.event_type, recipe.time.is_some(), &self.times);
        self.times.clear();
        self.texts.clear();
    }
}

/// The recipe for lines of the shape and type of the one that was just met; none where it would not know them again.
fn recipe(shapes: &Shapes, met: &Met, bytes: &[u8], plan: &Plan, preset: &PresetPlan) -> Option<Recipe> {
    let value = |slot: usize| shapes.value(met.ending, slot);
    let (name, event_type) = match preset.kind {
        TypeSource::Constant(event_type) => (Name { place: None, block: 0, mask: 0, length: 0 }, event_type),
        TypeSource::Slot(slot) => {
            let place = value(slot).filter(|value| value.class == Class::Plain)?.span.text();
            let (start, end) = place.of(shapes.starts());
            let name = &bytes[start as usize..end as usize];
            let known = (1..=SHORT.min(plan.limits().type_bytes)).contains(&name.len());
            if !known || name.contains(&b'\\') {
                return None;
            }
            let mask = short::mask(name.len());
            let block = short::padded_block(name, 0);
            (Name { place: Some(place), block, mask, length: end - start }, plan.type_called(name))
        }
    };
    let time = value(preset.timestamp_slot);
    let is_text = |value: &Value| value.class == Class::Plain;
    let mut usable = time.is_none_or(|time| is_text(&time) && preset.timestamp_format == TimestampFormat::Rfc3339);
    usable &= preset.id_slots.iter().all(|&slot| value(slot).is_none());
    usable &= preset.required_slots.iter().all(|&slot| value(slot).is_some_and(|value| is_text(&value)));
    let mut columns = Vec::new();
    let wanted = plan.types.get(event_type as usize).map_or(&[][..], |event_type| &event_type.columns);
    for wanted in wanted {
        let place = &preset.columns[wanted.column];
        match value(place.slot) {
            None => usable &= !wanted.required,
            Some(value) => {
                usable &= is_text(&value) && place.kind == Kind::Text;
                columns.push((wanted.column, value.span.text()));
            }
        }
    }
    let time = time.map(|time| time.span.text());
    let texts = columns.iter().map(|(_, text)| text).chain(&name.place).chain(&time);
    let read = texts.fold(0, |read, text| read | text.literal());
    Some(Recipe { name, event_type, time, columns, read, usable })
}
