//! Identity and Access Management: roles, their trust, and what their policies allow. A rule that names a role is held
//! to it.

mod roles;
mod store;

use crate::{Access, Answer, AwsError, Call, Service, call::blocking, form::Form};
use futures::{FutureExt, future::BoxFuture};
use kilter_core::ports::{action::RuleRoles, clock::Clock, table::Table};
use std::sync::{Arc, Mutex, PoisonError};
pub(crate) use store::Role;
use store::Roles;

/// Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Iam(Arc<Inner>);

struct Inner {
    table: Arc<dyn Table>,
    clock: Arc<dyn Clock>,
    account: String,
    roles: Mutex<Roles>,
}

impl Iam {
    /// Blocking: reads every role.
    pub fn open(table: Arc<dyn Table>, clock: Arc<dyn Clock>, account: &str) -> Result<Self, AwsError> {
        let roles = Mutex::new(store::load(&*table)?);
        Ok(Self(Arc::new(Inner { table, clock, account: account.to_owned(), roles })))
    }

    /// The role of this name.
    pub(crate) fn role(&self, name: &str) -> Option<Role> {
        self.0.lock().get(name).cloned()
    }

    pub(crate) fn arn_of(&self, name: &str) -> Option<String> {
        self.role(name).map(|role| self.0.arn(&role))
    }

    /// The role of this ARN, path and all.
    pub(crate) fn role_by_arn(&self, arn: &str) -> Option<Role> {
        let name = arn.rsplit('/').next()?;
        self.role(name).filter(|role| self.0.arn(role) == arn)
    }

    fn answer(&self, call: &Call) -> Result<Answer, AwsError> {
        let form = Form::parse(call)?;
        let action = form.action()?.to_owned();
        let request = roles::Request { iam: &self.0, form: &form };
        let result = request.answer(&action)?;
        Ok(crate::form::answer("iam", &action, result.as_deref(), call))
    }
}

impl Service for Iam {
    fn name(&self) -> &'static str {
        "iam"
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, AwsError>> {
        let (iam, call) = (self.clone(), call.clone());
        blocking(move || iam.answer(&call)).boxed()
    }

    fn access(&self, call: &Call) -> Access {
        let form = Form::parse(call).unwrap_or_default();
        let resource = match form.get("RoleName") {
            Some(role) => format!("arn:aws:iam::{}:role/{role}", call.account),
            None => "*".to_owned(),
        };
        Access { action: format!("iam:{}", form.get("Action").unwrap_or("*")), resources: vec![resource] }
    }
}

impl RuleRoles for Iam {
    fn may(&self, role_arn: &str, action: &str, resource: &str) -> Result<(), String> {
        let prefix = format!("arn:aws:iam::{}:role/", self.0.account);
        let name = role_arn.strip_prefix(&prefix).ok_or_else(|| format!("{role_arn} is not a role of this account"))?;
        let roles = self.0.lock();
        let role = roles.get(name).ok_or_else(|| {
            format!("there is no role {name}: make it with `aws iam create-role`, or leave roleArn out of the action")
        })?;
        if !role.trusts("iot.amazonaws.com") {
            return Err(format!("role {name} does not trust iot.amazonaws.com: add it to its trust policy"));
        }
        if role.allows(action, resource) {
            return Ok(());
        }
        Err(format!("role {name} does not allow {action} on {resource}: add it with `aws iam put-role-policy`"))
    }

    fn provide(&self) -> Result<Option<String>, String> {
        let made = roles::provide(&self.0).map_err(|error| error.to_string())?;
        Ok(made.then(|| roles::RULE_ROLE.to_owned()))
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, Roles> {
        // A change replaces a role whole: a panic elsewhere does not spoil it.
        self.roles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arn(&self, role: &Role) -> String {
        format!("arn:aws:iam::{}:role{}{}", self.account, role.path, role.name)
    }
}

#[cfg(test)]
mod tests;
