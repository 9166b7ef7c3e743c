//! Sessions: credentials of a role that end by themselves. Nothing is kept of one: its token says what it is and is
//! sealed with the installation's own key, its secret follows from both.

use crate::{
    iam::Iam,
    keys::{KeyError, random_letters},
    policy::Policy,
    sigv4::hex,
};
use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use kilter_core::Timestamp;
use serde::{Deserialize, Serialize};

/// Bytes of the sealing key.
pub const KEY_BYTES: usize = 32;
/// Of a token as it is sent: a session policy, and room for names.
const TOKEN_BYTES_MAX: usize = 8_192;
const SECRET_LETTERS: usize = 40;
const SEAL_BYTES: usize = 32;
/// What ids of sessions' keys begin with.
const PREFIX: &str = "ASIA";

/// What a token says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Claims {
    access_key: String,
    role: String,
    /// A role that is made anew under the same name is another one.
    role_id: String,
    name: String,
    until: Timestamp,
    /// Narrows what the role may do.
    policy: Option<String>,
}

/// What AssumeRole answers.
pub struct Issued {
    pub access_key: String,
    pub secret: String,
    pub token: String,
    pub until: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not a token of this installation, or of another key.
    Invalid,
    Expired,
    /// The role is not there any more.
    NoRole,
}

/// Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Sessions {
    key: hmac::Key,
    iam: Iam,
}

/// A session that was found valid.
#[derive(Clone)]
pub struct Session {
    iam: Iam,
    claims: Claims,
    policy: Option<Policy>,
    pub secret: String,
    pub account: String,
}

impl Session {
    /// `arn:aws:sts::<account>:assumed-role/<role>/<session>`.
    pub fn arn(&self) -> String {
        assumed_role_arn(&self.account, &self.claims.role, &self.claims.name)
    }

    /// `<role id>:<session>`.
    pub fn id(&self) -> String {
        format!("{}:{}", self.claims.role_id, self.claims.name)
    }

    /// The role's name.
    pub fn role(&self) -> &str {
        &self.claims.role
    }

    /// What the role's policies allow as they are now, and the session's own does as well.
    pub fn allows(&self, action: &str, resource: &str) -> bool {
        let role = self.iam.role(&self.claims.role).filter(|role| role.id == self.claims.role_id);
        role.is_some_and(|role| role.allows(action, resource))
            && self.policy.as_ref().is_none_or(|policy| policy.allows(action, resource))
    }
}

pub fn assumed_role_arn(account: &str, role: &str, session: &str) -> String {
    format!("arn:aws:sts::{account}:assumed-role/{role}/{session}")
}

impl Sessions {
    pub fn new(key: &[u8; KEY_BYTES], iam: Iam) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, key), iam }
    }

    pub fn iam(&self) -> &Iam {
        &self.iam
    }

    /// Credentials for a role that is there. `policy` was parsed before.
    pub fn issue(
        &self,
        (role, role_id): (&str, &str),
        name: &str,
        until: Timestamp,
        policy: Option<String>,
    ) -> Result<Issued, KeyError> {
        let access_key = format!("{PREFIX}{}", random_letters(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)?);
        let (role, role_id, name) = (role.to_owned(), role_id.to_owned(), name.to_owned());
        let claims = Claims { access_key: access_key.clone(), role, role_id, name, until, policy };
        let said = serde_json::to_vec(&claims).expect("claims consist of texts");
        let token = STANDARD.encode([self.seal("token", &said).as_ref(), &said].concat());
        Ok(Issued { access_key, secret: self.secret(&said), token, until })
    }

    fn seal(&self, purpose: &str, said: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(purpose.as_bytes());
        context.update(&[0]);
        context.update(said);
        context.sign()
    }

    fn secret(&self, said: &[u8]) -> String {
        hex(self.seal("secret", said).as_ref()).chars().take(SECRET_LETTERS).collect()
    }

    /// The session of a key id and its token.
    pub fn open(&self, access_key: &str, token: &str, account: &str, now: Timestamp) -> Result<Session, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::Invalid);
        }
        let bytes = STANDARD.decode(token).map_err(|_| Refusal::Invalid)?;
        let (seal, said) = bytes.split_first_chunk::<SEAL_BYTES>().ok_or(Refusal::Invalid)?;
        let sealed = [b"token\0", said].concat();
        hmac::verify(&self.key, &sealed, seal).map_err(|_| Refusal::Invalid)?;
        let claims: Claims = serde_json::from_slice(said).map_err(|_| Refusal::Invalid)?;
        if claims.access_key != access_key {
            return Err(Refusal::Invalid);
        }
        if claims.until <= now {
            return Err(Refusal::Expired);
        }
        if self.iam.role(&claims.role).is_none_or(|role| role.id != claims.role_id) {
            return Err(Refusal::NoRole);
        }
        let policy = claims.policy.as_deref().map(Policy::parse).transpose().map_err(|_| Refusal::Invalid)?;
        let (iam, secret, account) = (self.iam.clone(), self.secret(said), account.to_owned());
        Ok(Session { iam, claims, policy, secret, account })
    }
}
