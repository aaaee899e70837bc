//! What a policy document allows: actions and resources, as far as this template's policies use them.

use serde_json::Value;

use super::stack::{Stack, text};

/// One action on one resource that a statement allows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    /// `s3:GetObject`
    pub(super) action: String,
    /// An ARN, in which `*` and `?` stand for others.
    pub(super) resource: String,
}

impl Grant {
    /// Whether it allows `action` on `resource`.
    pub(super) fn covers(&self, action: &str, resource: &str) -> bool {
        matches(&self.action, action) && matches(&self.resource, resource)
    }
}

/// What the role of this name may do.
///
/// # Panics
/// The role has a statement that is more than an action on a resource.
pub(super) fn grants(stack: &Stack, role: &str) -> Vec<Grant> {
    let mut grants = Vec::new();
    for policy in stack.properties(role)["Policies"].as_array().unwrap() {
        for statement in policy["PolicyDocument"]["Statement"].as_array().unwrap() {
            assert_eq!(statement["Effect"], "Allow", "{role}");
            assert!(statement["Condition"].is_null(), "{role} has conditions, which this test does not know");
            for action in texts(&statement["Action"]) {
                for resource in texts(&statement["Resource"]) {
                    grants.push(Grant { action: action.clone(), resource });
                }
            }
        }
    }
    grants
}

/// One text or a list of them.
pub(super) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        Value::Null => Vec::new(),
        one => vec![text(one)],
    }
}

/// Whether `pattern`, with `*` and `?`, stands for `whole`.
pub(super) fn matches(pattern: &str, whole: &str) -> bool {
    match (pattern.chars().next(), whole.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            let after = &pattern[1..];
            (0..=whole.len()).filter(|i| whole.is_char_boundary(*i)).any(|i| matches(after, &whole[i..]))
        }
        (Some('?'), Some(any)) => matches(&pattern[1..], &whole[any.len_utf8()..]),
        (Some(one), Some(other)) if one == other => {
            matches(&pattern[one.len_utf8()..], &whole[other.len_utf8()..])
        }
        _ => false,
    }
}

#[test]
fn wildcards_stand_for_what_iam_says_they_do() {
    assert!(matches("arn:aws:s3:::b/*", "arn:aws:s3:::b/u/me.png"));
    assert!(!matches("arn:aws:s3:::b/*", "arn:aws:s3:::b"));
    assert!(matches("secret:name-??????", "secret:name-a1B2c3"));
    assert!(!matches("secret:name-??????", "secret:name-a1B2c"));
}
