//! What a report is asked for. Knows nothing of tables' contents.

use crate::number::Timestamp;
use crate::wire::tally::aggregator::types;
use std::cmp::Ordering;

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// Names of the tables wanted; empty for all.
    pub tables: Vec<String>,
    /// Parameters by name.
    pub parameters: Vec<(String, String)>,
    /// The time the answer is for: the watermark.
    pub as_of: Timestamp,
    /// Skip so many rows, the most important ones being first.
    pub skip_rows: u64,
    /// Give at most so many rows; 0 for all.
    pub row_limit: u32,
}

/// The rows of a table that were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows, most important first.
    pub rows: Vec<T>,
    /// How many the row limit left out.
    pub left_out: u64,
}

impl Question {
    /// Whether this table is wanted.
    pub fn wants(&self, table: &str) -> bool {
        self.tables.is_empty() || self.tables.iter().any(|name| name == table)
    }

    /// A parameter's value.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(parameter, _)| parameter == name).map(|(_, value)| value.as_str())
    }

    /// Puts rows in order and keeps those asked for. No two rows may be equal in that order, or it would show how they
    /// came to be in the state. Takes time for all rows only once, for few rows out of many.
    pub fn page<T>(&self, rows: impl IntoIterator<Item = T>, mut order: impl FnMut(&T, &T) -> Ordering) -> Page<T> {
        let mut rows: Vec<T> = rows.into_iter().collect();
        let all = rows.len();
        let skip = usize::try_from(self.skip_rows).unwrap_or(all).min(all);
        let end = match self.row_limit {
            0 => all,
            limit => skip.saturating_add(limit as usize).min(all),
        };
        if end < all {
            rows.select_nth_unstable_by(end, &mut order);
            rows.truncate(end);
        }
        rows.sort_unstable_by(&mut order);
        rows.drain(..skip);
        Page { rows, left_out: (all - end) as u64 }
    }
}

impl From<types::Question> for Question {
    fn from(question: types::Question) -> Self {
        Self {
            tables: question.tables,
            parameters: question.parameters,
            as_of: Timestamp { micros: question.as_of },
            skip_rows: question.skip_rows,
            row_limit: question.row_limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_page_is_a_slice_of_the_sorted_rows(
            rows in prop::collection::btree_set(0..1000u32, 0..60).prop_map(|set| set.into_iter().collect::<Vec<_>>()).prop_shuffle(),
            skip_rows in prop_oneof![0..70u64, Just(u64::MAX)],
            row_limit in prop_oneof![0..70u32, Just(u32::MAX)],
        ) {
            let question = Question { skip_rows, row_limit, ..Question::default() };
            let page = question.page(rows.clone(), |a, b| b.cmp(a));
            let mut sorted = rows;
            sorted.sort_by(|a, b| b.cmp(a));
            let skip = sorted.len().min(usize::try_from(skip_rows).unwrap());
            let limit = if row_limit == 0 { usize::MAX } else { row_limit as usize };
            let expected: Vec<u32> = sorted[skip..].iter().copied().take(limit).collect();
            prop_assert_eq!(page.left_out as usize, sorted.len() - skip - expected.len());
            prop_assert_eq!(page.rows, expected);
        }
    }

    #[test]
    fn no_names_mean_all_tables() {
        let mut question = Question::default();
        assert!(question.wants("posts"));
        question.tables = vec!["actions".into()];
        assert!(!question.wants("posts"));
        assert!(question.wants("actions"));
    }
}
