//! Log events of rules and of the scoring function, kept in a table under named bounds: the port `Logs`.

mod function;
mod store;
#[cfg(test)]
mod tests;
mod writer;

pub use function::{FunctionLog, function_group, function_name};
pub use store::TableLogs;
pub use writer::LogWriter;
