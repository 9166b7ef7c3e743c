//! Takes a stack to where it shall be, one resource after the other. Every step is kept before it is taken, so that a
//! stop in the middle can be gone back from.

use super::{
    Result,
    maker::{Maker, Rights, Wanted},
    plan::Plan,
    store::{Event, Resource, Stack, Status, Store, Texts},
};
use crate::AwsError;
use kilter_core::ports::clock::Clock;
use serde_json::Value;

pub const STACK_TYPE: &str = "AWS::CloudFormation::Stack";

pub struct Engine<'a> {
    pub store: &'a Store,
    pub clock: &'a dyn Clock,
    pub maker: Maker<'a>,
    pub stack: Stack,
    pub arn: String,
}

/// What a name stands for, once it is made.
fn made(resources: &[Resource], name: &str, attribute: Option<&str>) -> Result<String> {
    let resource = resources.iter().find(|resource| resource.logical == name);
    let found = resource.and_then(|resource| match attribute {
        None => resource.physical.clone(),
        Some(attribute) => resource.attributes.get(attribute).cloned(),
    });
    found.ok_or_else(|| AwsError::new("ValidationError", format!("{name} is not there")))
}

fn names(of: &[Resource]) -> String {
    of.iter().map(|resource| resource.logical.as_str()).collect::<Vec<_>>().join(", ")
}

impl Engine<'_> {
    fn event(&self, resource: &Resource) -> Event {
        let physical = resource.physical.clone().unwrap_or_default();
        Event { physical, ..self.happened(&resource.logical, resource.kind.name(), resource.status, &resource.reason) }
    }

    fn happened(&self, logical: &str, resource_type: &str, status: Status, reason: &Option<String>) -> Event {
        Event {
            number: 0,
            at: self.clock.now(),
            logical: logical.to_owned(),
            physical: String::new(),
            resource_type: resource_type.to_owned(),
            status,
            reason: reason.clone(),
            token: self.stack.token.clone(),
        }
    }

    /// The stack's own state, kept with its event.
    pub fn now(&mut self, status: Status, reason: Option<String>) -> Result<()> {
        (self.stack.status, self.stack.reason) = (status, reason);
        let event = self.happened(&self.stack.name, STACK_TYPE, status, &self.stack.reason);
        let event = Event { physical: self.arn.clone(), ..event };
        self.store.save(&mut self.stack, vec![event])
    }

    /// The newest resource's state, kept with its event.
    fn last(&mut self, status: Status, reason: Option<String>) -> Result<()> {
        let now = self.clock.now();
        let Some(last) = self.stack.resources.last_mut() else { return Ok(()) };
        (last.status, last.reason, last.updated) = (status, reason, now);
        let event = self.stack.resources.last().map(|last| self.event(last));
        self.store.save(&mut self.stack, event.into_iter().collect())
    }

    /// Makes and changes what the plan says; `stack.previous` holds what was there. `Some`: which did not succeed, and
    /// nothing behind it was tried.
    pub fn apply(&mut self, plan: &Plan) -> Result<Option<String>> {
        let (desired, before) = self.stack.previous.as_deref().cloned().unwrap_or_default();
        for logical in &plan.order {
            let old = before.iter().find(|old| old.logical == *logical);
            if !self.one(plan, logical, old, &desired.tags)? {
                return Ok(Some(logical.clone()));
            }
        }
        let resources = &self.stack.resources;
        self.stack.desired.outputs = plan.outputs(&|name, attribute| made(resources, name, attribute))?;
        Ok(None)
    }

    fn one(&mut self, plan: &Plan, logical: &str, old: Option<&Resource>, tags_before: &Texts) -> Result<bool> {
        let template = &plan.template.resources[logical];
        let resources = &self.stack.resources;
        let evaluated = plan.properties(logical, &|name, attribute| made(resources, name, attribute));
        let (properties, wrong) = evaluated.map_or_else(|error| (Value::Null, Some(error)), |found| (found, None));
        let kind = template.kind;
        let same = old.filter(|old| old.kind == kind && old.physical.is_some());
        let replaced = same.is_some_and(|old| kind.is_replaced(&old.properties, &properties));
        let resource = Resource {
            logical: logical.to_owned(),
            kind,
            physical: None,
            status: Status::CreateInProgress,
            reason: None,
            updated: self.clock.now(),
            properties,
            attributes: Texts::new(),
            retain: template.retain,
        };
        let (progress, complete, failed) = match same {
            Some(_) => (Status::UpdateInProgress, Status::UpdateComplete, Status::UpdateFailed),
            None => (Status::CreateInProgress, Status::CreateComplete, Status::CreateFailed),
        };
        if let Some(old) = same.filter(|_| !replaced && wrong.is_none()) {
            let (physical, attributes) = (old.physical.clone(), old.attributes.clone());
            let is_done = !matches!(old.status, Status::UpdateFailed | Status::UpdateInProgress);
            let kept = Resource { physical, attributes, status: old.status, ..resource };
            let same_tags = !kind.has_tags() || *tags_before == self.maker.tags;
            let unchanged = kept.properties == old.properties && same_tags && is_done;
            self.stack.resources.push(kept.clone());
            if unchanged {
                return Ok(true);
            }
            self.last(progress, None)?;
            let updated = self.maker.update(old, &kept.properties, tags_before);
            return self.ended(updated, complete, failed);
        }
        let properties = resource.properties.clone();
        let wanted = Wanted { kind, logical, stack: &self.stack.name.clone(), properties: &properties };
        let named = wrong.map_or(Ok(()), Err).and_then(|()| match (same, kind.named_by()) {
            (Some(old), Some(name))
                if properties.get(name).is_some() && properties.get(name) == old.properties.get(name) =>
            {
                let message = format!(
                    "CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename \
                     {logical} and update the stack again."
                );
                Err(AwsError::new("InvalidRequest", message))
            }
            _ => self.maker.name(&wanted),
        });
        let name = named.as_ref().ok().cloned().flatten();
        self.stack.resources.push(Resource { physical: name.clone(), ..resource });
        let reason = replaced.then(|| {
            "Requested update requires the creation of a new physical resource; hence creating one.".to_owned()
        });
        self.last(progress, reason)?;
        let outcome = named.and_then(|_| self.maker.create(&wanted, name.as_deref()));
        if let Some(last) = self.stack.resources.last_mut() {
            match &outcome {
                Ok((physical, attributes)) => {
                    (last.physical, last.attributes) = (Some(physical.clone()), attributes.clone());
                }
                Err(_) => last.physical = None,
            }
        }
        self.ended(outcome.map(drop), complete, failed)
    }

    fn ended(&mut self, done: Result<()>, complete: Status, failed: Status) -> Result<bool> {
        match done {
            Ok(()) => self.last(complete, None).map(|()| true),
            Err(error) => self.last(failed, Some(error.to_string())).map(|()| false),
        }
    }

    /// Goes back to `stack.previous`; answers what could not be taken back.
    fn restore(&mut self) -> Result<Vec<Resource>> {
        self.maker.rights = Rights::Kilter;
        let Some(previous) = self.stack.previous.clone() else { return Ok(Vec::new()) };
        let (desired, before) = *previous;
        let tags_now = std::mem::replace(&mut self.maker.tags, desired.tags.clone());
        let mut failed = Vec::new();
        for resource in self.stack.resources.clone().into_iter().rev() {
            let old = before.iter().find(|old| old.is(&resource));
            let done = match old {
                None => self.remove(&resource, false)?,
                Some(old)
                    if old.properties != resource.properties || old.kind.has_tags() && desired.tags != tags_now =>
                {
                    let back = self.maker.update(&resource, &old.properties, &tags_now);
                    let (status, reason) = match &back {
                        Ok(()) => (Status::UpdateComplete, None),
                        Err(error) => (Status::UpdateFailed, Some(error.to_string())),
                    };
                    let event = self.event(&Resource { status, reason, ..old.clone() });
                    self.store.save(&mut self.stack, vec![event])?;
                    back.is_ok()
                }
                Some(_) => true,
            };
            match done {
                true => self.stack.resources.retain(|one| !one.is(&resource)),
                false => failed.push(resource),
            }
        }
        let left = failed.iter().filter(|left| !before.iter().any(|old| old.is(left))).cloned();
        self.stack.resources = before.iter().cloned().chain(left).collect();
        (self.stack.desired, self.stack.previous) = (desired, None);
        Ok(failed)
    }

    /// Deletes one; `retain`: leaves it behind. Says whether it is gone from the stack.
    fn remove(&mut self, resource: &Resource, retain: bool) -> Result<bool> {
        if resource.physical.is_none() {
            return Ok(true);
        }
        let tell = |engine: &mut Self, status, reason| {
            let event = engine.event(&Resource { status, reason, ..resource.clone() });
            engine.store.save(&mut engine.stack, vec![event])
        };
        if retain {
            return tell(self, Status::DeleteSkipped, None).map(|()| true);
        }
        tell(self, Status::DeleteInProgress, None)?;
        // An attachment that the stack has under another name as well stays.
        let twin = |other: &Resource| {
            let same = other.kind == resource.kind && other.properties == resource.properties;
            same && other.kind.is_attachment() && !other.is(resource)
        };
        let before = self.stack.previous.iter().flat_map(|previous| &previous.1);
        let has_twin = self.stack.resources.iter().chain(before).any(twin);
        let done = if has_twin { Ok(()) } else { self.maker.delete(resource) };
        match done {
            Ok(()) => tell(self, Status::DeleteComplete, None).map(|()| true),
            Err(error) => tell(self, Status::DeleteFailed, Some(error.to_string())).map(|()| false),
        }
    }

    /// Deletes what an update has replaced or left out; what cannot be deleted is tried again by the next one.
    fn clean(&mut self) -> Result<()> {
        for resource in self.stack.leaving.clone() {
            if self.remove(&resource, resource.retain && !self.is_there(&resource.logical))? {
                self.stack.leaving.retain(|one| !one.is(&resource));
            }
        }
        Ok(())
    }

    fn is_there(&self, logical: &str) -> bool {
        self.stack.resources.iter().any(|resource| resource.logical == logical)
    }

    /// From CREATE_IN_PROGRESS to its end.
    pub fn create(&mut self, plan: &Plan) -> Result<()> {
        match self.apply(plan)? {
            None => {
                self.stack.previous = None;
                self.now(Status::CreateComplete, None)
            }
            Some(failed) => self.create_failed(&format!("The following resource(s) failed to create: [{failed}]. ")),
        }
    }

    pub fn create_failed(&mut self, why: &str) -> Result<()> {
        if self.stack.disable_rollback {
            self.stack.previous = None;
            return self.now(Status::CreateFailed, Some(why.to_owned()));
        }
        self.now(Status::RollbackInProgress, Some(format!("{why}Rollback requested by user.")))?;
        let failed = self.restore()?;
        match failed.is_empty() {
            true => self.now(Status::RollbackComplete, Some(why.to_owned())),
            false => {
                let why = format!("{why}The following resource(s) failed to delete: [{}].", names(&failed));
                self.now(Status::RollbackFailed, Some(why))
            }
        }
    }

    /// From UPDATE_IN_PROGRESS to its end.
    pub fn update(&mut self, plan: &Plan) -> Result<()> {
        if let Some(failed) = self.apply(plan)? {
            return self.update_failed(&format!("The following resource(s) failed to update: [{failed}]. "));
        }
        let (_, before) = self.stack.previous.take().map(|previous| *previous).unwrap_or_default();
        self.left_behind(before);
        self.now(Status::UpdateCompleteCleanupInProgress, None)?;
        self.clean()?;
        self.now(Status::UpdateComplete, None)
    }

    /// Those of before that the stack does not have any more, the last one first.
    fn left_behind(&mut self, before: Vec<Resource>) {
        let gone = before.into_iter().rev().filter(|old| old.physical.is_some());
        let gone: Vec<_> = gone.filter(|old| !self.stack.resources.iter().any(|new| new.is(old))).collect();
        self.stack.leaving.extend(gone);
    }

    pub fn update_failed(&mut self, why: &str) -> Result<()> {
        if self.stack.disable_rollback {
            let (_, before) = self.stack.previous.take().map(|previous| *previous).unwrap_or_default();
            let (begun, waiting): (Vec<_>, Vec<_>) = before.into_iter().partition(|old| self.is_there(&old.logical));
            self.left_behind(begun);
            self.stack.resources.extend(waiting);
            return self.now(Status::UpdateFailed, Some(why.to_owned()));
        }
        self.now(Status::UpdateRollbackInProgress, Some(why.to_owned()))?;
        let failed = self.restore()?;
        match failed.is_empty() {
            true => self.now(Status::UpdateRollbackComplete, None),
            false => {
                let why = format!("The following resource(s) failed to update: [{}].", names(&failed));
                self.now(Status::UpdateRollbackFailed, Some(why))
            }
        }
    }

    /// Deletes every resource, the last one first, and with them the stack.
    pub fn delete(&mut self) -> Result<()> {
        self.now(Status::DeleteInProgress, Some("User Initiated".to_owned()))?;
        self.clean()?;
        for resource in self.stack.resources.clone().into_iter().rev() {
            if self.remove(&resource, resource.retain)? {
                self.stack.resources.retain(|one| !one.is(&resource));
            }
        }
        let left = [self.stack.resources.as_slice(), &self.stack.leaving].concat();
        if left.is_empty() {
            self.stack.deleted = Some(self.clock.now());
            return self.now(Status::DeleteComplete, None);
        }
        let why = format!("The following resource(s) failed to delete: [{}].", names(&left));
        self.now(Status::DeleteFailed, Some(why))
    }

    /// After a stop in the middle: back, where there is a way back. A deletion is for who may delete: they ask again.
    pub fn resume(&mut self) -> Result<()> {
        let why = "Kilter was stopped in the middle. ";
        match self.stack.status {
            Status::CreateInProgress | Status::RollbackInProgress => self.create_failed(why),
            Status::UpdateInProgress | Status::UpdateRollbackInProgress => self.update_failed(why),
            Status::UpdateCompleteCleanupInProgress => self.now(Status::UpdateComplete, Some(why.to_owned())),
            Status::DeleteInProgress => self.now(Status::DeleteFailed, Some(format!("{why}Delete the stack again."))),
            _ => Ok(()),
        }
    }
}

impl Stack {
    /// What there is to go back to.
    pub fn remember(&mut self) {
        let (desired, resources) = (self.desired.clone(), std::mem::take(&mut self.resources));
        self.previous = Some(Box::new((desired, resources)));
    }
}
