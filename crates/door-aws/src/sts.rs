//! Security Token Service: who am I.

use crate::{Access, Answer, AwsError, Call, Service, form, xml::Xml};
use futures::{FutureExt, future::BoxFuture};

pub struct Sts;

impl Service for Sts {
    fn name(&self) -> &'static str {
        "sts"
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, AwsError>> {
        std::future::ready(answer(call)).boxed()
    }

    fn access(&self, call: &Call) -> Access {
        let action = form::Form::parse(call).ok().and_then(|form| form.action().map(str::to_owned).ok());
        // Who one is may be asked by everybody.
        let resources = if action.as_deref() == Some("GetCallerIdentity") { vec![] } else { vec!["*".to_owned()] };
        Access { action: format!("sts:{}", action.as_deref().unwrap_or("*")), resources }
    }
}

fn answer(call: &Call) -> Result<Answer, AwsError> {
    let form = form::Form::parse(call)?;
    match form.action()? {
        "GetCallerIdentity" => {
            let mut xml = Xml::fragment();
            xml.text("Arn", &format!("arn:aws:iam::{}:user/{}", call.account, call.access_key))
                .text("UserId", &call.access_key)
                .text("Account", &call.account);
            Ok(form::answer("sts", "GetCallerIdentity", Some(&xml.finish()), call))
        }
        other => Err(AwsError::new("InvalidAction", format!("Kilter does not offer the operation {other} of sts"))),
    }
}
