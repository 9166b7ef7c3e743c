//! The wire protocols of services, and how each writes an error.

use crate::AwsError;
use crate::xml::{Xml, escape};
use axum::http::Method;
use serde_json::{Map, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Json10,
    Json11,
    RestJson,
    /// Forms in, XML out; the namespace of its documents.
    Query(&'static str),
    RestXml,
}

impl Protocol {
    /// Of a service by its name.
    pub fn of(service: &str) -> Self {
        match service {
            "dynamodb" => Self::Json10,
            "kinesis" | "logs" | "sagemaker" | "tagging" => Self::Json11,
            "sns" => Self::Query("http://sns.amazonaws.com/doc/2010-03-31/"),
            "iam" => Self::Query("https://iam.amazonaws.com/doc/2010-05-08/"),
            "sts" => Self::Query("https://sts.amazonaws.com/doc/2011-06-15/"),
            "cloudformation" => Self::Query("http://cloudformation.amazonaws.com/doc/2010-05-15/"),
            "s3" => Self::RestXml,
            _ => Self::RestJson,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json10 => "application/x-amz-json-1.0",
            Self::Json11 => "application/x-amz-json-1.1",
            Self::RestJson => "application/json",
            Self::Query(_) => "text/xml",
            Self::RestXml => "application/xml",
        }
    }

    /// An error's body.
    pub fn error_body(self, error: &AwsError, method: &Method, resource: &str, request_id: &str) -> String {
        match self {
            Self::Json10 | Self::Json11 => json_body(error, true),
            Self::RestJson => json_body(error, false),
            // An answer to HEAD has no body.
            Self::RestXml if *method == Method::HEAD => String::new(),
            Self::RestXml => {
                let mut xml = Xml::new();
                xml.open("Error").text("Code", &error.code).text("Message", &error.message);
                for (name, value) in &error.members {
                    xml.text(name, &plain(value));
                }
                xml.text("Resource", resource).text("RequestId", request_id).close("Error");
                xml.finish()
            }
            Self::Query(namespace) => {
                let fault = if error.status.is_server_error() { "Receiver" } else { "Sender" };
                format!(
                    "<ErrorResponse xmlns=\"{namespace}\"><Error><Type>{fault}</Type><Code>{}</Code><Message>{}</Message>\
                     </Error><RequestId>{request_id}</RequestId></ErrorResponse>",
                    escape(&error.code),
                    escape(&error.message)
                )
            }
        }
    }
}

fn json_body(error: &AwsError, named: bool) -> String {
    let mut body = Map::new();
    if named {
        body.insert("__type".to_owned(), Value::from(error.code.as_str()));
    }
    body.insert("message".to_owned(), Value::from(error.message.as_str()));
    for (name, value) in &error.members {
        body.insert((*name).to_owned(), value.clone());
    }
    Value::Object(body).to_string()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
