//! Cuts an expression into tokens.

use super::{EXPRESSION_BYTES_MAX, Kind};
use crate::AwsError;
use std::ops::Range;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lexeme {
    /// A name, keyword or function.
    Word,
    /// `#name`
    Name,
    /// `:value`
    Value,
    Digits,
    /// `( ) [ ] , . + - = <> < <= > >=`
    Sign,
    End,
}

#[derive(Debug, Clone)]
pub struct Token {
    pub lexeme: Lexeme,
    pub at: Range<usize>,
}

/// The tokens, an [`Lexeme::End`] behind them.
pub fn tokens(kind: Kind, text: &str) -> Result<Vec<Token>, AwsError> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(kind.fault(format_args!(
            "Expression size has exceeded the maximum allowed size; expression size: {}",
            text.len()
        )));
    }
    let bytes = text.as_bytes();
    let run = |from: usize, takes: fn(&u8) -> bool| from + bytes[from..].iter().take_while(|byte| takes(byte)).count();
    let in_word: fn(&u8) -> bool = |byte| byte.is_ascii_alphanumeric() || *byte == b'_';
    // DynamoDB's placeholders may hold these too.
    let in_placeholder: fn(&u8) -> bool = |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (lexeme, end) = match bytes[at] {
            b' ' | b'\t' | b'\r' | b'\n' => {
                at += 1;
                continue;
            }
            b'#' => (Lexeme::Name, run(at + 1, in_word)),
            b':' => (Lexeme::Value, run(at + 1, in_placeholder)),
            b'0'..=b'9' => (Lexeme::Digits, run(at, |byte| byte.is_ascii_digit())),
            byte if in_word(&byte) => (Lexeme::Word, run(at, in_word)),
            b'<' if matches!(bytes.get(at + 1), Some(b'>' | b'=')) => (Lexeme::Sign, at + 2),
            b'>' if bytes.get(at + 1) == Some(&b'=') => (Lexeme::Sign, at + 2),
            b'(' | b')' | b'[' | b']' | b',' | b'.' | b'+' | b'-' | b'=' | b'<' | b'>' => (Lexeme::Sign, at + 1),
            _ => {
                let odd = text[at..].chars().next().map_or(1, char::len_utf8);
                return Err(syntax(kind, text, at..at + odd, at..(at + odd)));
            }
        };
        if matches!(lexeme, Lexeme::Name | Lexeme::Value) && end == at + 1 {
            return Err(syntax(kind, text, at..end, at..end));
        }
        found.push(Token { lexeme, at: at..end });
        at = end;
    }
    if found.is_empty() {
        return Err(kind.fault("The expression can not be empty;"));
    }
    found.push(Token { lexeme: Lexeme::End, at: text.len()..text.len() });
    Ok(found)
}

pub fn syntax(kind: Kind, text: &str, token: Range<usize>, near: Range<usize>) -> AwsError {
    let name = if token.is_empty() { "<EOF>" } else { &text[token] };
    kind.fault(format_args!("Syntax error; token: \"{name}\", near: \"{}\"", &text[near]))
}
