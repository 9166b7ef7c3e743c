//! How long a stream keeps its records.

use super::{Request, argument};
use crate::{Answer, AwsError};
use std::time::Duration;

const HOURS_MIN: i64 = 24;
const HOURS_MAX: i64 = 8_760;

impl Request<'_> {
    pub(super) fn increase_stream_retention_period(&self) -> Result<Answer, AwsError> {
        self.set_retention(|hours, existing| {
            (hours < existing).then_some("shorter than existing retention period. Use DecreaseRetentionPeriod API")
        })
    }

    pub(super) fn decrease_stream_retention_period(&self) -> Result<Answer, AwsError> {
        self.set_retention(|hours, existing| {
            (hours > existing).then_some("longer than existing retention period. Use IncreaseRetentionPeriod API")
        })
    }

    fn set_retention(&self, wrong: impl Fn(u64, u64) -> Option<&'static str>) -> Result<Answer, AwsError> {
        let (name, view) = self.known_stream()?;
        let hours = self.number("RetentionPeriodHours", i64::MIN, i64::MAX, None)?;
        let asked = format!("Requested retention period ({hours} hours)");
        if hours < HOURS_MIN {
            return Err(argument(format!(
                "Minimum allowed retention period is {HOURS_MIN} hours. {asked} is too short."
            )));
        }
        if hours > HOURS_MAX {
            return Err(argument(format!(
                "Maximum allowed retention period is {HOURS_MAX} hours. {asked} is too long."
            )));
        }
        let (hours, existing) = (hours as u64, view.retention.as_secs() / 3_600);
        if let Some(wrong) = wrong(hours, existing) {
            return Err(argument(format!(
                "{asked} for stream {name}, which has {existing} hours, can not be {wrong}."
            )));
        }
        let age = Duration::from_secs(hours * 3_600);
        self.ports.stream.set_retention(&name, age).map_err(super::stream_error)?;
        Ok(Answer::empty())
    }
}
