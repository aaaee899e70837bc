//! What CloudFormation would make of the template: parameters, conditions and functions resolved.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::document;

/// The account and region in which the stack stands.
pub(super) const ACCOUNT: &str = "123456789012";
/// The region in which the stack stands.
pub(super) const REGION: &str = "eu-central-1";

/// The template with its parameters given.
pub(super) struct Stack {
    template: Value,
    parameters: BTreeMap<String, String>,
}

impl Stack {
    /// The template with the defaults of its parameters, but for those given.
    ///
    /// # Panics
    /// A parameter is unknown, or its value is not allowed.
    pub(super) fn with(given: &[(&str, &str)]) -> Self {
        let template = document::load();
        let mut parameters = BTreeMap::new();
        for (name, parameter) in template["Parameters"].as_object().unwrap() {
            let default = text(&parameter["Default"]);
            parameters.insert(name.clone(), default);
        }
        for (name, value) in given {
            let parameter = &template["Parameters"][*name];
            assert!(parameter.is_object(), "there is no parameter {name}");
            if let Some(allowed) = parameter["AllowedValues"].as_array() {
                assert!(allowed.iter().any(|one| text(one) == *value), "{name} may not be {value}");
            }
            parameters.insert((*name).to_owned(), (*value).to_owned());
        }
        Self { template, parameters }
    }

    /// What a parameter is set to.
    pub(super) fn parameter(&self, name: &str) -> &str {
        &self.parameters[name]
    }

    /// The logical names of the resources of this type that are made, in the order of the template.
    pub(super) fn of_type(&self, kind: &str) -> Vec<String> {
        let resources = self.template["Resources"].as_object().unwrap();
        resources
            .iter()
            .filter(|(_, resource)| resource["Type"] == kind)
            .map(|(name, _)| name.clone())
            .filter(|name| self.is_made(name))
            .collect()
    }

    /// A resource's properties.
    ///
    /// # Panics
    /// There is no such resource, or it is not made with these parameters.
    pub(super) fn properties(&self, name: &str) -> Value {
        assert!(self.is_made(name), "{name} is not made");
        self.resolve(&self.template["Resources"][name]["Properties"]).unwrap_or_default()
    }

    /// The outputs, by name.
    pub(super) fn outputs(&self) -> BTreeMap<String, String> {
        let outputs = self.template["Outputs"].as_object().unwrap();
        outputs
            .iter()
            .filter(|(_, output)| output["Condition"].as_str().is_none_or(|name| self.condition(name)))
            .map(|(name, output)| (name.clone(), text(&self.resolve(&output["Value"]).unwrap_or_default())))
            .collect()
    }

    fn is_made(&self, name: &str) -> bool {
        let resource = &self.template["Resources"][name];
        resource.is_object() && resource["Condition"].as_str().is_none_or(|name| self.condition(name))
    }

    fn condition(&self, name: &str) -> bool {
        let condition = &self.template["Conditions"][name];
        assert!(!condition.is_null(), "there is no condition {name}");
        self.holds(condition)
    }

    fn holds(&self, condition: &Value) -> bool {
        let (name, arguments) = function(condition).unwrap_or_else(|| panic!("no condition: {condition}"));
        let all = || arguments.as_array().unwrap().iter();
        match name {
            "Condition" => self.condition(arguments.as_str().unwrap()),
            "Fn::Not" => !self.holds(&arguments[0]),
            "Fn::And" => all().all(|one| self.holds(one)),
            "Fn::Or" => all().any(|one| self.holds(one)),
            "Fn::Equals" => {
                let [left, right] = [0, 1].map(|i| self.resolve(&arguments[i]).unwrap_or_default());
                text(&left) == text(&right)
            }
            _ => panic!("no condition: {condition}"),
        }
    }

    /// The value, or nothing where it is `AWS::NoValue`.
    fn resolve(&self, value: &Value) -> Option<Value> {
        if let Some((name, arguments)) = function(value) {
            return self.call(name, arguments);
        }
        Some(match value {
            Value::Array(items) => items.iter().filter_map(|item| self.resolve(item)).collect(),
            Value::Object(entries) => entries
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), self.resolve(value)?)))
                .collect::<Map<_, _>>()
                .into(),
            other => other.clone(),
        })
    }

    fn call(&self, name: &str, arguments: &Value) -> Option<Value> {
        match name {
            "Ref" => match arguments.as_str().unwrap() {
                "AWS::NoValue" => None,
                name => Some(self.reference(name)),
            },
            "Fn::GetAtt" => {
                let [resource, attribute] = [0, 1].map(|i| arguments[i].as_str().unwrap());
                Some(self.attribute(resource, attribute).into())
            }
            "Fn::If" => {
                let holds = self.condition(arguments[0].as_str().unwrap());
                self.resolve(&arguments[if holds { 1 } else { 2 }])
            }
            "Fn::Sub" => Some(match arguments {
                Value::String(pattern) => self.substitute(pattern, &Map::new()),
                _ => self.substitute(arguments[0].as_str().unwrap(), arguments[1].as_object().unwrap()),
            }),
            "Fn::FindInMap" => {
                let keys = self.resolve(arguments).unwrap_or_default();
                let [map, first, second] = [0, 1, 2].map(|i| text(&keys[i]));
                let found = &self.template["Mappings"][&map][&first][&second];
                assert!(!found.is_null(), "{map} has no {second} of {first}");
                Some(found.clone())
            }
            "Fn::Select" => {
                let index = text(&arguments[0]).parse::<usize>().unwrap();
                self.resolve(&arguments[1][index])
            }
            "Fn::Join" => {
                let parts = self.resolve(&arguments[1]).unwrap_or_default();
                let parts: Vec<_> = parts.as_array().unwrap().iter().map(text).collect();
                Some(parts.join(arguments[0].as_str().unwrap()).into())
            }
            _ => panic!("{name} is not understood"),
        }
    }

    fn reference(&self, name: &str) -> Value {
        match name {
            "AWS::AccountId" => return ACCOUNT.into(),
            "AWS::Region" => return REGION.into(),
            "AWS::Partition" => return "aws".into(),
            "AWS::URLSuffix" => return "amazonaws.com".into(),
            _ => {}
        }
        if let Some(value) = self.parameters.get(name) {
            let is_list = self.template["Parameters"][name]["Type"] == "CommaDelimitedList";
            return if is_list { value.split(',').collect() } else { value.as_str().into() };
        }
        let resource = &self.template["Resources"][name];
        assert!(resource.is_object(), "there is no {name}");
        assert!(self.is_made(name), "{name} is referred to, and not made");
        let named = |property: &str| self.resolve(&resource["Properties"][property]);
        match resource["Type"].as_str().unwrap() {
            "AWS::S3::Bucket" => named("BucketName").unwrap(),
            "AWS::SQS::Queue" => format!(
                "https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{}",
                text(&named("QueueName").unwrap_or_default())
            )
            .into(),
            _ => name.into(),
        }
    }

    fn attribute(&self, name: &str, attribute: &str) -> String {
        let own = text(&self.reference(name));
        let resource = &self.template["Resources"][name];
        let named =
            |property: &str| text(&self.resolve(&resource["Properties"][property]).unwrap_or_default());
        match (resource["Type"].as_str().unwrap(), attribute) {
            ("AWS::S3::Bucket", "Arn") => format!("arn:aws:s3:::{own}"),
            ("AWS::S3::Bucket", "RegionalDomainName") => format!("{own}.s3.{REGION}.amazonaws.com"),
            ("AWS::SQS::Queue", "Arn") => format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{}", named("QueueName")),
            ("AWS::SQS::Queue", "QueueName") => named("QueueName"),
            ("AWS::Serverless::Function", "Arn") => {
                format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}")
            }
            ("AWS::IAM::Role", "Arn") => format!("arn:aws:iam::{ACCOUNT}:role/{name}"),
            ("AWS::Logs::LogGroup", "Arn") => {
                format!("arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{}:*", named("LogGroupName"))
            }
            ("AWS::CloudFront::Distribution", "DomainName") => "d111111abcdef8.cloudfront.net".to_owned(),
            ("AWS::CloudFront::OriginAccessControl", "Id") => "E327GJI25M56DG".to_owned(),
            (kind, _) => panic!("{attribute} of {kind} is not understood"),
        }
    }

    fn substitute(&self, pattern: &str, given: &Map<String, Value>) -> Value {
        let mut result = String::new();
        let mut rest = pattern;
        while let Some((before, behind)) = rest.split_once("${") {
            let (name, after) = behind.split_once('}').unwrap();
            result.push_str(before);
            let value = match (given.get(name), name.split_once('.')) {
                (Some(value), _) => text(&self.resolve(value).unwrap_or_default()),
                (None, Some((resource, attribute))) => self.attribute(resource, attribute),
                (None, None) => text(&self.reference(name)),
            };
            result.push_str(&value);
            rest = after;
        }
        result.push_str(rest);
        result.into()
    }
}

/// A function's name and its arguments, if the value is a call.
fn function(value: &Value) -> Option<(&str, &Value)> {
    let entries = value.as_object()?;
    let (name, arguments) = entries.iter().next()?;
    let is_call = entries.len() == 1
        && (name.starts_with("Fn::") || name == "Ref" || (name == "Condition" && arguments.is_string()));
    is_call.then_some((name.as_str(), arguments))
}

/// A scalar as CloudFormation writes it.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
