//! A second, naive evaluator: reads the JSON anew for each request, spells every pattern out into characters, and
//! tries everything. Thousands of random cases must agree with it.

use super::*;

/// Who asks, in the oracle's own words.
#[derive(Debug, Clone)]
struct World {
    action: Action,
    resource: String,
    client_id: String,
    thing: Option<(String, Option<String>, BTreeMap<String, String>)>,
    organizations: Vec<String>,
    source: Option<std::net::IpAddr>,
    seconds: i64,
}

impl World {
    fn values(&self, key: &str) -> Vec<String> {
        let thing = self.thing.as_ref();
        let found: Vec<String> = match key {
            "iot:ClientId" => vec![self.client_id.clone()],
            "iot:Connection.Thing.ThingName" => thing.map(|t| t.0.clone()).into_iter().collect(),
            "iot:Connection.Thing.ThingTypeName" => thing.and_then(|t| t.1.clone()).into_iter().collect(),
            "iot:Connection.Thing.Attributes[x]" => thing.and_then(|t| t.2.get("x").cloned()).into_iter().collect(),
            "iot:Connection.Thing.IsAttached" => vec![thing.is_some().to_string()],
            "iot:Certificate.Subject.Organization" => self.organizations.clone(),
            "iot:Certificate.Subject.Organization.1" => self.organizations.get(1).cloned().into_iter().collect(),
            "aws:SourceIp" => self.source.map(|ip| ip.to_string()).into_iter().collect(),
            "aws:EpochTime" => vec![self.seconds.to_string()],
            "aws:CurrentTime" => vec![kilter_core::Timestamp::from_seconds(self.seconds).to_string()],
            "aws:SecureTransport" => vec!["true".to_owned()],
            other => panic!("the cases do not ask for {other}"),
        };
        found.into_iter().filter(|value| !value.is_empty()).collect()
    }
}

#[derive(Clone)]
enum Token {
    Star,
    One,
    Char(char),
}

/// A pattern with its variables filled in; `None` where one has no value.
fn tokens(pattern: &str, world: &World) -> Option<Vec<Token>> {
    if let Some(rest) = pattern.strip_prefix("${") {
        let (name, rest) = rest.split_once('}').unwrap();
        let value = world.values(name).into_iter().next()?;
        let mut all: Vec<Token> = value.chars().map(Token::Char).collect();
        all.extend(tokens(rest, world)?);
        return Some(all);
    }
    let Some(first) = pattern.chars().next() else { return Some(Vec::new()) };
    let mut all = vec![match first {
        '*' => Token::Star,
        '?' => Token::One,
        other => Token::Char(other),
    }];
    all.extend(tokens(&pattern[first.len_utf8()..], world)?);
    Some(all)
}

/// `colons`: how many the pattern has passed; before the fifth, wildcards do not stand for one.
fn glob(pattern: &[Token], text: &[char], colons: usize) -> bool {
    let wild = |c: &char| colons >= ARN_PARTS - 1 || *c != ':';
    match (pattern.split_first(), text.split_first()) {
        (None, text) => text.is_none(),
        (Some((Token::Star, rest)), None) => glob(rest, text, colons),
        (Some((Token::Star, rest)), Some((c, behind))) => {
            glob(rest, text, colons) || (wild(c) && glob(pattern, behind, colons))
        }
        (Some((Token::One, rest)), Some((c, behind))) => wild(c) && glob(rest, behind, colons),
        (Some((Token::Char(p), rest)), Some((c, behind))) => {
            p == c && glob(rest, behind, colons + usize::from(*p == ':'))
        }
        (Some(_), None) => false,
    }
}

fn chars(text: &str) -> Vec<char> {
    text.chars().collect()
}

fn strings(value: &Value) -> Vec<String> {
    let all = value.as_array().map_or_else(|| vec![value], |many| many.iter().collect());
    all.into_iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect()
}

fn bits(ip: &str) -> Option<String> {
    match ip.parse().ok()? {
        std::net::IpAddr::V4(v4) => Some(v4.octets().iter().map(|b| format!("{b:08b}")).collect()),
        std::net::IpAddr::V6(v6) => Some(v6.octets().iter().map(|b| format!("{b:08b}")).collect()),
    }
}

fn seconds(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| kilter_core::Timestamp::parse_rfc3339(text).map(|t| t.as_nanos() / 1_000_000_000))
}

/// One wanted value against one that is there, for an operator without its `Not`.
fn fits(operator: &str, want: &str, got: &str, world: &World) -> bool {
    let spelled = |want: &str| {
        tokens(want, world).map(|all| {
            let plain = |token| match token {
                Token::Star => '*',
                Token::One => '?',
                Token::Char(c) => c,
            };
            all.into_iter().map(plain).collect::<String>()
        })
    };
    let compare = |order: &str, got: f64, want: f64| match order {
        "Equals" => got == want,
        "LessThan" => got < want,
        "LessThanEquals" => got <= want,
        "GreaterThan" => got > want,
        "GreaterThanEquals" => got >= want,
        other => panic!("the cases do not use {other}"),
    };
    match operator {
        "StringEquals" => spelled(want).is_some_and(|want| want == got),
        "StringEqualsIgnoreCase" => spelled(want).is_some_and(|want| want.to_lowercase() == got.to_lowercase()),
        "StringLike" | "ArnLike" | "ArnEquals" => tokens(want, world).is_some_and(|w| glob(&w, &chars(got), ARN_PARTS)),
        "Bool" => want == got,
        "IpAddress" => {
            let (net, length) = want.split_once('/').unwrap_or((want, "128"));
            let (net, got) = (bits(net).unwrap(), bits(got).unwrap_or_default());
            let length = length.parse::<usize>().unwrap().min(net.len());
            net.len() == got.len() && net[..length] == got[..length]
        }
        _ => match (operator.strip_prefix("Numeric"), operator.strip_prefix("Date")) {
            (Some(order), _) => got.parse().is_ok_and(|got| compare(order, got, want.parse().unwrap())),
            (_, Some(order)) => {
                seconds(got).is_some_and(|got| compare(order, got as f64, seconds(want).unwrap() as f64))
            }
            _ => panic!("the cases do not use {operator}"),
        },
    }
}

fn test(operator: &str, key: &str, wants: &[String], world: &World, allow: bool) -> bool {
    let (set, operator) = operator.split_once(':').map_or((None, operator), |(set, rest)| (Some(set), rest));
    let (operator, if_exists) = operator.strip_suffix("IfExists").map_or((operator, false), |rest| (rest, true));
    let negated = operator.contains("Not");
    let plain = operator.replace("Not", "");
    let got = world.values(key);
    if plain == "Null" {
        return got.is_empty() == (wants[0] == "true");
    }
    let textual = plain.starts_with("String") || plain.starts_with("Arn");
    if negated && allow && textual && wants.iter().any(|want| tokens(want, world).is_none()) {
        return false;
    }
    if got.is_empty() {
        return match set {
            Some("ForAllValues") => true,
            Some(_) => if_exists,
            None => if_exists || negated,
        };
    }
    let one = |got: &String| wants.iter().any(|want| fits(&plain, want, got, world)) != negated;
    match set {
        Some("ForAllValues") => got.iter().all(one),
        Some(_) => got.iter().any(one),
        None => one(&got[0]),
    }
}

fn oracle(documents: &[Value], world: &World) -> &'static str {
    let text = chars(&world.resource);
    let name = chars(&world.action.name().to_lowercase());
    let names = |value: &Value| {
        strings(value).iter().any(|a| glob(&tokens(&a.to_lowercase(), world).unwrap(), &name, ARN_PARTS))
    };
    let matches = |r: &String| r == "*" || tokens(r, world).is_some_and(|r| glob(&r, &text, 0));
    let applies = |statement: &Value| {
        let allow = statement["Effect"] == "Allow";
        let action = match statement.get("NotAction") {
            Some(except) => !names(except),
            None => names(&statement["Action"]),
        };
        let resource = match statement.get("NotResource") {
            Some(except) => {
                let except = strings(except);
                let told = except.iter().all(|r| tokens(r, world).is_some());
                !except.iter().any(matches) && (told || !allow)
            }
            None => strings(&statement["Resource"]).iter().any(matches),
        };
        let conditions = statement["Condition"].as_object().into_iter().flatten().all(|(operator, keys)| {
            let keys = keys.as_object().unwrap();
            keys.iter().all(|(key, wants)| test(operator, key, &strings(wants), world, allow))
        });
        action && resource && conditions
    };
    let effects: Vec<&str> = documents
        .iter()
        .flat_map(|document| match &document["Statement"] {
            Value::Array(many) => many.iter().collect(),
            one => vec![one],
        })
        .filter(|statement| applies(statement))
        .map(|statement| statement["Effect"].as_str().unwrap())
        .collect();
    match (effects.contains(&"Deny"), effects.contains(&"Allow")) {
        (true, _) => "denied",
        (false, true) => "allowed",
        (false, false) => "not allowed",
    }
}

fn one_or_many(strategy: impl Strategy<Value = Value> + Clone) -> impl Strategy<Value = Value> {
    prop_oneof![strategy.clone(), prop::collection::vec(strategy, 1..4).prop_map(Value::Array)]
}

const VARIABLES: [&str; 5] = [
    "${iot:ClientId}",
    "${iot:Connection.Thing.ThingName}",
    "${iot:Connection.Thing.Attributes[x]}",
    "${iot:Certificate.Subject.Organization.1}",
    "${aws:SourceIp}",
];

fn pieces() -> impl Strategy<Value = String> + Clone {
    let plain = prop::sample::select(vec!["a", "b", "ab", "A", "/", ":", "*", "*", "?", "+", "#", "é", "$"]);
    let variable = prop::sample::select(VARIABLES.to_vec());
    prop::collection::vec(prop_oneof![4 => plain, 1 => variable], 0..5).prop_map(|pieces| pieces.concat())
}

fn any_condition() -> impl Strategy<Value = Value> {
    let textual = prop::sample::select(vec![
        "iot:ClientId",
        "iot:Connection.Thing.ThingName",
        "iot:Connection.Thing.ThingTypeName",
        "iot:Connection.Thing.Attributes[x]",
        "iot:Certificate.Subject.Organization",
        "iot:Certificate.Subject.Organization.1",
    ]);
    let text_operator = prop::sample::select(vec![
        "StringEquals",
        "StringNotEquals",
        "StringEqualsIgnoreCase",
        "StringNotEqualsIgnoreCase",
        "StringLike",
        "StringNotLike",
        "ArnLike",
        "ArnNotEquals",
    ]);
    let set = prop::sample::select(vec!["", "", "", "ForAnyValue:", "ForAllValues:"]);
    let suffix = prop::sample::select(vec!["", "", "IfExists"]);
    let decorated = move |operator: BoxedStrategy<&'static str>| {
        (set.clone(), operator, suffix.clone()).prop_map(|(set, operator, suffix)| format!("{set}{operator}{suffix}"))
    };
    let text = (decorated(text_operator.boxed()), textual.clone(), one_or_many(pieces().prop_map(Value::from)));
    let order = prop::sample::select(vec![
        "Equals",
        "NotEquals",
        "LessThan",
        "LessThanEquals",
        "GreaterThan",
        "GreaterThanEquals",
    ]);
    let numeric = order.clone().prop_map(|order| format!("Numeric{order}"));
    let number = (numeric, Just("aws:EpochTime"), one_or_many((0i64..4).prop_map(Value::from)));
    let dated = order.prop_map(|order| format!("Date{order}"));
    let date = prop_oneof![
        (0i64..4).prop_map(Value::from),
        (0i64..4).prop_map(|s| Value::from(kilter_core::Timestamp::from_seconds(s).to_string())),
    ];
    let date = (dated, prop::sample::select(vec!["aws:CurrentTime", "aws:EpochTime"]), one_or_many(date));
    let net = prop::sample::select(vec!["10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "::/0", "fd00::/8", "10.1.2.0/31"]);
    let address = prop::sample::select(vec!["IpAddress", "NotIpAddress", "IpAddressIfExists"]).prop_map(str::to_owned);
    let address = (address, Just("aws:SourceIp"), one_or_many(net.prop_map(Value::from)));
    let truth = prop::sample::select(vec!["Bool", "BoolIfExists"]).prop_map(str::to_owned);
    let truth_key = prop::sample::select(vec!["aws:SecureTransport", "iot:Connection.Thing.IsAttached"]);
    let truth = (truth, truth_key, any::<bool>().prop_map(Value::from));
    let null = (Just("Null".to_owned()), textual, any::<bool>().prop_map(Value::from));
    let each = prop_oneof![4 => text, 1 => number, 1 => date, 1 => address, 1 => truth, 1 => null];
    prop::collection::vec(each, 1..3).prop_map(|tests| {
        let mut condition = json!({});
        for (operator, key, values) in tests {
            condition[operator][key] = values;
        }
        condition
    })
}

fn any_document() -> impl Strategy<Value = Value> {
    let action = prop::sample::select(vec![
        "iot:Connect",
        "iot:Publish",
        "iot:Subscribe",
        "iot:Receive",
        "iot:*",
        "*",
        "iot:*ub*",
        "iot:?????????",
        "IOT:rec*",
    ])
    .prop_map(Value::from);
    let head =
        prop::sample::select(vec!["arn:aws:iot:r1:1:", "arn:aws:iot:*:1:", "arn:aws:iot:r?:?:", "arn:*:iot:r1:*:"]);
    let kind = prop::sample::select(vec!["client/", "topic/", "topicfilter/", "topic*/", "*", "t?pic/", "*:topic/"]);
    let arn = (head, kind, pieces()).prop_map(|(head, kind, pieces)| Value::from(format!("{head}{kind}{pieces}")));
    let resource = prop_oneof![1 => Just(Value::from("*")), 20 => arn];
    let effect = prop_oneof![1 => Just("Deny"), 2 => Just("Allow")];
    let condition = prop_oneof![2 => Just(None), 1 => any_condition().prop_map(Some)];
    let not = || prop_oneof![4 => Just(""), 1 => Just("Not")];
    let statement = (effect, not(), one_or_many(action), not(), one_or_many(resource), condition)
        .prop_map(|(effect, no_action, action, no_resource, resource, condition)| {
            let mut statement = json!({"Effect": effect});
            statement[format!("{no_action}Action")] = action;
            statement[format!("{no_resource}Resource")] = resource;
            if let Some(condition) = condition {
                statement["Condition"] = condition;
            }
            statement
        })
        .boxed();
    let statement = prop_oneof![statement.clone(), prop::collection::vec(statement, 1..4).prop_map(Value::Array)];
    statement.prop_map(|statement| json!({"Version": "2012-10-17", "Statement": statement}))
}

fn any_name(pieces: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "b",
        "ab",
        "A",
        "/",
        ":topic/",
        "*",
        "?",
        "+",
        "#",
        "é",
        "$",
        "${iot:ClientId}",
    ]);
    prop::collection::vec(piece, pieces).prop_map(|pieces| pieces.concat())
}

fn any_world() -> impl Strategy<Value = World> {
    let attributes =
        prop::option::of(any_name(0..2)).prop_map(|x| x.map(|x| ("x".to_owned(), x)).into_iter().collect());
    let thing = prop::option::of((any_name(1..3), prop::option::of(any_name(0..2)), attributes));
    let source = prop::option::of(prop::sample::select(vec!["10.1.2.3", "10.1.2.0", "192.168.1.1", "fd00::1", "::1"]));
    (
        prop::sample::select(ACTIONS.to_vec()),
        any_name(0..6),
        any_name(0..3),
        thing,
        prop::collection::vec(any_name(0..2), 0..3),
        source.prop_map(|source| source.map(|source| source.parse().unwrap())),
        0i64..4,
    )
        .prop_map(|(action, subject, client_id, thing, organizations, source, seconds)| World {
            action,
            resource: resource_arn("r1", "1", action, &subject),
            client_id,
            thing,
            organizations,
            source,
            seconds,
        })
}

fn ours(documents: &[Value], world: &World) -> &'static str {
    let policies: Vec<_> = documents.iter().map(|json| Arc::new(Policy::parse(&json.to_string()).unwrap())).collect();
    let organizations: Vec<&str> = world.organizations.iter().map(String::as_str).collect();
    let facts = facts(&organizations);
    let thing = world.thing.as_ref().map(|(name, thing_type, attributes)| ThingFacts {
        name,
        thing_type: thing_type.as_deref(),
        attributes,
    });
    let context = Context {
        client_id: &world.client_id,
        thing,
        certificate: Some(&facts),
        source: world.source,
        now: kilter_core::Timestamp::from_seconds(world.seconds),
    };
    words(decide(&policies, &Request { action: world.action, resource: &world.resource, context }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn decides_as_the_oracle_does(documents in prop::collection::vec(any_document(), 0..4), world in any_world()) {
        prop_assert_eq!(ours(&documents, &world), oracle(&documents, &world));
    }

    #[test]
    fn parsing_never_panics(json in any::<String>()) {
        let _ = Policy::parse(&json);
    }
}

/// The property above is worth something only if its cases reach every decision.
#[test]
fn cases_reach_every_decision() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::new();
    let cases = (prop::collection::vec(any_document(), 0..4), any_world());
    for _ in 0..2_000 {
        let (documents, world) = cases.new_tree(&mut runner).unwrap().current();
        *seen.entry(oracle(&documents, &world)).or_insert(0) += 1;
    }
    assert!(seen.len() == 3 && seen.values().all(|count| *count > 100), "{seen:?}");
}
