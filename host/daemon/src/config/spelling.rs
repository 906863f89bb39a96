//! What was probably meant by a name that does not exist.

use super::keys::KEYS;

/// `; did you mean flush.events?`, or nothing if no key comes near.
pub(super) fn nearest_key(name: &str) -> String {
    let section = name.split_once('.').map_or("", |(section, _)| section);
    // A key that was given without its section, or with another one's.
    let last = name.rsplit('.').next().unwrap_or(name);
    let elsewhere = || {
        let mut same = KEYS.iter().filter(|key| key.name.rsplit('.').next() == Some(last));
        same.next().filter(|_| same.next().is_none()).map(|key| key.name)
    };
    if let Some(near) = nearest(name, KEYS.iter().map(|key| key.name)).or_else(elsewhere) {
        return format!("; did you mean {near}?");
    }
    let known: Vec<&str> =
        KEYS.iter().filter(|key| key.section() == section && !section.is_empty()).map(|key| key.name).collect();
    match known.is_empty() {
        true => String::new(),
        false => format!("; known here are {}", known.join(", ")),
    }
}

/// The name that comes nearest, if any does: at most every third character wrong.
pub(super) fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).len();
    known
        .map(|near| (strsim::damerau_levenshtein(name, near), near))
        // Of a dotted name only the last part counts, since the section is mostly right.
        .filter(|(distance, near)| *distance <= (last(name).max(last(near)) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, near)| near)
}

/// The variable that was meant by one that looks like a setting but is none: nearly a setting's name, or at least its section.
pub(super) fn nearest_variable(variable: &str) -> Option<String> {
    let name = variable.strip_prefix("TALLY_")?;
    let variables: Vec<String> = KEYS.iter().map(super::Key::variable).collect();
    if variables.iter().any(|known| known == variable) {
        return None;
    }
    let distance = |known: &String| strsim::damerau_levenshtein(variable, known);
    let nearest = variables.iter().min_by_key(|known| distance(known))?;
    let in_a_section = KEYS.iter().any(|key| {
        let section = key.section();
        !section.is_empty() && name.split('_').next() == Some(&section.to_ascii_uppercase())
    });
    (in_a_section || distance(nearest) <= 3).then(|| nearest.clone())
}
