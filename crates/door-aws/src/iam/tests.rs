//! What a rule may do under a role.

use super::*;
use kilter_core::Timestamp;
use kilter_testkit::{FakeClock, MemoryTable};

const ARN: &str = "arn:aws:iam::123456789012:role/writer";
const TRUST: &str = r#"{"Statement": [{"Effect": "Allow", "Principal": {"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}]}"#;
const POLICY: &str = r#"{"Statement": [{"Effect": "Allow", "Action": "kinesis:PutRecord", "Resource": "arn:s"}]}"#;

fn ask(iam: &Iam, parameters: &[(&str, &str)]) -> Result<Answer, AwsError> {
    let body: Vec<String> =
        parameters.iter().map(|(name, value)| format!("{name}={}", crate::uri::encode(value, false))).collect();
    iam.answer(&Call {
        body: body.join("&").into(),
        ..Call::new("us-east-1", "123456789012", Timestamp::from_seconds(0))
    })
}

#[test]
fn a_rule_is_held_to_its_role() {
    let table = Arc::new(MemoryTable::new());
    let open = || Iam::open(table.clone(), Arc::new(FakeClock::default()), "123456789012").unwrap();
    let iam = open();
    let may = |iam: &Iam| iam.may(ARN, "kinesis:PutRecord", "arn:s");
    assert!(may(&iam).unwrap_err().contains("no role writer"));
    let untrusted = TRUST.replace("iot.", "s3.");
    ask(&iam, &[("Action", "CreateRole"), ("RoleName", "writer"), ("AssumeRolePolicyDocument", &untrusted)]).unwrap();
    assert!(may(&iam).unwrap_err().contains("does not trust"));
    ask(&iam, &[("Action", "UpdateAssumeRolePolicy"), ("RoleName", "writer"), ("PolicyDocument", TRUST)]).unwrap();
    assert!(may(&iam).unwrap_err().contains("does not allow"));
    let put = [("Action", "PutRolePolicy"), ("RoleName", "writer"), ("PolicyName", "p"), ("PolicyDocument", POLICY)];
    ask(&iam, &put).unwrap();
    may(&iam).unwrap();
    assert!(iam.may(ARN, "kinesis:PutRecord", "arn:other").is_err());
    assert!(iam.may("arn:aws:iam::999999999999:role/writer", "kinesis:PutRecord", "arn:s").is_err());
    // It is kept.
    may(&open()).unwrap();
    let refused = ask(&iam, &[("Action", "DeleteRole"), ("RoleName", "writer")]).unwrap_err();
    assert_eq!(refused.code, "DeleteConflict");
    ask(&iam, &[("Action", "DeleteRolePolicy"), ("RoleName", "writer"), ("PolicyName", "p")]).unwrap();
    ask(&iam, &[("Action", "DeleteRole"), ("RoleName", "writer")]).unwrap();
    assert!(may(&open()).is_err());
}

#[test]
fn the_role_of_tenants_rules_is_made_once_and_left_as_it_is() {
    let table = Arc::new(MemoryTable::new());
    let open = || Iam::open(table.clone(), Arc::new(FakeClock::default()), "123456789012").unwrap();
    let iam = open();
    assert_eq!(iam.provide().unwrap().as_deref(), Some("iot-rule-actions-role"));
    let arn = "arn:aws:iam::123456789012:role/iot-rule-actions-role";
    let stream = "arn:aws:kinesis:us-east-1:123456789012:stream/anomaly-stream-tenant001";
    iam.may(arn, "kinesis:PutRecord", stream).unwrap();
    assert!(iam.may(arn, "kinesis:DeleteStream", stream).is_err());
    assert!(iam.may(arn, "kinesis:PutRecord", "arn:aws:kinesis:us-east-1:123456789012:stream/other").is_err());
    ask(
        &iam,
        &[
            ("Action", "UpdateAssumeRolePolicy"),
            ("RoleName", "iot-rule-actions-role"),
            ("PolicyDocument", &TRUST.replace("iot.", "s3.")),
        ],
    )
    .unwrap();
    let again = open();
    assert_eq!(again.provide().unwrap(), None);
    assert!(again.may(arn, "kinesis:PutRecord", stream).unwrap_err().contains("does not trust"));
}
