//! What policies may ask about: the client, its thing, its certificate, where from and when. One name serves as a
//! variable (`${iot:ClientId}`) and as a condition's key.

use super::Request;
use crate::fleet::CertificateFacts;
use kilter_core::{NANOS_PER_SECOND, Timestamp};
use std::{borrow::Cow, collections::BTreeMap, net::IpAddr};

/// Who asks. The default knows nothing: everything that it is asked for has no value.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context<'a> {
    /// Empty is no value.
    pub client_id: &'a str,
    /// The thing that the certificate is attached to and that the client is named like.
    pub thing: Option<ThingFacts<'a>>,
    pub certificate: Option<&'a CertificateFacts>,
    pub source: Option<IpAddr>,
    pub now: Timestamp,
}

#[derive(Debug, Clone, Copy)]
pub struct ThingFacts<'a> {
    pub name: &'a str,
    pub thing_type: Option<&'a str>,
    pub attributes: &'a BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    ClientId,
    ThingName,
    ThingType,
    IsAttached,
    Attribute(String),
    /// Which of the certificate's names, the attribute, and which of several values.
    Certificate(Side, String, Option<usize>),
    Serial,
    SourceIp,
    CurrentTime,
    EpochTime,
    SecureTransport,
    PrincipalArn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Subject,
    Issuer,
    Alternative,
}

/// Attributes of names that can be asked for, and kinds of alternative names.
const NAME_PARTS: &[&str] = &[
    "Country",
    "Organization",
    "OrganizationalUnit",
    "DistinguishedNameQualifier",
    "State",
    "Locality",
    "CommonName",
    "SerialNumber",
    "Title",
    "Surname",
    "GivenName",
    "Initials",
    "Pseudonym",
    "GenerationQualifier",
];
const ALTERNATIVES: &[&str] = &["RFC822Name", "DNSName", "UniformResourceIdentifier", "IPAddress"];
/// AWS gives at most this many values of one attribute.
const VALUES_MAX: usize = 8;

impl Key {
    /// `iot:` names as they are written, `aws:` names in any case: as AWS does.
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "aws:sourceip" => return Some(Self::SourceIp),
            "aws:currenttime" => return Some(Self::CurrentTime),
            "aws:epochtime" => return Some(Self::EpochTime),
            "aws:securetransport" => return Some(Self::SecureTransport),
            "aws:principalarn" => return Some(Self::PrincipalArn),
            _ => {}
        }
        match name {
            "iot:ClientId" => return Some(Self::ClientId),
            "iot:Connection.Thing.ThingName" => return Some(Self::ThingName),
            "iot:Connection.Thing.ThingTypeName" => return Some(Self::ThingType),
            "iot:Connection.Thing.IsAttached" => return Some(Self::IsAttached),
            "iot:Certificate.SerialNumber" => return Some(Self::Serial),
            _ => {}
        }
        let attribute = name.strip_prefix("iot:Connection.Thing.Attributes[").and_then(|rest| rest.strip_suffix(']'));
        if let Some(attribute) = attribute {
            return (!attribute.is_empty()).then(|| Self::Attribute(attribute.to_owned()));
        }
        let (side, part) = name.strip_prefix("iot:Certificate.")?.split_once('.')?;
        let (side, known) = match side {
            "Subject" => (Side::Subject, NAME_PARTS),
            "Issuer" => (Side::Issuer, NAME_PARTS),
            "SubjectAlternativeName" => (Side::Alternative, ALTERNATIVES),
            _ => return None,
        };
        let (part, index) = match part.split_once('.') {
            Some((part, index)) => (part, Some(index.parse().ok().filter(|index| *index < VALUES_MAX)?)),
            None => (part, None),
        };
        known.contains(&part).then(|| Self::Certificate(side, part.to_owned(), index))
    }

    pub fn asks_certificate(&self) -> bool {
        matches!(self, Self::Certificate(..) | Self::Serial | Self::PrincipalArn)
    }

    /// All values, where there are any; an empty one is none.
    pub fn values<'a>(&self, request: &Request<'a>) -> Vec<Cow<'a, str>> {
        let context = &request.context;
        let one = |value: Option<&'a str>| value.map(Cow::Borrowed).into_iter().collect();
        let made = |value: Option<String>| value.map(Cow::Owned).into_iter().collect();
        let mut all: Vec<Cow<'a, str>> = match self {
            Self::ClientId => one(Some(context.client_id)),
            Self::ThingName => one(context.thing.map(|thing| thing.name)),
            Self::ThingType => one(context.thing.and_then(|thing| thing.thing_type)),
            Self::IsAttached => one(Some(if context.thing.is_some() { "true" } else { "false" })),
            Self::Attribute(name) => {
                one(context.thing.and_then(|thing| thing.attributes.get(name)).map(String::as_str))
            }
            Self::Certificate(side, part, index) => {
                let names = context.certificate.map(|certificate| match side {
                    Side::Subject => &certificate.subject,
                    Side::Issuer => &certificate.issuer,
                    Side::Alternative => &certificate.alternative,
                });
                let values = names.and_then(|names| names.get(part.as_str())).map_or(&[][..], Vec::as_slice);
                let chosen = values.iter().take(VALUES_MAX).enumerate();
                chosen
                    .filter(|(at, _)| index.is_none_or(|index| index == *at))
                    .map(|(_, v)| v.as_str().into())
                    .collect()
            }
            Self::Serial => one(context.certificate.map(|certificate| certificate.serial.as_str())),
            Self::SourceIp => made(context.source.map(|source| source.to_canonical().to_string())),
            Self::CurrentTime => made(Some(context.now.format("%Y-%m-%dT%H:%M:%SZ"))),
            Self::EpochTime => made(Some((context.now.as_nanos().div_euclid(NANOS_PER_SECOND)).to_string())),
            // There is no other way in for what has a certificate.
            Self::SecureTransport => one(Some("true")),
            // `arn:aws:iot:<region>:<account>` is the same for the certificate as for what is asked about.
            Self::PrincipalArn => made(context.certificate.and_then(|certificate| {
                let (end, _) = request.resource.match_indices(':').nth(4)?;
                Some(format!("{}:cert/{}", &request.resource[..end], certificate.id))
            })),
        };
        all.retain(|value| !value.is_empty());
        all
    }

    /// The value of a variable.
    pub fn first<'a>(&self, request: &Request<'a>) -> Option<Cow<'a, str>> {
        match self {
            // The two that every message of a device asks for.
            Self::ClientId => Some(request.context.client_id).filter(|id| !id.is_empty()).map(Cow::Borrowed),
            Self::ThingName => {
                request.context.thing.map(|thing| thing.name).filter(|n| !n.is_empty()).map(Cow::Borrowed)
            }
            other => other.values(request).into_iter().next(),
        }
    }
}
