//! Making an example smaller while it goes on failing. Knows nothing of what fails.

/// Tries until this many smaller examples were looked at; then what is left must do.
const MOST_TRIES: usize = 4000;

/// Drops items, many at once and then one by one, until none can be dropped without `fails` saying no.
pub(crate) fn smallest<T: Clone>(items: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut left = items;
    let mut size = left.len().div_ceil(2).max(1);
    let mut tries = 0;
    loop {
        let mut dropped = false;
        let mut at = 0;
        while at < left.len() && tries < MOST_TRIES {
            let end = (at + size).min(left.len());
            let without = [&left[..at], &left[end..]].concat();
            tries += 1;
            if fails(&without) {
                left = without;
                dropped = true;
            } else {
                at = end;
            }
        }
        match (size, dropped) {
            (1, false) => return left,
            (1, true) if tries < MOST_TRIES => {}
            (1, true) => return left,
            _ => size = size.div_ceil(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::smallest;

    #[test]
    fn what_is_left_cannot_be_made_smaller() {
        let items: Vec<u32> = (0..100).collect();
        assert_eq!(smallest(items.clone(), |items| items.contains(&17) && items.contains(&83)), [17, 83]);
        assert_eq!(smallest(items.clone(), |items| items.iter().filter(|n| *n % 7 == 0).count() >= 3).len(), 3);
        assert_eq!(smallest(items, |_| true), [0u32; 0]);
    }

    #[test]
    fn an_example_that_needs_all_of_its_items_stays() {
        assert_eq!(smallest(vec![1, 2, 3], |items| items.len() == 3), [1, 2, 3]);
    }
}
