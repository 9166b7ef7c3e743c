//! Asset models and assets: what they are, and reading them from requests.

use super::{fault::invalid, formula::Formula};
use crate::{AwsError, dynamodb::new_id};
use kilter_core::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;

/// The service's limits.
const PROPERTIES_MAX: usize = 200;
const HIERARCHIES_MAX: usize = 30;
const NAME_CHARACTERS_MAX: usize = 256;
const VARIABLES_MAX: usize = 10;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub properties: Vec<Property>,
    pub hierarchies: Vec<Hierarchy>,
    pub created: Timestamp,
    pub updated: Timestamp,
    pub tags: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DataType {
    String,
    Integer,
    Double,
    Boolean,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Property {
    pub id: String,
    pub name: String,
    pub data_type: DataType,
    pub unit: Option<String>,
    pub kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Kind {
    Attribute(Option<String>),
    Measurement,
    Transform(Expression),
    /// With the seconds of its tumbling window and those that it is shifted by.
    Metric(Expression, i64, i64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expression {
    pub text: String,
    pub variables: Vec<Variable>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Variable {
    pub name: String,
    /// Of this model; with a hierarchy, of the model below it.
    pub property: String,
    pub hierarchy: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hierarchy {
    pub id: String,
    pub name: String,
    pub child_model: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asset {
    pub id: String,
    pub name: String,
    pub description: Option<String>,
    pub model: String,
    pub created: Timestamp,
    pub updated: Timestamp,
    /// Of properties, by their ids.
    pub aliases: BTreeMap<String, String>,
    /// The asset above, and by which of its hierarchies.
    pub parent: Option<(String, String)>,
    pub tags: BTreeMap<String, String>,
}

impl DataType {
    fn name(self) -> &'static str {
        match self {
            Self::String => "STRING",
            Self::Integer => "INTEGER",
            Self::Double => "DOUBLE",
            Self::Boolean => "BOOLEAN",
        }
    }
}

pub fn text<'a>(of: &'a Map<String, Json>, member: &str) -> Option<&'a str> {
    of.get(member).and_then(Json::as_str)
}

/// A required text of 1 to 256 characters.
pub fn name(of: &Map<String, Json>, member: &str) -> Result<String, AwsError> {
    match text(of, member) {
        Some(name) if !name.is_empty() && name.chars().count() <= NAME_CHARACTERS_MAX => Ok(name.to_owned()),
        Some(_) => Err(invalid(format!("{member} must have 1 to {NAME_CHARACTERS_MAX} characters"))),
        None => Err(invalid(format!("{member} must not be null"))),
    }
}

pub fn list<'a>(of: &'a Map<String, Json>, member: &str) -> Result<Vec<&'a Map<String, Json>>, AwsError> {
    let all = match of.get(member) {
        None | Some(Json::Null) => return Ok(Vec::new()),
        Some(Json::Array(all)) => all,
        Some(_) => return Err(invalid(format!("{member} must be a list"))),
    };
    all.iter().map(|one| one.as_object().ok_or_else(|| invalid(format!("{member} must hold objects")))).collect()
}

/// `5m`, `1h`, `1d`, `1w` in seconds.
pub fn interval(text: &str) -> Option<i64> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 7 * 86_400,
        _ => return None,
    };
    let number: i64 = text[..text.len() - 1].parse().ok()?;
    (number > 0).then(|| number.checked_mul(unit))?
}

impl Model {
    /// From a request to make one, or to change the one that is `there`.
    pub fn read(body: &Map<String, Json>, there: Option<&Self>, now: Timestamp) -> Result<Self, AwsError> {
        let mut properties = Vec::new();
        let mut hierarchies = Vec::new();
        for given in list(body, "assetModelHierarchies")? {
            let hierarchy_name = name(given, "name")?;
            let known = there.and_then(|there| there.hierarchies.iter().find(|known| known.name == hierarchy_name));
            hierarchies.push(Hierarchy {
                id: known.map_or_else(new_id, |known| Ok(known.id.clone()))?,
                name: hierarchy_name,
                child_model: name(given, "childAssetModelId")?,
            });
        }
        for given in list(body, "assetModelProperties")? {
            properties.push(Property::read(given, there)?);
        }
        if properties.len() > PROPERTIES_MAX || hierarchies.len() > HIERARCHIES_MAX {
            return Err(invalid(format!(
                "a model has at most {PROPERTIES_MAX} properties and {HIERARCHIES_MAX} hierarchies"
            )));
        }
        let mut model = Self {
            id: there.map_or_else(new_id, |there| Ok(there.id.clone()))?,
            name: name(body, "assetModelName")?,
            description: text(body, "assetModelDescription").map(str::to_owned),
            properties,
            hierarchies,
            created: there.map_or(now, |there| there.created),
            updated: now,
            tags: there.map_or_else(|| tags(body), |there| there.tags.clone()),
        };
        model.resolve()?;
        Ok(model)
    }

    /// Variables may name properties; from here on they hold ids. Checks that names are unique and that no expression
    /// depends on itself.
    fn resolve(&mut self) -> Result<(), AwsError> {
        let by_name: BTreeMap<String, String> =
            self.properties.iter().map(|property| (property.name.clone(), property.id.clone())).collect();
        if by_name.len() < self.properties.len() {
            return Err(invalid("the names of a model's properties must differ"));
        }
        let hierarchies: BTreeMap<String, String> =
            self.hierarchies.iter().map(|hierarchy| (hierarchy.name.clone(), hierarchy.id.clone())).collect();
        for property in &mut self.properties {
            let (Kind::Transform(expression) | Kind::Metric(expression, ..)) = &mut property.kind else { continue };
            for variable in &mut expression.variables {
                match &mut variable.hierarchy {
                    Some(hierarchy) => {
                        if let Some(id) = hierarchies.get(hierarchy) {
                            *hierarchy = id.clone();
                        }
                    }
                    None => {
                        if let Some(id) = by_name.get(&variable.property) {
                            variable.property = id.clone();
                        }
                        if !by_name.values().any(|id| *id == variable.property) {
                            return Err(invalid(format!(
                                "the variable {} names no property of the model",
                                variable.name
                            )));
                        }
                    }
                }
            }
        }
        for property in &self.properties {
            self.check_order(property, 0)?;
        }
        Ok(())
    }

    fn check_order(&self, property: &Property, depth: usize) -> Result<(), AwsError> {
        if depth > PROPERTIES_MAX.min(16) {
            return Err(invalid(format!(
                "the expression of {} depends on itself, or through too many others",
                property.name
            )));
        }
        for variable in property.variables().iter().filter(|variable| variable.hierarchy.is_none()) {
            if let Some(of) = self.property(&variable.property) {
                self.check_order(of, depth + 1)?;
            }
        }
        Ok(())
    }

    pub fn property(&self, id: &str) -> Option<&Property> {
        self.properties.iter().find(|property| property.id == id)
    }

    pub fn describe_properties(&self) -> Vec<Json> {
        self.properties.iter().map(Property::describe).collect()
    }

    pub fn describe_hierarchies(&self) -> Vec<Json> {
        let describe = |of: &Hierarchy| json!({ "id": of.id, "name": of.name, "childAssetModelId": of.child_model });
        self.hierarchies.iter().map(describe).collect()
    }
}

pub fn tags(body: &Map<String, Json>) -> BTreeMap<String, String> {
    let given = body.get("tags").and_then(Json::as_object).into_iter().flatten();
    given.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

impl Property {
    fn read(given: &Map<String, Json>, there: Option<&Model>) -> Result<Self, AwsError> {
        let own = name(given, "name")?;
        let data_type = match text(given, "dataType") {
            Some("STRING") => DataType::String,
            Some("INTEGER") => DataType::Integer,
            Some("DOUBLE") => DataType::Double,
            Some("BOOLEAN") => DataType::Boolean,
            other => {
                return Err(invalid(format!(
                    "the dataType {} of {own} is not supported by Kilter: use STRING, INTEGER, DOUBLE or BOOLEAN",
                    other.unwrap_or("null")
                )));
            }
        };
        let kinds = given.get("type").and_then(Json::as_object);
        let mut kinds = kinds.into_iter().flatten().filter(|(_, kind)| !kind.is_null());
        let (Some((kind, details)), None) = (kinds.next(), kinds.next()) else {
            return Err(invalid(format!("{own} must have exactly one type")));
        };
        let details = details.as_object().ok_or_else(|| invalid(format!("the type of {own} must be an object")))?;
        let kind = match kind.as_str() {
            "attribute" => Kind::Attribute(text(details, "defaultValue").map(str::to_owned)),
            "measurement" => Kind::Measurement,
            "transform" => Kind::Transform(Expression::read(details, false)?),
            "metric" => {
                let tumbling = details.get("window").and_then(|window| window.get("tumbling"));
                let of = |member: &str| tumbling?.get(member)?.as_str().and_then(interval);
                let seconds =
                    of("interval").filter(|seconds| (60..=7 * 86_400).contains(seconds)).ok_or_else(|| {
                        invalid(format!("the metric {own} needs a tumbling window with an interval from 1m to 1w"))
                    })?;
                Kind::Metric(Expression::read(details, true)?, seconds, of("offset").unwrap_or(0) % seconds)
            }
            other => return Err(invalid(format!("{other} is no type of a property"))),
        };
        let numeric = data_type == DataType::Double || data_type == DataType::Integer;
        if matches!(kind, Kind::Transform(_) | Kind::Metric(..)) && !numeric {
            return Err(invalid(format!("{own} is computed, so its dataType must be DOUBLE or INTEGER")));
        }
        let known = there.and_then(|there| there.properties.iter().find(|known| known.name == own));
        let id = known.map_or_else(new_id, |known| Ok(known.id.clone()))?;
        Ok(Self { id, name: own, data_type, unit: text(given, "unit").map(str::to_owned), kind })
    }

    pub fn variables(&self) -> &[Variable] {
        match &self.kind {
            Kind::Transform(expression) | Kind::Metric(expression, ..) => &expression.variables,
            Kind::Attribute(_) | Kind::Measurement => &[],
        }
    }

    pub fn describe(&self) -> Json {
        let mut described = json!({ "id": self.id, "name": self.name, "dataType": self.data_type.name() });
        if let Some(unit) = &self.unit {
            described["unit"] = json!(unit);
        }
        described["type"] = match &self.kind {
            Kind::Attribute(None) => json!({ "attribute": {} }),
            Kind::Attribute(Some(value)) => json!({ "attribute": { "defaultValue": value } }),
            Kind::Measurement => json!({ "measurement": {} }),
            Kind::Transform(expression) => json!({ "transform": expression.describe() }),
            Kind::Metric(expression, seconds, offset) => {
                let mut metric = expression.describe();
                metric["window"] = json!({ "tumbling": { "interval": format_interval(*seconds) } });
                if *offset > 0 {
                    metric["window"]["tumbling"]["offset"] = json!(format_interval(*offset));
                }
                json!({ "metric": metric })
            }
        };
        described
    }
}

fn format_interval(seconds: i64) -> String {
    let units = [(7 * 86_400, "w"), (86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let fits = units.iter().find(|(unit, _)| seconds % unit == 0);
    fits.map_or_else(|| format!("{seconds}s"), |(unit, sign)| format!("{}{sign}", seconds / unit))
}

impl Expression {
    fn read(details: &Map<String, Json>, metric: bool) -> Result<Self, AwsError> {
        let expression = text(details, "expression").ok_or_else(|| invalid("expression must not be null"))?;
        let mut variables = Vec::new();
        for given in list(details, "variables")? {
            let value = given.get("value").and_then(Json::as_object).cloned().unwrap_or_default();
            let hierarchy = text(&value, "hierarchyId").map(str::to_owned);
            if hierarchy.is_some() && !metric {
                return Err(invalid("a transform's variables cannot name a hierarchy: use a metric"));
            }
            variables.push(Variable { name: name(given, "name")?, property: name(&value, "propertyId")?, hierarchy });
        }
        if variables.len() > VARIABLES_MAX {
            return Err(invalid(format!("an expression has at most {VARIABLES_MAX} variables")));
        }
        let expression = Self { text: expression.to_owned(), variables };
        expression.formula(metric).map_err(invalid)?;
        Ok(expression)
    }

    pub fn formula(&self, metric: bool) -> Result<Formula, String> {
        let names: Vec<&str> = self.variables.iter().map(|variable| variable.name.as_str()).collect();
        Formula::parse(&self.text, &names, metric)
    }

    fn describe(&self) -> Json {
        let variable = |of: &Variable| {
            let mut value = json!({ "propertyId": of.property });
            if let Some(hierarchy) = &of.hierarchy {
                value["hierarchyId"] = json!(hierarchy);
            }
            json!({ "name": of.name, "value": value })
        };
        json!({ "expression": self.text, "variables": self.variables.iter().map(variable).collect::<Vec<_>>() })
    }
}
