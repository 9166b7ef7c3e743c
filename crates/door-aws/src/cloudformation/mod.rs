//! CloudFormation: a template's resources, made, changed and deleted together.
//!
//! What a request asks for is done when it is answered. Source: AWS CloudFormation API Reference, 2010-05-15.

mod engine;
mod functions;
mod kinds;
mod maker;
mod operations;
mod plan;
mod show;
mod store;
mod template;
mod yaml;

use crate::{
    Access, Answer, AwsError, Call, Service, call::blocking, form, form::Form, iot::Iot, sagemaker::Sagemaker,
};
use engine::Engine;
use futures::{FutureExt, future::BoxFuture};
use kilter_core::ports::{clock::Clock, table::Table};
use maker::{Maker, Rights};
use std::sync::{Arc, Mutex, PoisonError};
use store::{Stack, Status, Store};

type Result<T> = std::result::Result<T, AwsError>;

/// Whether a template can be read, and what it would need: for who tries templates out.
pub fn examine(source: &str) -> Result<()> {
    let template = template::Template::parse(source)?;
    let values = template.values(&Default::default(), None)?;
    let place = plan::Place { region: "us-east-1", account: "123456789012", name: "stack", arn: "arn" };
    plan::Plan::new(template, &values, &place).map(drop)
}

/// What the service works with.
pub struct CloudFormationPorts {
    pub table: Arc<dyn Table>,
    pub clock: Arc<dyn Clock>,
    pub iot: Iot,
    pub sagemaker: Sagemaker,
    pub region: String,
    pub account: String,
}

/// Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct CloudFormation(Arc<Inner>);

struct Inner {
    store: Store,
    ports: CloudFormationPorts,
    /// Held while stacks are changed: one after the other.
    changes: Mutex<()>,
}

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::new("ValidationError", message)
}

fn missing(name: &str) -> AwsError {
    invalid(format!("Stack with id {name:.256} does not exist"))
}

impl CloudFormation {
    /// Blocking: goes back from what a stop interrupted.
    pub fn open(ports: CloudFormationPorts) -> Result<Self> {
        let opened = Self(Arc::new(Inner { store: Store(ports.table.clone()), ports, changes: Mutex::default() }));
        let call = opened.0.own_call();
        for stack in opened.0.store.all()? {
            opened.0.engine(&call, Rights::Kilter, stack).resume()?;
        }
        Ok(opened)
    }

    /// Answers one request. Blocking.
    fn answer(&self, call: &Call) -> Result<Answer> {
        let form = Form::parse(call)?;
        let action = form.action()?;
        let inner = &*self.0;
        let result = match action {
            "CreateStack" => operations::create(inner, call, &form).map(Some),
            "UpdateStack" => operations::update(inner, call, &form).map(Some),
            "DeleteStack" => operations::delete(inner, call, &form).map(|()| None),
            "DescribeStacks" => show::stacks(inner, call, &form).map(Some),
            "DescribeStackEvents" => show::events(inner, call, &form).map(Some),
            "ListStackResources" => show::resources(inner, &form).map(Some),
            "GetTemplate" => show::template(inner, &form).map(Some),
            other => {
                let message = format!("Kilter does not offer the operation {other:.64} of cloudformation");
                Err(AwsError::new("InvalidAction", message))
            }
        }?;
        Ok(form::answer("cloudformation", action, result.as_deref(), call))
    }
}

impl Inner {
    fn changes(&self) -> std::sync::MutexGuard<'_, ()> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what nobody asks for.
    fn own_call(&self) -> Call {
        Call::new(&self.ports.region, &self.ports.account, self.ports.clock.now())
    }

    fn arn(&self, stack: &Stack) -> String {
        let (region, account) = (&self.ports.region, &self.ports.account);
        format!("arn:aws:cloudformation:{region}:{account}:stack/{}/{}", stack.name, stack.uuid)
    }

    fn engine<'a>(&'a self, call: &'a Call, rights: Rights, stack: Stack) -> Engine<'a> {
        let (iot, sagemaker) = (&self.ports.iot, &self.ports.sagemaker);
        // Tags with AWS's own prefix are for AWS.
        let mut tags = stack.desired.tags.clone();
        tags.retain(|key, _| !key.starts_with("aws:"));
        let maker = Maker { iot, sagemaker, call, rights, tags };
        Engine { store: &self.store, clock: &*self.ports.clock, maker, arn: self.arn(&stack), stack }
    }

    /// By its name, unless it was deleted, or by its ARN.
    fn find(&self, name: &str) -> Result<Option<Stack>> {
        match name.starts_with("arn:") {
            false => self.store.by_name(name),
            true => {
                let found = self.store.by_uuid(name.rsplit('/').next().unwrap_or_default())?;
                Ok(found.filter(|stack| self.arn(stack) == name))
            }
        }
    }
}

impl Service for CloudFormation {
    fn name(&self) -> &'static str {
        "cloudformation"
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer>> {
        let (service, call) = (self.clone(), call.clone());
        blocking(move || service.answer(&call)).boxed()
    }

    /// The stack's ARN; its last part is `*` while there is no such stack.
    fn access(&self, call: &Call) -> Access {
        let form = Form::parse(call).unwrap_or_default();
        let resource = match form.get("StackName") {
            None => "*".to_owned(),
            Some(name) if name.starts_with("arn:") => name.to_owned(),
            Some(name) => match self.0.find(name) {
                Ok(Some(stack)) => self.0.arn(&stack),
                _ => call.arn("cloudformation", &format!("stack/{name}/*")),
            },
        };
        Access { action: format!("cloudformation:{}", form.get("Action").unwrap_or("*")), resources: vec![resource] }
    }
}

#[cfg(test)]
mod tests;
