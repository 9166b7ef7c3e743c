//! What InvokeEndpoint is given and answers, as the built-in random cut forest has it: points in, scores out.

use serde::Deserialize;
use std::fmt::Write;

/// Formats of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Csv,
    Json,
    JsonLines,
}

/// The media type without its parameters.
fn media_type(given: &str) -> String {
    given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

impl Format {
    pub fn of(given: &str) -> Option<Self> {
        match media_type(given).as_str() {
            "text/csv" => Some(Self::Csv),
            "application/json" => Some(Self::Json),
            "application/jsonlines" => Some(Self::JsonLines),
            _ => None,
        }
    }

    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Json => "application/json",
            Self::JsonLines => "application/jsonlines",
        }
    }

    /// Of what is accepted; JSON where nothing is said.
    pub fn accepted(given: Option<&str>) -> Option<Self> {
        match given {
            None => Some(Self::Json),
            Some(given) => given.split(',').find_map(|one| match media_type(one).as_str() {
                "*/*" | "application/*" | "" => Some(Self::Json),
                _ => Self::of(one),
            }),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    instances: Vec<Instance>,
}

/// `{"features": [1.5, 16.0]}`, or `{"data": {"features": {"values": [1.5, 16.0]}}}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Instance {
    features: Option<Vec<f64>>,
    data: Option<Data>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    features: Values,
}

#[derive(Deserialize)]
struct Values {
    values: Vec<f64>,
}

impl Instance {
    fn point(self) -> Result<Vec<f64>, String> {
        match (self.features, self.data) {
            (Some(point), None) => Ok(point),
            (None, Some(data)) => Ok(data.features.values),
            _ => Err("an instance has \"features\", or \"data\" with them".to_owned()),
        }
    }
}

/// The points of a body, one after the other, `width` numbers each.
pub fn points(format: Format, body: &[u8], width: usize) -> Result<Vec<f64>, String> {
    let text = std::str::from_utf8(body).map_err(|_| "the body is not UTF-8".to_owned())?;
    let mut all = Vec::new();
    let mut take = |line: usize, point: &[f64]| {
        if point.len() != width {
            return Err(format!("point {line} has {} numbers, the model takes {width}", point.len()));
        }
        if let Some(odd) = point.iter().find(|number| !number.is_finite()) {
            return Err(format!("point {line} has {odd}, which is no measurement"));
        }
        all.extend_from_slice(point);
        Ok(())
    };
    let lines = || text.lines().filter(|line| !line.trim().is_empty()).zip(1..);
    match format {
        Format::Csv => {
            let mut point = Vec::with_capacity(width);
            for (line, number) in lines() {
                point.clear();
                for cell in line.split(',').map(str::trim) {
                    let value = cell.parse();
                    point.push(value.map_err(|_| format!("point {number} has {cell:.40?}, which is not a number"))?);
                }
                take(number, &point)?;
            }
        }
        Format::Json => {
            let request: Request = serde_json::from_str(text).map_err(|error| {
                format!("the body is not {{\"instances\": [{{\"features\": [1.5, 16.0]}}]}}: {error}")
            })?;
            for (instance, number) in request.instances.into_iter().zip(1..) {
                take(number, &instance.point()?)?;
            }
        }
        Format::JsonLines => {
            for (line, number) in lines() {
                let instance: Instance = serde_json::from_str(line)
                    .map_err(|error| format!("line {number} is not {{\"features\": [1.5, 16.0]}}: {error}"))?;
                take(number, &instance.point()?)?;
            }
        }
    }
    if all.is_empty() { Err("the body holds no point".to_owned()) } else { Ok(all) }
}

/// The answer's body. Scores are finite, so that they are JSON.
pub fn scores(format: Format, scores: &[f64]) -> String {
    let mut text = String::new();
    if format == Format::Json {
        text.push_str("{\"scores\":[");
    }
    for (i, score) in scores.iter().enumerate() {
        // Writing into text cannot fail.
        let _ = match format {
            Format::Json => write!(text, "{}{{\"score\":{score:?}}}", if i > 0 { "," } else { "" }),
            Format::JsonLines => writeln!(text, "{{\"score\":{score:?}}}"),
            Format::Csv => writeln!(text, "{score:?}"),
        };
    }
    if format == Format::Json {
        text.push_str("]}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_every_format() {
        let two = vec![1.5, -2.0, 3e3, 4.0];
        for (format, body) in [
            ("text/csv", "1.5,-2\r\n3e3, 4\n\n"),
            ("text/csv; label_size=0", "1.5,-2\n3e3,4"),
            (
                "Application/JSON",
                r#"{"instances": [{"features": [1.5, -2]}, {"data": {"features": {"values": [3e3, 4]}}}]}"#,
            ),
            ("application/jsonlines", "{\"features\": [1.5, -2]}\n{\"features\": [3000, 4]}\n"),
        ] {
            assert_eq!(points(Format::of(format).unwrap(), body.as_bytes(), 2).unwrap(), two, "{format}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (format, body, why) in [
            (Format::Csv, "1,2\n1,2,3\n", "point 2 has 3 numbers, the model takes 2"),
            (Format::Csv, "1,2\n1,x\n", "point 2 has \"x\", which is not a number"),
            (Format::Csv, "1,\n", "which is not a number"),
            (Format::Csv, "1,NaN\n", "no measurement"),
            (Format::Csv, "\n", "no point"),
            (Format::Json, "[]", "the body is not"),
            (Format::Json, r#"{"instances": [{"features": [1, "2"]}]}"#, "expected f64"),
            (Format::Json, r#"{"instances": [{"features": [1, 1e999]}]}"#, "out of range"),
            (Format::Json, r#"{"instances": [{}]}"#, "an instance has"),
            (Format::Json, r#"{"instances": []}"#, "no point"),
            (Format::JsonLines, "{\"features\": [1, 2]}\n{", "line 2 is not"),
        ] {
            let said = points(format, body.as_bytes(), 2).unwrap_err();
            assert!(said.contains(why), "{said}");
        }
        assert!(points(Format::Csv, b"\xff", 1).unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn scores_in_every_format() {
        assert_eq!(scores(Format::Json, &[0.5, 2.0]), r#"{"scores":[{"score":0.5},{"score":2.0}]}"#);
        assert_eq!(scores(Format::JsonLines, &[0.5]), "{\"score\":0.5}\n");
        assert_eq!(scores(Format::Csv, &[0.5, 2.0]), "0.5\n2.0\n");
        assert_eq!(Format::accepted(None), Some(Format::Json));
        assert_eq!(Format::accepted(Some("image/png, text/csv;q=0.9")), Some(Format::Csv));
        assert_eq!(Format::accepted(Some("*/*")), Some(Format::Json));
        assert_eq!(Format::accepted(Some("application/x-recordio-protobuf")), None);
    }
}
