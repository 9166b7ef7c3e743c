//! The rules of the house, held by a test; `cargo xtask tidy` prints the same.

use std::path::Path;
use xtask::{tidy, tree::Tree};

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let tree = Tree::read(&root).expect("the repository can be read");
    assert!(tree.files.len() > 50, "only {} files found below {}", tree.files.len(), root.display());
    let violations: Vec<String> = tidy::check(&tree).iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}
