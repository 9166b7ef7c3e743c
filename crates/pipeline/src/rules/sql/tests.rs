//! Statements: the developer guide's examples, what is refused and where, and bounds.

mod reference;

use super::{
    DEPTH_MAX, EvalError, Evaluation, Message, Outcome, SQL_BYTES_MAX, parse_expression, parse_statement, value::Value,
};
use bytes::Bytes;
use kilter_core::Timestamp;
use proptest::prelude::*;

fn run(sql: &str, payload: &str) -> Result<String, EvalError> {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    let message = Message {
        topic: "a/b",
        payload: &payload,
        client_id: Some("c"),
        principal: None,
        source_ip: None,
        properties: None,
        arrival: Timestamp::from_nanos(1_700_000_000_123_456_789),
        account: "1",
        seed: 1,
    };
    let statement = parse_statement(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    Ok(match Evaluation::new(&message).run(&statement)? {
        Outcome::Nothing => "nothing".into(),
        Outcome::Payload(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
    })
}

const COLOR: &str = r#"{"color":"red","temperature":50,"nested":{"red":255,"deep":{"x":1}}}"#;
const SENML: &str = r#"{"e":[{"n":"temperature","u":"Cel","t":1234,"v":22.5},{"n":"light","u":"lm","t":1235,"v":135},
    {"n":"acidity","u":"pH","t":1235,"v":7}],"id":"x"}"#;

#[test]
fn statements_select_as_the_reference_says() {
    for (sql, payload, expected) in [
        ("SELECT * FROM 'a/b'", COLOR, COLOR),
        ("select color from 'a/b'", COLOR, r#"{"color":"red"}"#),
        (
            "SELECT color AS my_color, temperature as fahrenheit FROM 'a/b'",
            COLOR,
            r#"{"my_color":"red","fahrenheit":50}"#,
        ),
        ("SELECT *, 15 as speed FROM 'a/b'", r#"{"color":"red"}"#, r#"{"color":"red","speed":15}"#),
        ("SELECT VALUE color FROM 'a/b'", COLOR, r#""red""#),
        ("SELECT VALUE * FROM 'a/b'", COLOR, COLOR),
        ("SELECT nested.red as red_value FROM 'a/b'", COLOR, r#"{"red_value":255}"#),
        ("SELECT nested.deep.x FROM 'a/b'", COLOR, r#"{"x":1}"#),
        ("SELECT nested.* FROM 'a/b'", COLOR, r#"{"red":255,"deep":{"x":1}}"#),
        ("SELECT color AS a.b, temperature AS a.c FROM 'a/b'", COLOR, r#"{"a":{"b":"red","c":50}}"#),
        (
            "SELECT (temperature - 32) * 5 / 9 AS celsius, upper(color) as my_color FROM 'a/b'",
            COLOR,
            r#"{"celsius":10,"my_color":"RED"}"#,
        ),
        ("SELECT topic(2) FROM 'a/b'", COLOR, r#"{"topic(2)":"b"}"#),
        ("SELECT missing, color FROM 'a/b'", COLOR, r#"{"color":"red"}"#),
        ("SELECT missing FROM 'a/b'", COLOR, "{}"),
        ("SELECT NULL AS n FROM 'a/b'", "{}", r#"{"n":null}"#),
        ("SELECT color FROM 'a/b' WHERE temperature > 50", COLOR, "nothing"),
        ("SELECT color FROM 'a/b' WHERE temperature >= 50", COLOR, r#"{"color":"red"}"#),
        ("SELECT * FROM 'a/b' WHERE missing > 50", COLOR, "nothing"),
        ("SELECT * FROM 'a/b' WHERE NOT (missing > 50)", COLOR, "nothing"),
        ("SELECT value FROM 'a/b'", r#"{"value":3}"#, r#"{"value":3}"#),
        ("SELECT value, value * 2 AS twice FROM 'a/b'", r#"{"value":3}"#, r#"{"value":3,"twice":6}"#),
        (
            "SELECT topic() as topic, timestamp() as ts, * FROM 'a/b'",
            r#"{"ts":"5","t":1}"#,
            r#"{"topic":"a/b","ts":"5","t":1}"#,
        ),
        (
            "SELECT topic() as topic, timestamp() as ts, * FROM 'a/b'",
            r#"{"t":1}"#,
            r#"{"topic":"a/b","ts":1700000000123,"t":1}"#,
        ),
        (
            "SELECT timestamp() as ts, * FROM 'a/b'",
            r#"[{"t":1},{"t":2}]"#,
            r#"[{"ts":1700000000123,"t":1},{"ts":1700000000123,"t":2}]"#,
        ),
        ("SELECT t FROM 'a/b' WHERE t > 1", r#"[{"t":1},{"t":2}]"#, r#"[{"t":2}]"#),
        ("SELECT t FROM 'a/b' WHERE t > 5", r#"[{"t":1},{"t":2}]"#, "nothing"),
        (
            "SELECT (SELECT VALUE n FROM e) as sensors FROM 'my/topic'",
            SENML,
            r#"{"sensors":["temperature","light","acidity"]}"#,
        ),
        (
            "SELECT (SELECT v FROM e WHERE n = 'temperature') as temperature FROM 'my/topic'",
            SENML,
            r#"{"temperature":[{"v":22.5}]}"#,
        ),
        (
            "SELECT get((SELECT v FROM e WHERE n = 'temperature'), 0).v as temperature FROM 'topic'",
            SENML,
            r#"{"temperature":22.5}"#,
        ),
        ("SELECT (SELECT VALUE x.v FROM e AS x WHERE x.u IN ['lm', 'pH']) AS v FROM 'a'", SENML, r#"{"v":[135,7]}"#),
        ("SELECT (SELECT n, id FROM e WHERE v = 7) AS o FROM 'a'", SENML, r#"{"o":[{"n":"acidity","id":"x"}]}"#),
        ("SELECT id FROM 'a' WHERE EXISTS (SELECT * FROM e WHERE v > 100)", SENML, r#"{"id":"x"}"#),
        ("SELECT id FROM 'a' WHERE EXISTS (SELECT * FROM e WHERE v > 1000)", SENML, "nothing"),
        (
            "SELECT 7 IN (SELECT VALUE v FROM e) AS found, 8 IN (1, 2, 8) AS eight, 1 NOT IN [2] AS no FROM 'a'",
            SENML,
            r#"{"found":true,"eight":true,"no":true}"#,
        ),
        (
            "SELECT value transform('enrichArray', (select a, b from data2), (select value c from data2)) from 'A/B'",
            r#"{"data2":{"a":"1st","b":"2nd","c":[{"y":true},{"y":false}]}}"#,
            r#"[{"y":true,"a":"1st","b":"2nd"},{"y":false,"a":"1st","b":"2nd"}]"#,
        ),
        (
            "SELECT {'latitude': get(lat_long, 0),'longitude':get(lat_long, 1)} as lat_long FROM 't'",
            r#"{"lat_long":[47.606,-122.332]}"#,
            r#"{"lat_long":{"latitude":47.606,"longitude":-122.332}}"#,
        ),
        (
            "SELECT [lat,long] as lat_long FROM 't'",
            r#"{"lat":47.696,"long":-122.332}"#,
            r#"{"lat_long":[47.696,-122.332]}"#,
        ),
        (
            "SET @c = (f - 32) * 5 / 9.5, @d = @c + 1 SELECT @c AS celsius, @d, h FROM 'd' WHERE @c > 1",
            r#"{"f":75,"h":60}"#,
            r#"{"celsius":22.63157894736842,"d":23.63157894736842,"h":60}"#,
        ),
        (
            "SELECT CASE color WHEN 'green' THEN 'go' WHEN 'red' THEN 'stop' ELSE 'none' END as i FROM 'a/b'",
            COLOR,
            r#"{"i":"stop"}"#,
        ),
        ("SELECT CASE color WHEN 'green' THEN 'go' END as i FROM 'a/b'", COLOR, "{}"),
        ("SELECT CASE missing WHEN 1 THEN 2 ELSE 3 END as i FROM 'a/b'", COLOR, "{}"),
        ("SELECT CASE WHEN temperature > 40 THEN 'hot' ELSE 'cold' END as i FROM 'a/b'", COLOR, r#"{"i":"hot"}"#),
        ("SELECT 'it''s' AS x, \"a 'b'\" AS y FROM 'a'", "{}", r#"{"x":"it's","y":"a 'b'"}"#),
        ("SELECT encode(*, 'base64') AS data FROM 'a'", "not json", r#"{"data":"bm90IGpzb24="}"#),
        ("SELECT * FROM 'a' WHERE timestamp() % 2 = 1", "not json", "not json"),
        ("SELECT *", COLOR, COLOR),
    ] {
        assert_eq!(run(sql, payload).as_deref(), Ok(expected), "{sql} on {payload}");
    }
}

#[test]
fn operators_answer_as_the_reference_says() {
    for (expression, expected) in [
        ("true AND 'TRUE'", "true"),
        ("true AND 1", "undefined"),
        ("true OR missing", "undefined"),
        ("NOT 'false'", "true"),
        ("NOT 5", "undefined"),
        ("1 < 2.5", "true"),
        ("'10' > 9", "true"),
        ("'x' > 9", "undefined"),
        ("9007199254740993 > 9007199254740992", "true"),
        ("1 = 1.0", "true"),
        ("1 = '1'", "false"),
        ("1 <> '1'", "true"),
        ("NULL = NULL", "true"),
        ("NULL <> NULL", "false"),
        ("missing = 1", "undefined"),
        ("[1, 'a'] = [1, 'a']", "true"),
        ("[1, 2] = [2, 1]", "false"),
        ("{'a': 1, 'b': 2} = {'b': 2, 'a': 1}", "true"),
        ("'a' + 1", "\"a1\""),
        ("1 + 'a' + 2", "\"1a2\""),
        ("'a' + NULL", "undefined"),
        ("1 + 2", "3"),
        ("1 + 2.5", "3.5"),
        ("true + 1", "undefined"),
        ("'5' - 1", "4"),
        ("'5' * '2.5'", "12.5"),
        ("7 / 2", "3"),
        ("7 / 2.5", "2.8"),
        ("1 / 0", "undefined"),
        ("-7 % 3", "-1"),
        ("1 + 2 * 3 - 4 / 2", "5"),
        ("(1 + 2) * 3", "9"),
        ("-(2 + 3)", "-5"),
        ("2 - -3", "5"),
        ("9223372036854775807 + 1", "9.223372036854776e+18"),
        ("1 < 2 AND 2 < 3 OR 1 > 2", "true"),
        ("NOT 1 > 2 AND true", "true"),
        ("1 IN [1, 2]", "true"),
        ("'1' IN [1, 2]", "false"),
        ("missing IN [1]", "undefined"),
        ("[1] IN [[1], 2]", "true"),
        ("cast(true as Int)", "1"),
        ("cast(2.9 as Int)", "2"),
        ("cast('2.5' as Decimal)", "2.5"),
        ("cast(0 as Boolean)", "false"),
        ("cast(0.1 as bool)", "true"),
        ("cast('FALSE' as Bool)", "false"),
        ("cast('x' as Bool)", "undefined"),
        ("cast(5 as String)", "\"5\""),
        ("cast([1, 'a'] as nvarchar)", r#""[1,\"a\"]""#),
        ("cast(NULL as String)", "undefined"),
    ] {
        let sql = format!("SELECT VALUE ({expression}) FROM 'a'");
        let expected = if expected == "undefined" { "nothing" } else { expected };
        assert_eq!(run(&sql, "{}").as_deref(), Ok(expected), "{expression}");
    }
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    for (sql, why) in [
        ("", "SELECT is expected"),
        ("UPDATE x", "SELECT is expected"),
        ("SELECT", "an expression is expected, at the end"),
        ("SELECT * FROM a/b", "topic filter in single quotes, at \"a/b\""),
        ("SELECT * FROM ''", "not valid: it is empty"),
        ("SELECT * FROM 'a/#/b'", "not valid"),
        ("SELECT * FROM 'a' WHERE", "an expression is expected"),
        ("SELECT * FROM 'a' GROUP BY x", "nothing more is expected, at \"GROUP BY x\""),
        ("SELECT a b FROM 'x'", "nothing more is expected"),
        ("SELECT 'abc FROM x", "no closing quote"),
        ("SELECT nope(1) FROM 'a'", "there is no function nope()"),
        ("SELECT get_thing_shadow('a', 'b') FROM 'a'", "asks another service"),
        ("SELECT decode(*, 'proto', 'b', 'k', 'f', 'M') FROM 'a'", "from S3, which rules here do not"),
        ("SELECT abs() FROM 'a'", "abs takes one argument, not 0"),
        ("SELECT substring('a') FROM 'a'", "substring takes 2 to 3 arguments, not 1"),
        ("SELECT cast(1 AS blob) FROM 'a'", "not a type"),
        ("SELECT regexp_matches(a, '(') FROM 'a'", "not a regular expression"),
        ("SELECT @x FROM 'a'", "@x is not set"),
        ("SET @x = 1, @x = 2 SELECT @x FROM 'a'", "set twice"),
        ("SELECT a ; b", "nothing more"),
        ("SELECT a # b", "no meaning here"),
        ("SELECT CASE a END FROM 'x'", "WHEN is expected"),
        ("SELECT (SELECT a) FROM 'x'", "FROM is expected"),
    ] {
        let error = parse_statement(sql).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(why), "{sql}: {error}");
    }
}

#[test]
fn payloads_that_are_not_json_stop_only_statements_that_look_into_them() {
    for sql in ["SELECT *, 1 AS x FROM 'a'", "SELECT a FROM 'a'", "SELECT * FROM 'a' WHERE a > 1"] {
        assert!(matches!(run(sql, "not json"), Err(EvalError::NotJson(_))), "{sql}");
    }
}

#[test]
fn bounds_hold_at_the_edge_and_one_past_it() {
    let nested = |depth: usize| parse_expression(&format!("{}1{}", "(".repeat(depth), ")".repeat(depth)), &[]);
    assert!(nested(DEPTH_MAX - 1).is_ok());
    assert!(nested(DEPTH_MAX).is_err());
    let chain = |links: usize| parse_expression(&format!("1{}", "+1".repeat(links)), &[]);
    assert!(chain(DEPTH_MAX - 1).is_ok());
    assert!(chain(DEPTH_MAX).is_err());
    let long = |bytes: usize| parse_statement(&format!("SELECT * FROM '{}'", "a".repeat(bytes)));
    let message = long(SQL_BYTES_MAX - 17).unwrap_err().to_string();
    assert!(!message.contains("at most"), "{message}");
    assert!(long(SQL_BYTES_MAX).unwrap_err().to_string().contains("are read"));
}

#[test]
fn costly_statements_are_stopped() {
    let list: Vec<String> = (0..2_000).map(|i| i.to_string()).collect();
    let payload = format!("{{\"a\":[{}]}}", list.join(","));
    let cube = "SELECT (SELECT (SELECT VALUE 1 FROM a) AS x FROM a) AS y FROM 't'";
    assert_eq!(run(cube, &payload), Err(EvalError::TooMuch));
    let doubling = "SET @a = concat(a, a), @b = concat(@a, @a), @c = concat(@b, @b), @d = concat(@c, @c), \
        @e = concat(@d, @d), @f = concat(@e, @e), @g = concat(@f, @f), @h = concat(@g, @g) SELECT @h AS h FROM 't'";
    assert_eq!(run(doubling, &payload), Err(EvalError::TooMuch));
}

/// An evaluator of another make: integers only, by way of `i128`, recursion over text.
fn naive(ops: &[(char, i64)], first: i64) -> Option<i128> {
    let mut sum: i128 = 0;
    let mut term: i128 = first.into();
    let mut sign = 1;
    for (op, value) in ops {
        let value = i128::from(*value);
        match op {
            '*' => term *= value,
            '/' => term = term.checked_div(value)?,
            '%' => term = term.checked_rem(value)?,
            add => {
                sum += sign * term;
                sign = if *add == '+' { 1 } else { -1 };
                term = value;
            }
        }
    }
    Some(sum + sign * term)
}

proptest! {
    #[test]
    fn arithmetic_agrees_with_a_naive_evaluator(
        first in -100i64..100,
        ops in proptest::collection::vec((prop::sample::select(vec!['+', '-', '*', '/', '%']), -50i64..50), 0..6),
    ) {
        let text = ops.iter().fold(first.to_string(), |text, (op, value)| format!("{text} {op} {value}"));
        let sql = format!("SELECT VALUE ({text}) FROM 'a'");
        let expected = naive(&ops, first).map_or("nothing".to_owned(), |value| value.to_string());
        prop_assert_eq!(run(&sql, "{}").unwrap(), expected);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
        let _ = parse_statement(&text);
        let _ = parse_statement(&format!("SELECT {text} FROM 'a'"));
    }

    /// Statements that are nearly right: every one that can be read gives JSON, nothing, or a reason.
    #[test]
    fn any_statement_gives_an_outcome(
        words in proptest::collection::vec(prop::sample::select(vec![
            "a", "b.c", "1", "'x'", "2.5", "(", ")", "+", "-", "*", "/", "=", "<", "AND", "NOT", "IN", "[", "]", ",",
            "CASE", "WHEN", "THEN", "ELSE", "END", "upper(", "get(", "concat(", "(SELECT VALUE n FROM e)", "{'k':", "}",
            "NULL", "true", "topic(", "timestamp()", "AS z", "EXISTS", "cast(", "AS Int)",
        ]), 1..14),
    ) {
        let sql = format!("SELECT {} FROM 'a'", words.join(" "));
        if parse_statement(&sql).is_ok() {
            for payload in [SENML, "[1,{\"a\":2}]", "nothing"] {
                if let Ok(text) = run(&sql, payload) {
                    prop_assert!(text == "nothing" || serde_json::from_str::<Value>(&text).is_ok(), "{}: {}", sql, text);
                }
            }
        }
    }
}
