//! The functions of templates, and their conditions. Follows "Intrinsic function reference" of the user guide.

use super::{Result, invalid};
use serde_json::{Map, Value};
use std::{cell::RefCell, collections::BTreeMap};

const FUNCTIONS: [&str; 8] =
    ["Fn::GetAtt", "Fn::Sub", "Fn::Join", "Fn::If", "Fn::Equals", "Fn::Not", "Fn::And", "Fn::Or"];
const NO_VALUE: &str = "AWS::NoValue";
/// Of one evaluated text or list: templates are small, and so is what they make.
const EVALUATED_BYTES_MAX: usize = 256 * 1024;
/// Of conditions that name one another.
const CONDITIONS_DEEP_MAX: usize = 32;

/// Refuses functions that are not offered, wherever they stand.
pub fn known(value: &Value) -> Result<()> {
    match value {
        Value::Array(all) => all.iter().try_for_each(known),
        Value::Object(all) => all.iter().try_for_each(|(key, value)| match key.as_str() {
            name if name.starts_with("Fn::") && !FUNCTIONS.contains(&name) => {
                Err(invalid(format!("Template error: Kilter does not offer the function {name:.64}")))
            }
            name if name.starts_with("Fn::") && all.len() > 1 => {
                Err(invalid(format!("Template error: {name} must stand alone in its object")))
            }
            _ => known(value),
        }),
        _ => Ok(()),
    }
}

/// What a name stands for: a resource of the template, or one of its attributes.
pub type Lookup<'a> = dyn Fn(&str, Option<&str>) -> Result<String> + 'a;

/// What the functions of one stack are evaluated in.
pub struct Scope<'a> {
    /// Parameters and pseudo parameters: texts, or lists of texts.
    pub values: &'a BTreeMap<String, Value>,
    pub conditions: &'a BTreeMap<String, bool>,
    pub resource: &'a Lookup<'a>,
}

impl Scope<'_> {
    /// `None`: nothing is to be there.
    pub fn eval(&self, value: &Value) -> Result<Option<Value>> {
        match value {
            Value::Array(all) => {
                let all: Result<Vec<_>> = all.iter().filter_map(|one| self.eval(one).transpose()).collect();
                bounded(Value::Array(all?)).map(Some)
            }
            Value::Object(all) => match single(all) {
                Some((name, of)) if name == "Ref" || name.starts_with("Fn::") => self.function(name, of),
                _ => {
                    let member =
                        |(key, one): (&String, &Value)| self.eval(one).map(|one| one.map(|one| (key.clone(), one)));
                    let all: Result<Map<_, _>> = all.iter().filter_map(|one| member(one).transpose()).collect();
                    bounded(Value::Object(all?)).map(Some)
                }
            },
            other => Ok(Some(other.clone())),
        }
    }

    /// What must be text when it is evaluated.
    pub fn text(&self, value: &Value) -> Result<String> {
        let found =
            self.eval(value)?.ok_or_else(|| invalid("Template error: AWS::NoValue stands where text must be"))?;
        text(&found).ok_or_else(|| invalid(format!("Template error: {:.128} is not text", found.to_string())))
    }

    fn function(&self, name: &str, of: &Value) -> Result<Option<Value>> {
        let done = match name {
            "Ref" => return self.reference(of),
            "Fn::GetAtt" => {
                let (resource, attribute) = self.attribute(of)?;
                (self.resource)(&resource, Some(&attribute))?
            }
            "Fn::Sub" => self.sub(of)?,
            "Fn::Join" => self.join(of)?,
            "Fn::If" => {
                let [condition, yes, no] = arguments(name, of)?;
                let condition = condition.as_str().and_then(|name| self.conditions.get(name));
                let holds =
                    condition.ok_or_else(|| invalid("Template error: Fn::If must name a condition of the template"))?;
                return self.eval(if *holds { yes } else { no });
            }
            other => return Err(invalid(format!("Template error: {other} stands in conditions only"))),
        };
        bounded(Value::String(done)).map(Some)
    }

    fn reference(&self, of: &Value) -> Result<Option<Value>> {
        let name =
            of.as_str().ok_or_else(|| invalid("Template error: every Ref object must have a single String value"))?;
        match self.values.get(name) {
            _ if name == NO_VALUE => Ok(None),
            Some(value) => Ok(Some(value.clone())),
            None if name.starts_with("AWS::") => {
                Err(invalid(format!("Template error: Kilter does not offer the pseudo parameter {name:.64}")))
            }
            None => (self.resource)(name, None).map(|found| Some(Value::String(found))),
        }
    }

    fn attribute(&self, of: &Value) -> Result<(String, String)> {
        let wrong = || {
            invalid(
                "Template error: every Fn::GetAtt object requires two parameters, the resource name and an attribute",
            )
        };
        match of {
            Value::String(both) => {
                both.split_once('.').map(|(one, other)| (one.to_owned(), other.to_owned())).ok_or_else(wrong)
            }
            _ => {
                let [resource, attribute] = arguments("Fn::GetAtt", of).map_err(|_| wrong())?;
                Ok((resource.as_str().ok_or_else(wrong)?.to_owned(), attribute.as_str().ok_or_else(wrong)?.to_owned()))
            }
        }
    }

    /// `${Name}`, `${Resource.Attribute}`; `${!Name}` is `${Name}` itself.
    fn sub(&self, of: &Value) -> Result<String> {
        let wrong = || invalid("Template error: Fn::Sub needs text, or text and an object of values");
        let none = Value::Object(Map::new());
        let (template, own) = match of {
            Value::String(template) => (template.as_str(), &none),
            _ => {
                let [template, own] = arguments("Fn::Sub", of).map_err(|_| wrong())?;
                (template.as_str().ok_or_else(wrong)?, own)
            }
        };
        let own = own.as_object().ok_or_else(wrong)?;
        let (mut out, mut rest) = (String::new(), template);
        while let Some((before, after)) = rest.split_once("${") {
            out.push_str(before);
            let (name, after) =
                after.split_once('}').ok_or_else(|| invalid("Template error: Fn::Sub has an open ${"))?;
            match name.strip_prefix('!') {
                Some(literal) => out.push_str(&format!("${{{literal}}}")),
                None => out.push_str(&self.substituted(name.trim(), own)?),
            }
            if out.len() > EVALUATED_BYTES_MAX {
                return Err(too_large());
            }
            rest = after;
        }
        Ok(out + rest)
    }

    fn substituted(&self, name: &str, own: &Map<String, Value>) -> Result<String> {
        match (own.get(name), name.split_once('.')) {
            (Some(value), _) => self.text(value),
            (None, Some((resource, attribute))) => (self.resource)(resource, Some(attribute)),
            (None, None) => self.text(&serde_json::json!({ "Ref": name })),
        }
    }

    fn join(&self, of: &Value) -> Result<String> {
        let [delimiter, list] = arguments("Fn::Join", of)?;
        let delimiter =
            delimiter.as_str().ok_or_else(|| invalid("Template error: Fn::Join needs a delimiter and a list"))?;
        let list = self.eval(list)?;
        let list = list.as_ref().and_then(Value::as_array);
        let list = list.ok_or_else(|| invalid("Template error: Fn::Join needs a delimiter and a list"))?;
        let texts: Option<Vec<String>> = list.iter().map(text).collect();
        let texts = texts.ok_or_else(|| invalid("Template error: Fn::Join joins texts"))?;
        if texts.iter().map(|text| text.len() + delimiter.len()).sum::<usize>() > EVALUATED_BYTES_MAX {
            return Err(too_large());
        }
        Ok(texts.join(delimiter))
    }
}

fn too_large() -> crate::AwsError {
    invalid(format!("Template error: what a function makes may have {EVALUATED_BYTES_MAX} bytes"))
}

fn bounded(value: Value) -> Result<Value> {
    fn bytes(value: &Value) -> usize {
        match value {
            Value::String(text) => text.len(),
            Value::Array(all) => all.iter().map(bytes).sum(),
            Value::Object(all) => all.iter().map(|(key, value)| key.len() + bytes(value)).sum(),
            _ => 8,
        }
    }
    if bytes(&value) > EVALUATED_BYTES_MAX { Err(too_large()) } else { Ok(value) }
}

fn single(all: &Map<String, Value>) -> Option<(&str, &Value)> {
    all.iter().next().filter(|_| all.len() == 1).map(|(key, value)| (key.as_str(), value))
}

/// Text as templates mean it: numbers and booleans are written out.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

fn arguments<'v, const N: usize>(name: &str, of: &'v Value) -> Result<[&'v Value; N]> {
    let all = of.as_array().and_then(|all| all.iter().collect::<Vec<_>>().try_into().ok());
    all.ok_or_else(|| invalid(format!("Template error: {name} needs a list of {N}")))
}

/// The conditions of a template, each evaluated when another one or `all` asks for it.
pub struct Conditions<'a> {
    pub section: &'a Map<String, Value>,
    pub values: &'a BTreeMap<String, Value>,
    pub found: RefCell<BTreeMap<String, bool>>,
}

impl Conditions<'_> {
    pub fn all(self) -> Result<BTreeMap<String, bool>> {
        self.section.keys().try_for_each(|name| self.named(name, 0).map(drop))?;
        Ok(self.found.into_inner())
    }

    fn named(&self, name: &str, depth: usize) -> Result<bool> {
        if let Some(found) = self.found.borrow().get(name) {
            return Ok(*found);
        }
        if depth > CONDITIONS_DEEP_MAX {
            return Err(invalid("Template format error: conditions depend on one another in a circle"));
        }
        let condition = self.section.get(name);
        let missing = || {
            invalid(format!(
                "Template format error: Unresolved condition dependency {name:.64} in the Conditions block"
            ))
        };
        let holds = self.holds(condition.ok_or_else(missing)?, depth + 1)?;
        self.found.borrow_mut().insert(name.to_owned(), holds);
        Ok(holds)
    }

    /// Beside functions: `true` and `false`, and the bare name of a condition. AWS wants functions only, but templates
    /// that are filled in elsewhere (the cookbook's playbook 08) have them.
    fn holds(&self, condition: &Value, depth: usize) -> Result<bool> {
        let wrong = || {
            invalid(
                "Template format error: Every Conditions member must be a condition: Fn::Equals, Fn::Not, Fn::And, Fn::Or or Condition",
            )
        };
        match condition {
            Value::Bool(holds) => return Ok(*holds),
            Value::String(text) if text == "true" || text == "false" => return Ok(text == "true"),
            Value::String(name) => return self.named(name, depth),
            _ => {}
        }
        let (name, of) = condition.as_object().and_then(single).ok_or_else(wrong)?;
        let several = || {
            let all = of.as_array().filter(|all| (2..=10).contains(&all.len()));
            all.ok_or_else(|| invalid(format!("Template error: {name} needs a list of 2 to 10 conditions")))
        };
        match name {
            "Condition" => self.named(of.as_str().ok_or_else(wrong)?, depth),
            "Fn::Equals" => {
                let [one, other] = arguments(name, of)?;
                Ok(self.value(one)? == self.value(other)?)
            }
            "Fn::Not" => {
                let [one] = arguments(name, of)?;
                self.holds(one, depth).map(|holds| !holds)
            }
            "Fn::And" => several()?.iter().try_fold(true, |all, one| Ok(self.holds(one, depth)? && all)),
            "Fn::Or" => several()?.iter().try_fold(false, |any, one| Ok(self.holds(one, depth)? || any)),
            _ => Err(wrong()),
        }
    }

    /// What can be compared: before anything is made, there are parameters only.
    fn value(&self, value: &Value) -> Result<Value> {
        let resource = |name: &str, _: Option<&str>| {
            Err(invalid(format!(
                "Template format error: Unresolved dependencies [{name:.64}]. Cannot reference resources in the Conditions block of the template"
            )))
        };
        let scope = Scope { values: self.values, conditions: &BTreeMap::new(), resource: &resource };
        let found = scope.eval(value)?.unwrap_or_default();
        Ok(text(&found).map_or(found, Value::String))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn eval(value: Value) -> Result<Option<Value>> {
        known(&value)?;
        let values = BTreeMap::from([
            ("P".to_owned(), json!("p")),
            ("L".to_owned(), json!(["a", "b"])),
            ("AWS::Region".to_owned(), json!("us-east-1")),
        ]);
        let conditions = BTreeMap::from([("Yes".to_owned(), true), ("No".to_owned(), false)]);
        let resource = |name: &str, attribute: Option<&str>| match name {
            "R" => Ok(format!("r{}", attribute.map(|name| format!("/{name}")).unwrap_or_default())),
            other => Err(invalid(format!("no {other}"))),
        };
        Scope { values: &values, conditions: &conditions, resource: &resource }.eval(&value)
    }

    #[test]
    fn functions() {
        for (value, expected) in [
            (json!({"Ref": "P"}), json!("p")),
            (json!({"Ref": "R"}), json!("r")),
            (json!({"Fn::GetAtt": ["R", "Arn"]}), json!("r/Arn")),
            (json!({"Fn::GetAtt": "R.Arn"}), json!("r/Arn")),
            (json!({"Fn::Sub": "${P}-${R.Id}-${AWS::Region}-${!P}-$P"}), json!("p-r/Id-us-east-1-${P}-$P")),
            (json!({"Fn::Sub": ["${x}${P}", {"x": {"Ref": "R"}}]}), json!("rp")),
            (json!({"Fn::Join": ["-", ["a", {"Ref": "P"}, 1, {"Ref": "AWS::NoValue"}]]}), json!("a-p-1")),
            (json!({"Fn::Join": [",", {"Ref": "L"}]}), json!("a,b")),
            (json!({"Fn::If": ["Yes", {"Ref": "P"}, {"Ref": "unknown"}]}), json!("p")),
            (json!({"a": {"Fn::If": ["No", 1, {"Ref": "AWS::NoValue"}]}, "b": [2]}), json!({"b": [2]})),
            (json!({"Ref": "P", "other": 1}), json!({"Ref": "P", "other": 1})),
        ] {
            assert_eq!(eval(value.clone()).unwrap(), Some(expected), "{value}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (value, why) in [
            (json!({"Fn::Select": [0, ["a"]]}), "Fn::Select"),
            (json!({"Fn::Transform": {}}), "Fn::Transform"),
            (json!({"Fn::Sub": "x", "b": 1}), "alone"),
            (json!({"Ref": ["a"]}), "single String"),
            (json!({"Ref": "AWS::NotificationARNs"}), "AWS::NotificationARNs"),
            (json!({"Ref": "X"}), "no X"),
            (json!({"Fn::GetAtt": ["R"]}), "two parameters"),
            (json!({"Fn::Sub": "${P"}), "open"),
            (json!({"Fn::Sub": "${L}"}), "not text"),
            (json!({"Fn::Join": ["", "x"]}), "list"),
            (json!({"Fn::If": ["Maybe", 1, 2]}), "condition"),
            (json!({"Fn::Equals": [1, 1]}), "conditions only"),
            (json!({"Fn::Join": ["", vec!["x".repeat(1000); 300]]}), "bytes"),
        ] {
            let error = eval(value.clone()).unwrap_err();
            assert!(error.message.contains(why), "{value}: {error}");
        }
    }

    fn conditions(section: Value) -> Result<BTreeMap<String, bool>> {
        let values = BTreeMap::from([("P".to_owned(), json!("p"))]);
        Conditions { section: section.as_object().unwrap(), values: &values, found: RefCell::default() }.all()
    }

    #[test]
    fn conditions_may_name_one_another() {
        let found = conditions(json!({
            "A": {"Fn::Or": ["B", {"Fn::Equals": [{"Ref": "P"}, "p"]}]},
            "B": false,
            "C": {"Fn::Not": [{"Fn::And": [{"Condition": "A"}, {"Condition": "B"}]}]},
            "D": {"Fn::Equals": [true, "true"]},
        }));
        let expected =
            [("A", true), ("B", false), ("C", true), ("D", true)].map(|(name, holds)| (name.to_owned(), holds));
        assert_eq!(found.unwrap(), BTreeMap::from(expected));
        for (section, why) in [
            (json!({"A": {"Condition": "A"}}), "circle"),
            (json!({"A": {"Condition": "B"}}), "Unresolved condition dependency B"),
            (json!({"A": {"Fn::Equals": [{"Ref": "R"}, ""]}}), "Cannot reference resources"),
            (json!({"A": {"Fn::Or": ["A"]}}), "2 to 10"),
            (json!({"A": [1]}), "Every Conditions member"),
        ] {
            let error = conditions(section.clone()).unwrap_err();
            assert!(error.message.contains(why), "{section}: {error}");
        }
    }
}
