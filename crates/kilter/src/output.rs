//! What commands print: tables and sentences for people, JSON for scripts. The one place that writes to standard output.

use crate::config::Output;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, Write};

/// Prints a value as JSON, or what `people` makes of it.
pub fn print<T: Serialize>(output: Output, value: &T, people: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    let text = match output {
        Output::Json => serde_json::to_string_pretty(value)?,
        Output::Table => people(value),
    };
    line(&text)
}

/// A closed pipe (`kilter … | head`) is not an error.
pub fn line(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout().lock(), "{}", text.trim_end()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A table, or `empty` where there is no row.
pub fn table(head: &[&str], rows: Vec<Vec<String>>, empty: &str) -> String {
    if rows.is_empty() {
        return empty.to_owned();
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(head.iter().copied());
    table.add_rows(rows);
    table.to_string()
}
