//! Expressions: what is refused and how, and what holds compared with a naive evaluator.

use super::*;
use crate::dynamodb::value::{AttributeValue, Item, item_from_json, item_to_json};
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

fn placeholders(names: &Json, values: &Json) -> Placeholders {
    let all = [(Kind::Update, Some("")), (Kind::Condition, Some(""))];
    Placeholders::read(names.as_object(), values.as_object(), &all).unwrap()
}

fn item(json: Json) -> Item {
    item_from_json(json.as_object().unwrap()).unwrap()
}

fn condition(text: &str, values: &Json) -> Result<Condition, String> {
    let mut placeholders = placeholders(&json!({"#n": "name"}), values);
    Condition::parse(Kind::Condition, text, &mut placeholders).map_err(|error| error.message)
}

fn holds(text: &str, values: Json, of: Json) -> bool {
    condition(text, &values).unwrap_or_else(|error| panic!("{text}: {error}")).holds(&item(of))
}

fn update(text: &str, values: Json, of: Json) -> Result<Json, String> {
    let mut placeholders = placeholders(&Json::Null, &values);
    let update = Update::parse(text, &mut placeholders).map_err(|error| error.message)?;
    let applied = update.apply(&item(of)).map_err(|error| error.message)?;
    Ok(item_to_json(&applied.item))
}

#[test]
fn conditions_hold_or_not() {
    let of = json!({
        "a": {"N": "5"}, "s": {"S": "hello"}, "l": {"L": [{"N": "1"}, {"M": {"k": {"S": "v"}}}]},
        "ss": {"SS": ["x", "y"]}, "name": {"S": "n"}, "flag": {"BOOL": true},
    });
    for (text, expected) in [
        ("a = :five", true),
        ("a <> :five", false),
        ("nothing <> :five", true),
        ("nothing = :five", false),
        ("nothing < :five", false),
        ("a < :s", false),
        ("NOT a < :s", true),
        ("a BETWEEN :one AND :five", true),
        ("a between :one and :five AND a > :one", true),
        ("a IN (:one, :five)", true),
        ("a in (:one)", false),
        ("(a = :one OR a = :five) AND attribute_exists(s)", true),
        ("a = :one OR a = :five AND attribute_exists(nothing)", false),
        ("attribute_not_exists(l[5])", true),
        ("attribute_exists(l[1].k)", true),
        ("l[1].k = :v", true),
        ("begins_with(s, :hel)", true),
        ("contains(s, :ell)", true),
        ("contains(ss, :x)", true),
        ("contains(l, :one)", true),
        ("size(s) = :five", true),
        ("size(l) < :five", true),
        ("size(a) < :five", false),
        ("attribute_type(l, :L)", true),
        ("#n = :n", true),
        ("flag = :true", true),
        ("NOT (flag = :true) OR s = :hello", true),
        (":five = a", true),
        ("(a) = (:five)", true),
    ] {
        let values = json!({
            ":five": {"N": "5"}, ":one": {"N": "1"}, ":s": {"S": "s"}, ":v": {"S": "v"}, ":hel": {"S": "hel"},
            ":ell": {"S": "ell"}, ":x": {"S": "x"}, ":L": {"S": "L"}, ":n": {"S": "n"}, ":true": {"BOOL": true},
            ":hello": {"S": "hello"},
        });
        assert_eq!(holds(text, values, of.clone()), expected, "{text}");
    }
}

#[test]
fn conditions_are_refused_in_the_services_words() {
    let values = json!({":v": {"N": "1"}, ":w": {"N": "0"}, ":b": {"BOOL": true}, ":s": {"S": "Q"}});
    let deep = format!("{}a = :v", "NOT ".repeat(200));
    let many = vec!["a = :v"; 400].join(" OR ");
    let long = "a".repeat(5000);
    for (text, words) in [
        ("", "The expression can not be empty;"),
        ("a = ", "Syntax error; token: \"<EOF>\""),
        ("a == :v", "Syntax error; token: \"=\", near: \"== :v\""),
        ("a = :v AND", "Syntax error"),
        ("a", "Syntax error"),
        (":v", "Syntax error"),
        ("a = :v b", "Syntax error; token: \"b\""),
        ("a ! :v", "Syntax error; token: \"!\""),
        ("name = :v", "Attribute name is a reserved keyword; reserved keyword: name"),
        ("#x = :v", "An expression attribute name used in the document path is not defined; attribute name: #x"),
        ("a = :x", "An expression attribute value used in expression is not defined; attribute value: :x"),
        ("foo(a, :v)", "Invalid function name; function: foo"),
        (
            "size(a, b) = :v",
            "Incorrect number of operands for operator or function; operator or function: size, number of operands: 2",
        ),
        (
            "begins_with(a, :v)",
            "Incorrect operand type for operator or function; operator or function: begins_with, operand type: N",
        ),
        ("a < :b", "Incorrect operand type for operator or function; operator or function: <, operand type: BOOL"),
        ("attribute_type(a, :s)", "Invalid attribute type name found; type: Q"),
        ("a BETWEEN :v AND :w", "requires upper bound to be greater than or equal to lower bound"),
        ("((a = :v))", "The expression has redundant parentheses;"),
        ("attribute_exists(:v)", "requires a document path"),
        ("a[99999999999999] = :v", "List index is not within the allowable range"),
        (&deep, "levels deep"),
        (&many, "too many operators"),
        (&long, "Expression size has exceeded the maximum allowed size"),
    ] {
        let refused = condition(text, &values).expect_err(text);
        assert!(
            refused.starts_with("Invalid ConditionExpression: ") && refused.contains(words),
            "{text:.80}: {refused}"
        );
    }
}

#[test]
fn placeholders_must_be_used_and_well_formed() {
    let read = |names: Json, values: Json, expressions: &[(Kind, Option<&str>)]| {
        Placeholders::read(names.as_object(), values.as_object(), expressions).map_err(|error| error.message)
    };
    let used = [(Kind::Condition, Some("a = :v"))];
    let none = [(Kind::Condition, None)];
    let value = json!({":v": {"N": "1"}});
    assert!(
        read(json!({"#n": "x"}), Json::Null, &none)
            .unwrap_err()
            .contains("can only be specified when using expressions")
    );
    assert!(read(Json::Null, value.clone(), &none).unwrap_err().ends_with("ConditionExpression is null"));
    assert!(read(json!({}), Json::Null, &used).unwrap_err().contains("must not be empty"));
    assert!(read(json!({"n": "x"}), Json::Null, &used).unwrap_err().contains("Syntax error; key: \"n\""));
    assert!(read(Json::Null, json!({"v": {"N": "1"}}), &used).unwrap_err().contains("Syntax error; key: \"v\""));
    let mut read = read(json!({"#n": "x"}), value, &used).unwrap();
    Condition::parse(Kind::Condition, "a = :v", &mut read).unwrap();
    let unused = read.all_used().unwrap_err().message;
    assert_eq!(unused, "Value provided in ExpressionAttributeNames unused in expressions: keys: {#n}");
}

#[test]
fn updates_read_the_item_as_it_was() {
    let of = json!({"a": {"N": "1"}, "b": {"N": "2"}, "l": {"L": [{"N": "0"}, {"N": "1"}, {"N": "2"}]}, "m": {"M": {}}, "ss": {"SS": ["x"]}});
    let values = json!({":one": {"N": "1"}, ":l": {"L": [{"N": "9"}]}, ":x": {"SS": ["x", "y"]}, ":s": {"S": "s"}});
    let run = |text: &str| update(text, values.clone(), of.clone()).unwrap_or_else(|error| panic!("{text}: {error}"));
    let after = run("SET a = b, b = a");
    assert_eq!((&after["a"]["N"], &after["b"]["N"]), (&json!("2"), &json!("1")));
    assert_eq!(run("SET a = a + :one, c = b - a")["c"]["N"], "1");
    assert_eq!(run("SET a = if_not_exists(a, :one) + :one")["a"]["N"], "2");
    assert_eq!(run("SET z = if_not_exists(z, :s)")["z"]["S"], "s");
    assert_eq!(run("SET l = list_append(:l, l)")["l"]["L"].as_array().unwrap().len(), 4);
    assert_eq!(run("SET l[7] = :one REMOVE l[0], l[1]")["l"]["L"], json!([{"N": "2"}, {"N": "1"}]));
    assert_eq!(run("SET m.k = :s")["m"]["M"]["k"]["S"], "s");
    assert_eq!(run("ADD a :one, n :one, ss :x")["ss"]["SS"], json!(["x", "y"]));
    assert_eq!(run("ADD n :one")["n"]["N"], "1");
    assert!(run("DELETE ss :x").get("ss").is_none());
    assert!(run("REMOVE a, nothing").get("a").is_none());
    for (text, words) in [
        ("SET a = nothing", "refers to an attribute that does not exist in the item"),
        ("SET a = a + ss", "incorrect data type"),
        ("SET nothing.x = :one", "document path provided in the update expression is invalid for update"),
        ("SET a = :one SET b = :one", "The \"SET\" section can only be used once in an update expression;"),
        ("SET a = :one, a = b", "Two document paths overlap"),
        ("SET m.a = :one, m[1] = :one", "Two document paths conflict"),
        ("SET a = :s + :one", "operand type: S"),
        ("ADD a :s", "Incorrect operand type for operator or function; operator: ADD, operand type: S"),
        ("ADD a :x", "incorrect data type"),
        ("SET a = list_append(:one, l)", "operand type: N"),
        ("SET a = foo(b)", "Invalid function name; function: foo"),
        ("FOO a", "Syntax error; token: \"FOO\""),
        ("SET a :one", "Syntax error"),
    ] {
        let refused = update(text, values.clone(), of.clone()).expect_err(text);
        assert!(refused.contains(words), "{text}: {refused}");
    }
}

#[test]
fn projections_cut() {
    let mut names = placeholders(&json!({"#n": "name"}), &Json::Null);
    let cut = Projection::parse("#n, l[2], l[0], m.a, m.b.c", &mut names).unwrap();
    let of = item(json!({
        "name": {"S": "n"}, "other": {"S": "o"}, "l": {"L": [{"N": "0"}, {"N": "1"}, {"N": "2"}]},
        "m": {"M": {"a": {"N": "1"}, "b": {"S": "flat"}, "z": {"N": "3"}}},
    }));
    let expected = json!({"name": {"S": "n"}, "l": {"L": [{"N": "0"}, {"N": "2"}]}, "m": {"M": {"a": {"N": "1"}}}});
    assert_eq!(item_to_json(&cut.cut(&of)), expected);
}

#[test]
fn key_conditions_are_simple() {
    let values = json!({":p": {"S": "p"}, ":a": {"S": "a"}, ":b": {"S": "b"}});
    let parse = |text: &str| {
        let mut placeholders = placeholders(&Json::Null, &values);
        KeyCondition::parse(text, &mut placeholders, "pk", Some("sk")).map_err(|error| error.message)
    };
    let hash = || AttributeValue::S("p".to_owned());
    assert_eq!(parse("pk = :p").unwrap(), KeyCondition { hash: hash(), range: None });
    assert!(matches!(parse("sk BETWEEN :a AND :b AND pk = :p").unwrap().range, Some(RangeCondition::Between(..))));
    assert!(matches!(parse("pk = :p AND begins_with(sk, :a)").unwrap().range, Some(RangeCondition::BeginsWith(_))));
    assert!(matches!(
        parse("pk = :p AND :a < sk").unwrap().range,
        Some(RangeCondition::Compare(Comparison::Greater, _))
    ));
    for (text, words) in [
        ("sk = :a", "Query condition missed key schema element: pk"),
        ("pk < :p", "Query key condition not supported"),
        ("pk = :p AND third = :a", "Query condition missed key schema element: sk"),
        ("pk = :p OR sk = :a", "Invalid operator used in KeyConditionExpression: OR"),
        ("pk = :p AND sk <> :a", "Invalid operator used in KeyConditionExpression: <>"),
        ("pk = :p AND contains(sk, :a)", "contains"),
        ("pk = :p AND sk = :a AND sk = :b", "Conditions can be of length 1 or 2 only"),
        ("pk = :p AND pk = :a", "only contain one condition per key"),
    ] {
        let refused = parse(text).expect_err(text);
        assert!(refused.contains(words), "{text}: {refused}");
    }
}

/// A condition on whole numbers, as simple as can be.
#[derive(Debug, Clone)]
enum Naive {
    Compare(usize, usize, i64),
    Between(usize, i64, i64),
    Exists(usize),
    Not(Box<Naive>),
    And(Box<Naive>, Box<Naive>),
    Or(Box<Naive>, Box<Naive>),
}

const SIGNS: [&str; 6] = ["=", "<>", "<", "<=", ">", ">="];

impl Naive {
    fn holds(&self, of: &BTreeMap<usize, i64>) -> bool {
        match self {
            Self::Compare(name, sign, value) => match of.get(name) {
                None => SIGNS[*sign] == "<>",
                Some(there) => match SIGNS[*sign] {
                    "=" => there == value,
                    "<>" => there != value,
                    "<" => there < value,
                    "<=" => there <= value,
                    ">" => there > value,
                    _ => there >= value,
                },
            },
            Self::Between(name, low, high) => of.get(name).is_some_and(|there| (low..=high).contains(&there)),
            Self::Exists(name) => of.contains_key(name),
            Self::Not(inner) => !inner.holds(of),
            Self::And(a, b) => a.holds(of) && b.holds(of),
            Self::Or(a, b) => a.holds(of) || b.holds(of),
        }
    }

    /// With parentheses only where precedence asks for them: 0 in an OR, 1 in an AND, 2 behind a NOT.
    fn text(&self, binding: u8, values: &mut Vec<i64>) -> String {
        let mut value = |value: i64| {
            values.push(value);
            format!(":v{}", values.len() - 1)
        };
        let (own, text) = match self {
            Self::Compare(name, sign, number) => (3, format!("a{name} {} {}", SIGNS[*sign], value(*number))),
            Self::Between(name, low, high) => {
                let (low, high) = (value(*low), value(*high));
                (3, format!("a{name} BETWEEN {low} AND {high}"))
            }
            Self::Exists(name) => (3, format!("attribute_exists ( a{name} )")),
            Self::Not(inner) => (2, format!("NOT {}", inner.text(2, values))),
            Self::And(a, b) => (1, format!("{} AND {}", a.text(1, values), b.text(2, values))),
            Self::Or(a, b) => (0, format!("{} OR {}", a.text(0, values), b.text(1, values))),
        };
        if own < binding { format!("({text})") } else { text }
    }
}

fn naive() -> impl Strategy<Value = Naive> {
    let leaf = prop_oneof![
        (0..4usize, 0..6usize, -3..4i64).prop_map(|(name, sign, value)| Naive::Compare(name, sign, value)),
        (0..4usize, -3..4i64, 0..4i64).prop_map(|(name, low, width)| Naive::Between(name, low, low + width)),
        (0..4usize).prop_map(Naive::Exists),
    ];
    leaf.prop_recursive(5, 30, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| Naive::Not(Box::new(inner))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Naive::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner).prop_map(|(a, b)| Naive::Or(Box::new(a), Box::new(b))),
        ]
    })
}

fn numbers(of: &BTreeMap<usize, i64>) -> Json {
    of.iter().map(|(name, value)| (format!("a{name}"), json!({ "N": value.to_string() }))).collect()
}

proptest! {
    #[test]
    fn conditions_are_what_a_naive_evaluator_says(
        condition in naive(),
        of in proptest::collection::btree_map(0..4usize, -3..4i64, 0..4),
    ) {
        let mut numbers_used = Vec::new();
        let text = condition.text(0, &mut numbers_used);
        let values = numbers_used.iter().enumerate().map(|(at, value)| (format!(":v{at}"), json!({ "N": value.to_string() })));
        let values = Json::Object(values.collect());
        let values = if numbers_used.is_empty() { Json::Null } else { values };
        prop_assert_eq!(holds(&text, values, numbers(&of)), condition.holds(&of), "{}", text);
    }

    #[test]
    fn updates_are_what_a_naive_evaluator_says(
        of in proptest::collection::btree_map(0..4usize, -100..100i64, 4..5),
        sums in proptest::collection::btree_map(0..4usize, (0..4usize, 0..4usize, any::<bool>()), 1..4),
        gone in proptest::collection::btree_set(4..6usize, 0..2),
    ) {
        let set: Vec<String> = sums
            .iter()
            .map(|(to, (a, b, plus))| format!("a{to} = a{a} {} a{b}", if *plus { "+" } else { "-" }))
            .collect();
        let mut text = format!("SET {}", set.join(", "));
        if !gone.is_empty() {
            text += &format!(" REMOVE {}", gone.iter().map(|name| format!("a{name}")).collect::<Vec<_>>().join(", "));
        }
        let mut expected = of.clone();
        for (to, (a, b, plus)) in &sums {
            expected.insert(*to, if *plus { of[a] + of[b] } else { of[a] - of[b] });
        }
        prop_assert_eq!(update(&text, Json::Null, numbers(&of)).unwrap(), numbers(&expected));
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in "[a-c#:.()\\[\\]0-9 ,=<>+-]{0,40}|\\PC{0,30}|(SET|REMOVE|ADD)? ?[a:,= v\\[\\]0-9(]{0,30}") {
        let values = json!({":v": {"N": "1"}});
        let mut all = placeholders(&Json::Null, &values);
        let _ = Condition::parse(Kind::Filter, &text, &mut all);
        let _ = Projection::parse(&text, &mut all);
        if let Ok(update) = Update::parse(&text, &mut all) {
            let _ = update.apply(&item(json!({"a": {"L": [{"N": "1"}]}, "v": {"M": {}}})));
        }
    }
}
