//! Joins sorted references with sorted keys, pure.

use std::collections::VecDeque;

/// What is known about a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Whether it is referenced.
    Referenced(bool),
    /// Nothing yet: feed more references, and ask again.
    More,
    /// It comes out of order.
    Disorder,
}

/// The join as far as it has come.
#[derive(Debug, Default)]
pub struct Join {
    references: VecDeque<String>,
    /// Whether there are no more references than these.
    fed_up: bool,
    /// The last key that was asked about, or that an earlier run ended with.
    last: Option<String>,
    /// The last reference that was passed, against duplicates.
    passed: Option<String>,
    missing: Vec<String>,
}

impl Join {
    /// A join whose keys all come behind this one.
    pub fn behind(key: Option<String>) -> Self {
        Self { passed: key.clone(), last: key, ..Self::default() }
    }

    /// The next references, in order; `None` at their end.
    pub fn feed(&mut self, references: Option<VecDeque<String>>) {
        match references {
            None => self.fed_up = true,
            Some(mut references) => self.references.append(&mut references),
        }
    }

    /// Whether the references have come to their end.
    pub fn is_fed_up(&self) -> bool {
        self.fed_up
    }

    /// Whether `key` is referenced. Keys come in ascending order.
    pub fn ask(&mut self, key: &str) -> Answer {
        if self.last.as_deref().is_some_and(|last| key < last) {
            return Answer::Disorder;
        }
        if cannot_be_listed(key) {
            return Answer::Referenced(true);
        }
        while let Some(reference) = self.references.front() {
            if reference.as_str() >= key {
                break;
            }
            self.pass();
        }
        let referenced = match self.references.front() {
            Some(reference) => reference == key,
            None if self.fed_up => self.passed.as_deref() == Some(key),
            None => return Answer::More,
        };
        // The reference itself is passed at a later key, so that a key may be asked about twice.
        key.clone_into(self.last.get_or_insert_default());
        Answer::Referenced(referenced)
    }

    /// No key comes any more: what is left is missing.
    pub fn end(&mut self) {
        while !self.references.is_empty() {
            self.pass();
        }
    }

    /// References whose object is missing, since the last time.
    pub fn take_missing(&mut self) -> Vec<String> {
        std::mem::take(&mut self.missing)
    }

    /// Passes the next reference, which is missing unless it is the last key, or a duplicate.
    fn pass(&mut self) {
        let Some(reference) = self.references.pop_front() else { return };
        let is_new = self.passed.as_ref().is_none_or(|passed| reference > *passed);
        let exists = self.last.as_ref().is_some_and(|last| reference <= *last);
        if is_new && !exists {
            self.missing.push(reference.clone());
        }
        if is_new {
            self.passed = Some(reference);
        }
    }
}

/// Whether no line can hold `key`.
fn cannot_be_listed(key: &str) -> bool {
    key.contains('\n') || key.ends_with('\r')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn run(
        references: &[String],
        batch: usize,
        keys: &[String],
        behind: Option<&str>,
    ) -> (Vec<bool>, Vec<String>) {
        let mut join = Join::behind(behind.map(str::to_owned));
        let mut batches = references.chunks(batch).map(|chunk| VecDeque::from(chunk.to_vec()));
        let mut marks = Vec::new();
        let mut missing = Vec::new();
        for key in keys {
            loop {
                match join.ask(key) {
                    Answer::Referenced(referenced) => break marks.push(referenced),
                    Answer::More => join.feed(batches.next()),
                    Answer::Disorder => panic!("{key}"),
                }
            }
            missing.extend(join.take_missing());
        }
        while !join.is_fed_up() {
            join.feed(batches.next());
        }
        join.end();
        missing.extend(join.take_missing());
        (marks, missing)
    }

    #[test]
    fn keys_are_referenced_or_not_and_references_have_an_object_or_not() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (marks, missing) =
            run(&texts(&["a", "b", "b", "d", "e", "e"]), 2, &texts(&["b", "c", "d"]), None);
        assert_eq!(marks, [true, false, true]);
        assert_eq!(missing, ["a", "e"]);
    }

    #[test]
    fn keys_that_no_line_can_hold_are_kept() {
        let mut join = Join::default();
        join.feed(None);
        assert_eq!(join.ask("a\nb"), Answer::Referenced(true));
        assert_eq!(join.ask("b\r"), Answer::Referenced(true));
        assert_eq!(join.ask("c"), Answer::Referenced(false));
    }

    #[test]
    fn keys_out_of_order_are_not_answered() {
        let mut join = Join::default();
        join.feed(None);
        assert_eq!(join.ask("b"), Answer::Referenced(false));
        assert_eq!(join.ask("b"), Answer::Referenced(false));
        assert_eq!(join.ask("a"), Answer::Disorder);
        assert_eq!(Join::behind(Some("m".to_owned())).ask("l"), Answer::Disorder);
    }

    proptest! {
        #[test]
        fn the_join_agrees_with_sets(
            mut references in proptest::collection::vec("[abü\u{10000}]{0,3}[a\u{ffff}]", 0..30),
            keys in proptest::collection::btree_set("[abü\u{10000}]{0,3}[a\u{ffff}]", 0..30),
            batch in 1_usize..7,
        ) {
            references.sort();
            let keys: Vec<_> = keys.into_iter().collect();
            let (marks, missing) = run(&references, batch, &keys, None);
            let named: BTreeSet<_> = references.iter().cloned().collect();
            let existing: BTreeSet<_> = keys.iter().cloned().collect();
            let expected: Vec<_> = keys.iter().map(|key| named.contains(key)).collect();
            prop_assert_eq!(marks, expected);
            let expected: Vec<_> = named.difference(&existing).cloned().collect();
            prop_assert_eq!(missing, expected);
        }

        #[test]
        fn two_runs_report_what_one_would(
            mut references in proptest::collection::vec("[ab]{1,3}", 0..30),
            keys in proptest::collection::btree_set("[ab]{1,3}", 1..30),
            split in 0_usize..30,
        ) {
            references.sort();
            let keys: Vec<_> = keys.into_iter().collect();
            let (whole_marks, whole_missing) = run(&references, 3, &keys, None);
            let split = split % keys.len();
            let cursor = keys[split].clone();
            // The first run ends at its cursor and does not call what lies behind it missing.
            let before: Vec<_> = references.iter().filter(|r| **r <= cursor).cloned().collect();
            let (mut marks, mut missing) = run(&before, 3, &keys[..=split], None);
            let (rest_marks, rest_missing) = run(&references, 3, &keys[split + 1..], Some(&cursor));
            marks.extend(rest_marks);
            missing.extend(rest_missing);
            prop_assert_eq!(marks, whole_marks);
            prop_assert_eq!(missing, whole_missing);
        }
    }
}
