//! Identifiers. Each is checked once, where it enters, and is trusted from there on.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, sync::Arc};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {given:?} is not valid: {rule}")]
pub struct InvalidId {
    pub kind: &'static str,
    pub given: String,
    pub rule: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal, $allowed:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Longest accepted length in bytes.
            pub const LEN_MAX: usize = $max;

            pub fn new(name: &str) -> Result<Self, InvalidId> {
                let allowed: fn(char) -> bool = $allowed;
                if name.is_empty() || name.len() > $max || !name.chars().all(allowed) {
                    return Err(InvalidId { kind: $kind, given: name.chars().take(200).collect(), rule: $rule });
                }
                Ok(Self(name.into()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(s: &str) -> Result<Self, InvalidId> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(s: String) -> Result<Self, InvalidId> {
                Self::new(&s)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.to_string()
            }
        }
    };
}

id!(
    /// A tenant. Lower case and digits only, because it becomes part of bucket, table and rule names.
    TenantId, "tenant", 32,
    |c| c.is_ascii_lowercase() || c.is_ascii_digit(),
    "use 1 to 32 lower-case letters and digits"
);
id!(
    /// A thing: one device or machine (AWS IoT's word and character set).
    ThingName, "thing", 128,
    |c| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-'),
    "use 1 to 128 letters, digits, ':', '_' and '-'"
);
id!(
    /// A stream's name (Kinesis's character set).
    StreamName, "stream", 128,
    |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'),
    "use 1 to 128 letters, digits, '.', '_' and '-'"
);
id!(
    /// A certificate: the SHA-256 of its DER form, in lower-case hex.
    CertificateId, "certificate", 64,
    |c| c.is_ascii_digit() || matches!(c, 'a'..='f'),
    "it is the SHA-256 of the certificate in lower-case hexadecimal"
);

impl TenantId {
    /// The names of cookbook §3.3.
    pub fn stream(&self) -> StreamName {
        StreamName(format!("anomaly-stream-{self}").into())
    }
    pub fn table(&self) -> String {
        format!("anomaly-results-{self}")
    }
    pub fn bucket(&self, region: &str) -> String {
        format!("iot-data-lake-{self}-{region}")
    }
    pub fn alert_topic(&self) -> String {
        format!("alerts-{self}")
    }
    pub fn rule(&self) -> String {
        format!("telemetry_to_kinesis_{self}")
    }
    pub fn policy(&self) -> String {
        format!("tenant_policy_{self}")
    }
    pub fn telemetry_topic(&self, thing: &ThingName) -> String {
        format!("tenants/{self}/devices/{thing}/telemetry")
    }
    pub fn telemetry_filter(&self) -> String {
        format!("tenants/{self}/devices/+/telemetry")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(TenantId::new("tenant001").is_ok());
        for bad in ["", "Tenant", "a/b", "a-b", "..", "t\u{0}", &"x".repeat(33)] {
            assert!(TenantId::new(bad).is_err(), "{bad:?}");
        }
        assert!(ThingName::new("tenant001-device1").is_ok());
        for bad in ["", "a/b", "a+b", "a#", "../x", "a b"] {
            assert!(ThingName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_follow_the_cookbook() {
        let tenant = TenantId::new("tenant001").unwrap();
        assert_eq!(tenant.stream().as_str(), "anomaly-stream-tenant001");
        assert_eq!(tenant.bucket("us-east-1"), "iot-data-lake-tenant001-us-east-1");
        assert_eq!(tenant.rule(), "telemetry_to_kinesis_tenant001");
    }
}
