//! Words of a statement.

use super::SqlError;

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// A keyword or a name.
    Word(String),
    /// `@name`.
    Variable(String),
    /// In single or double quotes; a doubled quote stands for one.
    Text(String),
    Int(i64),
    Decimal(f64),
    Symbol(&'static str),
    End,
}

/// A token and where it begins, in bytes.
#[derive(Debug, Clone)]
pub struct Spanned {
    pub token: Token,
    pub start: usize,
    pub end: usize,
}

/// Longer ones first.
const SYMBOLS: [&str; 22] =
    ["<>", "!=", "<=", ">=", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")", "[", "]", "{", "}", ",", ".", ":", ";"];

pub fn tokens(sql: &str) -> Result<Vec<Spanned>, SqlError> {
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(first) = sql[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, length) = token(&sql[at..], first).map_err(|why| SqlError::at(sql, at, why))?;
        all.push(Spanned { token, start: at, end: at + length });
        at += length;
    }
    all.push(Spanned { token: Token::End, start: sql.len(), end: sql.len() });
    Ok(all)
}

fn token(rest: &str, first: char) -> Result<(Token, usize), &'static str> {
    match first {
        '\'' | '"' => quoted(rest, first),
        '0'..='9' => number(rest),
        '@' => {
            let name = word(&rest[1..]);
            if name.is_empty() {
                return Err("a variable's name must follow @");
            }
            Ok((Token::Variable(name.to_owned()), 1 + name.len()))
        }
        c if c.is_alphabetic() || c == '_' || c == '$' => {
            let name = word(rest);
            Ok((Token::Word(name.to_owned()), name.len()))
        }
        _ => {
            let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
            symbol.map(|symbol| (Token::Symbol(symbol), symbol.len())).ok_or("this character has no meaning here")
        }
    }
}

fn word(rest: &str) -> &str {
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len());
    &rest[..end]
}

fn quoted(rest: &str, quote: char) -> Result<(Token, usize), &'static str> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((index, c)) = chars.next() {
        if c != quote {
            text.push(c);
        } else if chars.peek().is_some_and(|(_, next)| *next == quote) {
            text.push(quote);
            chars.next();
        } else {
            return Ok((Token::Text(text), index + 1));
        }
    }
    Err("the text that begins here has no closing quote")
}

fn number(rest: &str) -> Result<(Token, usize), &'static str> {
    let bytes = rest.as_bytes();
    let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut end = digits(0);
    let mut whole = true;
    if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
        whole = false;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = bytes.get(end + 1 + sign..).map_or(0, |_| digits(end + 1 + sign));
        if exponent > 0 {
            end += 1 + sign + exponent;
            whole = false;
        }
    }
    let text = &rest[..end];
    if whole && let Ok(value) = text.parse() {
        return Ok((Token::Int(value), end));
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok((Token::Decimal(value), end)),
        _ => Err("this number is too large"),
    }
}
