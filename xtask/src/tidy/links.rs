//! Every relative link in a Markdown file leads somewhere.

use super::Violation;
use crate::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.with_extension("md") {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut fenced = false;
        for (number, line) in file.lines() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
            }
            if fenced {
                continue;
            }
            for target in targets(line) {
                let found = resolve(folder, target).is_some_and(|path| tree.has(&path));
                if !found {
                    let message = format!("the link to {target} leads nowhere: mend it");
                    violations.push(Violation::new(&file.path, number, message));
                }
            }
        }
    }
    violations
}

/// Paths that a line links to, without their fragments: `[text](path)`, `![text](path)`, `[name]: path`.
fn targets(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    // Odd pieces are inline code.
    for prose in line.split('`').step_by(2) {
        let inline = prose.match_indices("](").map(|(at, mark)| &prose[at + mark.len()..]);
        found.extend(inline.filter_map(|rest| rest.split([')', ' ']).next()));
    }
    // A link's text may itself be code: [`name`](path).
    found.extend(line.match_indices("`](").filter_map(|(at, mark)| line[at + mark.len()..].split([')', ' ']).next()));
    if line.starts_with('[')
        && let Some((_, target)) = line.split_once("]: ")
    {
        found.extend(target.split_whitespace().next());
    }
    let path = |target: &'_ str| target.split('#').next().unwrap_or_default().len();
    let relative = |target: &&str| !target.is_empty() && !target.contains(':') && !target.starts_with('/');
    let mut paths: Vec<&str> = found.into_iter().map(|target| &target[..path(target)]).filter(relative).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// `folder/target` without `.` and `..`; `None` where it leaves the repository.
fn resolve(folder: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;

    fn broken(text: &str) -> Vec<usize> {
        let tree = tree(&[("docs/guide/a.md", text), ("README.md", ""), ("docs/adr/0001-log.md", "")]);
        check(&tree).iter().map(|v| v.line).collect()
    }

    #[test]
    fn links_lead_somewhere() {
        assert!(broken("[a](../../README.md) [b](../adr/) [c](../adr/0001-log.md#why) [d](#here)").is_empty());
        assert!(broken("[a](https://example.org/x) [b](mailto:a@example.org) [c](crate::Thing)").is_empty());
        assert!(broken("`[a](nowhere.md)`\n```\n[a](nowhere.md)\n```\n").is_empty());
        assert_eq!(broken("\n[a](nowhere.md)"), [2]);
        assert_eq!(broken("![picture](../picture.png \"title\")"), [1]);
        assert_eq!(broken("[`code`](nowhere.md)"), [1]);
        assert_eq!(broken("[name]: nowhere.md"), [1]);
        assert_eq!(broken("[out](../../../secret.md)"), [1]);
    }
}
