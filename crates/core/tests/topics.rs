//! Topics and topic filters: which are valid, and which match.

use kilter_core::topics::*;

#[test]
fn names_are_checked() {
    for good in
        ["a", "/", "a//b", "$aws/rules/r/1/2/3/4/5/6/7/8", "tenants/t/devices/d/telemetry", "a b/ü", "1/2/3/4/5/6/7/8"]
    {
        assert_eq!(check_name(good), Ok(()), "{good}");
    }
    for (bad, why) in [
        ("", InvalidTopic::Empty),
        ("a/+", InvalidTopic::Wildcard),
        ("a#", InvalidTopic::Wildcard),
        ("$SYS/x", InvalidTopic::Reserved),
        ("$aws/rules/r/", InvalidTopic::Reserved),
        ("$aws/rules/r/a#", InvalidTopic::Wildcard),
        ("$aws/rules/r/1/2/3/4/5/6/7/8/9", InvalidTopic::TooDeep),
        ("a\0", InvalidTopic::Nul),
        ("1/2/3/4/5/6/7/8/9", InvalidTopic::TooDeep),
    ] {
        assert_eq!(check_name(bad), Err(why), "{bad}");
    }
    assert_eq!(check_name(&"x".repeat(TOPIC_BYTES_MAX)), Ok(()));
    assert_eq!(check_name(&"x".repeat(TOPIC_BYTES_MAX + 1)), Err(InvalidTopic::TooLong));
}

#[test]
fn filters_are_checked() {
    for good in ["#", "+", "a/#", "+/+/#", "/", "+/a", "$SYS/#"] {
        assert_eq!(check_filter(good), Ok(()), "{good}");
    }
    for bad in ["", "a#", "#/a", "a/#/b", "a+", "+a/b", "##", "$share/g/a", "1/2/3/4/5/6/7/8/#"] {
        assert!(check_filter(bad).is_err(), "{bad}");
    }
}

#[test]
fn shared_filters_are_taken_apart() {
    assert_eq!(split_share("$share/g/a/#"), Ok(SharedFilter { group: Some("g"), filter: "a/#" }));
    assert_eq!(split_share("a/#"), Ok(SharedFilter { group: None, filter: "a/#" }));
    for bad in ["$share", "$share/", "$share/g", "$share//a", "$share/+/a", "$share/g#/a"] {
        assert_eq!(split_share(bad), Err(InvalidTopic::Shared), "{bad}");
    }
}

/// The specification's own examples (§4.7.1, §4.7.2).
#[test]
fn matches_as_the_specification_says() {
    for (filter, name, expected) in [
        ("sport/tennis/player1/#", "sport/tennis/player1", true),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
        ("sport/#", "sport", true),
        ("sport/tennis/+", "sport/tennis/player1", true),
        ("sport/tennis/+", "sport/tennis/player1/ranking", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "$SYS/monitor", false),
        ("+/monitor", "$SYS/monitor", false),
        ("$SYS/#", "$SYS/monitor", true),
        ("a", "A", false),
        ("a", "a/", false),
    ] {
        assert_eq!(matches(filter, name), expected, "{filter} on {name}");
    }
}
