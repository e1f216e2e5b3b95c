//! Sets of completion indexes, as a job's status writes them: `0,2-4,7`.

use std::fmt;

/// Ascending ranges, both ends included, with gaps between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes {
    ranges: Vec<(i32, i32)>,
}

impl Indexes {
    /// Reads what is below `completions`; what cannot be read is left out.
    pub fn parse(text: &str, completions: i32) -> Self {
        let mut indexes = Indexes::default();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
                indexes.insert_range(first.max(0), last.min(completions - 1));
            }
        }
        indexes
    }

    pub fn insert(&mut self, index: i32) {
        self.insert_range(index, index);
    }

    pub fn extend(&mut self, other: &Indexes) {
        other.ranges.iter().for_each(|(first, last)| self.insert_range(*first, *last));
    }

    fn insert_range(&mut self, first: i32, last: i32) {
        if first > last {
            return;
        }
        // The ranges that overlap or touch the new one.
        let from = self.ranges.partition_point(|(_, end)| end.saturating_add(1) < first);
        let to = self.ranges.partition_point(|(start, _)| *start <= last.saturating_add(1));
        let merged = match self.ranges.get(from..to) {
            Some([.., (_, end)]) => (first.min(self.ranges[from].0), last.max(*end)),
            Some([]) | None => (first, last),
        };
        self.ranges.splice(from..to.max(from), [merged]);
    }

    pub fn contains(&self, index: i32) -> bool {
        let at = self.ranges.partition_point(|(_, last)| *last < index);
        self.ranges.get(at).is_some_and(|(first, _)| *first <= index)
    }

    pub fn len(&self) -> i32 {
        self.ranges.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// The first `count` indexes below `completions` that are not in the set.
    pub fn missing(&self, completions: i32, count: usize) -> Vec<i32> {
        let mut missing = Vec::new();
        let mut next = 0;
        for (first, last) in self.ranges.iter().copied().chain([(completions, completions)]) {
            let end = first.min(completions);
            missing.extend((next..end).take(count - missing.len()));
            next = next.max(last.saturating_add(1));
        }
        missing
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts() {
        for (text, completions, expected, missing) in [
            ("", 3, "", vec![0, 1, 2]),
            ("0,2-4,7", 9, "0,2-4,7", vec![1, 5, 6, 8]),
            ("0-1,2,x,4-", 5, "0-2", vec![3, 4]),
            ("1-9", 4, "1-3", vec![0]),
            ("3,1", 9, "1,3", vec![0, 2, 4, 5, 6, 7, 8]),
        ] {
            let indexes = Indexes::parse(text, completions);
            assert_eq!(indexes.to_string(), expected);
            assert_eq!(indexes.missing(completions, 100), missing);
        }
    }

    proptest! {
        #[test]
        fn is_a_set(inserted in prop::collection::vec(0..60_i32, 0..60), count in 0..10_usize) {
            let mut indexes = Indexes::default();
            inserted.iter().for_each(|index| indexes.insert(*index));
            let set: BTreeSet<i32> = inserted.into_iter().collect();
            prop_assert_eq!(indexes.len() as usize, set.len());
            prop_assert!((0..60).all(|index| indexes.contains(index) == set.contains(&index)));
            prop_assert_eq!(&Indexes::parse(&indexes.to_string(), 60), &indexes);
            let missing: Vec<i32> = (0..60).filter(|index| !set.contains(index)).take(count).collect();
            prop_assert_eq!(indexes.missing(60, count), missing);
        }

        #[test]
        fn any_text_is_read(text in "[0-9,x-]{0,30}") {
            prop_assert!(Indexes::parse(&text, 1000).len() <= 1000);
        }
    }
}
