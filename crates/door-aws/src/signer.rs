//! Who signed a request, and what they may do.

use crate::{
    Access,
    keys::AccessKey,
    session::Session,
    sigv4::{Denial, DenialKind},
};

#[derive(Clone)]
pub enum Signer {
    Key(Box<AccessKey>),
    Session(Box<Session>),
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl Signer {
    pub fn secret(&self) -> &str {
        match self {
            Self::Key(key) => &key.secret,
            Self::Session(session) => &session.secret,
        }
    }

    fn allows(&self, action: &str, resource: &str) -> bool {
        match self {
            Self::Key(key) => key.policy.allows(action, resource),
            Self::Session(session) => session.allows(action, resource),
        }
    }

    /// In words.
    fn name(&self) -> String {
        match self {
            Self::Key(key) => format!("Access key {}", key.id),
            Self::Session(session) => format!("User: {}", session.arn()),
        }
    }

    /// Every resource must be allowed.
    pub fn may(&self, access: &Access) -> Result<(), Denial> {
        match access.resources.iter().find(|resource| !self.allows(&access.action, resource)) {
            None => Ok(()),
            Some(resource) => {
                let message = format!(
                    "{} is not authorized to perform: {} on resource: {resource} because its policy does not allow it",
                    self.name(),
                    access.action
                );
                Err(Denial::new(DenialKind::NotAllowed, message))
            }
        }
    }
}
