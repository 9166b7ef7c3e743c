//! How many files and sockets this process may have open. What a shell gives by default is too little for a fleet.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files and sockets that a server has open beside its MQTT connections: logs, tables, the other doors' connections.
const BESIDES: u64 = 1_000;

/// Raises the soft limit to the hard one; answers how many may be open then.
pub fn allow_most() -> u64 {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, ..before };
    let now = setrlimit(Resource::Nofile, raised).map_or(before, |()| raised);
    now.current.unwrap_or(u64::MAX)
}

/// What a server does before it listens.
pub fn prepare_for(connections: usize) {
    let (needed, allowed) = (connections as u64 + BESIDES, allow_most());
    if let Some(why) = too_few(needed, allowed) {
        tracing::warn!(needed, allowed, "{why}");
    }
}

fn too_few(needed: u64, allowed: u64) -> Option<String> {
    (allowed < needed).then(|| {
        format!(
            "mqtt_limits.connections_max needs {needed} open files and the system allows {allowed}: connections beyond \
             that will not be accepted; raise the hard limit (LimitNOFILE= of systemd, `ulimit -Hn` of a shell) or \
             lower connections_max"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one_and_too_little_is_said() {
        let allowed = allow_most();
        let now = getrlimit(Resource::Nofile);
        assert_eq!((now.current, now.current.unwrap_or(u64::MAX)), (now.maximum, allowed));
        assert_eq!(too_few(1_000, 1_000), None);
        assert!(too_few(1_001, 1_000).unwrap().contains("needs 1001 open files and the system allows 1000"));
    }
}
