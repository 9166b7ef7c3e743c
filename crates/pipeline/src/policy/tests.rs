//! The decisions, by example and against a naive oracle that reads the JSON anew for each request.

use super::*;
use crate::fleet::CertificateFacts;
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const REGION: &str = "us-east-1";
const ACCOUNT: &str = "000000000000";

fn arn(resource: &str) -> String {
    format!("arn:aws:iot:{REGION}:{ACCOUNT}:{resource}")
}

static NO_ATTRIBUTES: std::sync::LazyLock<BTreeMap<String, String>> = std::sync::LazyLock::new(BTreeMap::new);

fn request<'a>(action: Action, resource: &'a str, client_id: &'a str, thing: Option<&'a str>) -> Request<'a> {
    let thing = thing.map(|name| ThingFacts { name, thing_type: None, attributes: &NO_ATTRIBUTES });
    Request { action, resource, context: Context { client_id, thing, ..Context::default() } }
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
    let request = request(action, &resource, client_id, thing);
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
        decide(policies, &request(Action::Publish, &resource, "c", None))
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
    for key in ["Principal", "effect", "Foo"] {
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
    for action in ["iot:Pubish", "s3:*", "", "publish", "${iot:ClientId}"] {
        let refused = with("/Statement/Action", json!(["iot:Connect", action]));
        assert_eq!(refused, Err(PolicyError::Action(action.into())));
    }
    for resource in ["", "**", "topic/x", "arn:aws:iot:us-east-1:1", "x:aws:iot:r:a:topic/x", "arn:*"] {
        assert_eq!(with("/Statement/Resource", json!(resource)), Err(PolicyError::Resource(resource.into())));
    }
    for variable in
        ["${aws:UserAgent}", "${iot:clientid}", "${}", "${**}", "${iot:ClientId", "${iot:Certificate.Subject.Nobody}"]
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

/// A policy of one statement with these further members.
fn with(members: Value) -> Result<Policy, PolicyError> {
    let mut statement = json!({"Effect": "Allow", "Action": "iot:*", "Resource": "*"});
    for (name, value) in members.as_object().unwrap() {
        statement[name] = value.clone();
        if let Some(plain) = name.strip_prefix("Not") {
            statement.as_object_mut().unwrap().remove(plain);
        }
    }
    Policy::parse(&json!({"Version": "2012-10-17", "Statement": statement}).to_string())
}

#[test]
fn conditions_that_are_not_understood_are_refused() {
    for condition in [
        json!({"StringEquals": {"iot:Nothing": "a"}}),
        json!({"StringEqualz": {"iot:ClientId": "a"}}),
        json!({"ForSomeValues:StringEquals": {"iot:ClientId": "a"}}),
        json!({"StringEquals": {"iot:ClientId": []}}),
        json!({"StringEquals": {"iot:ClientId": {"a": 1}}}),
        json!({"StringEquals": {"iot:ClientId": "${iot:Nothing}"}}),
        json!({"NumericLessThan": {"aws:EpochTime": "soon"}}),
        json!({"DateLessThan": {"aws:CurrentTime": "tomorrow"}}),
        json!({"Bool": {"aws:SecureTransport": "yes"}}),
        json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/33"}}),
        json!({"NullIfExists": {"iot:ClientId": "true"}}),
        json!({"Null": {"iot:ClientId": ["true", "false"]}}),
        json!(["StringEquals"]),
    ] {
        assert!(with(json!({ "Condition": condition })).is_err(), "{condition}");
    }
    assert!(with(json!({"Action": "iot:GetThingShadow"})).is_ok(), "AWS knows it, and it does no harm");
    let both = json!({"Version": "2012-10-17", "Statement":
        {"Effect": "Allow", "Action": "*", "NotAction": "*", "Resource": "*"}});
    assert!(matches!(Policy::parse(&both.to_string()), Err(PolicyError::Either(_))));
    let twice = r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*","Condition":
        {"Bool":{"aws:SecureTransport":false},"Bool":{"aws:SecureTransport":true}}}}"#;
    assert!(matches!(Policy::parse(twice), Err(PolicyError::Malformed(_))), "the second would hide the first");
}

/// What a world of examples looks like: `pump-1`, a press of line a, at 10.1.2.3, on 2026-01-01.
fn world(statement: Value, client_id: &str, thing: bool) -> &'static str {
    let attributes = BTreeMap::from([("line".to_owned(), "a".to_owned())]);
    let facts = facts(&["Acme", "Acme Pumps"]);
    let thing = thing.then_some(ThingFacts { name: "pump-1", thing_type: Some("press"), attributes: &attributes });
    let context = Context {
        client_id,
        thing,
        certificate: Some(&facts),
        source: Some("10.1.2.3".parse().unwrap()),
        now: kilter_core::Timestamp::from_seconds(1_767_225_600),
    };
    let resource = resource_arn(REGION, ACCOUNT, Action::Publish, "a/b");
    words(decide(&[policy(statement)], &Request { action: Action::Publish, resource: &resource, context }))
}

fn facts(organizations: &[&str]) -> CertificateFacts {
    let names = organizations.iter().map(|name| (*name).to_owned()).collect();
    CertificateFacts {
        id: kilter_core::CertificateId::new(&"ab".repeat(32)).unwrap(),
        der: Vec::new(),
        subject: BTreeMap::from([("Organization", names), ("CommonName", vec!["pump-1".to_owned()])]),
        issuer: BTreeMap::new(),
        issuer_raw: Vec::new(),
        subject_raw: Vec::new(),
        serial: "7f".to_owned(),
        alternative: BTreeMap::from([("DNSName", vec!["pump-1.plant".to_owned()])]),
        not_before: kilter_core::Timestamp::from_seconds(0),
        not_after: kilter_core::Timestamp::from_seconds(0),
        is_authority: false,
    }
}

fn words(decision: Decision) -> &'static str {
    match decision {
        Decision::Allowed { .. } => "allowed",
        Decision::DeniedExplicitly { .. } => "denied",
        Decision::NotAllowed => "not allowed",
    }
}

#[test]
fn conditions_by_example() {
    let holds = |condition: Value| {
        let statement = json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition.clone()});
        (condition, world(statement, "pump-1", true) == "allowed")
    };
    for (condition, expected) in [
        (json!({"StringEquals": {"iot:Connection.Thing.ThingTypeName": ["pump", "press"]}}), true),
        (json!({"StringEquals": {"iot:Connection.Thing.Attributes[line]": "b"}}), false),
        (json!({"StringEquals": {"iot:Connection.Thing.Attributes[bay]": "b"}}), false),
        (json!({"StringNotEquals": {"iot:Connection.Thing.Attributes[bay]": "b"}}), true),
        (json!({"StringEqualsIfExists": {"iot:Connection.Thing.Attributes[bay]": "b"}}), true),
        (json!({"StringEqualsIgnoreCase": {"iot:ClientId": "PUMP-1"}}), true),
        (json!({"StringEquals": {"iot:ClientId": "pump-?"}}), false),
        (json!({"StringLike": {"iot:ClientId": "pump-?"}}), true),
        (json!({"StringEquals": {"iot:Certificate.Subject.CommonName": "${iot:ClientId}"}}), true),
        (json!({"StringEquals": {"iot:Certificate.Subject.Organization": "Acme Pumps"}}), false),
        (json!({"StringEquals": {"iot:Certificate.Subject.Organization.1": "Acme Pumps"}}), true),
        (json!({"ForAnyValue:StringEquals": {"iot:Certificate.Subject.Organization": "Acme Pumps"}}), true),
        (json!({"ForAllValues:StringEquals": {"iot:Certificate.Subject.Organization": "Acme Pumps"}}), false),
        (json!({"ForAllValues:StringLike": {"iot:Certificate.Subject.Organization": "Acme*"}}), true),
        (json!({"StringLike": {"iot:Certificate.SubjectAlternativeName.DNSName": "*.plant"}}), true),
        (json!({"StringEquals": {"iot:Certificate.SerialNumber": "7f"}}), true),
        (json!({"IpAddress": {"AWS:sourceip": ["192.168.0.0/16", "10.0.0.0/8"]}}), true),
        (json!({"NotIpAddress": {"aws:SourceIp": "10.1.2.3"}}), false),
        (json!({"DateGreaterThanEquals": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}}), true),
        (json!({"DateLessThan": {"aws:CurrentTime": "2026-01-01"}}), false),
        (json!({"NumericLessThan": {"aws:EpochTime": 1_767_225_601}}), true),
        (json!({"Bool": {"aws:SecureTransport": true, "iot:Connection.Thing.IsAttached": "true"}}), true),
        (json!({"Null": {"iot:Connection.Thing.Attributes[bay]": true}}), true),
        (json!({"Null": {"iot:Connection.Thing.ThingName": true}}), false),
        (json!({"ArnLike": {"aws:PrincipalArn": "arn:aws:iot:*:cert/abab*"}}), true),
    ] {
        assert_eq!(holds(condition.clone()), (condition, expected));
    }
}

#[test]
fn exceptions_and_negations_that_cannot_be_told_grant_nothing() {
    let thing = "${iot:Connection.Thing.ThingName}";
    let except = json!({"Effect": "Allow", "Action": "*", "NotResource": arn(&format!("topic/{thing}"))});
    assert_eq!(world(except.clone(), "pump-1", true), "allowed");
    assert_eq!(world(except, "pump-1", false), "not allowed");
    let negated = json!({"Effect": "Allow", "Action": "*", "Resource": "*",
        "Condition": {"StringNotEquals": {"iot:ClientId": thing}}});
    assert_eq!(world(negated.clone(), "pump-2", true), "allowed");
    assert_eq!(world(negated, "pump-2", false), "not allowed");
    let denied = json!([{"Effect": "Allow", "Action": "*", "Resource": "*"},
        {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"StringNotEquals": {"iot:ClientId": thing}}}]);
    assert_eq!(world(denied.clone(), "pump-1", true), "allowed");
    assert_eq!(world(denied, "pump-1", false), "denied");
    let not_action = json!({"Effect": "Allow", "NotAction": ["iot:Connect", "iot:GetThingShadow"], "Resource": "*"});
    assert_eq!(world(not_action, "pump-1", true), "allowed");
    let not_this = json!({"Effect": "Allow", "NotAction": "iot:Pub*", "Resource": "*"});
    assert_eq!(world(not_this, "pump-1", true), "not allowed");
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

mod oracle;
