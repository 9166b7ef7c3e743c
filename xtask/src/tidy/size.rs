//! Budgets of size: files, functions, the core, the map. Reads lines, not syntax: it relies on the layout that
//! `cargo fmt --check` enforces (a body is indented deeper than the line that closes it).

use super::Violation;
use crate::tree::{SourceFile, Tree};

/// Of a source file, tests not counted.
const FILE_LINES_MAX: usize = 500;
/// From the line with `fn` to the closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Of all files of `crates/core/src`, tests and all.
const CORE_LINES_MAX: usize = 3_000;
const MAP_LINES_MAX: usize = 400;
const MAP: &str = "ARCHITECTURE.md";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in &tree.files {
        if file.is_test() || file.path.contains("/dist/") {
            continue;
        }
        match file.extension() {
            Some("rs") => {
                let tests = test_items(file);
                violations.extend(long_file(file, tests.iter().map(|(first, last)| last - first + 1).sum()));
                violations.extend(long_functions(file, &tests));
            }
            Some("ts" | "tsx") => violations.extend(long_file(file, 0)),
            _ => {}
        }
    }
    let core: usize = tree.under("crates/core/src").map(|file| file.text.lines().count()).sum();
    if core > CORE_LINES_MAX {
        let message =
            format!("core has {core} lines, its budget is {CORE_LINES_MAX}: move work out, keep words and ports");
        violations.push(Violation::new("crates/core/src/lib.rs", 1, message));
    }
    match tree.get(MAP).map(|map| map.text.lines().count()) {
        None => violations.push(Violation::new(MAP, 1, "is missing: write the map of the code")),
        Some(lines) if lines > MAP_LINES_MAX => {
            let message =
                format!("has {lines} lines, a map has at most {MAP_LINES_MAX}: move detail to where it is used");
            violations.push(Violation::new(MAP, MAP_LINES_MAX + 1, message));
        }
        Some(_) => {}
    }
    violations
}

fn long_file(file: &SourceFile, test_lines: usize) -> Option<Violation> {
    let lines = file.text.lines().count() - test_lines;
    let message = || format!("{lines} lines without tests, at most {FILE_LINES_MAX}: split it where it is two things");
    (lines > FILE_LINES_MAX).then(|| Violation::new(&file.path, FILE_LINES_MAX + 1, message()))
}

/// First and last line of every top-level item that is compiled for tests only.
fn test_items(file: &SourceFile) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = file.text.lines().collect();
    let mut items = Vec::new();
    let mut index = 0;
    while index < lines.len() {
        let first = index + 1;
        if lines[index] == "#[cfg(test)]" {
            index += 1;
            while index + 1 < lines.len() && lines[index].starts_with("#[") {
                index += 1;
            }
            index = item_end(&lines, index);
            items.push((first, index + 1));
        }
        index += 1;
    }
    items
}

fn long_functions(file: &SourceFile, tests: &[(usize, usize)]) -> Vec<Violation> {
    let lines: Vec<&str> = file.text.lines().collect();
    let mut violations = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let number = index + 1;
        if !starts_function(line) || tests.iter().any(|(first, last)| (*first..=*last).contains(&number)) {
            continue;
        }
        let length = item_end(&lines, index) - index + 1;
        if length > FUNCTION_LINES_MAX {
            let message = format!("function of {length} lines, at most {FUNCTION_LINES_MAX}: name its parts");
            violations.push(Violation::new(&file.path, number, message));
        }
    }
    violations
}

fn starts_function(line: &str) -> bool {
    let words = line.split_whitespace().skip_while(|word| {
        matches!(*word, "pub" | "const" | "async" | "unsafe" | "extern" | "default") || word.starts_with("pub(")
    });
    words.into_iter().next() == Some("fn")
}

/// Index of the last line of the item that begins at `start`: the next line with the same indentation that
/// closes a brace or ends a declaration; the line itself for one-liners.
fn item_end(lines: &[&str], start: usize) -> usize {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let own = indentation(lines[start]);
    let ends = |line: &str| line.ends_with(';') || line.ends_with('}');
    if ends(lines[start].trim_end()) {
        return start;
    }
    let closes = |line: &&str| !line.trim().is_empty() && indentation(line) == own && ends(line.trim_end());
    lines[start + 1..].iter().position(closes).map_or(lines.len() - 1, |offset| start + 1 + offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;

    fn found(path: &str, text: &str) -> Vec<Violation> {
        check(&tree(&[(MAP, "map"), (path, text)]))
    }

    #[test]
    fn files_are_short_tests_not_counted() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    // line\n".repeat(300));
        assert!(found("a.rs", &("// line\n".repeat(500) + &tests)).is_empty());
        assert_eq!(found("a.rs", &("// line\n".repeat(501) + &tests))[0].line, 501);
        assert_eq!(found("a.rs", &(tests + &"// line\n".repeat(501))).len(), 1, "code after tests counts");
        assert_eq!(found("console/src/a.ts", &"// line\n".repeat(501)).len(), 1);
        assert!(found("console/dist/a.ts", &"// line\n".repeat(501)).is_empty());
        assert!(found("a/tests/b.rs", &"// line\n".repeat(501)).is_empty());
        assert!(found("a.md", &"line\n".repeat(501)).is_empty());
    }

    fn function(head: &str, lines: usize, indentation: &str) -> String {
        let body = format!("{indentation}    step();\n\n").repeat((lines - 2) / 2);
        format!("{indentation}{head} {{\n{body}{indentation}}}\n")
    }

    #[test]
    fn functions_are_short() {
        for head in ["fn f()", "pub fn f()", "pub(super) const fn f()", "pub async fn f()"] {
            assert!(found("a.rs", &function(head, 70, "")).is_empty());
            assert_eq!(found("a.rs", &function(head, 72, "")).len(), 1);
        }
        let method = format!("impl A {{\n    fn g(&self);\n\n{}}}\n", function("fn f()", 72, "    "));
        assert_eq!(found("a.rs", &method).iter().map(|v| v.line).collect::<Vec<_>>(), [4]);
        let in_tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function("fn f()", 90, "    "));
        assert!(found("a.rs", &in_tests).is_empty());
        let wrapped = function("fn f(", 20, "").replacen("{\n", "\n    a: A,\n) -> B {\n", 1) + &"// line\n".repeat(60);
        assert!(found("a.rs", &wrapped).is_empty(), "a signature over several lines");
    }

    #[test]
    fn core_and_the_map_have_budgets() {
        let half = "// line\n".repeat(499);
        let many: Vec<(String, &str)> = (0..7).map(|i| (format!("crates/core/src/{i}.rs"), half.as_str())).collect();
        let mut files: Vec<(&str, &str)> = many.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        files.push((MAP, "map"));
        assert_eq!(check(&tree(&files)).len(), 1);
        files.remove(0);
        assert!(check(&tree(&files)).is_empty());
        assert_eq!(found("ARCHITECTURE.md", "").len(), 0);
        assert_eq!(check(&tree(&[(MAP, &"line\n".repeat(401))]))[0].line, 401);
        assert_eq!(check(&tree(&[])).len(), 1, "the map is missing");
    }
}
