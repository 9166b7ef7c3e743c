//! Patterns: `*`, `?` and variables, matched in linear time.

use super::{PolicyError, Request, context::Key};
use std::borrow::Cow;

/// A pattern, cut at its `*`: `a*b*` is `[a] [b] []`. One run means that there is no `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    runs: Vec<Run>,
}

/// What stands between two `*`.
type Run = Vec<Piece>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `?`
    AnyChar,
    Variable(Key),
}

/// A piece with its variable's value in place: text is text, whatever characters it has.
enum Exact<'a> {
    Text(Cow<'a, str>),
    AnyChar,
}

impl Pattern {
    /// With `*` and `?`.
    pub fn parse(pattern: &str) -> Result<Self, PolicyError> {
        Self::read(pattern, true)
    }

    /// Variables are variables, everything else stands for itself.
    pub fn exact(text: &str) -> Result<Self, PolicyError> {
        Self::read(text, false)
    }

    fn read(pattern: &str, wild: bool) -> Result<Self, PolicyError> {
        let mut runs = vec![Run::new()];
        let mut run = Run::new();
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            let taken = match first {
                '*' if wild => {
                    *last(&mut runs) = std::mem::take(&mut run);
                    runs.push(Run::new());
                    1
                }
                '?' if wild => {
                    run.push(Piece::AnyChar);
                    1
                }
                '$' if rest.starts_with("${") => {
                    let end = rest.find('}').ok_or_else(|| PolicyError::Variable(rest.to_owned()))?;
                    let unknown = || PolicyError::Variable(rest[..=end].to_owned());
                    // A character that could not be written otherwise.
                    match &rest[2..end] {
                        literal @ ("*" | "?" | "$") => run.push(Piece::Text(literal.to_owned())),
                        name => run.push(Piece::Variable(Key::parse(name).ok_or_else(unknown)?)),
                    }
                    end + 1
                }
                other => {
                    match run.last_mut() {
                        Some(Piece::Text(text)) => text.push(other),
                        _ => run.push(Piece::Text(other.into())),
                    }
                    other.len_utf8()
                }
            };
            rest = &rest[taken..];
        }
        *last(&mut runs) = run;
        Ok(Self { runs })
    }

    pub fn asks_certificate(&self) -> bool {
        let asks = |piece: &Piece| matches!(piece, Piece::Variable(key) if key.asks_certificate());
        self.runs.iter().flatten().any(asks)
    }

    /// Whether every variable has a value.
    pub fn resolves(&self, request: &Request<'_>) -> bool {
        self.runs.iter().flatten().all(|piece| match piece {
            Piece::Variable(key) => key.first(request).is_some(),
            Piece::Text(_) | Piece::AnyChar => true,
        })
    }

    /// As `matches`, with the values of variables in lower case.
    pub fn matches_lower(&self, text: &str, request: &Request<'_>) -> bool {
        let mut whole = String::new();
        for piece in self.runs.iter().flatten() {
            match piece {
                Piece::Text(text) => whole.push_str(text),
                Piece::Variable(key) => match key.first(request) {
                    Some(value) => whole.push_str(&value.to_lowercase()),
                    None => return false,
                },
                // `exact` makes neither of these.
                Piece::AnyChar => return false,
            }
        }
        whole == text
    }

    /// `false` where a variable has no value. Without a request, variables have none.
    pub fn matches(&self, text: &str, request: Option<&Request<'_>>) -> bool {
        let mut runs = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            let Some(run) = filled(run, request) else { return false };
            runs.push(run);
        }
        let Some((first, others)) = runs.split_first() else { return text.is_empty() };
        let Some(mut rest) = strip(first, text) else { return false };
        let Some((last, middle)) = others.split_last() else { return rest.is_empty() };
        // Leftmost is best: whatever matches after a later occurrence also matches after an earlier one.
        for run in middle {
            match find(run, rest) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        ends_with(last, rest)
    }
}

fn last(runs: &mut [Run]) -> &mut Run {
    runs.last_mut().expect("a pattern has at least one run")
}

/// A run with its variables' values; neighbouring texts become one, so that it can be searched for at once.
fn filled<'a>(run: &'a [Piece], request: Option<&Request<'a>>) -> Option<Vec<Exact<'a>>> {
    let mut pieces: Vec<Exact<'a>> = Vec::with_capacity(run.len());
    for piece in run {
        let text = match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Variable(key) => {
                let value = key.first(request?)?;
                push(&mut pieces, value);
                continue;
            }
            Piece::AnyChar => {
                pieces.push(Exact::AnyChar);
                continue;
            }
        };
        push(&mut pieces, Cow::Borrowed(text));
    }
    Some(pieces)
}

fn push<'a>(pieces: &mut Vec<Exact<'a>>, text: Cow<'a, str>) {
    match pieces.last_mut() {
        Some(Exact::Text(before)) => before.to_mut().push_str(&text),
        _ => pieces.push(Exact::Text(text)),
    }
}

/// What is left of `text` behind the run; `None` where it does not start with it.
fn strip<'t>(run: &[Exact<'_>], text: &'t str) -> Option<&'t str> {
    run.iter().try_fold(text, |rest, piece| match piece {
        Exact::Text(text) => rest.strip_prefix(&**text),
        Exact::AnyChar => {
            let mut chars = rest.chars();
            chars.next().map(|_| chars.as_str())
        }
    })
}

fn ends_with(run: &[Exact<'_>], text: &str) -> bool {
    run.iter()
        .rev()
        .try_fold(text, |rest, piece| match piece {
            Exact::Text(text) => rest.strip_suffix(&**text),
            Exact::AnyChar => {
                let mut chars = rest.chars();
                chars.next_back().map(|_| chars.as_str())
            }
        })
        .is_some()
}

/// What is left of `text` behind the run's first occurrence.
fn find<'t>(run: &[Exact<'_>], text: &'t str) -> Option<&'t str> {
    if let [Exact::Text(needle)] = run {
        return text.find(&**needle).map(|at| &text[at + needle.len()..]);
    }
    let mut starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.find_map(|at| strip(run, &text[at..]))
}
