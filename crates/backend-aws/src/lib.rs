#![doc = include_str!("../README.md")]

pub mod objects;
pub mod stream;
pub mod table;

pub use objects::AwsObjects;
pub use stream::AwsStream;
pub use table::AwsTable;

use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use std::{error::Error, fmt::Debug, time::Duration};

/// Between two looks at something that the service is still making or removing.
const READY_PAUSE: Duration = Duration::from_millis(250);
/// Such looks: five minutes.
const READY_LOOKS: u32 = 1_200;
/// The first pause before something is tried again that was in the way of something else; each further one is twice
/// as long.
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// With the pauses: five seconds.
const RETRIES: u32 = 9;

/// What the service said in its own words, or else why it said nothing.
fn words<E, R>(failure: &SdkError<E, R>) -> String
where
    E: ProvideErrorMetadata + Error + 'static,
    R: Debug,
{
    match (failure.code(), failure.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        _ => DisplayErrorContext(failure).to_string(),
    }
}
