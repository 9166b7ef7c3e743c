//! MQTT's primitive types (MQTT 5 §1.5) on the wire.

use super::DecodeError;
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The largest number that a variable byte integer can hold: 256 MiB less one.
pub const VARIABLE_MAX: u32 = 268_435_455;
/// Strings and binary data have a length of two bytes.
pub const TEXT_BYTES_MAX: usize = u16::MAX as usize;

/// Reads one packet's body; every method fails rather than reads past its end.
pub struct Reader(pub Bytes);

impl Reader {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.0.try_get_u8().map_err(|_| SHORT)
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.0.try_get_u16().map_err(|_| SHORT)
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.0.try_get_u32().map_err(|_| SHORT)
    }

    pub fn take(&mut self, bytes: usize) -> Result<Bytes, DecodeError> {
        if bytes > self.0.len() {
            return Err(SHORT);
        }
        Ok(self.0.split_to(bytes))
    }

    pub fn binary(&mut self) -> Result<Bytes, DecodeError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    pub fn text(&mut self) -> Result<String, DecodeError> {
        Ok(check_text(&self.binary()?)?.to_owned())
    }

    pub fn variable(&mut self) -> Result<u32, DecodeError> {
        match variable(&self.0)? {
            Some((value, length)) => {
                self.0.advance(length);
                Ok(value)
            }
            None => Err(SHORT),
        }
    }

    /// The rest of the packet.
    pub fn rest(self) -> Bytes {
        self.0
    }

    pub fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Malformed("bytes are left over after the last field")) }
    }
}

const SHORT: DecodeError = DecodeError::Malformed("it ends in the middle of a field");

/// UTF-8 without U+0000 (§1.5.4); the standard library already refuses surrogates and overlong forms.
pub fn check_text(bytes: &[u8]) -> Result<&str, DecodeError> {
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::Malformed("a string is not UTF-8"))?;
    if bytes.contains(&0) {
        return Err(DecodeError::Malformed("a string contains U+0000"));
    }
    Ok(text)
}

/// Variable byte integer (§1.5.5) at the front of `bytes`: value and length, `None` while it is incomplete.
pub fn variable(bytes: &[u8]) -> Result<Option<(u32, usize)>, DecodeError> {
    let mut value = 0u32;
    for (i, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            if *byte == 0 && i > 0 {
                return Err(DecodeError::Malformed("a length is not written in its shortest form"));
            }
            return Ok(Some((value, i + 1)));
        }
    }
    if bytes.len() >= 4 {
        return Err(DecodeError::Malformed("a length has more than four bytes"));
    }
    Ok(None)
}

pub fn put_variable(out: &mut BytesMut, mut value: u32) {
    debug_assert!(value <= VARIABLE_MAX);
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Bytes that `put_variable` writes.
pub const fn variable_len(value: usize) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// Strings come from decoded packets or were checked against a far lower limit; a longer one is cut off
/// rather than written with a wrong length, which would shift every field after it.
pub fn put_binary(out: &mut BytesMut, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    out.put_u16(bytes.len() as u16);
    out.put_slice(bytes);
}

pub fn put_text(out: &mut BytesMut, text: &str) {
    let end = (0..=text.len().min(TEXT_BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    put_binary(out, &text.as_bytes()[..end]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers_round_trip_and_reject_long_forms() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, VARIABLE_MAX] {
            let mut out = BytesMut::new();
            put_variable(&mut out, value);
            assert_eq!(out.len(), variable_len(value as usize));
            assert_eq!(variable(&out).unwrap(), Some((value, out.len())));
            assert_eq!(variable(&out[..out.len() - 1]).unwrap(), None);
        }
        assert!(variable(&[0x80, 0x00]).is_err());
        assert!(variable(&[0xff, 0xff, 0xff, 0xff, 0x7f]).is_err());
    }

    #[test]
    fn strings_are_checked_and_never_written_with_a_wrong_length() {
        assert!(check_text(b"a\0b").is_err());
        assert!(check_text(&[0xed, 0xa0, 0x80]).is_err());
        let mut out = BytesMut::new();
        put_text(&mut out, &"é".repeat(40_000));
        assert_eq!(out.len(), 2 + 65_534);
        assert!(Reader(out.freeze()).text().is_ok());
    }
}
