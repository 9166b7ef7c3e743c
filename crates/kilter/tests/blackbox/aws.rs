//! The AWS endpoint, judged by boto3: one server, one Python process, a module per service in `python/aws`.

use crate::{
    harness::{Installation, Server, bare},
    tools,
};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// `kilter env` as it is for a running server.
pub fn environment(installation: &Installation) -> Vec<(String, String)> {
    let facts = installation.kilter(&["env"]).json();
    let facts = facts.as_object().unwrap();
    facts.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// Certificates of a thing that publishes, and a server on free ports.
fn served() -> (Installation, Server) {
    let installation = Installation::new("[lake]\nflush_seconds = 1\n");
    let server = installation.start();
    (installation, server)
}

#[test]
fn boto3_finds_every_service_as_it_should_be() {
    let Some(python) = tools::python("boto3") else { return };
    let (installation, _server) = served();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blackbox/python/aws/run.py");
    let mut command = Command::new(python);
    command.arg(script).envs(environment(&installation)).env("KILTER_CERTIFICATES", installation.certificates());
    command.env("KILTER_PROGRAM", env!("CARGO_BIN_EXE_kilter"));
    // To try one service: KILTER_AWS_TESTS="kinesis s3".
    command.args(std::env::var("KILTER_AWS_TESTS").unwrap_or_default().split_whitespace());
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
}

#[test]
fn env_is_for_a_shell_and_its_files_are_the_owners_only() {
    let installation = Installation::new("");
    let refused = installation.kilter(&["env"]).refused();
    assert!(refused.contains("there is no data directory"), "{refused}");
    let server = installation.start();
    let shell = installation.command(&["env", "--output", "table"]).output().unwrap();
    let script = format!(
        "{}\necho \"$AWS_PROFILE $AWS_PRIMARY_REGION $AWS_ACCOUNT_ID $IOT_PORT $AWS_DISABLE_HOST_PREFIX_INJECTION\"",
        String::from_utf8(shell.stdout).unwrap()
    );
    let said = Command::new("sh").args(["-euc", &script]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert_eq!(said.trim(), format!("default us-east-1 123456789012 {} true", server.port()));
    for (name, value) in environment(&installation) {
        if name.ends_with("_FILE") {
            let mode = PathBuf::from(&value).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{value}");
        }
    }
}

#[test]
fn access_keys_are_made_rotated_and_revoked() {
    let installation = Installation::new("");
    let _server = installation.start();
    let policy = installation.certificates().with_extension("json");
    std::fs::write(&policy, r#"{"Statement": [{"Effect": "Allow", "Action": "kinesis:List*", "Resource": "*"}]}"#)
        .unwrap();
    let policy = policy.to_str().unwrap();
    let made = installation.kilter(&["access-key", "create", "reader", "--policy", policy]).json();
    let id = made["id"].as_str().unwrap();
    assert_eq!(made["secret"].as_str().unwrap().len(), 40);
    let newer = installation.kilter(&["access-key", "rotate", id]).json();
    assert_eq!(installation.kilter(&["access-key", "revoke", id]).json()["status"], "REVOKED");
    let all = installation.kilter(&["access-key", "list"]);
    assert!(!all.out.contains(newer["secret"].as_str().unwrap()), "a list shows no secret");
    let all: Vec<Value> = serde_json::from_value(all.json()).unwrap();
    let statuses: Vec<_> =
        all.iter().map(|key| (key["name"].as_str().unwrap(), key["status"].as_str().unwrap())).collect();
    assert_eq!(statuses, [("root", "ACTIVE"), ("reader", "REVOKED"), ("reader", "ACTIVE")]);
    std::fs::write(policy, "{}").unwrap();
    let refused = installation.kilter(&["access-key", "create", "other", "--policy", policy]).refused();
    assert!(refused.contains("Statement"), "{refused}");
    assert_eq!(bare(&["access-key", "create", "x"]).output().unwrap().status.code(), Some(2));
}

#[test]
fn a_stack_that_a_kill_interrupts_is_taken_back_and_the_others_stay() {
    let Some(python) = tools::python("boto3") else { return };
    let installation = Installation::new("");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blackbox/python/stacks_kill.py");
    let run = |phase: &str| {
        let mut command = Command::new(&python);
        command.arg(&script).arg(phase).envs(environment(&installation));
        command
    };
    let server = installation.start();
    let mut making = run("before").stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(making.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
    server.kill();
    assert_eq!(said.trim(), "begun");
    making.wait().unwrap();
    let _server = installation.start();
    let output = run("after").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
