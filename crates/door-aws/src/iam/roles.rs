//! The operations on roles.

use super::{Inner, store, store::Role};
use crate::{AwsError, form::Form, keys::random_letters, policy::Policy, uri, xml::Xml};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NAME_CHARS_MAX: usize = 64;
const ROLES_MAX: usize = 1_000;
const POLICIES_MAX: usize = 20;
const TAGS_MAX: usize = 50;
const TRUST_BYTES_MAX: usize = 8_192;
const PAGE: usize = 100;
const SESSION_SECONDS: u32 = 3_600;
const SESSION_SECONDS_RANGE: std::ops::RangeInclusive<u32> = SESSION_SECONDS..=43_200;

/// What the actions of tenants' rules assume, by the cookbook's name.
pub const RULE_ROLE: &str = "iot-rule-actions-role";

pub struct Request<'a> {
    pub iam: &'a Inner,
    pub form: &'a Form,
}

type Result<T> = std::result::Result<T, AwsError>;

fn invalid(message: impl Into<String>) -> AwsError {
    AwsError::new("ValidationError", message)
}

fn conflict(code: &str, message: String) -> AwsError {
    AwsError::new(code, message).with_status(StatusCode::CONFLICT)
}

fn no_such(what: &str, name: &str) -> AwsError {
    AwsError::new("NoSuchEntity", format!("The {what} with name {name} cannot be found."))
        .with_status(StatusCode::NOT_FOUND)
}

fn new_id() -> Result<String> {
    let letters = random_letters(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 17).map_err(AwsError::internal)?;
    Ok(format!("AROA{letters}"))
}

/// Makes [`RULE_ROLE`] where it is missing: IoT may assume it, to put records into tenants' streams and to invoke their
/// scoring functions. One that is there stays as it is.
pub fn provide(iam: &Inner) -> Result<bool> {
    let mut roles = iam.lock();
    if roles.contains_key(RULE_ROLE) {
        return Ok(false);
    }
    let trust = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}]});
    let account = &iam.account;
    let actions = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": ["kinesis:PutRecord", "kinesis:PutRecords"],
         "Resource": format!("arn:aws:kinesis:*:{account}:stream/anomaly-stream-*")},
        {"Effect": "Allow", "Action": "lambda:InvokeFunction",
         "Resource": format!("arn:aws:lambda:*:{account}:function:score-telemetry-*")}]});
    let role = Role {
        name: RULE_ROLE.to_owned(),
        id: new_id()?,
        path: "/".to_owned(),
        created: iam.clock.now(),
        description: "What the actions of tenants' rules may do".to_owned(),
        session_seconds_max: SESSION_SECONDS,
        trust: trust.to_string(),
        policies: BTreeMap::from([("rule-actions".to_owned(), actions.to_string())]),
        tags: BTreeMap::new(),
    };
    store::save(&*iam.table, &role)?;
    roles.insert(RULE_ROLE.to_owned(), role);
    Ok(true)
}

impl Request<'_> {
    /// The result's XML, where the operation has one.
    pub fn answer(&self, action: &str) -> Result<Option<String>> {
        match action {
            "CreateRole" => self.create_role().map(Some),
            "GetRole" => self.get_role().map(Some),
            "ListRoles" => self.list_roles().map(Some),
            "DeleteRole" => self.delete_role().map(|()| None),
            "UpdateAssumeRolePolicy" => self.update_trust().map(|()| None),
            "PutRolePolicy" => self.put_role_policy().map(|()| None),
            "GetRolePolicy" => self.get_role_policy().map(Some),
            "DeleteRolePolicy" => self.delete_role_policy().map(|()| None),
            "ListRolePolicies" => self.list_role_policies().map(Some),
            "ListAttachedRolePolicies" => self.list_attached().map(Some),
            "ListInstanceProfilesForRole" => self.list_instance_profiles().map(Some),
            "TagRole" => self.tag_role().map(|()| None),
            "UntagRole" => self.untag_role().map(|()| None),
            "ListRoleTags" => self.list_role_tags().map(Some),
            other => Err(AwsError::new("InvalidAction", format!("Kilter does not offer the operation {other} of iam"))),
        }
    }

    fn name(&self, parameter: &str) -> Result<&str> {
        let name = self.form.required(parameter)?;
        let letter = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
        if name.chars().count() > NAME_CHARS_MAX * 2 || !name.chars().all(letter) {
            let rule = "use letters, digits and +=,.@_-";
            return Err(invalid(format!("The specified value for {parameter} is invalid: {rule}")));
        }
        Ok(name)
    }

    /// The role that the request names.
    fn role(&self) -> Result<Role> {
        let name = self.name("RoleName")?;
        self.iam.lock().get(name).cloned().ok_or_else(|| no_such("role", name))
    }

    fn change(&self, change: impl FnOnce(&mut Role) -> Result<()>) -> Result<()> {
        let name = self.name("RoleName")?;
        let mut roles = self.iam.lock();
        let mut role = roles.get(name).cloned().ok_or_else(|| no_such("role", name))?;
        change(&mut role)?;
        store::save(&*self.iam.table, &role)?;
        roles.insert(name.to_owned(), role);
        Ok(())
    }

    fn trust(&self, parameter: &str) -> Result<String> {
        let text = self.form.required(parameter)?;
        let bad = |why: &str| AwsError::new("MalformedPolicyDocument", format!("{parameter} is not valid: {why}"));
        if text.len() > TRUST_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        let document: Value = serde_json::from_str(text).map_err(|error| bad(&error.to_string()))?;
        let statements = match &document["Statement"] {
            Value::Array(all) if !all.is_empty() => all.as_slice(),
            one @ Value::Object(_) => std::slice::from_ref(one),
            _ => return Err(bad("it needs Statement")),
        };
        for statement in statements {
            let effect = statement["Effect"].as_str();
            if !matches!(effect, Some("Allow" | "Deny")) || statement["Principal"].is_null() {
                return Err(bad("a statement needs Effect and Principal"));
            }
            if !statement["Condition"].is_null() || effect == Some("Deny") {
                return Err(bad("Condition and Deny are not supported in a trust policy here"));
            }
        }
        Ok(text.to_owned())
    }

    fn create_role(&self) -> Result<String> {
        let name = self.name("RoleName")?;
        if name.len() > NAME_CHARS_MAX {
            return Err(invalid(format!("RoleName must have length less than or equal to {NAME_CHARS_MAX}")));
        }
        let path = self.form.get("Path").unwrap_or("/");
        if !path.starts_with('/') || !path.ends_with('/') || path.len() > 512 {
            return Err(invalid("The specified value for path is invalid: it begins and ends with /"));
        }
        let session = self.form.get("MaxSessionDuration").map(str::parse).transpose();
        let session =
            session.ok().filter(|seconds| seconds.is_none_or(|seconds| SESSION_SECONDS_RANGE.contains(&seconds)));
        let session = session.ok_or_else(|| invalid("MaxSessionDuration must be a number from 3600 to 43200"))?;
        let role = Role {
            name: name.to_owned(),
            id: new_id()?,
            path: path.to_owned(),
            created: self.iam.clock.now(),
            description: self.form.get("Description").unwrap_or_default().chars().take(1_000).collect(),
            session_seconds_max: session.unwrap_or(SESSION_SECONDS),
            trust: self.trust("AssumeRolePolicyDocument")?,
            policies: BTreeMap::new(),
            tags: self.tags()?,
        };
        let mut roles = self.iam.lock();
        if roles.contains_key(name) {
            return Err(conflict("EntityAlreadyExists", format!("Role with name {name} already exists.")));
        }
        if roles.len() >= ROLES_MAX {
            return Err(conflict("LimitExceeded", format!("Cannot exceed quota for RolesPerAccount: {ROLES_MAX}")));
        }
        store::save(&*self.iam.table, &role)?;
        let view = self.view(&role, "Role");
        roles.insert(name.to_owned(), role);
        Ok(view)
    }

    fn view(&self, role: &Role, element: &str) -> String {
        let mut xml = Xml::fragment();
        xml.open(element)
            .text("Path", &role.path)
            .text("RoleName", &role.name)
            .text("RoleId", &role.id)
            .text("Arn", &self.iam.arn(role))
            .text("CreateDate", &role.created.format("%Y-%m-%dT%H:%M:%SZ"))
            .text("AssumeRolePolicyDocument", &uri::encode(&role.trust, false))
            .text("MaxSessionDuration", &role.session_seconds_max.to_string());
        if !role.description.is_empty() {
            xml.text("Description", &role.description);
        }
        if !role.tags.is_empty() {
            xml.raw(&tags_xml(&role.tags));
        }
        xml.close(element);
        xml.finish()
    }

    fn get_role(&self) -> Result<String> {
        Ok(self.view(&self.role()?, "Role"))
    }

    fn list_roles(&self) -> Result<String> {
        let size = self.form.get("MaxItems").map_or(Ok(PAGE), str::parse);
        let size = size.map_err(|_| invalid("MaxItems must be a number"))?.clamp(1, ROLES_MAX);
        let (after, prefix) = (self.form.get("Marker").unwrap_or_default(), self.form.get("PathPrefix").unwrap_or("/"));
        let roles = self.iam.lock();
        let found: Vec<&Role> =
            roles.values().filter(|r| r.name.as_str() > after && r.path.starts_with(prefix)).take(size + 1).collect();
        let page = &found[..found.len().min(size)];
        let mut xml = Xml::fragment();
        xml.open("Roles");
        for role in page {
            xml.raw(&self.view(role, "member"));
        }
        xml.close("Roles").text("IsTruncated", if found.len() > size { "true" } else { "false" });
        if let Some(last) = page.last().filter(|_| found.len() > size) {
            xml.text("Marker", &last.name);
        }
        Ok(xml.finish())
    }

    fn delete_role(&self) -> Result<()> {
        let name = self.name("RoleName")?;
        let mut roles = self.iam.lock();
        let role = roles.get(name).ok_or_else(|| no_such("role", name))?;
        if let Some(policy) = role.policies.keys().next() {
            let message = format!(
                "Cannot delete entity, must delete policies first: `aws iam delete-role-policy --role-name {name} \
                 --policy-name {policy}`"
            );
            return Err(conflict("DeleteConflict", message));
        }
        store::remove(&*self.iam.table, name)?;
        roles.remove(name);
        Ok(())
    }

    fn update_trust(&self) -> Result<()> {
        let trust = self.trust("PolicyDocument")?;
        self.change(|role| {
            role.trust = trust;
            Ok(())
        })
    }

    fn put_role_policy(&self) -> Result<()> {
        let policy = self.name("PolicyName")?;
        let document = self.form.required("PolicyDocument")?;
        Policy::parse(document).map_err(|error| AwsError::new("MalformedPolicyDocument", error.to_string()))?;
        self.change(|role| {
            role.policies.insert(policy.to_owned(), document.to_owned());
            if role.policies.len() > POLICIES_MAX {
                return Err(conflict("LimitExceeded", format!("A role has at most {POLICIES_MAX} inline policies")));
            }
            Ok(())
        })
    }

    fn get_role_policy(&self) -> Result<String> {
        let (role, policy) = (self.role()?, self.name("PolicyName")?);
        let document = role.policies.get(policy).ok_or_else(|| no_such("role policy", policy))?;
        let mut xml = Xml::fragment();
        xml.text("RoleName", &role.name)
            .text("PolicyName", policy)
            .text("PolicyDocument", &uri::encode(document, false));
        Ok(xml.finish())
    }

    fn delete_role_policy(&self) -> Result<()> {
        let policy = self.name("PolicyName")?;
        self.change(|role| role.policies.remove(policy).map(drop).ok_or_else(|| no_such("role policy", policy)))
    }

    fn list_role_policies(&self) -> Result<String> {
        let role = self.role()?;
        let mut xml = Xml::fragment();
        xml.open("PolicyNames");
        for name in role.policies.keys() {
            xml.text("member", name);
        }
        xml.close("PolicyNames").text("IsTruncated", "false");
        Ok(xml.finish())
    }

    /// There are no managed policies here, so that none is attached.
    fn list_attached(&self) -> Result<String> {
        self.role()?;
        Ok("<AttachedPolicies/><IsTruncated>false</IsTruncated>".to_owned())
    }

    /// Nor instances that could have a profile.
    fn list_instance_profiles(&self) -> Result<String> {
        self.role()?;
        Ok("<InstanceProfiles/><IsTruncated>false</IsTruncated>".to_owned())
    }

    fn tags(&self) -> Result<BTreeMap<String, String>> {
        let tags: BTreeMap<String, String> = self
            .form
            .structures("Tags")
            .iter()
            .map(|tag| Ok((tag.required("Key")?.to_owned(), tag.get("Value").unwrap_or_default().to_owned())))
            .collect::<Result<_>>()?;
        if tags.len() > TAGS_MAX || tags.iter().any(|(key, value)| key.len() > 128 || value.len() > 256) {
            return Err(invalid(format!("At most {TAGS_MAX} tags, with keys of 128 and values of 256 characters")));
        }
        Ok(tags)
    }

    fn tag_role(&self) -> Result<()> {
        let tags = self.tags()?;
        self.change(|role| {
            role.tags.extend(tags);
            if role.tags.len() > TAGS_MAX {
                return Err(conflict("LimitExceeded", format!("A role has at most {TAGS_MAX} tags")));
            }
            Ok(())
        })
    }

    fn untag_role(&self) -> Result<()> {
        let keys: Vec<&str> = self.form.list("TagKeys");
        self.change(|role| {
            role.tags.retain(|key, _| !keys.contains(&key.as_str()));
            Ok(())
        })
    }

    fn list_role_tags(&self) -> Result<String> {
        Ok(format!("{}<IsTruncated>false</IsTruncated>", tags_xml(&self.role()?.tags)))
    }
}

fn tags_xml(tags: &BTreeMap<String, String>) -> String {
    let mut xml = Xml::fragment();
    xml.open("Tags");
    for (key, value) in tags {
        xml.open("member").text("Key", key).text("Value", value).close("member");
    }
    xml.close("Tags");
    xml.finish()
}
