//! What a stack is to have: its template with the values of one request, checked before anything is done, and in an order
//! in which it can be made.

use super::{
    Result,
    functions::{Conditions, Scope},
    invalid,
    kinds::Kind,
    store::{Output, Texts},
    template::Template,
};
use serde_json::{Map, Value};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

#[derive(Debug)]
pub struct Plan {
    pub template: Template,
    values: BTreeMap<String, Value>,
    conditions: BTreeMap<String, bool>,
    /// Those whose conditions hold, after what they depend on.
    pub order: Vec<String>,
    /// Resources and outputs, evaluated as far as that is possible before they are made: what two plans differ in is
    /// what an update would change.
    pub draft: Value,
}

/// Where the stack lives.
pub struct Place<'a> {
    pub region: &'a str,
    pub account: &'a str,
    pub name: &'a str,
    pub arn: &'a str,
}

impl Plan {
    pub fn new(template: Template, parameters: &Texts, place: &Place<'_>) -> Result<Self> {
        let mut values = template.referred(parameters);
        let pseudo = [
            ("AWS::AccountId", place.account),
            ("AWS::Region", place.region),
            ("AWS::StackName", place.name),
            ("AWS::StackId", place.arn),
            ("AWS::Partition", "aws"),
            ("AWS::URLSuffix", "amazonaws.com"),
        ];
        values.extend(pseudo.map(|(name, value)| (name.to_owned(), value.into())));
        let found = RefCell::default();
        let conditions = Conditions { section: &template.conditions, values: &values, found }.all()?;
        let mut plan = Self { template, values, conditions, order: Vec::new(), draft: Value::Null };
        plan.arrange()?;
        Ok(plan)
    }

    fn holds(&self, condition: Option<&String>) -> Result<bool> {
        let Some(name) = condition else { return Ok(true) };
        let missing = || invalid(format!("Template format error: Unresolved condition dependency {name:.64}"));
        self.conditions.get(name).copied().ok_or_else(missing)
    }

    /// The properties of a resource, `resource` answering for those it names.
    pub fn properties(&self, logical: &str, resource: &dyn Fn(&str, Option<&str>) -> Result<String>) -> Result<Value> {
        let scope = Scope { values: &self.values, conditions: &self.conditions, resource };
        let properties = self.template.resources.get(logical).map(|one| scope.eval(&one.properties)).transpose()?;
        Ok(properties.flatten().unwrap_or_else(|| Value::Object(Map::new())))
    }

    /// Those whose conditions hold.
    pub fn outputs(&self, resource: &dyn Fn(&str, Option<&str>) -> Result<String>) -> Result<Vec<Output>> {
        let scope = Scope { values: &self.values, conditions: &self.conditions, resource };
        let mut outputs = Vec::new();
        for (key, output) in &self.template.outputs {
            if self.holds(output.condition.as_ref())? {
                let (key, description) = (key.clone(), output.description.clone());
                outputs.push(Output { key, value: scope.text(&output.value)?, description });
            }
        }
        Ok(outputs)
    }

    /// Fills `order` and `draft`.
    fn arrange(&mut self) -> Result<()> {
        let mut active: BTreeMap<&str, Kind> = BTreeMap::new();
        for (name, resource) in &self.template.resources {
            if self.holds(resource.condition.as_ref())? {
                active.insert(name, resource.kind);
            }
        }
        let named = RefCell::new(BTreeSet::new());
        let resource = |name: &str, attribute: Option<&str>| {
            let kind = active.get(name).ok_or_else(|| unresolved(name))?;
            if let Some(attribute) = attribute.filter(|attribute| !kind.attributes().contains(attribute)) {
                return Err(invalid(format!(
                    "Template error: resource {name} does not support attribute type {attribute:.64} in Fn::GetAtt"
                )));
            }
            named.borrow_mut().insert(name.to_owned());
            Ok(format!("\u{0}{name}.{}", attribute.unwrap_or_default()))
        };
        let (mut draft, mut waiting) = (Map::new(), BTreeMap::new());
        for (name, kind) in &active {
            let properties = self.properties(name, &resource)?;
            kind.check(name, &properties)?;
            let one = &self.template.resources[*name];
            if let Some(unknown) = one.depends.iter().find(|other| !self.template.resources.contains_key(*other)) {
                return Err(unresolved(unknown));
            }
            let mut needs: BTreeSet<String> = named.take();
            needs.extend(one.depends.iter().filter(|other| active.contains_key(other.as_str())).cloned());
            draft.insert((*name).to_owned(), serde_json::json!([kind.name(), properties, one.retain]));
            waiting.insert((*name).to_owned(), needs);
        }
        let outputs: Map<String, Value> = self
            .outputs(&resource)?
            .into_iter()
            .map(|output| (output.key, serde_json::json!([output.value, output.description])))
            .collect();
        let (mut order, mut done) = (Vec::new(), BTreeSet::new());
        while !waiting.is_empty() {
            let ready = waiting.iter().find(|(_, needs)| needs.is_subset(&done));
            let Some(name) = ready.map(|(name, _)| name.clone()) else {
                let names: Vec<&str> = waiting.keys().map(String::as_str).collect();
                return Err(invalid(format!("Circular dependency between resources: [{}]", names.join(", "))));
            };
            waiting.remove(&name);
            done.insert(name.clone());
            order.push(name);
        }
        (self.order, self.draft) = (order, serde_json::json!([draft, outputs]));
        Ok(())
    }
}

fn unresolved(name: &str) -> crate::AwsError {
    invalid(format!(
        "Template format error: Unresolved resource dependencies [{name:.128}] in the Resources block of the template"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(template: &str) -> Result<Plan> {
        let place = Place { region: "us-east-1", account: "1", name: "s", arn: "arn" };
        Plan::new(Template::parse(template)?, &Texts::new(), &place)
    }

    #[test]
    fn what_is_needed_comes_first() {
        let found = plan(
            "Conditions: {Never: false}\nResources:\n  A: {Type: AWS::IoT::Thing, DependsOn: [B, D]}\n  B: {Type: AWS::IoT::Thing, \
             Properties: {ThingName: !Sub '${C}-${AWS::Region}'}}\n  C: {Type: AWS::IoT::Thing}\n  D: {Type: AWS::IoT::Thing, Condition: Never}\n",
        );
        assert_eq!(found.unwrap().order, ["C", "B", "A"]);
    }

    #[test]
    fn what_cannot_be_made_is_refused_before_anything_is() {
        for (resources, why) in [
            (
                "A: {Type: AWS::IoT::Thing, DependsOn: B}\n  B: {Type: AWS::IoT::Thing, DependsOn: A}",
                "Circular dependency",
            ),
            ("A: {Type: AWS::IoT::Thing, DependsOn: A}", "Circular dependency between resources: [A]"),
            ("A: {Type: AWS::IoT::Thing, DependsOn: X}", "Unresolved resource dependencies [X]"),
            ("A: {Type: AWS::IoT::Thing, Properties: {ThingName: !Ref X}}", "Unresolved resource dependencies [X]"),
            ("A: {Type: AWS::IoT::Thing, Condition: X}", "Unresolved condition dependency X"),
            (
                "A: {Type: AWS::IoT::Thing}\n  B: {Type: AWS::IoT::Thing, Properties: {ThingName: !GetAtt A.X}}",
                "attribute type X",
            ),
            ("A: {Type: AWS::IoT::Thing, Properties: {Name: x}}", "extraneous key [Name]"),
            ("A: {Type: AWS::IoT::Policy}", "required key [PolicyDocument]"),
        ] {
            let error = plan(&format!("Resources:\n  {resources}\n")).unwrap_err();
            assert!(error.message.contains(why), "{resources}: {error}");
        }
    }
}
