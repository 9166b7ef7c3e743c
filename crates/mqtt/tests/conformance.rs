//! The conformance table names tests: each of them must exist, and each statement must be there once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::Path};

/// Where the tests are that the table names.
const SOURCES: [&str; 5] =
    ["crates/core/tests", "crates/mqtt", "crates/door-mqtt/src", "crates/door-mqtt/tests", "crates/kilter/tests"];
/// Statements of 3.1.1 and of 5.0.
const STATEMENTS: [usize; 2] = [142, 251];

fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn every_test_that_the_table_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut code = String::new();
    SOURCES.iter().for_each(|folder| sources(&root.join(folder), &mut code));
    let table = fs::read_to_string(root.join("docs/mqtt/conformance.md")).unwrap();
    let sections: Vec<&str> = table.split("\n## ").skip(1).collect();
    assert_eq!(sections.len(), STATEMENTS.len());
    for (section, expected) in sections.into_iter().zip(STATEMENTS) {
        let mut seen = BTreeSet::new();
        for row in section.lines().filter(|line| line.starts_with("| ")).skip(1) {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let [_, id, _, covered, _] = cells[..] else { panic!("not a row of the table: {row}") };
            assert!(seen.insert(id), "{id} is there twice");
            assert!(!covered.is_empty(), "{id} says nothing about tests");
            let names = covered.split('`').skip(1).step_by(2).filter(|name| !name.contains('.') && *name != "mqtt");
            for name in names {
                assert!(code.contains(&format!("fn {name}(")), "{id}: there is no test {name}");
            }
        }
        assert_eq!(seen.len(), expected);
    }
}
