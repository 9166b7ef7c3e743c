//! Names that say nothing, marks of unfinished work, tests that never run, files that do not introduce themselves.

use super::{Violation, lines_with};
use crate::tree::{SourceFile, Tree};

/// Of files, folders and modules: a thing is named for what it does.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc"];

/// In pieces, so that this file does not contain them.
const UNFINISHED: [(&str, &str); 6] = [
    (concat!("to", "do!("), "finish it, or open an issue and return an error that says so"),
    (concat!("unimpl", "emented!("), "finish it, or open an issue and return an error that says so"),
    (concat!("db", "g!("), "remove it, or log it with tracing"),
    (concat!("FIX", "ME"), "fix it, or open an issue"),
    (concat!("XX", "X"), "fix it, or open an issue"),
    (concat!("#[ig", "nore"), "a test runs or goes; one that needs an outside tool says SKIPPED loudly"),
];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.with_extension("rs") {
        violations.extend(empty_name(file));
        for (needle, advice) in UNFINISHED {
            violations.extend(lines_with(file, needle, &format!("unfinished mark: {advice}")));
        }
        let introduced = file.text.starts_with("//!") || file.text.starts_with("#![doc = include_str!(");
        if !introduced && !file.path.starts_with("fuzz/") {
            violations.push(Violation::new(&file.path, 1, "say in one or two sentences (//!) what this file is"));
        }
    }
    for file in tree.with_extension("ts").chain(tree.with_extension("tsx")) {
        violations.extend(empty_name(file));
    }
    violations
}

fn empty_name(file: &SourceFile) -> Option<Violation> {
    let stem = file.path.rsplit_once('.').map_or(file.path.as_str(), |(stem, _)| stem);
    let name = stem.split('/').flat_map(|part| part.split(['_', '-', '.'])).find(|name| EMPTY_NAMES.contains(name))?;
    Some(Violation::new(&file.path, 1, format!("{name:?} says nothing: name it for what it does")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;

    fn found(path: &str, text: &str) -> Vec<Violation> {
        check(&tree(&[(path, text)]))
    }

    #[test]
    fn names_say_something() {
        for path in
            ["src/utils.rs", "src/helpers/mod.rs", "src/session_manager.rs", "a/tests/common/mod.rs", "c/util.ts"]
        {
            assert_eq!(found(path, "//! Words.").len(), 1, "{path}");
        }
        assert!(found("src/commonality.rs", "//! Words.").is_empty());
    }

    #[test]
    fn work_is_finished_and_tests_run() {
        for (mark, _) in UNFINISHED {
            let text = format!("//! Words.\nfn f() {{ {mark}) }}\n");
            assert_eq!(found("a.rs", &text).iter().map(|v| v.line).collect::<Vec<_>>(), [2], "{mark}");
            assert!(found("a.md", &text).is_empty());
        }
    }

    #[test]
    fn files_introduce_themselves() {
        assert_eq!(found("a.rs", "use std::fmt;\n").len(), 1);
        assert!(found("a.rs", "#![doc = include_str!(\"../README.md\")]\n").is_empty());
    }
}
