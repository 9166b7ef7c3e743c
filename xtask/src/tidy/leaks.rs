//! What must never be committed: private keys, paths of one machine, names of package mirrors.

use super::{Violation, lines_with};
use crate::tree::{SourceFile, Tree};

/// Home folders and workspaces. In pieces, so that this file does not contain them.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

/// Hosts that packages are fetched from: lock files must not tie a build to one of them.
const REGISTRIES: [&str; 5] = [
    concat!("registry.npm", "js.org"),
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("pypi", ".org/simple"),
    concat!("files.pythonho", "sted.org"),
];

/// What cargo writes for the public registry, whatever mirror served it.
const PUBLIC_REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A key's body starts within this many characters of its first line: quotes and line breaks, escaped or not.
const KEY_GAP_MAX: usize = 12;
/// Base64 characters that make it a key and not a mention of one.
const KEY_BODY_MIN: usize = 32;

pub(super) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in &tree.files {
        if matches!(file.extension(), Some("pem" | "key" | "p12" | "pfx")) {
            violations.push(Violation::new(&file.path, 1, "keys and certificates are minted at test time: remove it"));
        }
        violations.extend(private_keys(file));
        violations.extend(machine_paths(file));
        for host in REGISTRIES {
            violations.extend(lines_with(file, host, "names a package registry: leave the choice to the machine"));
        }
        violations.extend(lock_sources(file));
    }
    violations
}

fn private_keys(file: &SourceFile) -> Vec<Violation> {
    let mark = concat!("PRIVATE", " KEY-----");
    let body = |rest: &str| {
        let is_base64 = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/';
        (0..=KEY_GAP_MAX)
            .filter_map(|gap| rest.get(gap..))
            .any(|tail| tail.chars().take_while(|c| is_base64(*c)).count() >= KEY_BODY_MIN)
    };
    let hits = file.text.match_indices(mark).filter(|(at, _)| body(&file.text[at + mark.len()..]));
    let line = |at: usize| file.text[..at].lines().count();
    hits.map(|(at, _)| Violation::new(&file.path, line(at), "a private key: revoke it, mint keys at test time"))
        .collect()
}

fn machine_paths(file: &SourceFile) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (number, line) in file.lines() {
        let absolute = |at: usize| {
            // Within a longer path or an address it is a part like any other.
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_ascii_alphanumeric() || "._-~}*)".contains(c))
        };
        for path in MACHINE_PATHS {
            if line.match_indices(path).any(|(at, _)| absolute(at)) {
                let message = format!("{path}… is there on one machine only: use a relative path or a parameter");
                violations.push(Violation::new(&file.path, number, message));
            }
        }
    }
    violations
}

/// Lock files name the public registry or none.
fn lock_sources(file: &SourceFile) -> Vec<Violation> {
    let private = |line: &str| match file.name() {
        "Cargo.lock" => line.starts_with("source = ") && !line.contains(PUBLIC_REGISTRY),
        "package-lock.json" => line.contains("\"resolved\": \"http"),
        _ => false,
    };
    let message = "ties the build to one host: lock without sources (npm: omit-lockfile-registry-resolved=true)";
    file.lines()
        .filter(|(_, line)| private(line))
        .map(|(number, _)| Violation::new(&file.path, number, message))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::tree;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&tree(&[(path, text)])).iter().map(|v| v.line).collect()
    }

    #[test]
    fn keys_are_not_committed() {
        assert_eq!(lines("a/client.pem", ""), [1]);
        assert_eq!(lines("a/client.key", ""), [1]);
        let begin = concat!("-----BEGIN PRIVATE", " KEY-----");
        let body = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg";
        assert_eq!(lines("a.txt", &format!("x\n{begin}\n{body}\n")), [2]);
        assert_eq!(lines("a.rs", &format!("let key = \"{begin}\\n\\\n    {body}\";\n")), [1]);
        assert!(lines("a.rs", &format!("assert!(pem.starts_with(\"{begin}\"), \"not a key\");\n")).is_empty());
    }

    #[test]
    fn paths_of_one_machine_are_not_committed() {
        for path in MACHINE_PATHS {
            assert_eq!(lines("a.md", &format!("see\n`{path}x`\n")), [2]);
            assert!(lines("a.md", &format!("https://example.org{path}x\n")).is_empty());
        }
    }

    #[test]
    fn package_hosts_are_not_committed() {
        for host in REGISTRIES {
            assert_eq!(lines("a.toml", &format!("\nurl = \"https://{host}/x\"\n")), [2]);
        }
        assert!(lines("Cargo.lock", &format!("source = \"{PUBLIC_REGISTRY}\"\n")).is_empty());
        assert_eq!(lines("Cargo.lock", "source = \"git+https://example.org/x\"\n"), [1]);
        assert_eq!(lines("console/package-lock.json", "  \"resolved\": \"https://mirror.example/x.tgz\"\n"), [1]);
    }
}
