//! Rules that say different things about the same object.
//!
//! Two rules overlap where they are about the same kind of thing in the same bucket, one prefix continues
//! the other, neither excludes the whole prefix of the other, and their sizes meet. They disagree where
//! their conditions differ: then one would delete what the other says to keep.

use super::{Mistake, Rule};

pub(super) fn check(rules: &[Option<Rule>], mistakes: &mut Vec<Mistake>) {
    for (index, rule) in rules.iter().enumerate() {
        let Some(rule) = rule else { continue };
        for (earlier_index, earlier) in rules.iter().take(index).enumerate() {
            let Some(earlier) = earlier else { continue };
            if overlap(earlier, rule) && disagree(earlier, rule) {
                let message = format!(
                    "the rule is about objects that rules[{earlier_index}] ({:?}) is about too, and says otherwise; \
                     exclude them in one of the two",
                    earlier.id
                );
                mistakes.push(Mistake { path: format!("rules[{index}]"), code: "rules-disagree", message });
            }
        }
    }
}

fn overlap(a: &Rule, b: &Rule) -> bool {
    let (shorter, longer) = if a.prefix.len() <= b.prefix.len() { (a, b) } else { (b, a) };
    let excluded = |by: &Rule| {
        by.exclude.patterns.iter().any(|pattern| {
            pattern
                .strip_suffix("**")
                .is_some_and(|start| is_literal(start) && longer.prefix.starts_with(start))
        })
    };
    a.target() == b.target()
        && a.bucket == b.bucket
        && longer.prefix.starts_with(&shorter.prefix)
        && !excluded(a)
        && !excluded(b)
        && a.min_size.unwrap_or(0) <= b.max_size.unwrap_or(u64::MAX)
        && b.min_size.unwrap_or(0) <= a.max_size.unwrap_or(u64::MAX)
}

fn is_literal(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

fn disagree(a: &Rule, b: &Rule) -> bool {
    a.criterion != b.criterion
        || a.hold_tag != b.hold_tag
        || a.exclude.patterns != b.exclude.patterns
        || (a.min_size, a.max_size) != (b.min_size, b.max_size)
        || a.quarantine != b.quarantine
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::policy::Policy;

    fn disagree(a: &Value, b: &Value) -> bool {
        let rule = |id: &str, value: &Value| {
            let mut rule = json!({"id": id, "bucket": "files"});
            rule.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
            rule
        };
        let policy = json!({"version": 1, "rules": [rule("a", a), rule("b", b)]});
        match Policy::from_value(&policy, "audit") {
            Ok(_) => false,
            Err(error) => {
                assert!(error.0.iter().all(|mistake| mistake.code == "rules-disagree"), "{error}");
                true
            }
        }
    }

    #[test]
    fn rules_that_reach_the_same_objects_must_agree() {
        let day = json!({"prefix": "tempcato/", "expire_after": "1d"});
        assert!(disagree(&day, &json!({"whole_bucket": true, "expire_after": "7d"})));
        assert!(disagree(&json!({"prefix": "temp", "expire_after": "7d"}), &day));
        assert!(disagree(&day, &json!({"prefix": "tempcato/x/", "expires_at": "tag"})));
        assert!(disagree(
            &day,
            &json!({"prefix": "tempcato/", "expire_after": "1d", "hold_tag": "hold=true"})
        ));
    }

    #[test]
    fn rules_that_agree_or_never_meet_are_fine() {
        let day = json!({"prefix": "tempcato/", "expire_after": "1d"});
        assert!(!disagree(&day, &json!({"prefix": "tempcato/x/", "expire_after": "24h"})));
        assert!(!disagree(&day, &json!({"prefix": "share/", "expire_after": "7d"})));
        assert!(!disagree(&day, &json!({"prefix": "tempcato/", "noncurrent_after": "7d"})));
        let rest = json!({"whole_bucket": true, "expire_after": "7d", "exclude": ["tempcato/**"]});
        assert!(!disagree(&day, &rest));
        let small = json!({"prefix": "a/", "expire_after": "1d", "max_size": 10});
        assert!(!disagree(&small, &json!({"prefix": "a/", "expire_after": "7d", "min_size": 11})));
    }
}
