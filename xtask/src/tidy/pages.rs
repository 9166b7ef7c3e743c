//! Every error code has its page, every page its code.

use super::Violation;
use crate::tree::Tree;

const CODES: &str = "crates/kilter/src/error.rs";
const PAGES: &str = "docs/errors";
const PREFIX: &str = "KLT";

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let Some(codes) = tree.get(CODES) else {
        return vec![Violation::new(CODES, 1, "is missing: it lists the error codes that docs/errors explains")];
    };
    let mut violations = Vec::new();
    let mut known = Vec::new();
    for (number, line) in codes.lines() {
        for code in codes_in(line) {
            let page = format!("{PAGES}/{code}.md");
            if !tree.has(&page) && !known.contains(&code) {
                let message = format!("{code} has no page: write {page} (what happened, why, what to do)");
                violations.push(Violation::new(CODES, number, message));
            }
            known.push(code);
        }
    }
    for page in tree.under(PAGES).filter(|page| page.name().starts_with(PREFIX)) {
        let code = page.name().trim_end_matches(".md");
        if !known.contains(&code) {
            let message = format!("no error is called {code}: add it to {CODES} or remove the page");
            violations.push(Violation::new(&page.path, 1, message));
        }
        if !page.text.starts_with(&format!("# {code}")) {
            violations.push(Violation::new(&page.path, 1, format!("the heading must start with \"# {code}\"")));
        }
    }
    violations
}

/// String literals of the form `"KLT` + three digits + `"`.
fn codes_in(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2).filter(|literal| {
        literal.strip_prefix(PREFIX).is_some_and(|n| n.len() == 3 && n.bytes().all(|b| b.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;

    #[test]
    fn codes_and_pages_pair() {
        let codes = "Self::Locked => \"KLT001\",\nSelf::Damaged => \"KLT002\",\n// KLT009\n";
        let good = [(CODES, codes), ("docs/errors/KLT001.md", "# KLT001: a"), ("docs/errors/KLT002.md", "# KLT002: b")];
        assert!(check(&tree(&good)).is_empty());
        let missing: Vec<_> = check(&tree(&good[..2]));
        assert_eq!(missing.iter().map(|v| (v.path.as_str(), v.line)).collect::<Vec<_>>(), [(CODES, 2)]);
        let orphan = check(&tree(&[(CODES, "\"KLT001\""), good[1], good[2]]));
        assert_eq!(orphan.iter().map(|v| v.path.as_str()).collect::<Vec<_>>(), ["docs/errors/KLT002.md"]);
        let misnamed = check(&tree(&[(CODES, "\"KLT001\""), ("docs/errors/KLT001.md", "# KLT002")]));
        assert_eq!(misnamed.len(), 1);
        assert_eq!(check(&tree(&[])).len(), 1);
    }
}
