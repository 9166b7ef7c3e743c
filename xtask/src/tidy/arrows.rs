//! Which crate may depend on which: arrows go down only.

use super::{Violation, lines_with};
use crate::tree::{SourceFile, Tree};
use toml::{Table, Value};

/// ```text
/// 3  kilter ──► every crate below
/// 2  door-mqtt ─► mqtt      pipeline ─► detect, lake      edge ─► detect, mqtt
/// 1  mqtt  detect  lake  door-aws  door-console  replica  backend-*
/// 0  core                   (rows 1 and 2 all ─► core; testkit ─► core, detect, a dev-dependency only)
/// ```
const ARROWS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("mqtt", &["core"]),
    ("detect", &["core"]),
    ("lake", &["core"]),
    ("door-aws", &["core"]),
    ("door-console", &["core"]),
    ("replica", &["core"]),
    ("backend-embedded", &["core"]),
    ("backend-aws", &["core"]),
    ("backend-kafka", &["core"]),
    ("testkit", &["core", "detect"]),
    ("door-mqtt", &["core", "mqtt"]),
    ("pipeline", &["core", "detect", "lake"]),
    ("edge", &["core", "detect", "mqtt"]),
];

/// The crate on top: it may use all but the testkit.
const TOP: &str = "kilter";
const TESTKIT: &str = "testkit";

/// Crates that stay free of an async runtime.
const SYNCHRONOUS: [&str; 3] = ["core", "detect", "mqtt"];

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for manifest in tree.under("crates").filter(|file| file.path.split('/').count() == 3 && file.name() == "Cargo.toml")
    {
        let folder = manifest.path.split('/').nth(1).unwrap_or_default();
        match manifest.text.parse::<Table>() {
            Ok(table) => violations.extend(edges(manifest, folder, &table)),
            Err(error) => violations.push(Violation::new(&manifest.path, 1, format!("is not valid TOML: {error}"))),
        }
    }
    for folder in SYNCHRONOUS {
        let source = format!("crates/{folder}/src");
        for file in tree.under(&source) {
            let advice = format!("kilter-{folder} knows no runtime: take what you need as a parameter");
            violations.extend(lines_with(file, "tokio::", &advice));
        }
    }
    for file in tree.under("crates/core/src") {
        for needle in ["std::fs", "std::net"] {
            let advice = format!("core does no I/O: put what needs {needle} behind a port");
            violations.extend(lines_with(file, needle, &advice));
        }
    }
    violations
}

/// Violations of one crate's manifest.
fn edges(manifest: &SourceFile, folder: &str, table: &Table) -> Vec<Violation> {
    let fail = |dependency: &str, message: String| {
        let line = manifest.lines().find(|(_, line)| line.trim_start().starts_with(dependency)).map_or(1, |(n, _)| n);
        Violation::new(&manifest.path, line, message)
    };
    let allowed = ARROWS.iter().find(|(name, _)| *name == folder).map(|(_, below)| *below);
    if allowed.is_none() && folder != TOP {
        return vec![fail("name", format!("crate {folder} is not in the table of arrows: add it there, with an ADR"))];
    }
    let mut violations = Vec::new();
    for (kind, dependency) in dependencies(table) {
        let development = kind == "dev-dependencies";
        if dependency == "tokio" && SYNCHRONOUS.contains(&folder) {
            violations.push(fail("tokio", format!("kilter-{folder} knows no runtime: remove tokio")));
        }
        let Some(target) = dependency.strip_prefix("kilter-") else { continue };
        let fine = match target {
            TESTKIT => development,
            _ => allowed.is_none_or(|below| below.contains(&target)),
        };
        if !fine {
            let message = if target == TESTKIT {
                "the testkit is for tests: move it to [dev-dependencies]".to_owned()
            } else {
                format!(
                    "{folder} must not know {target}: put a port into core, and wire the two up in kilter/src/app.rs"
                )
            };
            violations.push(fail(&dependency, message));
        }
    }
    violations
}

/// Every dependency with the kind of its table, those of single platforms included.
fn dependencies(table: &Table) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let platforms = table.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    for scope in platforms.filter_map(Value::as_table).chain([table]) {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for (name, value) in scope.get(kind).and_then(Value::as_table).into_iter().flatten() {
                let package = value.get("package").and_then(Value::as_str).unwrap_or(name);
                found.push((kind, package.to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;

    fn messages(folder: &str, manifest: &str) -> Vec<String> {
        check(&tree(&[(&format!("crates/{folder}/Cargo.toml"), manifest)])).iter().map(Violation::to_string).collect()
    }

    #[test]
    fn arrows_go_down_only() {
        assert!(messages("pipeline", "[dependencies]\nkilter-core.workspace = true\nkilter-lake = \"1\"").is_empty());
        assert!(messages("kilter", "[dependencies]\nkilter-core = \"1\"\nkilter-replica = \"1\"").is_empty());
        let found = messages("lake", "[dependencies]\nserde = \"1\"\nkilter-detect.workspace = true");
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("crates/lake/Cargo.toml:3: lake must not know detect"), "{found:?}");
        assert_eq!(messages("core", "[dev-dependencies]\nkilter-detect = \"1\"").len(), 1);
        assert_eq!(messages("mqtt", "[dependencies]\nx = { package = \"kilter-detect\" }").len(), 1);
        assert_eq!(messages("mqtt", "[target.'cfg(unix)'.dependencies]\nkilter-detect = \"1\"").len(), 1);
        assert_eq!(messages("novelty", "[dependencies]").len(), 1);
        assert_eq!(messages("core", "[dependencies").len(), 1);
    }

    #[test]
    fn the_testkit_is_for_tests() {
        assert!(messages("detect", "[dev-dependencies]\nkilter-testkit = \"1\"").is_empty());
        assert_eq!(messages("detect", "[dependencies]\nkilter-testkit = \"1\"").len(), 1);
        assert_eq!(messages("kilter", "[dependencies]\nkilter-testkit = \"1\"").len(), 1);
    }

    #[test]
    fn the_middle_is_pure() {
        assert_eq!(messages("detect", "[dev-dependencies]\ntokio = \"1\"").len(), 1);
        assert!(messages("pipeline", "[dependencies]\ntokio = \"1\"").is_empty());
        let impure = tree(&[
            ("crates/core/src/a.rs", "use std::fs;\n"),
            ("crates/core/src/b.rs", "\nuse std::net::IpAddr;\n"),
            ("crates/mqtt/src/c.rs", "tokio::spawn(x);\n"),
            ("crates/lake/src/d.rs", "use std::fs;\n"),
        ]);
        let places: Vec<_> = check(&impure).iter().map(|v| (v.path.clone(), v.line)).collect();
        assert_eq!(
            places,
            [
                ("crates/mqtt/src/c.rs".into(), 1),
                ("crates/core/src/a.rs".into(), 1),
                ("crates/core/src/b.rs".into(), 2)
            ]
        );
    }
}
