//! Outside tools: Debian's mosquitto clients, and a Python environment below the target folder. What is missing is
//! said loudly, and is a failure where `KILTER_REQUIRE_TOOLS` is set.

use crate::harness::tell;
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The releases that the expectations were written against.
const PACKAGES: [&str; 6] =
    ["awscli==1.46.3", "awsiotsdk==1.31.0", "boto3==1.44.8", "duckdb==2.0.0", "paho-mqtt==2.1.0", "pyarrow==26.0.1"];

fn required() -> bool {
    std::env::var_os("KILTER_REQUIRE_TOOLS").is_some()
}

/// Says that a test is not run, and why.
pub fn skip(test: &str, reason: &str) {
    assert!(!required(), "KILTER_REQUIRE_TOOLS is set, but {reason}");
    tell(&format!("SKIPPED: {test}: {reason}"));
}

/// Whether the clients are there; says so where they are not.
pub fn mosquitto(test: &str) -> bool {
    let there = |tool: &str| {
        Command::new(tool)
            .arg("--help")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.code() != Some(127))
    };
    let all = ["mosquitto_pub", "mosquitto_sub", "mosquitto_rr"].into_iter().all(there);
    if !all {
        skip(test, "mosquitto_pub, mosquitto_sub or mosquitto_rr is not installed (Debian: mosquitto-clients)");
    }
    all
}

/// Python with the AWS IoT device SDK, boto3, paho, DuckDB and pyarrow; made once where tools are required.
pub fn python(test: &str) -> Option<PathBuf> {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("blackbox.venv");
    // Two tests, in one process or in two, must not make it at the same time.
    let lock = File::create(environment.with_extension("lock")).unwrap();
    lock.lock().unwrap();
    match make(&environment) {
        Ok(python) => Some(python),
        Err(reason) => {
            skip(test, &reason);
            None
        }
    }
}

fn make(environment: &Path) -> Result<PathBuf, String> {
    let python = environment.join("bin/python3");
    // Written last, so that an interrupted installation is repeated.
    let complete = environment.join(PACKAGES.join("+"));
    if complete.exists() {
        return Ok(python);
    }
    if !required() {
        return Err(format!("there is no {}; set KILTER_REQUIRE_TOOLS=1 to have it made", environment.display()));
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(environment))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES))?;
    std::fs::write(&complete, "").map_err(|error| error.to_string())?;
    Ok(python)
}

/// A script of `tests/blackbox/python` with its arguments.
pub fn script(python: &Path, name: &str, arguments: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blackbox/python").join(name);
    run(Command::new(python).arg(path).args(arguments)).unwrap_or_else(|error| panic!("{error}"))
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{command:?}: {error}"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        Ok(out.into_owned())
    } else {
        Err(format!("{command:?}: {}\n{out}{err}", output.status))
    }
}
