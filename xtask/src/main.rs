//! `cargo xtask tidy`: prints what is untidy, with what to do about it; exits 1 where anything is.

#![expect(clippy::print_stderr, reason = "a command-line tool's way of speaking")]

use std::{path::Path, process::ExitCode};
use xtask::{tidy, tree::Tree};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments != ["tidy"] {
        eprintln!("usage: cargo xtask tidy");
        return ExitCode::from(2);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let tree = match Tree::read(&root) {
        Ok(tree) => tree,
        Err(error) => {
            eprintln!("cannot read the repository at {}: {error}", root.display());
            return ExitCode::FAILURE;
        }
    };
    let violations = tidy::check(&tree);
    for violation in &violations {
        eprintln!("{violation}");
    }
    eprintln!("tidy: {} files, {} violations", tree.files.len(), violations.len());
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
