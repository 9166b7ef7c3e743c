//! Reads a statement: a frame of our own (SET, SELECT, FROM, WHERE) around expressions by precedence climbing.

use super::{
    DEPTH_MAX, SQL_BYTES_MAX, SqlError,
    expr::{Case, CastType, Column, Columns, Expr, Nested, Operator, Query, Statement},
    lexer::{Spanned, Token, tokens},
    value::Value,
};
use crate::rules::functions;
use kilter_core::topics;

/// Of a variable's name, in characters (AWS's limit).
const VARIABLE_CHARS_MAX: usize = 64;
/// Words that cannot be a payload member's name where an expression begins.
const RESERVED: [&str; 12] = ["select", "from", "where", "as", "and", "or", "in", "when", "then", "else", "end", "set"];

pub fn parse_statement(sql: &str) -> Result<Statement, SqlError> {
    let mut parser = Parser::new(sql, Vec::new())?;
    let variables = parser.variables()?;
    if !parser.keyword("SELECT") {
        return Err(parser.here("SELECT is expected"));
    }
    let columns = parser.columns()?;
    let topic_filter = if parser.keyword("FROM") { Some(parser.topic_filter()?) } else { None };
    let condition = if parser.keyword("WHERE") { Some(parser.expression(0)?) } else { None };
    parser.symbol(";");
    parser.end()?;
    Ok(Statement { variables, query: Query { columns, condition }, topic_filter })
}

/// An expression alone: what stands between `${` and `}`. It may use the statement's variables.
pub fn parse_expression(text: &str, variables: &[String]) -> Result<Expr, SqlError> {
    let mut parser = Parser::new(text, variables.to_vec())?;
    let expr = parser.argument()?;
    parser.end()?;
    Ok(expr)
}

struct Parser<'s> {
    sql: &'s str,
    tokens: Vec<Spanned>,
    next: usize,
    /// Of calls into [`Self::expression`].
    depth: usize,
    /// Height of the expression that was read last.
    height: usize,
    /// Height of the highest that was read since this was last set to 0.
    highest: usize,
    /// Variables that are set so far.
    variables: Vec<String>,
}

impl<'s> Parser<'s> {
    fn new(sql: &'s str, variables: Vec<String>) -> Result<Self, SqlError> {
        if sql.len() > SQL_BYTES_MAX {
            return Err(SqlError::new(format!("it has {} bytes, at most {SQL_BYTES_MAX} are read", sql.len())));
        }
        Ok(Self { sql, tokens: tokens(sql)?, next: 0, depth: 0, height: 0, highest: 0, variables })
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.next].token
    }

    fn peek_after(&self) -> &Token {
        self.tokens.get(self.next + 1).map_or(&Token::End, |spanned| &spanned.token)
    }

    fn advance(&mut self) -> Token {
        let token = self.tokens[self.next].token.clone();
        if token != Token::End {
            self.next += 1;
        }
        token
    }

    fn here(&self, why: impl Into<String>) -> SqlError {
        SqlError::at(self.sql, self.tokens[self.next].start, why)
    }

    fn is_keyword(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Word(found) if found.eq_ignore_ascii_case(word))
    }

    fn keyword(&mut self, word: &str) -> bool {
        let found = self.is_keyword(word);
        self.next += usize::from(found);
        found
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(found) if *found == symbol)
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        let found = self.is_symbol(symbol);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<(), SqlError> {
        if self.symbol(symbol) { Ok(()) } else { Err(self.here(format!("{symbol:?} is expected"))) }
    }

    fn expect_keyword(&mut self, word: &str) -> Result<(), SqlError> {
        if self.keyword(word) { Ok(()) } else { Err(self.here(format!("{word} is expected"))) }
    }

    fn end(&self) -> Result<(), SqlError> {
        if *self.peek() == Token::End { Ok(()) } else { Err(self.here("nothing more is expected")) }
    }

    /// Takes note that an expression was built over parts of height `below`.
    fn build(&mut self, below: usize, expr: Expr) -> Result<Expr, SqlError> {
        self.height = below + 1;
        self.highest = self.highest.max(self.height);
        if self.height > DEPTH_MAX {
            return Err(self.here(format!("the expression is deeper than {DEPTH_MAX}")));
        }
        Ok(expr)
    }

    fn variables(&mut self) -> Result<Vec<(String, Expr)>, SqlError> {
        let mut all = Vec::new();
        if !self.keyword("SET") {
            return Ok(all);
        }
        loop {
            let place = self.here("");
            let Token::Variable(name) = self.advance() else {
                return Err(SqlError { why: "a variable, @name, must follow SET".to_owned(), ..place });
            };
            if name.chars().count() > VARIABLE_CHARS_MAX {
                return Err(self.here(format!("a variable's name has at most {VARIABLE_CHARS_MAX} characters")));
            }
            if self.variables.contains(&name) {
                return Err(self.here(format!("the variable @{name} is set twice")));
            }
            self.expect("=")?;
            let expr = self.argument()?;
            self.variables.push(name.clone());
            all.push((name, expr));
            if !self.symbol(",") {
                return Ok(all);
            }
        }
    }

    fn topic_filter(&mut self) -> Result<String, SqlError> {
        let place = self.here("");
        let Token::Text(filter) = self.advance() else {
            return Err(SqlError { why: "FROM needs a topic filter in single quotes".to_owned(), ..place });
        };
        topics::check_filter(&filter)
            .map_err(|why| SqlError { why: format!("the topic filter {filter:?} is not valid: {why}"), ..place })?;
        Ok(filter)
    }

    fn columns(&mut self) -> Result<Columns, SqlError> {
        if self.begins_value() {
            self.next += 1;
            // The values themselves: what `*` alone selects.
            let whole = self.symbol("*");
            return if whole { Ok(Columns::List(vec![Column::All])) } else { self.expression(0).map(Columns::Value) };
        }
        let mut columns = vec![self.column()?];
        while self.symbol(",") {
            columns.push(self.column()?);
        }
        Ok(Columns::List(columns))
    }

    /// `VALUE x`, and not a payload member of the name `value`.
    fn begins_value(&self) -> bool {
        if !self.is_keyword("VALUE") {
            return false;
        }
        match self.peek_after() {
            Token::Word(word) => !RESERVED.iter().any(|reserved| word.eq_ignore_ascii_case(reserved)),
            Token::Symbol("*") => match self.tokens.get(self.next + 2).map(|spanned| &spanned.token) {
                Some(Token::Word(word)) => ["from", "where"].iter().any(|w| word.eq_ignore_ascii_case(w)),
                other => matches!(other, None | Some(Token::End | Token::Symbol(")" | ";"))),
            },
            Token::Symbol(symbol) => matches!(*symbol, "(" | "[" | "{"),
            Token::Variable(_) | Token::Text(_) | Token::Int(_) | Token::Decimal(_) => true,
            Token::End => false,
        }
    }

    fn column(&mut self) -> Result<Column, SqlError> {
        if self.symbol("*") {
            return Ok(Column::All);
        }
        let start = self.tokens[self.next].start;
        let expr = self.expression(0)?;
        let text = self.sql[start..self.tokens[self.next - 1].end].to_owned();
        if self.symbol(".") {
            self.expect("*")?;
            return Ok(Column::Members(expr));
        }
        if !self.keyword("AS") {
            let name = match &expr {
                Expr::Name(name) | Expr::Variable(name) | Expr::Member(_, name) => name.clone(),
                _ => text,
            };
            return Ok(Column::Item(expr, vec![name]));
        }
        let mut path = vec![self.alias()?];
        while self.symbol(".") {
            path.push(self.alias()?);
        }
        if path.len() > DEPTH_MAX {
            return Err(self.here(format!("a name has at most {DEPTH_MAX} parts")));
        }
        Ok(Column::Item(expr, path))
    }

    fn alias(&mut self) -> Result<String, SqlError> {
        let place = self.here("a name is expected");
        match self.advance() {
            Token::Word(name) | Token::Text(name) => Ok(name),
            _ => Err(place),
        }
    }

    /// An expression, or `*` for the message.
    fn argument(&mut self) -> Result<Expr, SqlError> {
        if self.symbol("*") {
            return self.build(0, Expr::Message);
        }
        self.expression(0)
    }

    /// An expression whose operators bind at least as tightly as `power`.
    fn expression(&mut self, power: u8) -> Result<Expr, SqlError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.here(format!("the expression is deeper than {DEPTH_MAX}")));
        }
        let mut left = self.prefix()?;
        loop {
            let below = self.height;
            if let Some((operator, binds)) = self.operator().filter(|(_, binds)| *binds >= power) {
                self.next += 1;
                let right = self.expression(binds + 1)?;
                let binary = Expr::Binary(operator, Box::new(left), Box::new(right));
                left = self.build(below.max(self.height), binary)?;
            } else if COMPARISON >= power && self.is_keyword("IN") {
                self.next += 1;
                left = self.is_in(left, below)?;
            } else if COMPARISON >= power && self.is_keyword("NOT") && self.is_word_after("IN") {
                self.next += 2;
                let found = self.is_in(left, below)?;
                left = self.build(self.height, Expr::Not(Box::new(found)))?;
            } else {
                self.depth -= 1;
                return Ok(left);
            }
        }
    }

    fn is_word_after(&self, word: &str) -> bool {
        matches!(self.peek_after(), Token::Word(found) if found.eq_ignore_ascii_case(word))
    }

    fn operator(&self) -> Option<(Operator, u8)> {
        Some(match self.peek() {
            Token::Word(word) if word.eq_ignore_ascii_case("OR") => (Operator::Or, 1),
            Token::Word(word) if word.eq_ignore_ascii_case("AND") => (Operator::And, 2),
            Token::Symbol("=") => (Operator::Equal, COMPARISON),
            Token::Symbol("<>" | "!=") => (Operator::NotEqual, COMPARISON),
            Token::Symbol("<") => (Operator::Less, COMPARISON),
            Token::Symbol("<=") => (Operator::LessOrEqual, COMPARISON),
            Token::Symbol(">") => (Operator::Greater, COMPARISON),
            Token::Symbol(">=") => (Operator::GreaterOrEqual, COMPARISON),
            Token::Symbol("+") => (Operator::Add, 5),
            Token::Symbol("-") => (Operator::Subtract, 5),
            Token::Symbol("*") => (Operator::Multiply, 6),
            Token::Symbol("/") => (Operator::Divide, 6),
            Token::Symbol("%") => (Operator::Remainder, 6),
            _ => return None,
        })
    }

    fn is_in(&mut self, left: Expr, below: usize) -> Result<Expr, SqlError> {
        let right = if self.is_symbol("(") && !self.is_word_after("SELECT") {
            self.next += 1;
            let items = self.list(")")?;
            let height = self.height;
            match <[Expr; 1]>::try_from(items) {
                // One alone may be a member that is an array; a single value is looked for as if it stood in one.
                Ok([only]) => only,
                Err(items) => self.build(height, Expr::Array(items))?,
            }
        } else {
            self.expression(COMPARISON + 1)?
        };
        self.build(below.max(self.height), Expr::In(Box::new(left), Box::new(right)))
    }

    fn prefix(&mut self) -> Result<Expr, SqlError> {
        if self.is_keyword("NOT") {
            self.next += 1;
            let expr = self.expression(3)?;
            return self.build(self.height, Expr::Not(Box::new(expr)));
        }
        if self.symbol("-") {
            let expr = match self.expression(7)? {
                Expr::Literal(Value::Int(i)) => return self.build(0, Expr::Literal(Value::Int(-i))),
                Expr::Literal(Value::Decimal(d)) => return self.build(0, Expr::Literal(Value::Decimal(-d))),
                other => other,
            };
            return self.build(self.height, Expr::Negative(Box::new(expr)));
        }
        let mut expr = self.primary()?;
        while self.is_symbol(".") && !matches!(self.peek_after(), Token::Symbol("*")) {
            self.next += 1;
            let name = self.alias()?;
            expr = self.build(self.height, Expr::Member(Box::new(expr), name))?;
        }
        Ok(expr)
    }

    fn primary(&mut self) -> Result<Expr, SqlError> {
        let place = self.here("an expression is expected");
        match self.advance() {
            Token::Int(value) => self.build(0, Expr::Literal(Value::Int(value))),
            Token::Decimal(value) => self.build(0, Expr::Literal(Value::number(value))),
            Token::Text(text) => self.build(0, Expr::Literal(Value::Text(text))),
            Token::Variable(name) if self.variables.contains(&name) => self.build(0, Expr::Variable(name)),
            Token::Variable(name) => Err(SqlError { why: format!("the variable @{name} is not set"), ..place }),
            Token::Symbol("(") if self.is_keyword("SELECT") => {
                let nested = self.nested()?;
                self.expect(")")?;
                Ok(nested)
            }
            Token::Symbol("(") => {
                let expr = self.argument()?;
                self.expect(")")?;
                Ok(expr)
            }
            Token::Symbol("[") => {
                let items = self.list("]")?;
                self.build(self.height, Expr::Array(items))
            }
            Token::Symbol("{") => self.object(),
            Token::Word(word) => self.word(word, place),
            _ => Err(place),
        }
    }

    fn word(&mut self, word: String, place: SqlError) -> Result<Expr, SqlError> {
        let lower = word.to_ascii_lowercase();
        match lower.as_str() {
            "null" => return self.build(0, Expr::Literal(Value::Null)),
            "true" => return self.build(0, Expr::Literal(Value::Bool(true))),
            "false" => return self.build(0, Expr::Literal(Value::Bool(false))),
            "case" if !self.is_symbol(".") => return self.case(),
            "exists" if self.is_symbol("(") => {
                self.next += 1;
                let nested = self.nested()?;
                self.expect(")")?;
                return self.build(self.height, Expr::Exists(Box::new(nested)));
            }
            reserved if RESERVED.contains(&reserved) => return Err(place),
            _ => {}
        }
        if !self.symbol("(") {
            return self.build(0, Expr::Name(word));
        }
        if lower == "cast" {
            return self.cast();
        }
        let function = functions::find(&lower).map_err(|why| SqlError { why, ..place.clone() })?;
        let arguments = self.list(")")?;
        if let Some(why) = functions::not_here(function, &arguments) {
            return Err(SqlError { why, ..place });
        }
        let (least, most) = function.arguments;
        if !(least..=most).contains(&arguments.len()) {
            let why = format!("{} takes {}, not {}", function.name, count(least, most), arguments.len());
            return Err(SqlError { why, ..place });
        }
        let call = match arguments.get(1) {
            Some(Expr::Literal(Value::Text(pattern))) if function.takes_regex => {
                let regex = functions::regex(pattern)
                    .ok_or_else(|| SqlError { why: format!("{pattern:?} is not a regular expression"), ..place })?;
                Expr::Regex(function, regex, arguments)
            }
            _ => Expr::Call(function, arguments),
        };
        self.build(self.height, call)
    }

    /// Expressions up to the closing symbol; the height is that of the highest.
    fn list(&mut self, close: &str) -> Result<Vec<Expr>, SqlError> {
        let (mut items, mut height) = (Vec::new(), 0);
        while !self.symbol(close) {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(self.argument()?);
            height = height.max(self.height);
        }
        self.height = height;
        Ok(items)
    }

    fn object(&mut self) -> Result<Expr, SqlError> {
        let (mut members, mut height) = (Vec::new(), 0);
        while !self.symbol("}") {
            if !members.is_empty() {
                self.expect(",")?;
            }
            let name = self.alias()?;
            self.expect(":")?;
            members.push((name, self.argument()?));
            height = height.max(self.height);
        }
        self.build(height, Expr::Object(members))
    }

    fn cast(&mut self) -> Result<Expr, SqlError> {
        let expr = self.expression(0)?;
        self.expect_keyword("AS")?;
        let place = self.here("");
        let name = self.alias()?;
        let to = match name.to_ascii_lowercase().as_str() {
            "string" | "nvarchar" | "text" | "ntext" | "varchar" => CastType::Text,
            "int" | "integer" => CastType::Int,
            "decimal" | "double" => CastType::Decimal,
            "bool" | "boolean" => CastType::Bool,
            _ => return Err(SqlError { why: format!("{name:?} is not a type that cast knows"), ..place }),
        };
        self.expect(")")?;
        self.build(self.height, Expr::Cast(Box::new(expr), to))
    }

    fn case(&mut self) -> Result<Expr, SqlError> {
        let mut height = 0;
        let mut part = |parser: &mut Self| -> Result<Expr, SqlError> {
            let expr = parser.expression(0)?;
            height = height.max(parser.height);
            Ok(expr)
        };
        let operand = if self.is_keyword("WHEN") { None } else { Some(part(self)?) };
        let mut branches = Vec::new();
        while self.keyword("WHEN") {
            let when = part(self)?;
            self.expect_keyword("THEN")?;
            branches.push((when, part(self)?));
        }
        if branches.is_empty() {
            return Err(self.here("WHEN is expected"));
        }
        let otherwise = if self.keyword("ELSE") { Some(part(self)?) } else { None };
        self.expect_keyword("END")?;
        self.build(height, Expr::Case(Box::new(Case { operand, branches, otherwise })))
    }

    fn nested(&mut self) -> Result<Expr, SqlError> {
        self.expect_keyword("SELECT")?;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.here(format!("the expression is deeper than {DEPTH_MAX}")));
        }
        let outer = std::mem::take(&mut self.highest);
        let columns = self.columns()?;
        self.expect_keyword("FROM")?;
        let source = self.expression(0)?;
        let alias = if self.keyword("AS") { Some(self.alias()?) } else { None };
        let condition = if self.keyword("WHERE") { Some(self.expression(0)?) } else { None };
        self.depth -= 1;
        let within = std::mem::replace(&mut self.highest, outer);
        let nested = Nested { query: Query { columns, condition }, source, alias };
        self.build(within, Expr::Nested(Box::new(nested)))
    }
}

const COMPARISON: u8 = 4;

fn count(least: usize, most: usize) -> String {
    match (least, most) {
        (0, 0) => "no argument".to_owned(),
        (1, 1) => "one argument".to_owned(),
        (least, most) if least == most => format!("{least} arguments"),
        (least, usize::MAX) => format!("at least {least} arguments"),
        (least, most) => format!("{least} to {most} arguments"),
    }
}
