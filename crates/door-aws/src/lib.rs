#![doc = include_str!("../README.md")]

pub mod audit;
pub mod call;
pub mod door;
pub mod dynamodb;
pub mod error;
pub mod form;
pub mod iam;
pub mod iot;
pub mod json;
pub mod keys;
pub mod kinesis;
pub mod lambda;
pub mod logs;
pub mod payload;
pub mod policy;
pub mod protocol;
pub mod rest;
pub mod s3;
pub mod sagemaker;
pub mod server;
pub mod services;
pub mod session;
pub mod sigv4;
pub mod sitewise;
pub mod sns;
pub mod sts;
pub mod tagging;
pub mod uri;
pub mod xml;

pub use call::{Access, Answer, Call, Service, StreamService};
pub use door::{AwsState, Door};
pub use error::AwsError;
pub use payload::Payload;
pub use s3::S3;
pub use server::{AwsListener, AwsTls, BindError, ServerTls, bind, run};
pub use services::Services;
