//! The rules of the house as checks: each a pure function from the tree to its violations.

mod arrows;
mod leaks;
mod links;
mod pages;
mod size;
mod words;

use crate::tree::{SourceFile, Tree};
use std::fmt;

/// Something untidy: where, and what to do about it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    pub path: String,
    /// From 1.
    pub line: usize,
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

impl Violation {
    fn new(path: impl Into<String>, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.into(), line, message: message.into() }
    }
}

/// All violations, sorted by place.
pub fn check(tree: &Tree) -> Vec<Violation> {
    let checks =
        [arrows::check, size::check, words::check, leaks::check, pages::check, links::check] as [fn(&Tree) -> _; 6];
    let mut violations: Vec<Violation> = checks.iter().flat_map(|check| check(tree)).collect();
    violations.sort();
    violations
}

/// One violation per line that contains `needle`.
fn lines_with(file: &SourceFile, needle: &str, message: &str) -> Vec<Violation> {
    let hits = file.lines().filter(|(_, line)| line.contains(needle));
    hits.map(|(number, _)| Violation::new(&file.path, number, message)).collect()
}
