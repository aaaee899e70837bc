//! Finds a place in the middle of keys that nobody has listed yet, where there are no folders to go by.
//!
//! Keys of one folder are read as fractions, whose digits are the characters that keys there have had so
//! far. The place need not be a key, nor fair: a bad guess costs a page, never a key. Pure.

/// How many characters before the first one that differs take part, so that a number can grow by a digit.
const HEADROOM: usize = 4;

/// How exact a place is: characters behind the first that differs from the key it follows.
const EXACT: usize = 3;

/// The characters of keys, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Alphabet(Vec<char>);

impl Alphabet {
    /// What these names consist of. Slashes are left out, so that a place is never in another folder.
    pub(super) fn of<'n>(names: impl Iterator<Item = &'n str>) -> Self {
        let mut characters: Vec<char> = Vec::new();
        for character in names.flat_map(str::chars).filter(|character| *character != '/') {
            if let Err(at) = characters.binary_search(&character) {
                characters.insert(at, character);
            }
        }
        Self(characters)
    }

    fn base(&self) -> u128 {
        self.0.len() as u128 + 1
    }

    /// How many digits a number of theirs has.
    fn digits(&self) -> usize {
        usize::try_from(u128::MAX.checked_ilog(self.base()).unwrap_or(0)).unwrap_or(0)
    }

    /// The digit of `character`; the end of a name is less than any.
    fn digit(&self, character: char) -> u128 {
        self.0.partition_point(|known| *known <= character) as u128
    }

    fn number(&self, name: &[char]) -> u128 {
        let at = |index: usize| name.get(index).map_or(0, |character| self.digit(*character));
        (0..self.digits()).fold(0, |number, index| number * self.base() + at(index))
    }

    /// The name of `number`, as far as it is one.
    fn name(&self, number: u128) -> String {
        let mut rest = number;
        let mut digits: Vec<u128> = (0..self.digits())
            .map(|_| {
                let digit = rest % self.base();
                rest /= self.base();
                digit
            })
            .collect();
        digits.reverse();
        let character = |digit: u128| self.0.get(usize::try_from(digit.checked_sub(1)?).ok()?);
        digits.into_iter().map_while(character).collect()
    }

    /// A name behind `last`: half-way to `until` or, where that is unknown, as far behind `last` as `last` is
    /// behind `first`. All of them are names in one folder. `None` where there is no place.
    pub(super) fn behind(&self, first: &str, last: &str, until: Option<&str>) -> Option<String> {
        // Names of no characters have nothing between them.
        if self.0.is_empty() {
            return None;
        }
        let [first, name, end] =
            [first, last, until.unwrap_or_default()].map(|name| name.chars().collect::<Vec<_>>());
        let in_common = |other: &[char]| name.iter().zip(other).take_while(|(a, b)| a == b).count();
        let skipped = match until {
            Some(_) => in_common(&end),
            None => in_common(&first).saturating_sub(HEADROOM),
        };
        let number = |name: &[char]| self.number(name.get(skipped..).unwrap_or_default());
        let from = number(&name);
        let to = match until {
            Some(_) => from + number(&end).checked_sub(from)? / 2,
            None => from.saturating_add(from.checked_sub(number(&first))?).min(self.largest()),
        };
        let start: String = name.iter().take(skipped).collect();
        let place = start + &self.name(to);
        let exact = in_common(&place.chars().collect::<Vec<_>>()) + 1 + EXACT;
        let place: String = place.chars().take(exact).collect();
        (place.as_str() > last && until.is_none_or(|until| place.as_str() < until)).then_some(place)
    }

    fn largest(&self) -> u128 {
        (0..self.digits()).fold(0, |number, _| number * self.base() + self.base() - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digits() -> Alphabet {
        Alphabet::of(["0123456789"].into_iter())
    }

    #[test]
    fn the_middle_of_numbers_is_about_half_way() {
        assert_eq!(digits().behind("0000", "0100", Some("0300")).as_deref(), Some("0200"));
        let place = digits().behind("0000", "0999", Some("3000")).unwrap();
        assert!(("18".."22").contains(&place.as_str()), "{place}");
        // Names may be longer than those that were seen.
        let place = digits().behind("0000", "0100", Some("0101")).unwrap();
        assert!(place.starts_with("0100"), "{place}");
        assert_eq!(digits().behind("0000", "0100", Some("0100")), None);
        assert_eq!(digits().behind("0000", "0100", Some("00")), None);
    }

    #[test]
    fn behind_the_last_known_key_the_distance_doubles() {
        let beyond = digits().behind("0000000", "0003999", None).unwrap();
        assert!(("0007".."0009").contains(&beyond.as_str()), "{beyond}");
        let beyond = digits().behind("0000000", "0009999", None).unwrap();
        assert!(("0018".."0021").contains(&beyond.as_str()), "{beyond}");
        // Where numbers end there is a place all the same, and nothing behind it.
        assert!(digits().behind("0000", "9000", None).unwrap().starts_with("9999"));
        assert_eq!(Alphabet::of(["", "/"].into_iter()).behind("", "", None), None);
    }

    #[test]
    fn a_place_is_found_among_hexadecimal_names_of_any_length() {
        let alphabet = Alphabet::of(["0123456789abcdef-"].into_iter());
        let (low, high) = ("10000000-0000-4000-8000-000000000000", "30000000-0000-4000-8000-000000000000");
        let place = alphabet.behind("0", low, Some(high)).unwrap();
        assert!(place.starts_with("1f") || place.starts_with('2'), "{place}");
    }

    proptest! {
        #[test]
        fn a_place_lies_strictly_between(
            names in proptest::collection::vec("[a-c0-3é~!]{0,12}", 0..6),
            first in any::<String>(),
            last in "[a-d0-9é~!\u{1F980}]{0,40}",
            until in proptest::option::of("[a-d0-9é~!\u{1F980}]{0,40}"),
        ) {
            let alphabet = Alphabet::of(names.iter().map(String::as_str));
            if let Some(place) = alphabet.behind(&first, &last, until.as_deref()) {
                prop_assert!(place > last);
                prop_assert!(until.is_none_or(|until| place < until));
                prop_assert!(!place.contains('/') || last.contains('/'));
            }
        }
    }
}
