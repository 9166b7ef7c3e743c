//! `client id`, `thing`, `topic` and a policy document, one after the other, parted by line breaks.
#![no_main]

use kilter_core::Action;
use kilter_core::Timestamp;
use kilter_pipeline::policy::{Context, Decision, Policy, Request, ThingFacts, decide, resource_arn};
use libfuzzer_sys::fuzz_target;
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

static DENY_ALL: LazyLock<Arc<Policy>> = LazyLock::new(|| all("Deny"));
static ALLOW_ALL: LazyLock<Arc<Policy>> = LazyLock::new(|| all("Allow"));

fn all(effect: &str) -> Arc<Policy> {
    let json = format!(
        r#"{{"Version": "2012-10-17", "Statement": {{"Effect": "{effect}", "Action": "*", "Resource": "*"}}}}"#
    );
    Arc::new(Policy::parse(&json).expect("the document is well formed"))
}

fuzz_target!(|input: &str| {
    let mut fields = input.splitn(4, '\n');
    let mut field = || fields.next().unwrap_or_default();
    let (client_id, thing, topic, document) = (field(), field(), field(), field());
    let Ok(policy) = Policy::parse(document).map(Arc::new) else { return };
    let attributes = BTreeMap::from([("x".to_owned(), client_id.to_owned())]);
    for action in [Action::Connect, Action::Publish, Action::Subscribe, Action::Receive] {
        let resource = resource_arn("us-east-1", "000000000000", action, topic);
        let thing = (!thing.is_empty()).then_some(ThingFacts { name: thing, thing_type: Some(thing), attributes: &attributes });
        let source = topic.parse().ok();
        let context = Context { client_id, thing, certificate: None, source, now: Timestamp::from_seconds(0) };
        let request = Request { action, resource: &resource, context };
        let denied = |policies: &[Arc<Policy>]| matches!(decide(policies, &request), Decision::DeniedExplicitly { .. });
        assert!(denied(&[policy.clone(), DENY_ALL.clone()]), "a Deny wins");
        let alone = denied(std::slice::from_ref(&policy));
        assert_eq!(denied(&[ALLOW_ALL.clone(), policy.clone()]), alone, "an Allow undoes no Deny");
        if !alone {
            assert_eq!(
                decide(&[ALLOW_ALL.clone(), policy.clone()], &request),
                Decision::Allowed { policy: 0, statement: 0 }
            );
        }
    }
});
