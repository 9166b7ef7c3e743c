//! The parser that all kinds of expressions share, and those of conditions and projections.

use super::{
    Comparison, Condition, DEPTH_MAX, INDEX_MAX, Kind, OPERATORS_MAX, Operand, Path, Placeholders, Projection, Step,
    path::quarrel,
    reserved,
    token::{Lexeme, Token, syntax, tokens},
};
use crate::{AwsError, dynamodb::value::AttributeValue};
use std::cmp::Ordering;

const TYPES: [&str; 10] = ["S", "SS", "N", "NS", "B", "BS", "BOOL", "NULL", "L", "M"];

pub struct Parser<'a> {
    pub kind: Kind,
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    operators: usize,
    depth: usize,
    placeholders: &'a mut Placeholders,
}

/// What a pair of parentheses may hold: its content is known only behind it.
enum Node {
    Operand(Operand),
    Condition(Condition),
    /// A condition in parentheses of its own.
    Group(Condition),
}

impl<'a> Parser<'a> {
    pub fn new(kind: Kind, text: &'a str, placeholders: &'a mut Placeholders) -> Result<Self, AwsError> {
        let tokens = tokens(kind, text)?;
        Ok(Self { kind, text, tokens, at: 0, operators: 0, depth: 0, placeholders })
    }

    fn token(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    pub fn peek(&self) -> (Lexeme, &'a str) {
        let token = self.token();
        (token.lexeme, &self.text[token.at.clone()])
    }

    fn peek_behind(&self) -> &'a str {
        self.tokens.get(self.at + 1).map_or("", |token| &self.text[token.at.clone()])
    }

    pub fn advance(&mut self) {
        self.at += 1;
    }

    /// At the current token.
    pub fn syntax(&self) -> AwsError {
        let around = |at: Option<&Token>| at.map(|token| token.at.clone());
        let token = self.token().at.clone();
        let from = around(self.at.checked_sub(1).and_then(|at| self.tokens.get(at))).map_or(token.start, |t| t.start);
        let to = around(self.tokens.get(self.at + 1)).map_or(token.end, |t| t.end);
        syntax(self.kind, self.text, token, from..to)
    }

    pub fn takes_sign(&mut self, sign: &str) -> bool {
        let there = self.peek() == (Lexeme::Sign, sign);
        self.at += usize::from(there);
        there
    }

    pub fn sign(&mut self, sign: &str) -> Result<(), AwsError> {
        if self.takes_sign(sign) { Ok(()) } else { Err(self.syntax()) }
    }

    pub fn is_word(&self, word: &str) -> bool {
        let (lexeme, text) = self.peek();
        lexeme == Lexeme::Word && text.eq_ignore_ascii_case(word)
    }

    pub fn takes_word(&mut self, word: &str) -> bool {
        let there = self.is_word(word);
        self.at += usize::from(there);
        there
    }

    pub fn end(&self) -> Result<(), AwsError> {
        if self.peek().0 == Lexeme::End { Ok(()) } else { Err(self.syntax()) }
    }

    /// Counts an operator or function.
    pub fn operator(&mut self) -> Result<(), AwsError> {
        self.operators += 1;
        if self.operators > OPERATORS_MAX {
            return Err(self.kind.fault(format_args!(
                "The expression contains too many operators; operator count: more than {OPERATORS_MAX}"
            )));
        }
        Ok(())
    }

    pub fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, AwsError>) -> Result<T, AwsError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.kind.fault(format_args!("The expression is nested more than {DEPTH_MAX} levels deep;")));
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    pub fn path(&mut self) -> Result<Path, AwsError> {
        let mut steps = vec![Step::Key(self.path_name()?)];
        loop {
            if self.takes_sign(".") {
                steps.push(Step::Key(self.path_name()?));
            } else if self.takes_sign("[") {
                let (Lexeme::Digits, digits) = self.peek() else { return Err(self.syntax()) };
                let index = digits.parse().ok().filter(|index| *index <= INDEX_MAX);
                let Some(index) = index else {
                    let what = format_args!("List index is not within the allowable range; index: [{digits:.40}]");
                    return Err(self.kind.fault(what));
                };
                steps.push(Step::Index(index));
                self.advance();
                self.sign("]")?;
            } else {
                return Ok(Path(steps));
            }
        }
    }

    fn path_name(&mut self) -> Result<String, AwsError> {
        let (lexeme, text) = self.peek();
        match lexeme {
            Lexeme::Word if reserved::is_reserved(text) => {
                Err(self.kind.fault(format_args!("Attribute name is a reserved keyword; reserved keyword: {text}")))
            }
            Lexeme::Word => {
                self.advance();
                Ok(text.to_owned())
            }
            Lexeme::Name => {
                self.advance();
                self.placeholders.name(self.kind, text)
            }
            _ => Err(self.syntax()),
        }
    }

    pub fn value(&mut self) -> Result<AttributeValue, AwsError> {
        let (Lexeme::Value, text) = self.peek() else { return Err(self.syntax()) };
        self.advance();
        self.placeholders.value(self.kind, text)
    }

    /// Whether a function's name with its parenthesis comes next.
    pub fn is_call(&self) -> bool {
        self.peek().0 == Lexeme::Word && self.peek_behind() == "("
    }

    /// The comma-separated arguments of a call, its name already read.
    pub fn arguments<T>(
        &mut self,
        mut argument: impl FnMut(&mut Self) -> Result<T, AwsError>,
    ) -> Result<Vec<T>, AwsError> {
        self.sign("(")?;
        let mut all = vec![argument(self)?];
        while self.takes_sign(",") {
            all.push(argument(self)?);
        }
        self.sign(")")?;
        Ok(all)
    }

    pub fn wrong_count(&self, function: &str, count: usize) -> AwsError {
        self.kind.fault(format_args!(
            "Incorrect number of operands for operator or function; operator or function: {function}, number of operands: {count}"
        ))
    }

    pub fn wrong_type(&self, operator: &str, kind: &str) -> AwsError {
        self.kind.fault(format_args!(
            "Incorrect operand type for operator or function; operator or function: {operator}, operand type: {kind}"
        ))
    }

    fn condition(&mut self) -> Result<Condition, AwsError> {
        match self.either()? {
            Node::Condition(condition) | Node::Group(condition) => Ok(condition),
            Node::Operand(_) => Err(self.syntax()),
        }
    }

    fn truth(&self, node: Node) -> Result<Box<Condition>, AwsError> {
        match node {
            Node::Condition(condition) | Node::Group(condition) => Ok(Box::new(condition)),
            Node::Operand(_) => Err(self.syntax()),
        }
    }

    fn either(&mut self) -> Result<Node, AwsError> {
        let mut left = self.both()?;
        while self.is_word("OR") {
            let a = self.truth(left)?;
            self.advance();
            self.operator()?;
            let right = self.both()?;
            left = Node::Condition(Condition::Or(a, self.truth(right)?));
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Node, AwsError> {
        let mut left = self.negated()?;
        while self.is_word("AND") {
            let a = self.truth(left)?;
            self.advance();
            self.operator()?;
            let right = self.negated()?;
            left = Node::Condition(Condition::And(a, self.truth(right)?));
        }
        Ok(left)
    }

    fn negated(&mut self) -> Result<Node, AwsError> {
        if self.takes_word("NOT") {
            self.operator()?;
            let inner = self.deeper(Self::negated)?;
            return Ok(Node::Condition(Condition::Not(self.truth(inner)?)));
        }
        let left = self.primary()?;
        let Node::Operand(operand) = left else { return Ok(left) };
        self.compared(operand)
    }

    fn compared(&mut self, left: Operand) -> Result<Node, AwsError> {
        let comparison = match self.peek() {
            (Lexeme::Sign, "=") => Comparison::Equal,
            (Lexeme::Sign, "<>") => Comparison::NotEqual,
            (Lexeme::Sign, "<") => Comparison::Less,
            (Lexeme::Sign, "<=") => Comparison::LessOrEqual,
            (Lexeme::Sign, ">") => Comparison::Greater,
            (Lexeme::Sign, ">=") => Comparison::GreaterOrEqual,
            (Lexeme::Word, _) if self.takes_word("BETWEEN") => return self.between(left),
            (Lexeme::Word, _) if self.takes_word("IN") => {
                self.operator()?;
                let choices = self.arguments(Self::operand)?;
                return Ok(Node::Condition(Condition::In(left, choices)));
            }
            _ => return Ok(Node::Operand(left)),
        };
        self.advance();
        self.operator()?;
        let right = self.operand()?;
        if !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
            self.ordered(comparison.sign(), [&left, &right])?;
        }
        Ok(Node::Condition(Condition::Compare(comparison, left, right)))
    }

    fn between(&mut self, of: Operand) -> Result<Node, AwsError> {
        self.operator()?;
        let low = self.operand()?;
        if !self.takes_word("AND") {
            return Err(self.syntax());
        }
        let high = self.operand()?;
        self.ordered("BETWEEN", [&of, &low, &high])?;
        if let (Operand::Value(a), Operand::Value(b)) = (&low, &high) {
            let shown = |value: &AttributeValue| match value.to_json() {
                serde_json::Value::Object(members) => members
                    .iter()
                    .map(|(kind, value)| format!("{{{kind}:{}}}", value.as_str().unwrap_or_default()))
                    .collect::<String>(),
                _ => String::new(),
            };
            if a.kind() != b.kind() {
                return Err(self.kind.fault(format_args!(
                    "The BETWEEN operator requires same data type for lower and upper bounds; lower bound operand: AttributeValue: {}, upper bound operand: AttributeValue: {}",
                    shown(a),
                    shown(b)
                )));
            }
            if super::condition::order(a, b) == Some(Ordering::Greater) {
                return Err(self.kind.fault(format_args!(
                    "The BETWEEN operator requires upper bound to be greater than or equal to lower bound; lower bound operand: AttributeValue: {}, upper bound operand: AttributeValue: {}",
                    shown(a),
                    shown(b)
                )));
            }
        }
        Ok(Node::Condition(Condition::Between(of, low, high)))
    }

    fn ordered<const N: usize>(&self, operator: &str, operands: [&Operand; N]) -> Result<(), AwsError> {
        let unordered = operands.iter().find_map(|operand| match operand {
            Operand::Value(AttributeValue::S(_) | AttributeValue::N(_) | AttributeValue::B(_)) => None,
            Operand::Value(value) => Some(value.kind()),
            Operand::Path(_) | Operand::Size(_) => None,
        });
        unordered.map_or(Ok(()), |kind| Err(self.wrong_type(operator, kind)))
    }

    fn operand(&mut self) -> Result<Operand, AwsError> {
        match self.deeper(Self::primary)? {
            Node::Operand(operand) => Ok(operand),
            Node::Condition(_) | Node::Group(_) => Err(self.syntax()),
        }
    }

    fn primary(&mut self) -> Result<Node, AwsError> {
        if self.takes_sign("(") {
            return match self.deeper(Self::either)? {
                Node::Group(_) => Err(self.kind.fault("The expression has redundant parentheses;")),
                Node::Condition(condition) => self.sign(")").map(|()| Node::Group(condition)),
                Node::Operand(operand) => self.sign(")").map(|()| Node::Operand(operand)),
            };
        }
        if self.is_call() {
            return self.call();
        }
        Ok(Node::Operand(match self.peek().0 {
            Lexeme::Value => Operand::Value(self.value()?),
            Lexeme::Word | Lexeme::Name => Operand::Path(self.path()?),
            _ => return Err(self.syntax()),
        }))
    }

    fn call(&mut self) -> Result<Node, AwsError> {
        let (_, name) = self.peek();
        self.advance();
        self.operator()?;
        let arguments = self.arguments(Self::operand)?;
        let count = arguments.len();
        let mut arguments = arguments.into_iter();
        let mut next = || arguments.next().expect("the number of arguments was compared");
        Ok(match (name, count) {
            ("size", 1) => match next() {
                Operand::Path(path) => Node::Operand(Operand::Size(path)),
                Operand::Value(value) => return Err(self.wrong_type(name, value.kind())),
                Operand::Size(_) => return Err(self.syntax()),
            },
            ("attribute_exists", 1) => Node::Condition(Condition::Exists(self.must_be_path(name, next())?)),
            ("attribute_not_exists", 1) => Node::Condition(Condition::NotExists(self.must_be_path(name, next())?)),
            ("attribute_type", 2) => {
                let path = self.must_be_path(name, next())?;
                Node::Condition(Condition::HasType(path, self.type_name(next())?))
            }
            ("begins_with", 2) => {
                let (of, prefix) = (next(), next());
                for operand in [&of, &prefix] {
                    if let Operand::Value(value) = operand
                        && !matches!(value, AttributeValue::S(_) | AttributeValue::B(_))
                    {
                        return Err(self.wrong_type(name, value.kind()));
                    }
                }
                Node::Condition(Condition::BeginsWith(of, prefix))
            }
            ("contains", 2) => Node::Condition(Condition::Contains(next(), next())),
            (
                "size" | "attribute_exists" | "attribute_not_exists" | "attribute_type" | "begins_with" | "contains",
                _,
            ) => {
                return Err(self.wrong_count(name, count));
            }
            _ => return Err(self.kind.fault(format_args!("Invalid function name; function: {name}"))),
        })
    }

    fn must_be_path(&self, function: &str, operand: Operand) -> Result<Path, AwsError> {
        match operand {
            Operand::Path(path) => Ok(path),
            Operand::Value(_) | Operand::Size(_) => Err(self.kind.fault(format_args!(
                "Operator or function requires a document path; operator or function: {function}"
            ))),
        }
    }

    fn type_name(&self, operand: Operand) -> Result<String, AwsError> {
        match operand {
            Operand::Value(AttributeValue::S(name)) if TYPES.contains(&name.as_str()) => Ok(name),
            Operand::Value(AttributeValue::S(name)) => Err(self.kind.fault(format_args!(
                "Invalid attribute type name found; type: {name:.100}, valid types: {{{}}}",
                TYPES.join(",")
            ))),
            Operand::Value(value) => Err(self.wrong_type("attribute_type", value.kind())),
            Operand::Path(_) | Operand::Size(_) => {
                Err(self.wrong_type("attribute_type", "{NS,SS,L,BS,N,M,B,BOOL,NULL,S}"))
            }
        }
    }
}

impl Condition {
    pub fn parse(kind: Kind, text: &str, placeholders: &mut Placeholders) -> Result<Self, AwsError> {
        let mut parser = Parser::new(kind, text, placeholders)?;
        let condition = parser.condition()?;
        parser.end()?;
        Ok(condition)
    }
}

impl Projection {
    pub fn parse(text: &str, placeholders: &mut Placeholders) -> Result<Self, AwsError> {
        let mut parser = Parser::new(Kind::Projection, text, placeholders)?;
        let mut paths = vec![parser.path()?];
        while parser.takes_sign(",") {
            parser.operator()?;
            paths.push(parser.path()?);
        }
        parser.end()?;
        match quarrel(&paths.iter().collect::<Vec<_>>()) {
            Some(what) => Err(Kind::Projection.fault(what)),
            None => Ok(Self::of(&paths)),
        }
    }
}
