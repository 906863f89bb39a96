//! The dead letters: what is kept of events that aggregators were spared, for people to look at. The newest stay.

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, TableError, WriteTransaction};

use crate::codec;
use crate::guard::Failed;

/// By sequence and aggregator. Not there in stores of before there were any.
const DEAD_LETTERS: TableDefinition<(u64, &str), &[u8]> = TableDefinition::new("dead_letters");

/// What is kept of one event that one aggregator was spared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event.
    pub sequence: u64,
    /// The aggregator.
    pub name: String,
    /// What is kept; the caller's business.
    pub letter: Vec<u8>,
}

/// Puts one in, replacing what was there of the same event and aggregator, and lets the oldest events go beyond `most`.
pub(crate) fn keep(transaction: &WriteTransaction, letter: &DeadLetter, most: u64) -> Result<(), Failed> {
    let DeadLetter { sequence, name, letter } = letter;
    let mut table = transaction.open_table(DEAD_LETTERS)?;
    let sealed = codec::seal("dead_letters", &[&sequence.to_le_bytes(), name.as_bytes()], letter);
    table.insert((*sequence, name.as_str()), sealed.as_slice())?;
    while table.len()? > most {
        table.pop_first()?;
    }
    Ok(())
}

/// Takes those of one aggregator out whose events come behind `after`.
pub(crate) fn forget(transaction: &WriteTransaction, name: &str, after: u64) -> Result<(), Failed> {
    let mut table = transaction.open_table(DEAD_LETTERS)?;
    Ok(table.retain_in((after.saturating_add(1), "").., |(_, of), _| of != name)?)
}

/// All of them, oldest event first.
pub(crate) fn all(transaction: &ReadTransaction) -> Result<Vec<DeadLetter>, Failed> {
    let table = match transaction.open_table(DEAD_LETTERS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    let mut found = Vec::new();
    for entry in table.iter()? {
        let (key, sealed) = entry?;
        let (sequence, name) = key.value();
        let letter = codec::unseal("dead_letters", &[&sequence.to_le_bytes(), name.as_bytes()], sealed.value());
        let letter = letter.ok_or_else(|| {
            let what = "does not have the bytes that were saved";
            Failed::Damaged(format!("the dead letter of event {sequence} and aggregator {name:?} {what}"))
        })?;
        found.push(DeadLetter { sequence, name: name.to_owned(), letter: letter.to_vec() });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    fn letter(sequence: u64, name: &str, text: &str) -> DeadLetter {
        DeadLetter { sequence, name: name.into(), letter: text.as_bytes().to_vec() }
    }

    #[test]
    fn the_newest_stay_and_each_event_of_an_aggregator_is_kept_once() {
        let store = Store::open_in_memory().unwrap();
        assert_eq!(store.dead_letters().unwrap(), []);
        for kept in [letter(7, "a", "x"), letter(5, "b", "y"), letter(7, "a", "z"), letter(7, "b", "w")] {
            store.keep_dead_letter(&kept, 3).unwrap();
        }
        assert_eq!(store.dead_letters().unwrap(), [letter(5, "b", "y"), letter(7, "a", "z"), letter(7, "b", "w")]);
        store.keep_dead_letter(&letter(9, "a", ""), 3).unwrap();
        assert_eq!(store.dead_letters().unwrap(), [letter(7, "a", "z"), letter(7, "b", "w"), letter(9, "a", "")]);
        store.forget_dead_letters("b", 7).unwrap();
        store.forget_dead_letters("a", 7).unwrap();
        assert_eq!(store.dead_letters().unwrap(), [letter(7, "a", "z"), letter(7, "b", "w")]);
        store.forget_dead_letters("a", 6).unwrap();
        assert_eq!(store.dead_letters().unwrap(), [letter(7, "b", "w")]);
    }
}
