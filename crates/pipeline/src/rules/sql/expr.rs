//! A statement once it is read: what the evaluator walks.

use super::value::Value;
use crate::rules::functions::Function;
use regex::Regex;

/// `SET …  SELECT … FROM '<topic filter>' WHERE …`.
#[derive(Debug, Clone)]
pub struct Statement {
    pub variables: Vec<(String, Expr)>,
    pub query: Query,
    /// `None`: only Basic Ingest runs it.
    pub topic_filter: Option<String>,
}

/// The part that nested queries have as well; for the outermost, the message is the source.
#[derive(Debug, Clone)]
pub struct Query {
    pub columns: Columns,
    pub condition: Option<Expr>,
}

#[derive(Debug, Clone)]
pub enum Columns {
    /// `SELECT VALUE x`.
    Value(Expr),
    List(Vec<Column>),
}

#[derive(Debug, Clone)]
pub enum Column {
    /// `*`.
    All,
    /// `a.b.*`.
    Members(Expr),
    /// `x AS a.b`: the path of names.
    Item(Expr, Vec<String>),
}

#[derive(Debug, Clone)]
pub enum Expr {
    Literal(Value),
    /// `*` as a function's argument: the message.
    Message,
    Name(String),
    Variable(String),
    Member(Box<Expr>, String),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    /// `x IN …`, with the expression that answers an array.
    In(Box<Expr>, Box<Expr>),
    Exists(Box<Expr>),
    Case(Box<Case>),
    Cast(Box<Expr>, CastType),
    Call(&'static Function, Vec<Expr>),
    /// A function of a text and a regular expression that is known beforehand.
    Regex(&'static Function, Regex, Vec<Expr>),
    Array(Vec<Expr>),
    Object(Vec<(String, Expr)>),
    Nested(Box<Nested>),
}

#[derive(Debug, Clone)]
pub struct Nested {
    pub query: Query,
    pub source: Expr,
    pub alias: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Case {
    /// `None`: each branch has a condition of its own.
    pub operand: Option<Expr>,
    pub branches: Vec<(Expr, Expr)>,
    pub otherwise: Option<Expr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CastType {
    Text,
    Int,
    Decimal,
    Bool,
}

impl Query {
    /// `SELECT *` and nothing else: the payload goes on as it is.
    pub fn is_whole(&self) -> bool {
        matches!(&self.columns, Columns::List(columns) if matches!(columns[..], [Column::All]))
    }
}
