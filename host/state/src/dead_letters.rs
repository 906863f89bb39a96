//! The dead letters: what is kept of events that aggregators were spared, for people to look at. Each belongs to a saved state, and goes
//! where that goes. The newest stay.

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, TableError, WriteTransaction};

use crate::codec;
use crate::guard::Failed;

/// By sequence and aggregator. Not there in stores of before there were any.
const DEAD_LETTERS: Table = TableDefinition::new("dead_letters");

/// The same, of names with a NUL: those of states that are put aside. They come and go with these, and do not count.
const ASIDE: Table = TableDefinition::new("dead_letters_aside");

type Table = TableDefinition<'static, (u64, &'static str), &'static [u8]>;

fn table_of(name: &str) -> Table {
    if name.contains('\0') { ASIDE } else { DEAD_LETTERS }
}

/// What is kept of one event that one aggregator was spared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event.
    pub sequence: u64,
    /// The aggregator: the name under which its state is saved.
    pub name: String,
    /// What is kept; the caller's business.
    pub letter: Vec<u8>,
}

/// Puts one in, replacing what was there of the same event and aggregator, and lets the oldest events go beyond `most`.
pub(crate) fn keep(transaction: &WriteTransaction, letter: &DeadLetter, most: u64) -> Result<(), Failed> {
    let mut table = transaction.open_table(DEAD_LETTERS)?;
    insert(&mut table, &letter.name, letter)?;
    while table.len()? > most {
        table.pop_first()?;
    }
    Ok(())
}

/// Replaces all of one aggregator by these, whatever name they have.
pub(crate) fn replace(transaction: &WriteTransaction, name: &str, letters: &[DeadLetter]) -> Result<(), Failed> {
    let mut table = transaction.open_table(table_of(name))?;
    table.retain(|(_, of), _| of != name)?;
    letters.iter().try_for_each(|letter| insert(&mut table, name, letter))
}

fn insert(
    table: &mut redb::Table<'_, (u64, &'static str), &'static [u8]>,
    name: &str,
    DeadLetter { sequence, letter, .. }: &DeadLetter,
) -> Result<(), Failed> {
    let sealed = codec::seal("dead_letters", &[&sequence.to_le_bytes(), name.as_bytes()], letter);
    table.insert((*sequence, name), sealed.as_slice())?;
    Ok(())
}

/// All of them, oldest event first: those of what aggregators have, or those that are put aside.
pub(crate) fn all(transaction: &ReadTransaction, aside: bool) -> Result<Vec<DeadLetter>, Failed> {
    let table = match transaction.open_table(if aside { ASIDE } else { DEAD_LETTERS }) {
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
    use crate::{Commit, Store};

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
    }

    #[test]
    fn they_go_where_their_state_goes() {
        let store = Store::open_in_memory().unwrap();
        for kept in [letter(7, "a", "x"), letter(8, "a", "y"), letter(8, "b", "z")] {
            store.keep_dead_letter(&kept, 4).unwrap();
        }
        let of_a = [letter(7, "a", "x"), letter(8, "a", "y")];
        let commit =
            |name, letters| Commit { name, meta: b"", add: &[], remove: &[], pending: None, letters: Some(letters) };
        store.commit_all(&[commit("a", &[]), commit("a\0aside", &of_a)]).unwrap();
        let aside = [letter(7, "a\0aside", "x"), letter(8, "a\0aside", "y")];
        let is_there = |letters: &[DeadLetter]| {
            assert_eq!(store.dead_letters().unwrap(), letters);
            assert_eq!(store.snapshot().unwrap().letters_aside().unwrap(), aside);
        };
        is_there(&[letter(8, "b", "z")]);
        for sequence in [6, 9, 10] {
            store.keep_dead_letter(&letter(sequence, "b", ""), 2).unwrap();
        }
        is_there(&[letter(9, "b", ""), letter(10, "b", "")]);
        store.commit(&commit("a", &aside)).unwrap();
        is_there(&[of_a[0].clone(), of_a[1].clone(), letter(9, "b", ""), letter(10, "b", "")]);
        store.remove("a\0aside").unwrap();
        assert_eq!(store.snapshot().unwrap().letters_aside().unwrap(), []);
        assert_eq!(store.dead_letters().unwrap().len(), 4);
    }
}
