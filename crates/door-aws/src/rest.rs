//! Routes of rest-json services: `/things/{thingName}/principals`.

use crate::{Call, uri};

/// The decoded values of a pattern's `{…}` parts, in order, where method and path fit it. A part that ends in `+`
/// (`{arn+}`) takes the rest of the path, slashes and all.
pub fn route(call: &Call, method: &str, pattern: &str) -> Option<Vec<String>> {
    if call.method.as_str() != method {
        return None;
    }
    let mut values = Vec::new();
    let mut path = call.path.trim_start_matches('/').trim_end_matches('/').split('/');
    let mut pattern = pattern.trim_start_matches('/').split('/');
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return Some(values),
            (Some(part), Some(found)) => match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                Some(name) if name.ends_with('+') => {
                    let rest: Vec<&str> = std::iter::once(found).chain(path).collect();
                    values.push(uri::decode(&rest.join("/"), false));
                    return Some(values);
                }
                Some(_) if found.is_empty() => return None,
                Some(_) => values.push(uri::decode(found, false)),
                None if part == found => {}
                None => return None,
            },
            _ => return None,
        }
    }
}
