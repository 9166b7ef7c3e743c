//! Security Token Service: who am I, and let me be a role for a while.

use crate::{
    Access, Answer, AwsError, Call, Service, form,
    form::Form,
    policy::Policy,
    session::{Session, Sessions, assumed_role_arn},
    signer::Signer,
    xml::Xml,
};
use axum::http::StatusCode;
use futures::{FutureExt, future::BoxFuture};

/// Of a session: a quarter of an hour, to what its role allows, at most this.
const SECONDS_MIN: i64 = 900;
const SECONDS_MAX: i64 = 43_200;
const SECONDS: i64 = 3_600;
/// Of a session that a session asks for.
const CHAINED_SECONDS_MAX: i64 = 3_600;
const SESSION_POLICY_CHARS_MAX: usize = 2_048;
/// What would narrow or widen a session in ways that are not evaluated here.
const NOT_OFFERED: [&str; 5] = ["PolicyArns", "Tags", "TransitiveTagKeys", "SerialNumber", "TokenCode"];

pub struct Sts {
    pub sessions: Sessions,
}

type Result<T> = std::result::Result<T, AwsError>;

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::new("ValidationError", message)
}

/// The session that signed the call, unless an access key did.
fn session(call: &Call) -> Option<&Session> {
    match call.signer.as_deref() {
        Some(Signer::Session(session)) => Some(session),
        _ => None,
    }
}

impl Sts {
    fn answer(&self, call: &Call) -> Result<Answer> {
        let form = Form::parse(call)?;
        match form.action()? {
            "GetCallerIdentity" => Ok(identity(call)),
            "AssumeRole" => self.assume_role(call, &form),
            other => Err(AwsError::new("InvalidAction", format!("Kilter does not offer the operation {other} of sts"))),
        }
    }

    fn assume_role(&self, call: &Call, form: &Form) -> Result<Answer> {
        let arn = form.required("RoleArn")?;
        let name = session_name(form)?;
        if let Some(parameter) = NOT_OFFERED.iter().find(|name| form.has(name)) {
            return Err(invalid(format!("AssumeRole does not offer {parameter} here: leave it out")));
        }
        let caller = session(call);
        // Names that a trust policy may have for the caller.
        let (shown, names) = match caller {
            None => (user_arn(call), vec![user_arn(call)]),
            Some(session) => {
                let role = self.sessions.iam().arn_of(session.role()).unwrap_or_default();
                (session.arn(), vec![session.arn(), role])
            }
        };
        // Whether the role is there is for those only who may assume it.
        let trusted = self.sessions.iam().role_by_arn(arn).filter(|role| role.trusts_caller(&call.account, &names));
        let role = trusted.ok_or_else(|| {
            let message = format!(
                "User: {shown} is not authorized to perform: sts:AssumeRole on resource: {arn:.256}: there is no such role, or \
                 its trust policy does not name the caller"
            );
            AwsError::new("AccessDenied", message).with_status(StatusCode::FORBIDDEN)
        })?;
        let chained = caller.is_some();
        let most = if chained { CHAINED_SECONDS_MAX } else { i64::from(role.session_seconds_max).min(SECONDS_MAX) };
        let seconds = duration(form, most, chained)?;
        let policy = session_policy(form)?;
        let packed = policy.as_ref().map_or(0, |policy| policy.len() * 100 / SESSION_POLICY_CHARS_MAX);
        let issued = self.sessions.issue((&role.name, &role.id), name, call.now.plus_seconds(seconds), policy);
        let issued = issued.map_err(AwsError::internal)?;
        // So that a line of the audit log, which has the key's id, leads back to who asked.
        tracing::info!(
            by = shown,
            role = role.name,
            session = name,
            access_key = issued.access_key,
            "a role was assumed"
        );
        let mut xml = Xml::fragment();
        xml.open("Credentials")
            .text("AccessKeyId", &issued.access_key)
            .text("SecretAccessKey", &issued.secret)
            .text("SessionToken", &issued.token)
            .text("Expiration", &issued.until.format("%Y-%m-%dT%H:%M:%SZ"))
            .close("Credentials")
            .open("AssumedRoleUser")
            .text("AssumedRoleId", &format!("{}:{name}", role.id))
            .text("Arn", &assumed_role_arn(&call.account, &role.name, name))
            .close("AssumedRoleUser")
            .text("PackedPolicySize", &packed.to_string());
        Ok(form::answer("sts", "AssumeRole", Some(&xml.finish()), call))
    }
}

fn identity(call: &Call) -> Answer {
    let (arn, id) = match session(call) {
        Some(session) => (session.arn(), session.id()),
        None => (user_arn(call), call.access_key.clone()),
    };
    let mut xml = Xml::fragment();
    xml.text("Arn", &arn).text("UserId", &id).text("Account", &call.account);
    form::answer("sts", "GetCallerIdentity", Some(&xml.finish()), call)
}

/// As GetCallerIdentity shows an access key.
fn user_arn(call: &Call) -> String {
    format!("arn:aws:iam::{}:user/{}", call.account, call.access_key)
}

fn session_name(form: &Form) -> Result<&str> {
    let name = form.required("RoleSessionName")?;
    let letter = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
    if (2..=64).contains(&name.len()) && name.chars().all(letter) {
        return Ok(name);
    }
    Err(invalid(format!(
        "1 validation error detected: Value '{name:.64}' at 'roleSessionName' failed to satisfy constraint: Member must \
         satisfy regular expression pattern: [\\w+=,.@-]{{2,64}}"
    )))
}

fn duration(form: &Form, most: i64, chained: bool) -> Result<i64> {
    let Some(text) = form.get("DurationSeconds") else { return Ok(SECONDS.min(most)) };
    let seconds: i64 = text.parse().map_err(|_| invalid("DurationSeconds must be a number"))?;
    let bound = if seconds < SECONDS_MIN { Some((SECONDS_MIN, "greater")) } else { None };
    if let Some((bound, rule)) = bound.or_else(|| (seconds > SECONDS_MAX).then_some((SECONDS_MAX, "less"))) {
        return Err(invalid(format!(
            "1 validation error detected: Value '{seconds}' at 'durationSeconds' failed to satisfy constraint: Member must \
             have value {rule} than or equal to {bound}"
        )));
    }
    match seconds <= most {
        true => Ok(seconds),
        false if chained => Err(invalid(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
        )),
        false => Err(invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")),
    }
}

fn session_policy(form: &Form) -> Result<Option<String>> {
    let Some(text) = form.get("Policy") else { return Ok(None) };
    if text.len() > SESSION_POLICY_CHARS_MAX {
        return Err(AwsError::new(
            "PackedPolicyTooLarge",
            format!("A session policy has at most {SESSION_POLICY_CHARS_MAX} bytes"),
        ));
    }
    match Policy::parse(text) {
        Ok(_) => Ok(Some(text.to_owned())),
        Err(error) => Err(AwsError::new("MalformedPolicyDocument", error.to_string())),
    }
}

impl Service for Sts {
    fn name(&self) -> &'static str {
        "sts"
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer>> {
        std::future::ready(self.answer(call)).boxed()
    }

    fn access(&self, call: &Call) -> Access {
        let form = Form::parse(call).unwrap_or_default();
        let (action, resources) = match form.get("Action") {
            // Who one is may be asked by everybody.
            Some("GetCallerIdentity") => ("GetCallerIdentity", vec![]),
            Some("AssumeRole") => ("AssumeRole", vec![form.get("RoleArn").unwrap_or("*").to_owned()]),
            action => (action.unwrap_or("*"), vec!["*".to_owned()]),
        };
        Access { action: format!("sts:{action}"), resources }
    }
}
