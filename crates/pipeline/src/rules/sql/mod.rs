//! AWS IoT SQL, version 2016-03-23: from text to a tree once, and from a message to a result as often as it comes.
//! Follows the "AWS IoT SQL reference" of the AWS IoT Core developer guide.

mod eval;
mod expr;
mod lexer;
mod parse;
#[cfg(test)]
mod tests;
pub mod value;

pub use eval::{EvalError, Evaluation, Message, Outcome, TEXT_BYTES_MAX};
pub use expr::{Expr, Statement};
pub use parse::{parse_expression, parse_statement};

/// Longest statement: it bounds the tree and, with the steps of an evaluation, its cost.
pub const SQL_BYTES_MAX: usize = 16 << 10;
/// Height of the tree: reading and evaluating recurse this far.
pub const DEPTH_MAX: usize = 100;

/// Why a statement cannot be read, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}{place}")]
pub struct SqlError {
    why: String,
    place: String,
}

impl SqlError {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), place: String::new() }
    }

    /// `at` is a byte of the statement, between two characters.
    fn at(sql: &str, at: usize, why: impl Into<String>) -> Self {
        let rest: String = sql[at..].chars().take(30).collect();
        let place = if rest.is_empty() { ", at the end".to_owned() } else { format!(", at {rest:?}") };
        Self { why: why.into(), place }
    }
}
