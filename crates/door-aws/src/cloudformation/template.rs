//! A template, read and found whole, and its parameters. Follows "Template anatomy" of the user guide.

use super::{
    Result,
    functions::{known, text},
    invalid,
    kinds::Kind,
    store::Texts,
    yaml,
};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Of a template that comes with the request.
const TEMPLATE_BYTES_MAX: usize = 51_200;
const RESOURCES_MAX: usize = 500;
const PARAMETERS_MAX: usize = 200;
const OUTPUTS_MAX: usize = 200;
const VALUE_BYTES_MAX: usize = 4_096;
const DESCRIPTION_BYTES_MAX: usize = 1_024;
const SECTIONS: [&str; 7] =
    ["AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Conditions", "Resources", "Outputs"];
const OF_RESOURCES: [&str; 7] =
    ["Type", "Properties", "DependsOn", "Condition", "DeletionPolicy", "UpdateReplacePolicy", "Metadata"];
const OF_OUTPUTS: [&str; 3] = ["Value", "Description", "Condition"];
const OF_PARAMETERS: [&str; 10] = [
    "Type",
    "Default",
    "AllowedValues",
    "MinLength",
    "MaxLength",
    "MinValue",
    "MaxValue",
    "NoEcho",
    "Description",
    "ConstraintDescription",
];

#[derive(Debug)]
pub struct Template {
    pub description: Option<String>,
    pub parameters: BTreeMap<String, Parameter>,
    pub conditions: Map<String, Value>,
    pub resources: BTreeMap<String, ResourceTemplate>,
    pub outputs: BTreeMap<String, OutputTemplate>,
}

#[derive(Debug)]
pub struct ResourceTemplate {
    pub kind: Kind,
    pub properties: Value,
    pub depends: BTreeSet<String>,
    pub condition: Option<String>,
    pub retain: bool,
}

#[derive(Debug)]
pub struct OutputTemplate {
    pub value: Value,
    pub description: Option<String>,
    pub condition: Option<String>,
}

#[derive(Debug)]
pub struct Parameter {
    is_list: bool,
    is_number: bool,
    default: Option<String>,
    allowed: Vec<String>,
    length: (Option<f64>, Option<f64>),
    number: (Option<f64>, Option<f64>),
    /// Its value is not shown.
    pub no_echo: bool,
}

fn malformed(why: impl std::fmt::Display) -> crate::AwsError {
    invalid(format!("Template format error: {why}"))
}

fn object<'v>(value: &'v Value, what: &str) -> Result<&'v Map<String, Value>> {
    value.as_object().ok_or_else(|| malformed(format!("{what} must be an object")))
}

fn section<'v>(
    whole: &'v Map<String, Value>,
    name: &str,
    most: usize,
) -> Result<Vec<(&'v String, &'v Map<String, Value>)>> {
    let Some(section) = whole.get(name) else { return Ok(Vec::new()) };
    let section = object(section, name)?;
    if section.len() > most {
        return Err(malformed(format!("Number of {name}, {}, is greater than maximum allowed, {most}", section.len())));
    }
    section.iter().map(|(id, member)| Ok((id, object(member, &format!("[/{name}/{id:.64}]"))?))).collect()
}

fn words(of: &Map<String, Value>, name: &str) -> Result<Option<String>> {
    of.get(name).map(|value| text(value).ok_or_else(|| malformed(format!("{name} must be a string")))).transpose()
}

fn only(of: &Map<String, Value>, what: &str, names: &[&str]) -> Result<()> {
    match of.keys().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(malformed(format!("Kilter does not offer {name:.64} in {what}"))),
    }
}

impl Template {
    pub fn parse(source: &str) -> Result<Self> {
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(invalid(format!(
                "1 validation error detected: Value at 'templateBody' failed to satisfy constraint: Member must have length \
                 less than or equal to {TEMPLATE_BYTES_MAX}"
            )));
        }
        let whole = yaml::read(source).map_err(malformed)?;
        let whole = object(&whole, "a template")?;
        only(whole, "a template", &SECTIONS)?;
        if let Some(version) = whole.get("AWSTemplateFormatVersion").filter(|version| **version != "2010-09-09") {
            return Err(malformed(format!("Template version {version:.64} is not supported: it is 2010-09-09")));
        }
        let description = words(whole, "Description")?;
        if description.as_ref().is_some_and(|text| text.len() > DESCRIPTION_BYTES_MAX) {
            return Err(malformed(format!("'Description' length is greater than {DESCRIPTION_BYTES_MAX}.")));
        }
        let conditions = whole.get("Conditions").map(|section| object(section, "Conditions")).transpose()?;
        for name in ["Conditions", "Resources", "Outputs"] {
            whole.get(name).map_or(Ok(()), known)?;
        }
        let parameters = section(whole, "Parameters", PARAMETERS_MAX)?.into_iter();
        let outputs = section(whole, "Outputs", OUTPUTS_MAX)?.into_iter();
        let resources = section(whole, "Resources", RESOURCES_MAX)?;
        if resources.is_empty() {
            return Err(malformed("At least one Resources member must be defined."));
        }
        Ok(Self {
            description,
            parameters: parameters
                .map(|(name, of)| Ok((logical(name)?, parameter(name, of)?)))
                .collect::<Result<_>>()?,
            conditions: conditions.cloned().unwrap_or_default(),
            resources: resources
                .into_iter()
                .map(|(name, of)| Ok((logical(name)?, resource(name, of)?)))
                .collect::<Result<_>>()?,
            outputs: outputs.map(|(name, of)| Ok((logical(name)?, output(name, of)?))).collect::<Result<_>>()?,
        })
    }

    /// The value of every parameter: as given, else as it was (`None`: asked for with UsePreviousValue), else its default.
    pub fn values(&self, given: &BTreeMap<String, Option<String>>, before: Option<&Texts>) -> Result<Texts> {
        let strange: Vec<&str> =
            given.keys().filter(|name| !self.parameters.contains_key(*name)).map(String::as_str).collect();
        if !strange.is_empty() {
            return Err(invalid(format!("Parameters: [{}] do not exist in the template", strange.join(", "))));
        }
        let (mut values, mut missing) = (Texts::new(), Vec::new());
        for (name, parameter) in &self.parameters {
            let value = match given.get(name) {
                Some(Some(value)) => Some(value),
                Some(None) => before.and_then(|before| before.get(name)),
                None => None,
            };
            match value.or(parameter.default.as_ref()) {
                Some(value) => {
                    parameter.check(name, value)?;
                    values.insert(name.clone(), value.clone());
                }
                None => missing.push(name.as_str()),
            }
        }
        match missing.is_empty() {
            true => Ok(values),
            false => Err(invalid(format!("Parameters: [{}] must have values", missing.join(", ")))),
        }
    }

    /// What Ref answers for the parameters: a list of texts for lists.
    pub fn referred(&self, values: &Texts) -> BTreeMap<String, Value> {
        let one = |(name, value): (&String, &String)| {
            let is_list = self.parameters.get(name).is_some_and(|parameter| parameter.is_list);
            let list = || value.split(',').map(|part| Value::from(part.trim())).collect();
            (name.clone(), if is_list { Value::Array(list()) } else { Value::from(value.as_str()) })
        };
        values.iter().map(one).collect()
    }
}

fn logical(name: &str) -> Result<String> {
    if name.is_empty() || name.len() > 255 || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return Err(malformed(format!("name {name:.64} is non alphanumeric.")));
    }
    Ok(name.to_owned())
}

fn resource(name: &str, of: &Map<String, Value>) -> Result<ResourceTemplate> {
    let what = format!("resource {name}");
    only(of, &what, &OF_RESOURCES)?;
    let resource_type = words(of, "Type")?
        .ok_or_else(|| malformed(format!("[/Resources/{name}] Every Resources object must contain a Type member.")))?;
    let kind = Kind::of(&resource_type)
        .ok_or_else(|| malformed(format!("Unrecognized resource types: [{resource_type:.128}]")))?;
    let policy = |name: &str| match words(of, name)?.as_deref() {
        None | Some("Delete") => Ok(false),
        Some("Retain") => Ok(true),
        Some(other) => Err(malformed(format!("Kilter does not offer {name} {other:.64} in {what}"))),
    };
    if policy("UpdateReplacePolicy")? {
        return Err(malformed(format!("Kilter does not offer UpdateReplacePolicy Retain in {what}")));
    }
    let depends = match of.get("DependsOn") {
        None => BTreeSet::new(),
        Some(Value::String(one)) => BTreeSet::from([one.clone()]),
        Some(Value::Array(all)) if all.iter().all(Value::is_string) => all.iter().filter_map(text).collect(),
        Some(_) => return Err(malformed(format!("DependsOn of {what} must be a name or a list of names"))),
    };
    let properties = of.get("Properties").cloned().unwrap_or_else(|| Value::Object(Map::new()));
    object(&properties, &format!("Properties of {what}"))?;
    Ok(ResourceTemplate {
        kind,
        properties,
        depends,
        condition: words(of, "Condition")?,
        retain: policy("DeletionPolicy")?,
    })
}

fn output(name: &str, of: &Map<String, Value>) -> Result<OutputTemplate> {
    only(of, &format!("output {name}"), &OF_OUTPUTS)?;
    let missing = || malformed(format!("[/Outputs/{name}] Every Outputs member must contain a Value object"));
    let value = of.get("Value").cloned().ok_or_else(missing)?;
    Ok(OutputTemplate { value, description: words(of, "Description")?, condition: words(of, "Condition")? })
}

fn parameter(name: &str, of: &Map<String, Value>) -> Result<Parameter> {
    let what = format!("parameter {name}");
    only(of, &what, &OF_PARAMETERS)?;
    let (is_list, is_number) = match words(of, "Type")?.as_deref() {
        Some("String") => (false, false),
        Some("Number") => (false, true),
        Some("CommaDelimitedList") => (true, false),
        Some("List<Number>") => (true, true),
        Some(other) => return Err(malformed(format!("Kilter does not offer the type {other:.128} in {what}"))),
        None => {
            return Err(malformed(format!("[/Parameters/{name}] Every Parameters object must contain a Type member.")));
        }
    };
    let bound = |name: &str| {
        let bound = words(of, name)?.map(|text| text.parse::<f64>().ok().filter(|bound| bound.is_finite()));
        bound.map(|bound| bound.ok_or_else(|| malformed(format!("{name} of {what} must be a number")))).transpose()
    };
    let allowed = match of.get("AllowedValues") {
        None => Vec::new(),
        Some(all) => {
            let all: Option<Vec<String>> = all.as_array().and_then(|all| all.iter().map(text).collect());
            all.filter(|all| !all.is_empty())
                .ok_or_else(|| malformed(format!("AllowedValues of {what} must be a list")))?
        }
    };
    Ok(Parameter {
        is_list,
        is_number,
        default: words(of, "Default")?,
        allowed,
        length: (bound("MinLength")?, bound("MaxLength")?),
        number: (bound("MinValue")?, bound("MaxValue")?),
        no_echo: words(of, "NoEcho")?.as_deref() == Some("true"),
    })
}

impl Parameter {
    fn check(&self, name: &str, value: &str) -> Result<()> {
        let within = |(least, most): (Option<f64>, Option<f64>), of: f64| {
            least.is_none_or(|least| of >= least) && most.is_none_or(|most| of <= most)
        };
        if value.len() > VALUE_BYTES_MAX {
            return Err(invalid(format!("Parameter {name} has more than {VALUE_BYTES_MAX} bytes")));
        }
        let parts: Vec<&str> = if self.is_list { value.split(',').map(str::trim).collect() } else { vec![value] };
        for part in parts {
            if !self.allowed.is_empty() && !self.allowed.iter().any(|allowed| allowed == part) {
                return Err(invalid(format!("Parameter {name} must be one of AllowedValues")));
            }
            if self.is_number
                && !part.parse::<f64>().is_ok_and(|number| number.is_finite() && within(self.number, number))
            {
                return Err(invalid(format!("Parameter {name} must be a number within MinValue and MaxValue")));
            }
        }
        if !self.is_number && !within(self.length, value.chars().count() as f64) {
            return Err(invalid(format!(
                "Parameter {name} must contain at least MinLength and at most MaxLength characters"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THING: &str = "Resources: {T: {Type: AWS::IoT::Thing}}\n";

    #[test]
    fn what_is_not_offered_is_refused_by_name() {
        let large = format!("{THING}# {}", "x".repeat(TEMPLATE_BYTES_MAX));
        for (template, why) in [
            ("Resources: {}", "At least one"),
            ("[1]", "a template must be an object"),
            ("AWSTemplateFormatVersion: 2011-01-01\n", "2010-09-09"),
            ("Mappings: {}\n", "Mappings"),
            ("Resources: {B: {Type: AWS::S3::Bucket}}", "Unrecognized resource types: [AWS::S3::Bucket]"),
            ("Resources: {T: {Properties: {}}}", "must contain a Type"),
            ("Resources: {T-1: {Type: AWS::IoT::Thing}}", "non alphanumeric"),
            ("Resources: {T: {Type: AWS::IoT::Thing, CreationPolicy: {}}}", "CreationPolicy"),
            ("Resources: {T: {Type: AWS::IoT::Thing, DeletionPolicy: Snapshot}}", "Snapshot"),
            ("Resources: {T: {Type: AWS::IoT::Thing, Properties: [1]}}", "must be an object"),
            ("Resources: {T: {Type: AWS::IoT::Thing, Properties: {ThingName: !Base64 x}}}", "Fn::Base64"),
            ("Parameters: {P: {Type: AWS::SSM::Parameter::Name}}\nResources: {T: {Type: AWS::IoT::Thing}}", "AWS::SSM"),
            ("Outputs: {O: {Value: x, Export: {Name: y}}}\nResources: {T: {Type: AWS::IoT::Thing}}", "Export"),
            (&large, "51200"),
        ] {
            let error = Template::parse(template).unwrap_err();
            assert!(error.code == "ValidationError" && error.message.contains(why), "{template:.60}: {error}");
        }
    }

    #[test]
    fn parameters_have_values_that_fit() {
        let parameters = "Parameters:\n  A: {Type: String, MinLength: 2}\n  B: {Type: Number, Default: 5, MaxValue: 9}\n  \
                          C: {Type: CommaDelimitedList, Default: 'x, y', AllowedValues: [x, y]}\n";
        let template = Template::parse(&format!("{parameters}{THING}")).unwrap();
        let given = |all: &[(&str, Option<&str>)]| {
            all.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect::<BTreeMap<_, _>>()
        };
        let values = template.values(&given(&[("A", Some("ab"))]), None).unwrap();
        assert_eq!(template.referred(&values)["C"], serde_json::json!(["x", "y"]));
        let again = template.values(&given(&[("A", None), ("B", Some("7"))]), Some(&values)).unwrap();
        assert_eq!((again["A"].as_str(), again["B"].as_str()), ("ab", "7"));
        for (all, why) in [
            (&[][..], "[A] must have values"),
            (&[("A", None)], "[A] must have values"),
            (&[("A", Some("ab")), ("Z", Some("1"))], "[Z] do not exist"),
            (&[("A", Some("a"))], "MinLength"),
            (&[("A", Some("ab")), ("B", Some("10"))], "MaxValue"),
            (&[("A", Some("ab")), ("B", Some("inf"))], "number"),
            (&[("A", Some("ab")), ("C", Some("x,z"))], "AllowedValues"),
        ] {
            let error = template.values(&given(all), None).unwrap_err();
            assert!(error.message.contains(why), "{all:?}: {error}");
        }
    }
}
