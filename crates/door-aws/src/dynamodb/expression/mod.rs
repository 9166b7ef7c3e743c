//! Expressions: conditions, filters, key conditions, projections and updates, parsed once per request into trees.

mod condition;
mod key;
mod parse;
mod path;
mod placeholders;
mod reserved;
mod token;
mod update;

pub use condition::{Comparison, Condition, Operand};
pub use key::{KeyCondition, RangeCondition};
pub use path::{Path, Projection, Step};
pub use placeholders::Placeholders;
pub use update::{Applied, Update};

#[cfg(test)]
mod tests;

use crate::{AwsError, dynamodb::fault::invalid};

/// Longest expression in bytes.
const EXPRESSION_BYTES_MAX: usize = 4096;
/// Operators and functions of one expression.
const OPERATORS_MAX: usize = 300;
/// Parentheses, NOTs and functions within each other: bounds the stack. The service has no such limit of its own.
const DEPTH_MAX: usize = 64;
/// Largest index into a list that a path may have. An index beyond the end appends, so it costs nothing.
const INDEX_MAX: usize = u32::MAX as usize;

/// Which member of the request an expression is; its errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Condition,
    Filter,
    Key,
    Projection,
    Update,
}

impl Kind {
    pub fn member(self) -> &'static str {
        match self {
            Self::Condition => "ConditionExpression",
            Self::Filter => "FilterExpression",
            Self::Key => "KeyConditionExpression",
            Self::Projection => "ProjectionExpression",
            Self::Update => "UpdateExpression",
        }
    }

    fn fault(self, what: impl std::fmt::Display) -> AwsError {
        invalid(format!("Invalid {}: {what}", self.member()))
    }
}
