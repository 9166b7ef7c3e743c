//! The decisions, by example and against a naive oracle that reads the JSON anew for each request.

use super::*;
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};

const REGION: &str = "us-east-1";
const ACCOUNT: &str = "000000000000";

fn arn(resource: &str) -> String {
    format!("arn:aws:iot:{REGION}:{ACCOUNT}:{resource}")
}

fn policy(statement: Value) -> Arc<Policy> {
    let document = json!({"Version": "2012-10-17", "Statement": statement});
    Arc::new(Policy::parse(&document.to_string()).unwrap())
}

fn allow(action: &str, resource: &str) -> Arc<Policy> {
    policy(json!({"Effect": "Allow", "Action": action, "Resource": resource}))
}

fn allowed(policy: &Arc<Policy>, action: Action, subject: &str, client_id: &str, thing: Option<&str>) -> bool {
    let resource = resource_arn(REGION, ACCOUNT, action, subject);
    let request = Request { action, resource: &resource, client_id, thing };
    matches!(decide(std::slice::from_ref(policy), &request), Decision::Allowed { .. })
}

#[test]
fn globs() {
    let matrix: [(&str, &[&str], &[&str]); 10] = [
        ("a", &["a"], &["", "aa", "A", "b"]),
        ("*", &["", "a", "a/b", "é"], &[]),
        ("?", &["a", "é", "*"], &["", "ab"]),
        ("a*", &["a", "ab"], &["", "ba"]),
        ("*a", &["a", "ba", "aa"], &["", "ab"]),
        ("a*b*c", &["abc", "axbxc", "abbcc", "abcbc"], &["ab", "acb", "abcd"]),
        ("a?*", &["ab", "abc"], &["a"]),
        ("*a?c*", &["abc", "xaacxc", "aabc"], &["ac", "abbc"]),
        ("a**b", &["ab", "axb"], &["a", "b"]),
        ("ab*ba", &["abba", "abxba"], &["aba", "ab"]),
    ];
    for (pattern, matching, others) in matrix {
        let policy = allow("iot:Publish", &arn(&format!("topic/{pattern}")));
        for topic in matching {
            assert!(allowed(&policy, Action::Publish, topic, "c", None), "{pattern} ~ {topic}");
        }
        for topic in others {
            assert!(!allowed(&policy, Action::Publish, topic, "c", None), "{pattern} !~ {topic}");
        }
    }
}

#[test]
fn variables_are_taken_literally() {
    let policy = allow("iot:*", &arn("topic/devices/${iot:ClientId}/*"));
    for wild in ["*", "?", "a*", "${iot:ClientId}"] {
        assert!(allowed(&policy, Action::Publish, &format!("devices/{wild}/x"), wild, None));
        assert!(!allowed(&policy, Action::Publish, "devices/victim/x", wild, None), "client id {wild:?}");
        assert!(!allowed(&policy, Action::Publish, "devices/v/x", wild, None), "client id {wild:?}");
    }
    let connect = allow("iot:Connect", &arn("client/${iot:Connection.Thing.ThingName}"));
    assert!(allowed(&connect, Action::Connect, "pump-1", "pump-1", Some("pump-1")));
    assert!(!allowed(&connect, Action::Connect, "pump-2", "pump-2", Some("pump-1")));
    assert!(!allowed(&connect, Action::Connect, "", "", None), "a thing without name is no thing");
    assert!(!allowed(&connect, Action::Connect, "${iot:Connection.Thing.ThingName}", "x", None));
    let by_client = allow("iot:Publish", &arn("topic/${iot:ClientId}"));
    assert!(!allowed(&by_client, Action::Publish, "", "", None), "an empty client id is no value");
    let repeated = allow("iot:Publish", &arn("topic/*/${iot:ClientId}?${iot:ClientId}/*"));
    assert!(allowed(&repeated, Action::Publish, "a/b/c-c/d", "c", None));
    assert!(!allowed(&repeated, Action::Publish, "a/b/c-d/d", "c", None));
}

#[test]
fn a_statement_without_value_does_not_hide_its_neighbours() {
    let resources = json!([arn("topic/${iot:Connection.Thing.ThingName}"), arn("topic/common")]);
    let policy = policy(json!([{"Effect": "Allow", "Action": ["iot:Publish"], "Resource": resources}]));
    assert!(allowed(&policy, Action::Publish, "common", "c", None));
    assert!(!allowed(&policy, Action::Receive, "common", "c", None));
}

#[test]
fn mqtt_wildcards_of_the_request_are_ordinary() {
    let own = allow("iot:Subscribe", &arn("topicfilter/tenants/t1/*"));
    assert!(allowed(&own, Action::Subscribe, "tenants/t1/+/x", "c", None));
    assert!(allowed(&own, Action::Subscribe, "tenants/t1/#", "c", None));
    assert!(!allowed(&own, Action::Subscribe, "tenants/+/x", "c", None));
    assert!(!allowed(&own, Action::Subscribe, "tenants/#", "c", None));
    assert!(!allowed(&own, Action::Subscribe, "#", "c", None));
    assert!(!allowed(&own, Action::Publish, "tenants/t1/x", "c", None));
    let plus = allow("iot:Subscribe", &arn("topicfilter/a/+/b"));
    assert!(allowed(&plus, Action::Subscribe, "a/+/b", "c", None));
    assert!(!allowed(&plus, Action::Subscribe, "a/x/b", "c", None), "+ in a policy stands for itself");
}

#[test]
fn a_star_stays_within_its_part_of_the_arn() {
    let any_account = allow("iot:Publish", "arn:aws:iot:*:*:topic/tenants/t1/*");
    assert!(allowed(&any_account, Action::Publish, "tenants/t1/x", "c", None));
    assert!(!allowed(&any_account, Action::Publish, "evil:topic/tenants/t1/x", "c", None));
    assert!(allowed(&any_account, Action::Publish, "tenants/t1/a:b:c", "c", None), "topics may hold colons");
    let elsewhere = allow("iot:Publish", "arn:aws:iot:eu-west-1:*:topic/*");
    assert!(!allowed(&elsewhere, Action::Publish, "x", "c", None));
    assert!(allowed(&allow("*", "*"), Action::Connect, "anything", "anything", None));
}

#[test]
fn deny_wins_wherever_it_stands() {
    let yes = allow("iot:Publish", &arn("topic/*"));
    let no = policy(json!([
        {"Sid": "other", "Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
        {"Effect": "Deny", "Action": "IOT:pub*", "Resource": arn("topic/secret/*")},
    ]));
    let ask = |policies: &[Arc<Policy>], topic: &str| {
        let resource = resource_arn(REGION, ACCOUNT, Action::Publish, topic);
        decide(policies, &Request { action: Action::Publish, resource: &resource, client_id: "c", thing: None })
    };
    let denied = |policy, statement| Decision::DeniedExplicitly { policy, statement };
    assert_eq!(ask(&[yes.clone(), no.clone()], "secret/x"), denied(1, 1));
    assert_eq!(ask(&[no.clone(), yes.clone()], "secret/x"), denied(0, 1));
    assert_eq!(ask(&[no.clone(), yes], "open"), Decision::Allowed { policy: 1, statement: 0 });
    assert_eq!(ask(&[no], "open"), Decision::NotAllowed);
    assert_eq!(ask(&[], "open"), Decision::NotAllowed);
}

#[test]
fn what_is_not_known_is_refused() {
    let base = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "iot:*", "Resource": "*"}});
    assert!(Policy::parse(&base.to_string()).is_ok());
    let with = |pointer: &str, value: Value| {
        let mut document = base.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[key] = value;
        Policy::parse(&document.to_string())
    };
    for key in ["Condition", "NotAction", "NotResource", "Principal", "effect", "Foo"] {
        let error = with(&format!("/Statement/{key}"), json!({})).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
    assert!(with("/Foo", json!(1)).unwrap_err().to_string().contains("Foo"));
    assert!(with("/Id", json!("name")).is_ok() && with("/Statement/Sid", json!("name")).is_ok());
    assert_eq!(with("/Version", json!("2008-10-17")), Err(PolicyError::Version("2008-10-17".into())));
    assert_eq!(with("/Statement", json!([])), Err(PolicyError::Empty("Statement")));
    assert_eq!(with("/Statement/Action", json!([])), Err(PolicyError::Empty("Action")));
    assert_eq!(with("/Statement/Resource", json!([])), Err(PolicyError::Empty("Resource")));
    for effect in [json!("allow"), json!({"Allow": null}), json!(null), json!(["Allow"])] {
        assert!(with("/Statement/Effect", effect).is_err());
    }
    for action in ["iot:Pubish", "iot:GetThingShadow", "s3:*", "", "publish", "${iot:ClientId}"] {
        let refused = with("/Statement/Action", json!(["iot:Connect", action]));
        assert_eq!(refused, Err(PolicyError::Action(action.into())));
    }
    for resource in ["", "**", "topic/x", "arn:aws:iot:us-east-1:1", "x:aws:iot:r:a:topic/x", "arn:*"] {
        assert_eq!(with("/Statement/Resource", json!(resource)), Err(PolicyError::Resource(resource.into())));
    }
    for variable in
        ["${aws:SourceIp}", "${iot:clientid}", "${}", "${*}", "${iot:ClientId", "${iot:Connection.Thing.IsAttached}"]
    {
        assert!(
            matches!(with("/Statement/Resource", json!(arn(variable))), Err(PolicyError::Variable(_))),
            "{variable}"
        );
    }
    let early = with("/Statement/Resource", json!("arn:aws:iot:${iot:ClientId}:1:topic/x"));
    assert!(matches!(early, Err(PolicyError::Variable(_))), "{early:?}");
    assert!(with("/Statement/Resource", json!(arn("topic/$aws/things/{x}"))).is_ok(), "a lone $ is ordinary");
    for document in [
        "",
        "{}",
        "[]",
        "null",
        r#"["2012-10-17", null, {"Effect": "Allow", "Action": "*", "Resource": "*"}]"#,
        r#"{"Version": "2012-10-17", "Statement": [[null, "Allow", "*", "*"]]}"#,
        r#"{"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Effect": "Allow", "Action": "*", "Resource": "*"}}"#,
        r#"{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}} {}"#,
    ] {
        assert!(matches!(Policy::parse(document), Err(PolicyError::Malformed(_))), "{document}");
    }
}

#[test]
fn size_is_bounded() {
    let of = |chars: usize, spaces: usize| {
        let around = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": arn("topic/")}});
        let mut json = around.to_string();
        let at = json.find("topic/").unwrap() + "topic/".len();
        json.insert_str(at, &"x".repeat(chars - json.len()));
        Policy::parse(&format!("{json}{}", " ".repeat(spaces)))
    };
    assert!(of(DOCUMENT_CHARS_MAX, 0).is_ok());
    assert!(of(DOCUMENT_CHARS_MAX, 1000).is_ok(), "white space is free");
    assert_eq!(of(DOCUMENT_CHARS_MAX + 1, 0), Err(PolicyError::TooLarge { chars: DOCUMENT_CHARS_MAX + 1 }));
    assert!(matches!(of(DOCUMENT_CHARS_MAX, DOCUMENT_BYTES_MAX), Err(PolicyError::TooLarge { .. })));
}

#[test]
fn hostile_names_cost_linear_time() {
    // 1,000 stars against 64 KiB: backtracking would not come back.
    let stars = allow("iot:Publish", &arn(&format!("topic/{}b", "a*".repeat(900))));
    assert!(!allowed(&stars, Action::Publish, &"a".repeat(65_536), "c", None));
    let long = "a".repeat(32_768);
    let client = allow("iot:Publish", &arn("topic/*/${iot:ClientId}/*"));
    assert!(!allowed(&client, Action::Publish, &"a".repeat(65_536), &long, None));
}

// ── the oracle ──────────────────────────────────────────────────────────────────────────────────────────

enum Token {
    Star,
    One,
    Char(char),
}

/// A pattern with its variables filled in; `None` where one has no value.
fn tokens(pattern: &str, request: &Request<'_>) -> Option<Vec<Token>> {
    if let Some(rest) = pattern.strip_prefix("${iot:ClientId}") {
        return filled(request.client_id, rest, request);
    }
    if let Some(rest) = pattern.strip_prefix("${iot:Connection.Thing.ThingName}") {
        return filled(request.thing.unwrap_or(""), rest, request);
    }
    let Some(first) = pattern.chars().next() else { return Some(Vec::new()) };
    let mut all = vec![match first {
        '*' => Token::Star,
        '?' => Token::One,
        other => Token::Char(other),
    }];
    all.extend(tokens(&pattern[first.len_utf8()..], request)?);
    Some(all)
}

fn filled(value: &str, rest: &str, request: &Request<'_>) -> Option<Vec<Token>> {
    if value.is_empty() {
        return None;
    }
    let mut all: Vec<Token> = value.chars().map(Token::Char).collect();
    all.extend(tokens(rest, request)?);
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

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .map_or_else(|| vec![value], |many| many.iter().collect())
        .iter()
        .filter_map(|v| v.as_str())
        .collect()
}

fn oracle(documents: &[Value], request: &Request<'_>) -> &'static str {
    let text: Vec<char> = request.resource.chars().collect();
    let name: Vec<char> = request.action.name().to_lowercase().chars().collect();
    let applies = |statement: &Value| {
        let mut actions = strings(&statement["Action"]).into_iter();
        let mut resources = strings(&statement["Resource"]).into_iter();
        actions.any(|a| glob(&tokens(&a.to_lowercase(), request).unwrap(), &name, ARN_PARTS))
            && resources.any(|r| r == "*" || tokens(r, request).is_some_and(|r| glob(&r, &text, 0)))
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
    let piece = prop::sample::select(vec![
        "a",
        "b",
        "ab",
        "/",
        ":",
        "*",
        "*",
        "?",
        "+",
        "#",
        "é",
        "$",
        "${iot:ClientId}",
        "${iot:Connection.Thing.ThingName}",
    ]);
    let head =
        prop::sample::select(vec!["arn:aws:iot:r1:1:", "arn:aws:iot:*:1:", "arn:aws:iot:r?:?:", "arn:*:iot:r1:*:"]);
    let kind = prop::sample::select(vec!["client/", "topic/", "topicfilter/", "topic*/", "*", "t?pic/", "*:topic/"]);
    let arn = (head, kind, prop::collection::vec(piece, 0..5))
        .prop_map(|(head, kind, pieces)| Value::from(format!("{head}{kind}{}", pieces.concat())));
    let resource = prop_oneof![1 => Just(Value::from("*")), 20 => arn];
    let effect = prop_oneof![1 => Just("Deny"), 2 => Just("Allow")];
    let statement = (effect, one_or_many(action), one_or_many(resource))
        .prop_map(|(effect, action, resource)| json!({"Effect": effect, "Action": action, "Resource": resource}))
        .boxed();
    let statement = prop_oneof![statement.clone(), prop::collection::vec(statement, 1..4).prop_map(Value::Array)];
    statement.prop_map(|statement| json!({"Version": "2012-10-17", "Statement": statement}))
}

fn any_name(pieces: std::ops::Range<usize>) -> impl Strategy<Value = String> {
    let piece =
        prop::sample::select(vec!["a", "b", "ab", "/", ":topic/", "*", "?", "+", "#", "é", "$", "${iot:ClientId}"]);
    prop::collection::vec(piece, pieces).prop_map(|pieces| pieces.concat())
}

type Case = (Vec<Value>, Action, String, String, Option<String>);

fn any_case() -> impl Strategy<Value = Case> {
    let action = prop::sample::select(ACTIONS.to_vec());
    (
        prop::collection::vec(any_document(), 0..4),
        action,
        any_name(0..6),
        any_name(0..3),
        prop::option::of(any_name(1..3)),
    )
}

fn both((documents, action, subject, client_id, thing): &Case) -> (&'static str, &'static str) {
    let resource = resource_arn("r1", "1", *action, subject);
    let request = Request { action: *action, resource: &resource, client_id, thing: thing.as_deref() };
    let policies: Vec<_> = documents.iter().map(|json| Arc::new(Policy::parse(&json.to_string()).unwrap())).collect();
    let ours = match decide(&policies, &request) {
        Decision::Allowed { .. } => "allowed",
        Decision::DeniedExplicitly { .. } => "denied",
        Decision::NotAllowed => "not allowed",
    };
    (ours, oracle(documents, &request))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn decides_as_the_oracle_does(case in any_case()) {
        let (ours, naive) = both(&case);
        prop_assert_eq!(ours, naive);
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
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..2_000 {
        *seen.entry(both(&any_case().new_tree(&mut runner).unwrap().current()).1).or_insert(0) += 1;
    }
    assert!(seen.len() == 3 && seen.values().all(|count| *count > 100), "{seen:?}");
}
