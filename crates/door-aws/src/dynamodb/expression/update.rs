//! Update expressions: SET, REMOVE, ADD and DELETE, all of them reading the item as it was.

use super::{Kind, Path, Placeholders, Projection, Step, parse::Parser, path::quarrel, token::Lexeme};
use crate::{
    AwsError,
    dynamodb::{
        fault::invalid,
        value::{AttributeValue, Item},
    },
};

#[derive(Debug, Clone, PartialEq)]
enum Term {
    Path(Path),
    Value(AttributeValue),
    IfNotExists(Path, Box<Term>),
    ListAppend(Box<Term>, Box<Term>),
}

#[derive(Debug, Clone, PartialEq)]
enum Assigned {
    Term(Term),
    Plus(Term, Term),
    Minus(Term, Term),
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Update {
    set: Vec<(Path, Assigned)>,
    remove: Vec<Path>,
    add: Vec<(Path, AttributeValue)>,
    delete: Vec<(Path, AttributeValue)>,
}

/// What an update has made of an item.
pub struct Applied {
    pub item: Item,
    /// The paths that the expression names.
    pub touched: Projection,
}

impl Update {
    pub fn parse(text: &str, placeholders: &mut Placeholders) -> Result<Self, AwsError> {
        let mut parser = Parser::new(Kind::Update, text, placeholders)?;
        let mut update = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        loop {
            let section = ["SET", "REMOVE", "ADD", "DELETE"].into_iter().find(|section| parser.is_word(section));
            let Some(section) = section else { return Err(parser.syntax()) };
            if seen.contains(&section) {
                return Err(Kind::Update
                    .fault(format_args!("The \"{section}\" section can only be used once in an update expression;")));
            }
            seen.push(section);
            parser.advance();
            loop {
                update.clause(section, &mut parser)?;
                if !parser.takes_sign(",") {
                    break;
                }
            }
            if parser.peek().0 == Lexeme::End {
                break;
            }
        }
        match quarrel(&update.paths()) {
            Some(what) => Err(Kind::Update.fault(what)),
            None => Ok(update),
        }
    }

    fn clause(&mut self, section: &str, parser: &mut Parser<'_>) -> Result<(), AwsError> {
        parser.operator()?;
        let path = parser.path()?;
        match section {
            "SET" => {
                parser.sign("=")?;
                self.set.push((path, Assigned::parse(parser)?));
            }
            "REMOVE" => self.remove.push(path),
            "ADD" => {
                let value = parser.value()?;
                match value {
                    AttributeValue::N(_) | AttributeValue::Ss(_) | AttributeValue::Ns(_) | AttributeValue::Bs(_) => {
                        self.add.push((path, value));
                    }
                    other => return Err(wrong_operand("ADD", &other)),
                }
            }
            _ => {
                let value = parser.value()?;
                match value {
                    AttributeValue::Ss(_) | AttributeValue::Ns(_) | AttributeValue::Bs(_) => {
                        self.delete.push((path, value));
                    }
                    other => return Err(wrong_operand("DELETE", &other)),
                }
            }
        }
        Ok(())
    }

    /// Every path that is written to.
    pub fn paths(&self) -> Vec<&Path> {
        let set = self.set.iter().map(|(path, _)| path);
        let add = self.add.iter().chain(&self.delete).map(|(path, _)| path);
        set.chain(&self.remove).chain(add).collect()
    }

    pub fn apply(&self, old: &Item) -> Result<Applied, AwsError> {
        let mut values = Vec::new();
        for (path, assigned) in &self.set {
            values.push((path, Some(assigned.value(old)?)));
        }
        for (path, value) in &self.add {
            values.push((path, Some(added(path.find(old), value)?)));
        }
        for (path, value) in &self.delete {
            if let Some(there) = path.find(old) {
                values.push((path, subtracted(there, value)?));
            }
        }
        // Removals come last and the highest index first, so that every index means the list as it was.
        let (mut written, mut gone): (Vec<_>, Vec<_>) = values.into_iter().partition(|(_, value)| value.is_some());
        written.sort_by_key(|(path, _)| *path);
        gone.extend(self.remove.iter().map(|path| (path, None)));
        gone.sort_by_key(|(path, _)| std::cmp::Reverse(*path));
        let mut item = old.clone();
        for (path, value) in written {
            let value = value.expect("those without a value were parted off");
            put(&mut item, path, value)?;
        }
        for (path, _) in gone {
            remove(&mut item, path)?;
        }
        Ok(Applied { item, touched: Projection::of(self.paths()) })
    }
}

impl Assigned {
    fn parse(parser: &mut Parser<'_>) -> Result<Self, AwsError> {
        let left = Term::parse(parser)?;
        let (Lexeme::Sign, sign @ ("+" | "-")) = parser.peek() else { return Ok(Self::Term(left)) };
        parser.advance();
        parser.operator()?;
        let right = Term::parse(parser)?;
        for term in [&left, &right] {
            if let Term::Value(value) = term
                && !matches!(value, AttributeValue::N(_))
            {
                return Err(parser.wrong_type(sign, value.kind()));
            }
        }
        Ok(if sign == "+" { Self::Plus(left, right) } else { Self::Minus(left, right) })
    }

    fn value(&self, old: &Item) -> Result<AttributeValue, AwsError> {
        let number = |term: &Term| match term.value(old)? {
            AttributeValue::N(number) => Ok(number),
            _ => Err(wrong_type()),
        };
        Ok(match self {
            Self::Term(term) => term.value(old)?,
            Self::Plus(a, b) => AttributeValue::N(number(a)?.plus(number(b)?)?),
            Self::Minus(a, b) => AttributeValue::N(number(a)?.minus(number(b)?)?),
        })
    }
}

impl Term {
    fn parse(parser: &mut Parser<'_>) -> Result<Self, AwsError> {
        if parser.takes_sign("(") {
            let inner = parser.deeper(Self::parse)?;
            parser.sign(")")?;
            return Ok(inner);
        }
        if parser.is_call() {
            return Self::call(parser);
        }
        match parser.peek().0 {
            Lexeme::Value => Ok(Self::Value(parser.value()?)),
            _ => Ok(Self::Path(parser.path()?)),
        }
    }

    fn call(parser: &mut Parser<'_>) -> Result<Self, AwsError> {
        let (_, name) = parser.peek();
        if !matches!(name, "if_not_exists" | "list_append") {
            return Err(Kind::Update.fault(format_args!("Invalid function name; function: {name}")));
        }
        parser.advance();
        parser.operator()?;
        let arguments = parser.arguments(|parser| parser.deeper(Self::parse))?;
        let count = arguments.len();
        let Ok([a, b]) = <[Self; 2]>::try_from(arguments) else { return Err(parser.wrong_count(name, count)) };
        if name == "if_not_exists" {
            return match a {
                Self::Path(path) => Ok(Self::IfNotExists(path, Box::new(b))),
                _ => Err(Kind::Update.fault(format_args!(
                    "Operator or function requires a document path; operator or function: {name}"
                ))),
            };
        }
        for term in [&a, &b] {
            if let Self::Value(value) = term
                && !matches!(value, AttributeValue::L(_))
            {
                return Err(parser.wrong_type(name, value.kind()));
            }
        }
        Ok(Self::ListAppend(Box::new(a), Box::new(b)))
    }

    fn value(&self, old: &Item) -> Result<AttributeValue, AwsError> {
        match self {
            Self::Value(value) => Ok(value.clone()),
            Self::Path(path) => path.find(old).cloned().ok_or_else(|| {
                invalid("The provided expression refers to an attribute that does not exist in the item")
            }),
            Self::IfNotExists(path, otherwise) => match path.find(old) {
                Some(value) => Ok(value.clone()),
                None => otherwise.value(old),
            },
            Self::ListAppend(a, b) => match (a.value(old)?, b.value(old)?) {
                (AttributeValue::L(mut list), AttributeValue::L(more)) => {
                    list.extend(more);
                    Ok(AttributeValue::L(list))
                }
                _ => Err(wrong_type()),
            },
        }
    }
}

fn wrong_operand(operator: &str, value: &AttributeValue) -> AwsError {
    Kind::Update.fault(format_args!(
        "Incorrect operand type for operator or function; operator: {operator}, operand type: {}",
        value.kind()
    ))
}

fn wrong_type() -> AwsError {
    invalid("An operand in the update expression has an incorrect data type")
}

fn added(there: Option<&AttributeValue>, value: &AttributeValue) -> Result<AttributeValue, AwsError> {
    use AttributeValue::{Bs, N, Ns, Ss};
    Ok(match (there, value) {
        (None, value) => value.clone(),
        (Some(N(a)), N(b)) => N(a.plus(*b)?),
        (Some(Ss(a)), Ss(b)) => Ss(a | b),
        (Some(Ns(a)), Ns(b)) => Ns(a | b),
        (Some(Bs(a)), Bs(b)) => Bs(a | b),
        _ => return Err(wrong_type()),
    })
}

/// `None`: nothing is left, and an empty set is no value.
fn subtracted(there: &AttributeValue, value: &AttributeValue) -> Result<Option<AttributeValue>, AwsError> {
    use AttributeValue::{Bs, Ns, Ss};
    let (empty, left) = match (there, value) {
        (Ss(a), Ss(b)) => (a.is_subset(b), Ss(a - b)),
        (Ns(a), Ns(b)) => (a.is_subset(b), Ns(a - b)),
        (Bs(a), Bs(b)) => (a.is_subset(b), Bs(a - b)),
        _ => return Err(wrong_type()),
    };
    Ok((!empty).then_some(left))
}

fn no_place() -> AwsError {
    invalid("The document path provided in the update expression is invalid for update")
}

/// What holds the path's last step.
fn holder<'a>(item: &'a mut Item, steps: &[Step]) -> Option<&'a mut AttributeValue> {
    let (Step::Key(name), below) = steps.split_first()? else { return None };
    let mut found = item.get_mut(name)?;
    for step in below {
        found = match (found, step) {
            (AttributeValue::M(map), Step::Key(name)) => map.get_mut(name)?,
            (AttributeValue::L(list), Step::Index(index)) => list.get_mut(*index)?,
            _ => return None,
        };
    }
    Some(found)
}

fn put(item: &mut Item, path: &Path, value: AttributeValue) -> Result<(), AwsError> {
    let (last, above) = path.0.split_last().ok_or_else(no_place)?;
    if above.is_empty() {
        item.insert(path.attribute().to_owned(), value);
        return Ok(());
    }
    match (holder(item, above), last) {
        (Some(AttributeValue::M(map)), Step::Key(name)) => drop(map.insert(name.clone(), value)),
        (Some(AttributeValue::L(list)), Step::Index(index)) => match list.get_mut(*index) {
            Some(there) => *there = value,
            None => list.push(value),
        },
        _ => return Err(no_place()),
    }
    Ok(())
}

/// Removing what is not there is no error, but its holder must be there.
fn remove(item: &mut Item, path: &Path) -> Result<(), AwsError> {
    let (last, above) = path.0.split_last().ok_or_else(no_place)?;
    if above.is_empty() {
        item.remove(path.attribute());
        return Ok(());
    }
    match (holder(item, above), last) {
        (Some(AttributeValue::M(map)), Step::Key(name)) => drop(map.remove(name)),
        (Some(AttributeValue::L(list)), Step::Index(index)) => {
            if *index < list.len() {
                list.remove(*index);
            }
        }
        _ => return Err(no_place()),
    }
    Ok(())
}
