//! Tags of thing types, thing groups, policies and CA certificates, for who asks for the tags of all services.

use super::{Iot, Request};
use crate::{
    AwsError, Call,
    tagging::{Tagged, Tags},
};
use kilter_core::ports::fleet::FleetChange;

impl Tagged for Iot {
    fn service(&self) -> &'static str {
        "iot"
    }

    fn tagged(&self, call: &Call) -> Result<Vec<(String, Tags)>, AwsError> {
        let view = self.fleet.view();
        let arn = |kind: &str, name: &str| call.arn("iot", &format!("{kind}/{name}"));
        let types = view.types.values().map(|one| (arn("thingtype", &one.name), one.tags.clone()));
        let groups = view.groups.values().map(|one| (arn("thinggroup", &one.name), one.tags.clone()));
        let policies = view.policies.values().map(|one| (arn("policy", &one.name), one.tags.clone()));
        let authorities = view.authorities.iter().map(|(id, one)| (arn("cacert", id.as_str()), one.tags.clone()));
        Ok(types.chain(groups).chain(policies).chain(authorities).collect())
    }

    fn retag(&self, call: &Call, arn: &str, set: &Tags, remove: &[String]) -> Result<(), AwsError> {
        let request = Request { iot: self, call, parts: Vec::new() };
        let resource = request.taggable(arn)?;
        request.change(FleetChange::Tag { resource, set: set.clone(), remove: remove.to_vec() }).map(drop)
    }
}
