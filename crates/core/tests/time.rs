//! Time in words and back.

use kilter_core::{Timestamp, time_in_words};

#[test]
fn prints_and_parses() {
    let t = Timestamp::parse_rfc3339("2013-12-02T21:15:00Z").unwrap();
    assert_eq!(t.to_string(), "2013-12-02T21:15:00Z");
    assert_eq!(t.sortable(), "2013-12-02T21:15:00.000000000Z");
    assert_eq!(Timestamp::parse_rfc3339("2013-12-02 22:15:00+01:00"), Some(t));
    assert_eq!(t.plus_seconds(2).seconds_since(t), 2.0);
    let words = [0, 59, 3_600, 90_061, 200 * 86_400 + 5].map(time_in_words);
    assert_eq!(words, ["0 s", "59 s", "1 h", "1 d 1 h", "200 d"]);
    assert_eq!(serde_json::from_str::<Timestamp>(&serde_json::to_string(&t).unwrap()).unwrap(), t);
}
