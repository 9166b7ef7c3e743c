//! The expressions of transforms and metrics: arithmetic over variables, and in metrics functions over the values of a
//! window. Parsed once when a model is made, evaluated over numbers.

/// Bytes of an expression: the service's limit.
const EXPRESSION_BYTES_MAX: usize = 1024;
/// Parentheses and functions within each other: bounds the stack.
const DEPTH_MAX: usize = 10;
/// Of one number.
type Function = fn(f64) -> f64;

const UNARY: [(&str, Function); 17] = [
    ("abs", f64::abs),
    ("acos", f64::acos),
    ("asin", f64::asin),
    ("atan", f64::atan),
    ("cbrt", f64::cbrt),
    ("ceil", f64::ceil),
    ("cos", f64::cos),
    ("cosh", f64::cosh),
    ("exp", f64::exp),
    ("floor", f64::floor),
    ("log", f64::ln),
    ("log10", f64::log10),
    ("log2", f64::log2),
    ("sin", f64::sin),
    ("sqrt", f64::sqrt),
    ("tan", f64::tan),
    ("tanh", f64::tanh),
];
/// Functions over the values of a window, in metrics.
const WINDOW: [&str; 8] = ["avg", "count", "earliest", "latest", "max", "min", "stdev", "sum"];

#[derive(Debug, Clone)]
pub enum Formula {
    Number(f64),
    Variable(String),
    Unary(Function, Box<Formula>),
    Not(Box<Formula>),
    Operation(Operator, Box<Formula>, Box<Formula>),
    If(Box<[Formula; 3]>),
    /// Of a metric: a function over one variable's values in the window.
    Window(&'static str, String),
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
    Plus,
    Minus,
    Times,
    Over,
    Modulo,
    Power,
}

const OPERATORS: [(&str, u8, Operator); 15] = [
    ("or", 1, Operator::Or),
    ("and", 2, Operator::And),
    ("==", 3, Operator::Equal),
    ("=", 3, Operator::Equal),
    ("!=", 3, Operator::NotEqual),
    ("<=", 4, Operator::LessOrEqual),
    (">=", 4, Operator::GreaterOrEqual),
    ("<", 4, Operator::Less),
    (">", 4, Operator::Greater),
    ("+", 5, Operator::Plus),
    ("-", 5, Operator::Minus),
    ("*", 6, Operator::Times),
    ("/", 6, Operator::Over),
    ("%", 6, Operator::Modulo),
    ("^", 8, Operator::Power),
];
/// A minus sign binds tighter than a product and less than a power.
const NEGATION: u8 = 7;

/// A variable's values in a window, in order of time.
pub type Values<'a> = &'a dyn Fn(&str) -> Vec<f64>;

impl Operator {
    fn apply(self, a: f64, b: f64) -> f64 {
        let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
        match self {
            Self::Or => truth(a != 0.0 || b != 0.0),
            Self::And => truth(a != 0.0 && b != 0.0),
            Self::Equal => truth(a == b),
            Self::NotEqual => truth(a != b),
            Self::Less => truth(a < b),
            Self::LessOrEqual => truth(a <= b),
            Self::Greater => truth(a > b),
            Self::GreaterOrEqual => truth(a >= b),
            Self::Plus => a + b,
            Self::Minus => a - b,
            Self::Times => a * b,
            Self::Over => a / b,
            Self::Modulo => a % b,
            Self::Power => a.powf(b),
        }
    }
}

impl Formula {
    /// `Err`: what is wrong, in words. `variables`: those that are declared.
    pub fn parse(text: &str, variables: &[&str], metric: bool) -> Result<Self, String> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return Err(format!("the expression is longer than {EXPRESSION_BYTES_MAX} bytes"));
        }
        let mut parser = Parser { rest: text, variables, metric, depth: 0 };
        let formula = parser.binary(0)?;
        parser.skip();
        if parser.rest.is_empty() { Ok(formula) } else { Err(parser.unexpected()) }
    }

    /// `None` where there is no value: a variable has none, or the result is no finite number.
    pub fn value(&self, values: Values<'_>) -> Option<f64> {
        let result = match self {
            Self::Number(number) => *number,
            Self::Variable(name) => *values(name).last()?,
            Self::Unary(function, of) => function(of.value(values)?),
            Self::Not(of) => {
                if of.value(values)? == 0.0 {
                    1.0
                } else {
                    0.0
                }
            }
            Self::Operation(operator, a, b) => operator.apply(a.value(values)?, b.value(values)?),
            Self::If(parts) => {
                let [condition, yes, no] = &**parts;
                if condition.value(values)? != 0.0 { yes.value(values)? } else { no.value(values)? }
            }
            Self::Window(function, name) => window(function, &values(name))?,
        };
        result.is_finite().then_some(result)
    }
}

fn window(function: &str, of: &[f64]) -> Option<f64> {
    let count = of.len() as f64;
    if function == "count" {
        return Some(count);
    }
    let (first, last) = (*of.first()?, *of.last()?);
    let sum: f64 = of.iter().sum();
    Some(match function {
        "avg" => sum / count,
        "sum" => sum,
        "min" => of.iter().copied().fold(f64::INFINITY, f64::min),
        "max" => of.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "earliest" => first,
        "latest" => last,
        _ => deviation(of),
    })
}

/// Of a population.
pub fn deviation(of: &[f64]) -> f64 {
    let mean = of.iter().sum::<f64>() / of.len() as f64;
    (of.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / of.len() as f64).sqrt()
}

struct Parser<'a> {
    rest: &'a str,
    variables: &'a [&'a str],
    metric: bool,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn unexpected(&self) -> String {
        match self.rest.chars().next() {
            None => "the expression ends too early".to_owned(),
            Some(_) => format!("the expression cannot be read from {:.20?} on", self.rest),
        }
    }

    fn takes(&mut self, sign: char) -> bool {
        self.skip();
        let rest = self.rest.strip_prefix(sign);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn word(&self) -> &'a str {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        &self.rest[..end]
    }

    fn operator(&mut self, least: u8) -> Option<(u8, Operator)> {
        self.skip();
        let word = self.word();
        let here = |(sign, ..): &&(&str, u8, Operator)| match word {
            "" => self.rest.starts_with(sign),
            word => word == *sign,
        };
        let (sign, binding, operator) = OPERATORS.iter().find(here)?;
        if *binding < least {
            return None;
        }
        self.rest = &self.rest[sign.len()..];
        Some((*binding, *operator))
    }

    fn binary(&mut self, least: u8) -> Result<Formula, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX * 4 {
            return Err(format!("the expression is nested more than {DEPTH_MAX} levels deep"));
        }
        let mut left = self.unary()?;
        while let Some((binding, operator)) = self.operator(least) {
            // Powers group to the right, all others to the left.
            let right = self.binary(if operator == Operator::Power { binding } else { binding + 1 })?;
            left = Formula::Operation(operator, Box::new(left), Box::new(right));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn unary(&mut self) -> Result<Formula, String> {
        if self.takes('-') {
            return Ok(Formula::Unary(|value| -value, Box::new(self.binary(NEGATION)?)));
        }
        if self.takes('(') {
            let inner = self.binary(0)?;
            return if self.takes(')') { Ok(inner) } else { Err(self.unexpected()) };
        }
        self.skip();
        if self.rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            let end = self.rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.rest.len());
            let number = self.rest[..end].parse().map_err(|_| format!("{:.20} is not a number", &self.rest[..end]))?;
            self.rest = &self.rest[end..];
            return Ok(Formula::Number(number));
        }
        let word = self.word();
        if word.is_empty() {
            return Err(self.unexpected());
        }
        self.rest = &self.rest[word.len()..];
        if word == "not" {
            return Ok(Formula::Not(Box::new(self.binary(NEGATION)?)));
        }
        if self.takes('(') {
            return self.call(word);
        }
        match word {
            "pi" => Ok(Formula::Number(std::f64::consts::PI)),
            "e" => Ok(Formula::Number(std::f64::consts::E)),
            "true" => Ok(Formula::Number(1.0)),
            "false" => Ok(Formula::Number(0.0)),
            _ if self.variables.contains(&word) => Ok(Formula::Variable(word.to_owned())),
            _ => Err(format!("{word} is not one of the expression's variables")),
        }
    }

    fn call(&mut self, name: &str) -> Result<Formula, String> {
        let mut arguments = vec![self.binary(0)?];
        while self.takes(',') {
            arguments.push(self.binary(0)?);
        }
        if !self.takes(')') {
            return Err(self.unexpected());
        }
        let count = arguments.len();
        if self.metric
            && let Some(function) = WINDOW.into_iter().find(|known| *known == name)
            && let [Formula::Variable(variable)] = &arguments[..]
        {
            return Ok(Formula::Window(function, variable.clone()));
        }
        if let Some((_, function)) = UNARY.iter().find(|(known, _)| *known == name)
            && count == 1
        {
            return Ok(Formula::Unary(*function, Box::new(arguments.remove(0))));
        }
        match (name, <[Formula; 3]>::try_from(arguments)) {
            ("if", Ok(parts)) => Ok(Formula::If(Box::new(parts))),
            ("pow", Err(two)) if count == 2 => {
                let [a, b] = <[Formula; 2]>::try_from(two).map_err(|_| self.unexpected())?;
                Ok(Formula::Operation(Operator::Power, Box::new(a), Box::new(b)))
            }
            _ => Err(format!("there is no function {name} of {count} arguments here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> Option<f64> {
        let formula = Formula::parse(text, &["a", "b", "w"], true).unwrap_or_else(|error| panic!("{text}: {error}"));
        formula.value(&|name| match name {
            "a" => vec![3.0],
            "b" => vec![4.0],
            "w" => vec![1.0, 2.0, 6.0],
            _ => Vec::new(),
        })
    }

    #[test]
    fn computes() {
        for (text, expected) in [
            ("a + b * 2", 11.0),
            ("(a + b) * 2", 14.0),
            ("-a ^ 2", -9.0),
            ("2 ^ 3 ^ 2", 512.0),
            ("10 - 3 - 2", 5.0),
            ("7 % 4", 3.0),
            ("sqrt(a * a + b * b)", 5.0),
            ("pow(a, 2)", 9.0),
            ("if(a > b, 1, 2)", 2.0),
            ("a < b and not (a == b)", 1.0),
            ("a = 3 or 1 / 0 > 1", 1.0),
            ("avg(w) + count(w)", 6.0),
            ("max(w) - min(w) + sum(w) + latest(w) - earliest(w)", 19.0),
            ("-2 * -3", 6.0),
        ] {
            let found = value(text);
            if text.contains("1 / 0") {
                assert_eq!(found, None, "a part without a value has none");
            } else {
                assert_eq!(found, Some(expected), "{text}");
            }
        }
    }

    #[test]
    fn refuses() {
        for text in ["", "a +", "c", "foo(a)", "sqrt(a, b)", "(a", "a b", "1.2.3", "avg(1)", "a $ b", &"(".repeat(500)]
        {
            assert!(Formula::parse(text, &["a", "b"], true).is_err(), "{text}");
        }
        assert!(Formula::parse("avg(a)", &["a"], false).is_err(), "a transform has no window");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "[ab0-9+*/^%()<>=!,. -]{0,30}|\\PC{0,20}") {
            if let Ok(formula) = Formula::parse(&text, &["a", "b"], true) {
                let _ = formula.value(&|_| vec![1.0]);
            }
        }
    }
}
