//! The repository as the checks see it: paths and texts, read once.

use std::{fs, io, path::Path, process::Command};

/// One file. Paths are relative to the repository's root, with `/`.
pub struct SourceFile {
    pub path: String,
    /// Empty for files that are not UTF-8: only their names are checked.
    pub text: String,
}

pub struct Tree {
    /// Sorted by path.
    pub files: Vec<SourceFile>,
}

/// What a build, an editor or a test leaves behind; skipped where git cannot say what is ignored.
const LEFT_BEHIND: [&str; 6] = [".git", "target", "node_modules", "kilter-data", "__pycache__", ".venv"];

impl Tree {
    /// What git tracks or would track. Without git (or outside a repository, as in an unpacked archive):
    /// every file outside of [`LEFT_BEHIND`].
    pub fn read(root: &Path) -> io::Result<Self> {
        let paths = match list_with_git(root) {
            Some(paths) => paths,
            None => {
                let mut paths = Vec::new();
                walk(root, "", &mut paths)?;
                paths
            }
        };
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            match fs::read(root.join(&path)) {
                Ok(bytes) => files.push(SourceFile { path, text: String::from_utf8(bytes).unwrap_or_default() }),
                // Deleted but still in git's index.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Ok(Self { files })
    }

    pub fn get(&self, path: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether a file or a folder with files is there.
    pub fn has(&self, path: &str) -> bool {
        path.is_empty()
            || self
                .files
                .iter()
                .any(|file| file.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }

    pub fn with_extension<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = &'a SourceFile> {
        self.files.iter().filter(move |file| file.extension() == Some(extension))
    }

    pub fn under<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a SourceFile> {
        self.files.iter().filter(move |file| file.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
    }
}

impl SourceFile {
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    pub fn extension(&self) -> Option<&str> {
        self.name().rsplit_once('.').map(|(_, extension)| extension)
    }

    /// Lines with their numbers, from 1.
    pub fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Tests and benches: held to other sizes than the product's code.
    pub fn is_test(&self) -> bool {
        let folders = self.path.rsplit_once('/').map_or("", |(folders, _)| folders);
        self.name().ends_with("tests.rs")
            || self.name().contains(".test.")
            || folders.split('/').any(|folder| matches!(folder, "tests" | "test" | "benches" | "fuzz"))
    }
}

fn list_with_git(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let list = String::from_utf8(output.stdout).ok()?;
    Some(list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

fn walk(root: &Path, folder: &str, paths: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(folder))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() && !LEFT_BEHIND.contains(&name.as_str()) {
            walk(root, &path, paths)?;
        } else if kind.is_file() {
            paths.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A tree made up for a check's test.
    pub(crate) fn tree(files: &[(&str, &str)]) -> Tree {
        let files = files.iter().map(|(path, text)| SourceFile { path: (*path).into(), text: (*text).into() });
        Tree { files: files.collect() }
    }

    #[test]
    fn this_repository_is_read_with_and_without_git() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let tree = Tree::read(&root).unwrap();
        assert!(tree.get("xtask/src/tree.rs").is_some_and(|file| file.text.contains("fn this_repository")));
        assert!(tree.has("xtask") && tree.has("xtask/src") && !tree.has("xtask/sr") && !tree.has("target"));
        let mut walked = Vec::new();
        walk(&root, "", &mut walked).unwrap();
        assert!(walked.contains(&"xtask/src/tree.rs".to_owned()));
        assert!(!walked.iter().any(|path| path.starts_with("target/") || path.starts_with(".git/")));
    }

    #[test]
    fn tests_are_known_by_their_place_or_name() {
        let is_test = |path: &str| tree(&[(path, "")]).files[0].is_test();
        assert!(is_test("crates/kilter/tests/tidy.rs") && is_test("a/src/b/tests.rs") && is_test("a/log_tests.rs"));
        assert!(is_test("console/src/chart.test.ts") && !is_test("crates/testkit/src/lib.rs"));
    }
}
