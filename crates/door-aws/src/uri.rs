//! Percent-encoding as AWS has it: everything but letters, digits and `-._~`.

/// Decodes `%XX`, and `+` to a space where `form` says so. What is not `%XX` stays as it is; bytes that are not UTF-8
/// become U+FFFD.
pub fn decode(text: &str, form: bool) -> String {
    String::from_utf8(decode_bytes(text, form)).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

fn decode_bytes(text: &str, form: bool) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = |at: usize| bytes.get(at).and_then(|b| (*b as char).to_digit(16));
        match bytes[index] {
            b'%' => match (hex(index + 1), hex(index + 2)) {
                (Some(high), Some(low)) => {
                    out.push((high * 16 + low) as u8);
                    index += 2;
                }
                _ => out.push(b'%'),
            },
            b'+' if form => out.push(b' '),
            other => out.push(other),
        }
        index += 1;
    }
    out
}

/// Encodes; `/` stays where `path` says so.
pub fn encode(text: &str, path: bool) -> String {
    encode_bytes(text.as_bytes(), path)
}

fn encode_bytes(bytes: &[u8], path: bool) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            b'/' if path => out.push('/'),
            _ => {
                out.push('%');
                out.push(HEX[usize::from(byte >> 4)] as char);
                out.push(HEX[usize::from(byte & 15)] as char);
            }
        }
    }
    out
}

/// Decoded and encoded again in AWS's own way.
pub fn recode(text: &str, form: bool, path: bool) -> String {
    encode_bytes(&decode_bytes(text, form), path)
}

/// `a=1&b=2`, decoded, in order.
pub fn pairs(text: &str) -> Vec<(String, String)> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name, true), decode(value, true))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decodes_what_it_should() {
        assert_eq!(decode("a%2Fb+c%", true), "a/b c%");
        assert_eq!(decode("a+b%zz%C3%A4", false), "a+b%zzä");
        assert_eq!(encode("a b/ä~", true), "a%20b/%C3%A4~");
        assert_eq!(
            pairs("a=1&b&=x&c=%3D+"),
            [("a", "1"), ("b", ""), ("", "x"), ("c", "= ")].map(|(n, v)| (n.into(), v.into()))
        );
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(text in ".*") {
            prop_assert_eq!(decode(&encode(&text, false), true), text);
        }
    }
}
