//! One table for all functions: the developer guide's own examples, the borders of types, and what goes wrong.

use super::FUNCTIONS;
use crate::rules::sql::{Evaluation, Message, parse_expression};
use bytes::Bytes;
use kilter_core::{MessageProperties, Timestamp};
use std::collections::BTreeSet;

const PAYLOAD: &str = r#"{"e":"eyAidGVtcGVyYXR1cmUiOiAzMyB9Cg==","list":["a","b","c"],"o":{"a":"b"},"n":null,
    "attributes":{"data1":1,"data2":2},"values":[{"a":3},{"b":4},{"c":5}],"s":"text","d":2.5}"#;

fn value(expression: &str) -> String {
    let payload = Bytes::from_static(PAYLOAD.as_bytes());
    let properties = MessageProperties {
        payload_format: Some(1),
        content_type: Some("application/json".into()),
        user: vec![("k".into(), "1".into()), ("j".into(), "2".into()), ("k".into(), "3".into())],
        ..MessageProperties::default()
    };
    let message = Message {
        topic: "things/myThings/thingOne",
        payload: &payload,
        client_id: Some("device-1"),
        principal: Some("ba67"),
        source_ip: Some("192.0.2.7"),
        properties: Some(&properties),
        arrival: Timestamp::from_nanos(1_481_825_251_155_999_999),
        account: "123456789012",
        seed: 7,
    };
    let expr = parse_expression(expression, &[]).unwrap_or_else(|error| panic!("{expression}: {error}"));
    Evaluation::new(&message).value(&expr).unwrap().to_json().unwrap_or_else(|| "undefined".into())
}

const TABLE: &[(&str, &str)] = &[
    ("abs(-5)", "5"),
    ("abs('-5.123')", "5.123"),
    ("abs(true)", "undefined"),
    ("abs(n)", "undefined"),
    ("accountid()", "\"123456789012\""),
    ("acos(0)", "1.5707963267948966"),
    ("acos(2)", "undefined"),
    ("asin(0)", "0"),
    ("atan(0)", "0"),
    ("atan2(1, 0)", "1.5707963267948966"),
    ("atan2(1, 'x')", "undefined"),
    ("bitand(13, 5)", "5"),
    ("bitand(13.9, '5.7')", "5"),
    ("bitor(8, 5)", "13"),
    ("bitxor(13, 5)", "8"),
    ("bitnot(13)", "-14"),
    ("bitnot(list)", "undefined"),
    ("ceil(1.2)", "2"),
    ("ceil(-1.2)", "-1"),
    ("ceil(9007199254740993)", "9007199254740993"),
    ("chr(65)", "\"A\""),
    ("chr('49.9')", "\"1\""),
    ("chr(200)", "undefined"),
    ("clientid()", "\"device-1\""),
    ("concat()", "undefined"),
    ("concat(1)", "1"),
    ("concat([1, 2, 3], 4)", "[1,2,3,4]"),
    ("concat([1, 2, 3], 'hello', [4, 5, 6])", "[1,2,3,\"hello\",4,5,6]"),
    ("concat('con', 'cat')", "\"concat\""),
    ("concat(1, 'hello')", "\"1hello\""),
    ("concat('he', 'is', 'man')", "\"heisman\""),
    ("concat(1, 2)", "undefined"),
    ("concat('he', missing)", "undefined"),
    ("cos(0)", "1"),
    ("cosh(2.3)", "5.037220649268761"),
    ("decode(e, 'base64').temperature", "33"),
    ("decode('aGVsbG8=', 'base64')", "\"hello\""),
    ("decode('***', 'base64')", "null"),
    ("decode('aGVsbG8=', 'hex')", "undefined"),
    ("encode('hello', 'base64')", "\"aGVsbG8=\""),
    ("encode(5, 'base64')", "\"NQ==\""),
    ("startswith(encode(*, 'base64'), 'eyJl')", "true"),
    ("endswith('cat', 'at')", "true"),
    ("endswith('cat', n)", "undefined"),
    ("exp(0)", "1"),
    ("floor(1.2)", "1"),
    ("floor(-1.2)", "-2"),
    ("floor([1,2,3])", "undefined"),
    ("get(['a', 'b', 'c'], 1)", "\"b\""),
    ("get({'a': 'b'}, 'a')", "\"b\""),
    ("get('abc', '2')", "\"c\""),
    ("get(list, 3)", "undefined"),
    ("get(list, -1)", "undefined"),
    ("get(5, 0)", "undefined"),
    ("get(*, 's')", "\"text\""),
    ("get_mqtt_property('content_type')", "\"application/json\""),
    ("get_mqtt_property('format_indicator')", "\"UTF8_DATA\""),
    ("get_mqtt_property('response_topic')", "undefined"),
    ("get_or_default(missing, 7)", "7"),
    ("get_or_default(n, 7)", "7"),
    ("get_or_default(s, 7)", "\"text\""),
    ("get_user_properties('k')", "[\"1\",\"3\"]"),
    ("get_user_properties('x')", "undefined"),
    ("md2('hello')", "\"a9046c73e00331af68917d3804f70655\""),
    ("md5('hello')", "\"5d41402abc4b2a76b9719d911017c592\""),
    ("md5(n)", "undefined"),
    ("sha1('hello')", "\"aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d\""),
    ("sha224('hello')", "\"ea09ae9cc6768c50fcee903ed054556e5bfc8347907f12598aa24193\""),
    ("sha256('hello')", "\"2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\""),
    ("length(sha384('hello'))", "96"),
    ("length(sha512('hello'))", "128"),
    ("indexof('abcd', 'bc')", "1"),
    ("indexof('äbcd', 'cd')", "2"),
    ("indexof('abcd', 'x')", "-1"),
    ("isNull(5)", "false"),
    ("isNull(Null)", "true"),
    ("isNull(missing)", "false"),
    ("isUndefined(5)", "false"),
    ("isUndefined(floor([1,2,3]))", "true"),
    ("isUndefined(n)", "false"),
    ("length('hi')", "2"),
    ("length(false)", "5"),
    ("length('€')", "1"),
    ("ln(1)", "0"),
    ("ln(-1)", "undefined"),
    ("log(100)", "2"),
    ("log(0)", "undefined"),
    ("lower('HELLO')", "\"hello\""),
    ("lower(['HELLO'])", r#""[\"hello\"]""#),
    ("lpad('hello', 2)", "\"  hello\""),
    ("lpad(1, 3)", "\"   1\""),
    ("length(lpad('', 5000))", "1000"),
    ("lpad('x', true)", "undefined"),
    ("Ltrim(' h i ')", "\"h i \""),
    ("mod(8, 3)", "2"),
    ("mod(8, 0)", "undefined"),
    ("mod(8.5, 3)", "2.5"),
    ("remainder('8', 3)", "2"),
    ("Nanvl(8, 3)", "8"),
    ("nanvl(missing, 3)", "3"),
    ("length(newuuid())", "36"),
    ("newuuid() = newuuid()", "false"),
    ("numbytes('hi')", "2"),
    ("numbytes('€')", "3"),
    (
        "parse_time(\"yyyy.MM.dd G 'at' HH:mm:ss z\", 100000000, \"America/Belize\")",
        "\"1970.01.01 AD at 21:46:40 CST\"",
    ),
    ("parse_time('yyyy', timestamp(), 'UTC')", "\"2016\""),
    ("parse_time('EEEE, d MMMM yy hh:mm a Z', 1481825251155)", "\"Thursday, 15 December 16 06:07 PM +0000\""),
    ("parse_time('HH:mm:ss.SSS ZZ', 1481825251155, '+05:30')", "\"23:37:31.155 +05:30\""),
    ("parse_time(\"''D w e\", 1481825251155)", "\"'350 50 4\""),
    ("parse_time('yyyy', 1, 'Nowhere/Land')", "undefined"),
    ("parse_time('yyyy b', 1)", "undefined"),
    ("parse_time('yyyy', 9e18)", "undefined"),
    ("power(2, 5)", "32"),
    ("power(-8, 0.5)", "undefined"),
    ("principal()", "\"ba67\""),
    ("rand() >= 0 AND rand() < 1", "true"),
    ("rand() = rand()", "false"),
    ("regexp_matches('aaaa', 'a{2,}')", "true"),
    ("regexp_matches('aaaa', 'b')", "false"),
    ("regexp_matches(n, 'b')", "undefined"),
    ("regexp_matches('aaaa', concat('a', '{2,}'))", "true"),
    ("regexp_matches('aaaa', concat('(', ''))", "undefined"),
    ("regexp_replace('abcd', 'bc', 'x')", "\"axd\""),
    ("regexp_replace('abcd', 'b(.*)d', '$1')", "\"ac\""),
    ("regexp_replace('abcd', 'b(.*)d', '$1x$')", "\"acx$\""),
    ("regexp_substr('hihihello', 'hi')", "\"hi\""),
    ("regexp_substr('hihihello', '(hi)*')", "\"hihi\""),
    ("regexp_substr('x', 'y')", "undefined"),
    ("replace('abcd', 'bc', 'x')", "\"axd\""),
    ("replace('abcdabcd', 'b', 'x')", "\"axcdaxcd\""),
    ("replace(12321, 2, 'x')", "\"1x3x1\""),
    ("round(1.2)", "1"),
    ("Round(1.5)", "2"),
    ("Round(-1.5)", "-2"),
    ("round('1.7')", "2"),
    ("rpad('hello', 2)", "\"hello  \""),
    ("rpad(1, '3.9')", "\"1   \""),
    ("rtrim(' h i ')", "\" h i\""),
    ("sign(-7)", "-1"),
    ("sign(0.0)", "0"),
    ("sign('13')", "1"),
    ("sin(0)", "0"),
    ("sinh(2.3)", "4.936961805545957"),
    ("sourceip()", "\"192.0.2.7\""),
    ("sql_version()", "\"2016-03-23\""),
    ("sqrt(9)", "3"),
    ("sqrt(-1)", "undefined"),
    ("startswith('ranger', 'ran')", "true"),
    ("substring('012345', 2)", "\"2345\""),
    ("substring('012345', 2.745)", "\"2345\""),
    ("substring(123, 2)", "\"3\""),
    ("substring('012345', -1)", "\"012345\""),
    ("substring(true, 1.2)", "\"rue\""),
    ("substring(false, -2.411E247)", "\"false\""),
    ("substring('012345', 1, 3)", "\"12\""),
    ("substring('012345', -50, 50)", "\"012345\""),
    ("substring('012345', 3, 1)", "\"\""),
    ("substring('012345', 1, 'x')", "undefined"),
    ("tan(3)", "-0.1425465430742778"),
    ("tanh(2.3)", "0.9800963962661914"),
    ("time_to_epoch('2020-04-03 09:45:18 UTC+01:00', 'yyyy-MM-dd HH:mm:ss VV')", "1585903518000"),
    ("time_to_epoch('18 December 2015', 'dd MMMM yyyy')", "1450396800000"),
    ("time_to_epoch('2007-12-03 10:15:30.592 America/Los_Angeles', 'yyyy-MM-dd HH:mm:ss.SSS z')", "1196705730592"),
    ("time_to_epoch('Fri 1 Jan 21 1:05 PM', 'EEE d MMM yy h:mm a')", "1609506300000"),
    ("time_to_epoch('2021-02-30', 'yyyy-MM-dd')", "undefined"),
    ("time_to_epoch('2021-02-03 rest', 'yyyy-MM-dd')", "undefined"),
    ("time_to_epoch('12:00', 'HH:mm')", "undefined"),
    ("timestamp()", "1481825251155"),
    ("topic()", "\"things/myThings/thingOne\""),
    ("topic(1)", "\"things\""),
    ("topic(4)", "undefined"),
    ("topic(0)", "undefined"),
    ("length(traceid())", "36"),
    ("traceid() = traceid()", "true"),
    (
        "transform('enrichArray', attributes, values)",
        r#"[{"a":3,"data1":1,"data2":2},{"b":4,"data1":1,"data2":2},{"c":5,"data1":1,"data2":2}]"#,
    ),
    (
        "transform('enrichArray', {'key': attributes.data1}, values)",
        r#"[{"a":3,"key":1},{"b":4,"key":1},{"c":5,"key":1}]"#,
    ),
    ("transform('other', attributes, values)", "undefined"),
    ("transform('enrichArray', attributes, list)", "undefined"),
    ("Trim(' hi ')", "\"hi\""),
    ("trunc(2.3, 0)", "2"),
    ("trunc(2.3123, 2)", "2.31"),
    ("trunc(2.888, 2)", "2.88"),
    ("trunc(2.00, 5)", "2"),
    ("trunc(1.15, 2)", "1.15"),
    ("trunc(-1.159, 2)", "-1.15"),
    ("trunc('x', 2)", "undefined"),
    ("upper('hello')", "\"HELLO\""),
    ("upper(['hello'])", r#""[\"HELLO\"]""#),
];

#[test]
fn functions_answer_as_the_reference_says() {
    for (expression, expected) in TABLE {
        assert_eq!(value(expression), *expected, "{expression}");
    }
}

#[test]
fn the_table_is_sorted_and_every_function_is_tested_and_explained() {
    let names: Vec<&str> = FUNCTIONS.iter().map(|function| function.name).collect();
    assert!(names.is_sorted(), "`find` searches it in halves");
    let called = |text: &str| -> BTreeSet<String> {
        let text = text.to_lowercase();
        let ends = text.match_indices('(').map(|(at, _)| at);
        ends.map(|at| text[..at].rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or("").to_owned())
            .collect()
    };
    let tested: BTreeSet<String> = TABLE.iter().flat_map(|(expression, _)| called(expression)).collect();
    let guide = called(include_str!("../../../../../docs/guide/rules.md"));
    for name in names {
        assert!(tested.contains(name), "{name} has no test");
        assert!(guide.contains(name), "{name} is not in docs/guide/rules.md");
    }
}

#[test]
fn random_values_follow_from_the_message_alone() {
    assert_eq!(value("concat(newuuid(), ' ', rand())"), value("concat(newuuid(), ' ', rand())"));
}

#[test]
fn texts_made_of_texts_stay_bounded() {
    let mut bomb = "replace('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'a', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa')".to_owned();
    for _ in 0..6 {
        bomb = format!("replace({bomb}, 'a', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa')");
    }
    assert_eq!(value(&bomb), "undefined");
}
