//! The tables of the AWS IoT SQL reference, cell by cell: "Data types" (conversions), "Operators", `cast`, and the
//! examples of "SELECT clause", "JSON extensions", "Literals", "Case statements", "Nested object queries".

use super::run;

/// One value of each type; two texts, because one of them is a number.
const TYPES: [&str; 9] = ["5", "2.5", "true", "'-1.5'", "'abc'", "[1, 'a']", "{'a': 1}", "NULL", "missing"];

/// JSON, or `-` for Undefined.
fn value(expression: &str) -> String {
    let made = run(&format!("SELECT VALUE ({expression}) FROM 'a'"), r#"{"n":1}"#).unwrap();
    if made == "nothing" { "-".to_owned() } else { made }
}

/// `x` in the expression stands for each of [`TYPES`].
fn row(expression: &str) -> Vec<String> {
    TYPES.iter().map(|of| value(&expression.replace('x', of))).collect()
}

#[test]
fn values_become_what_the_conversion_tables_say() {
    for (what, expression, expected) in [
        // Operators that need numbers convert to Decimal; Null has no numeric use.
        ("to Decimal", "x - 0", ["5", "2.5", "-", "-1.5", "-", "-", "-", "-", "-"]),
        ("to Int, rounded down", "bitor(x, 0)", ["5", "2", "-", "-2", "-", "-", "-", "-", "-"]),
        ("to Boolean", "NOT x", ["-", "-", "false", "-", "-", "-", "-", "-", "-"]),
        (
            "to String",
            "'' + x",
            ["\"5\"", "\"2.5\"", "\"true\"", "\"-1.5\"", "\"abc\"", r#""[1,\"a\"]""#, r#""{\"a\":1}""#, "-", "-"],
        ),
        ("cast to Decimal", "cast(x AS Decimal)", ["5", "2.5", "1", "-1.5", "-", "-", "-", "-", "-"]),
        ("cast to Double", "cast(x AS Double)", ["5", "2.5", "1", "-1.5", "-", "-", "-", "-", "-"]),
        ("cast to Int", "cast(x AS Int)", ["5", "2", "1", "-2", "-", "-", "-", "-", "-"]),
        ("cast to Integer", "cast(x AS Integer)", ["5", "2", "1", "-2", "-", "-", "-", "-", "-"]),
        ("cast to Boolean", "cast(x AS Boolean)", ["true", "true", "true", "-", "-", "-", "-", "-", "-"]),
        (
            "cast to String",
            "cast(x AS String)",
            ["\"5\"", "\"2.5\"", "\"true\"", "\"-1.5\"", "\"abc\"", r#""[1,\"a\"]""#, r#""{\"a\":1}""#, "-", "-"],
        ),
        ("is Null", "isnull(x)", ["false", "false", "false", "false", "false", "false", "false", "true", "false"]),
        (
            "is Undefined",
            "isundefined(x)",
            ["false", "false", "false", "false", "false", "false", "false", "false", "true"],
        ),
    ] {
        assert_eq!(row(expression), expected, "{what}: {expression} of {TYPES:?}");
    }
}

#[test]
fn operators_answer_for_every_pair_of_types() {
    // `x` is the right operand; the columns are those of TYPES.
    for (expression, expected) in [
        // Equality converts nothing: mismatched types are unequal, Undefined stays Undefined.
        ("5 = x", ["true", "false", "false", "false", "false", "false", "false", "false", "-"]),
        ("2.5 = x", ["false", "true", "false", "false", "false", "false", "false", "false", "-"]),
        ("'5' = x", ["false", "false", "false", "false", "false", "false", "false", "false", "-"]),
        ("NULL = x", ["false", "false", "false", "false", "false", "false", "false", "true", "-"]),
        ("[1, 'a'] = x", ["false", "false", "false", "false", "false", "true", "false", "false", "-"]),
        ("{'a': 1} = x", ["false", "false", "false", "false", "false", "false", "true", "false", "-"]),
        ("'abc' <> x", ["true", "true", "true", "true", "false", "true", "true", "true", "-"]),
        ("NULL <> x", ["true", "true", "true", "true", "true", "true", "true", "false", "-"]),
        ("missing = x", ["-", "-", "-", "-", "-", "-", "-", "-", "-"]),
        // Order converts to Decimal.
        ("3 > x", ["false", "true", "-", "true", "-", "-", "-", "-", "-"]),
        ("'3' >= x", ["false", "true", "-", "true", "-", "-", "-", "-", "-"]),
        ("3 < x", ["true", "false", "-", "false", "-", "-", "-", "-", "-"]),
        ("5 <= x", ["true", "false", "-", "false", "-", "-", "-", "-", "-"]),
        ("true > x", ["-", "-", "-", "-", "-", "-", "-", "-", "-"]),
        // Plus is for texts as soon as one is there.
        ("1 + x", ["6", "3.5", "-", "\"1-1.5\"", "\"1abc\"", "-", "-", "-", "-"]),
        ("true + x", ["-", "-", "-", "\"true-1.5\"", "\"trueabc\"", "-", "-", "-", "-"]),
        ("[1] + x", ["-", "-", "-", "\"[1]-1.5\"", "\"[1]abc\"", "-", "-", "-", "-"]),
        ("NULL + x", ["-", "-", "-", "-", "-", "-", "-", "-", "-"]),
        // The others convert texts; Int with Int stays Int.
        ("6 - x", ["1", "3.5", "-", "7.5", "-", "-", "-", "-", "-"]),
        ("'6' - x", ["1", "3.5", "-", "7.5", "-", "-", "-", "-", "-"]),
        ("2 * x", ["10", "5", "-", "-3", "-", "-", "-", "-", "-"]),
        ("6 / x", ["1", "2.4", "-", "-4", "-", "-", "-", "-", "-"]),
        ("'6' / x", ["1.2", "2.4", "-", "-4", "-", "-", "-", "-", "-"]),
        ("6 % x", ["1", "1", "-", "0", "-", "-", "-", "-", "-"]),
        // Logic takes booleans, and texts that are one.
        ("true AND x", ["-", "-", "true", "-", "-", "-", "-", "-", "-"]),
        ("'false' OR x", ["-", "-", "true", "-", "-", "-", "-", "-", "-"]),
        // A list knows its items by equality.
        ("5 IN [1, x]", ["true", "false", "false", "false", "false", "false", "false", "false", "false"]),
        ("x IN [5, 2.5, 'abc', NULL]", ["true", "true", "false", "false", "true", "false", "false", "true", "-"]),
    ] {
        assert_eq!(row(expression), expected, "{expression} of {TYPES:?}");
    }
}

#[test]
fn undefined_and_null_in_clauses() {
    let payload = r#"{"foo":null,"a":1,"t":"true"}"#;
    for (sql, expected) in [
        // "Data types": Undefined is left out, Null is a value.
        ("SELECT foo, bar FROM 'a'", r#"{"foo":null}"#),
        ("SELECT [foo, bar, a] AS list FROM 'a'", r#"{"list":[null,1]}"#),
        ("SELECT {'x': foo, 'y': bar} AS o FROM 'a'", r#"{"o":{"x":null}}"#),
        ("SELECT VALUE foo FROM 'a'", "null"),
        ("SELECT VALUE bar FROM 'a'", "nothing"),
        // WHERE: only true selects.
        ("SELECT a FROM 'a' WHERE bar", "nothing"),
        ("SELECT a FROM 'a' WHERE foo", "nothing"),
        ("SELECT a FROM 'a' WHERE a", "nothing"),
        ("SELECT a FROM 'a' WHERE t", r#"{"a":1}"#),
        ("SELECT a FROM 'a' WHERE isnull(foo) AND isundefined(bar)", r#"{"a":1}"#),
        ("SELECT a FROM 'a' WHERE bar = 1 OR a = 1", "nothing"),
        // "Case statements".
        ("SELECT CASE a WHEN 2 THEN 'b' END AS c FROM 'a'", "{}"),
        ("SELECT CASE foo WHEN NULL THEN 'none' ELSE 'some' END AS c FROM 'a'", r#"{"c":"none"}"#),
        (
            "SELECT CASE a WHEN bar THEN 'b' WHEN 1 THEN 'first' WHEN 1 THEN 'second' END AS c FROM 'a'",
            r#"{"c":"first"}"#,
        ),
        ("SELECT CASE bar WHEN 1 THEN 'b' ELSE 'c' END AS c FROM 'a'", "{}"),
        ("SELECT CASE WHEN bar > 1 THEN 'b' WHEN a > 0 THEN 'c' END AS c FROM 'a'", r#"{"c":"c"}"#),
        ("SELECT CASE a WHEN 1 THEN bar ELSE 2 END AS c FROM 'a'", "{}"),
        // Templates of texts made of nothing stay nothing; members of what is no object are Undefined.
        ("SELECT a.b AS x, foo.b AS y, bar.b AS z FROM 'a'", "{}"),
        ("SELECT get_or_default(bar, 'd') AS x, nanvl(foo, 'e') AS y FROM 'a'", r#"{"x":"d","y":"e"}"#),
    ] {
        assert_eq!(run(sql, payload).as_deref(), Ok(expected), "{sql}");
    }
}

#[test]
fn nested_queries_over_arrays_and_objects() {
    let payload = r#"{"id":"x","e":[{"n":"temperature","v":22.5},{"n":"light","v":135,"tags":["a","b"]},{"n":"acidity"}],
        "list":[3,1,2],"o":{"p":1,"q":{"r":2}},"empty":[],"matrix":[[1,2],[3]]}"#;
    for (expression, expected) in [
        ("(SELECT VALUE n FROM e)", r#"["temperature","light","acidity"]"#),
        ("(SELECT v FROM e WHERE n = 'temperature')", r#"[{"v":22.5}]"#),
        ("get((SELECT v FROM e WHERE n = 'temperature'), 0).v", "22.5"),
        // What is Undefined of an element is left out: whole elements with VALUE, members otherwise.
        ("(SELECT VALUE v FROM e)", "[22.5,135]"),
        ("(SELECT v FROM e)", r#"[{"v":22.5},{"v":135},{}]"#),
        ("(SELECT * FROM e WHERE v > 100)", r#"[{"n":"light","v":135,"tags":["a","b"]}]"#),
        ("(SELECT *, id FROM e WHERE v > 100)", r#"[{"n":"light","v":135,"tags":["a","b"],"id":"x"}]"#),
        ("(SELECT VALUE x.n FROM e AS x WHERE x.v > 100)", r#"["light"]"#),
        ("(SELECT VALUE x * 2 FROM list AS x WHERE x > 1)", "[6,4]"),
        ("(SELECT VALUE (SELECT VALUE y + 1 FROM x AS y) FROM matrix AS x)", "[[2,3],[4]]"),
        (
            "(SELECT n, (SELECT VALUE upper(t) FROM tags AS t) AS t FROM e WHERE n = 'light')",
            r#"[{"n":"light","t":["A","B"]}]"#,
        ),
        ("(SELECT p FROM o)", r#"{"p":1}"#),
        ("(SELECT VALUE r FROM o.q)", "2"),
        ("(SELECT p FROM o WHERE p > 1)", "-"),
        ("(SELECT VALUE n FROM empty)", "[]"),
        ("(SELECT VALUE n FROM missing)", "-"),
        ("EXISTS (SELECT * FROM e WHERE v > 100)", "true"),
        ("EXISTS (SELECT * FROM missing)", "false"),
        ("3 IN list AND 4 NOT IN list", "true"),
        ("'light' IN (SELECT VALUE n FROM e)", "true"),
    ] {
        let made = run(&format!("SELECT VALUE ({expression}) FROM 'a'"), payload).unwrap();
        assert_eq!(if made == "nothing" { "-" } else { &made }, expected, "{expression}");
    }
}

#[test]
fn the_references_own_statements() {
    let device = r#"{"deviceid":"iot123","temp":54.98,"humidity":32.43,"coords":{"latitude":47.615694,"longitude":-122.3359976}}"#;
    for (sql, payload, expected) in [
        (
            "SELECT temp, md5(deviceid) AS hashed_id FROM 'topic/#'",
            device,
            r#"{"temp":54.98,"hashed_id":"e37f81fb397e595c4aeb5645b8cbbbd1"}"#,
        ),
        ("SELECT coords.latitude AS bar.baz FROM 'a/b'", device, r#"{"bar":{"baz":47.615694}}"#),
        (
            "SELECT CASE color WHEN 'green' THEN 'go' WHEN 'yellow' THEN 'caution' WHEN 'red' THEN 'stop' \
             ELSE 'you are not at a stop light' END as instructions FROM 'a/b'",
            r#"{"color":"yellow"}"#,
            r#"{"instructions":"caution"}"#,
        ),
        (
            "SELECT color AS my_color FROM 'a/b' WHERE temperature > 50 AND color <> 'red'",
            r#"{"color":"red","temperature":40}"#,
            "nothing",
        ),
        ("SELECT color.red as red_value FROM 'a/b'", r#"{"color":{"red":255,"green":0}}"#, r#"{"red_value":255}"#),
        (
            "SELECT decode(encoded_temp,\"base64\").temperature AS temp from 'topic/subtopic'",
            r#"{"encoded_temp":"eyAidGVtcGVyYXR1cmUiOiAzMyB9Cg=="}"#,
            r#"{"temp":33}"#,
        ),
        (
            "SELECT encode(*, 'base64') AS data, timestamp() AS ts FROM 'a/b'",
            "\u{1}",
            r#"{"data":"AQ==","ts":1700000000123}"#,
        ),
        ("SELECT * FROM 'a/b' WHERE timestamp() % 2 = 1", "\u{1}", "\u{1}"),
    ] {
        assert_eq!(run(sql, payload).as_deref(), Ok(expected), "{sql}");
    }
}
