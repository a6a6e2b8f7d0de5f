//! The parser of the text form of label selectors: upstream's tokens and its descent, so that every error reads the same.

use std::collections::BTreeSet;

use compact_str::CompactString;

use super::{Operator, Requirement, SelectorError, invalid};
use crate::names;

const BINARY_OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Identifier,
    In,
    Less,
    NotEquals,
    NotIn,
    Open,
}

/// The requirements in the order of the text.
pub(super) fn parse(text: &str) -> Result<Vec<Requirement>, SelectorError> {
    let mut parser = Parser {
        tokens: scan(text),
        at: 0,
    };
    let mut requirements = Vec::new();
    loop {
        let (token, literal) = parser.peek_value();
        match token {
            Token::Identifier | Token::Not => {
                let requirement = parser
                    .requirement()
                    .map_err(|why| SelectorError(format!("unable to parse requirement: {why}")))?;
                requirements.push(requirement);
                match parser.take_value() {
                    (Token::End, _) => return Ok(requirements),
                    (Token::Comma, _) => {
                        let (next, literal) = parser.peek_value();
                        if !matches!(next, Token::Identifier | Token::Not) {
                            return Err(found(literal, ", expected: identifier after ','"));
                        }
                    }
                    (_, literal) => return Err(found(literal, ", expected: ',' or 'end of string'")),
                }
            }
            Token::End => return Ok(requirements),
            _ => return Err(found(literal, ", expected: !, identifier, or 'end of string'")),
        }
    }
}

fn found(literal: &str, expected: &str) -> SelectorError {
    SelectorError(format!("found '{literal}'{expected}"))
}

struct Parser<'a> {
    /// Ends with [`Token::End`], which is never passed.
    tokens: Vec<(Token, &'a str)>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> (Token, &'a str) {
        self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    /// As a value: `in` and `notin` are words like others.
    fn peek_value(&self) -> (Token, &'a str) {
        match self.peek() {
            (Token::In | Token::NotIn, literal) => (Token::Identifier, literal),
            other => other,
        }
    }

    fn take_value(&mut self) -> (Token, &'a str) {
        let token = self.peek_value();
        self.at += 1;
        token
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let (key, operator) = self.key_and_unary_operator()?;
        if let Some(operator) = operator {
            return Requirement::new(key, operator, Vec::new());
        }
        let operator = self.binary_operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.value_set()?,
            _ => BTreeSet::from([self.exact_value()?]),
        };
        Requirement::new(
            key,
            operator,
            values.into_iter().map(CompactString::from).collect(),
        )
    }

    fn key_and_unary_operator(&mut self) -> Result<(&'a str, Option<Operator>), SelectorError> {
        let mut operator = None;
        let (mut token, mut literal) = self.take_value();
        if token == Token::Not {
            operator = Some(Operator::DoesNotExist);
            (token, literal) = self.take_value();
        }
        if token != Token::Identifier {
            return Err(found(literal, ", expected: identifier"));
        }
        if let Some(problem) = invalid("<nil>", literal, &names::qualified_name(literal)) {
            return Err(SelectorError(problem));
        }
        if matches!(self.peek_value().0, Token::End | Token::Comma) {
            operator = operator.or(Some(Operator::Exists));
        }
        Ok((literal, operator))
    }

    fn binary_operator(&mut self) -> Result<Operator, SelectorError> {
        let (token, literal) = self.peek();
        self.at += 1;
        Ok(match token {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::NotEquals => Operator::NotEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            _ => return Err(found(literal, &format!(", expected: {BINARY_OPERATORS}"))),
        })
    }

    fn value_set(&mut self) -> Result<BTreeSet<&'a str>, SelectorError> {
        let (token, literal) = self.take_value();
        if token != Token::Open {
            // Upstream has no comma here.
            return Err(found(literal, " expected: '('"));
        }
        let (token, literal) = self.peek_value();
        match token {
            Token::Identifier | Token::Comma => {
                let values = self.identifiers()?;
                match self.take_value().0 {
                    Token::Close => Ok(values),
                    _ => Err(found(literal, ", expected: ')'")),
                }
            }
            Token::Close => {
                self.at += 1;
                Ok(BTreeSet::from([""]))
            }
            _ => Err(found(literal, ", expected: ',', ')' or identifier")),
        }
    }

    /// Values with commas between them; an empty one wherever a comma has nothing beside it.
    fn identifiers(&mut self) -> Result<BTreeSet<&'a str>, SelectorError> {
        let mut values = BTreeSet::new();
        loop {
            let (token, literal) = self.take_value();
            match token {
                Token::Identifier => {
                    values.insert(literal);
                    match self.peek_value() {
                        (Token::Comma, _) => {}
                        (Token::Close, _) => return Ok(values),
                        (_, literal) => return Err(found(literal, ", expected: ',' or ')'")),
                    }
                }
                Token::Comma => {
                    if values.is_empty() {
                        values.insert("");
                    }
                    match self.peek_value().0 {
                        Token::Close => {
                            values.insert("");
                            return Ok(values);
                        }
                        Token::Comma => {
                            values.insert("");
                        }
                        _ => {}
                    }
                }
                _ => return Err(found(literal, ", expected: ',', or identifier")),
            }
        }
    }

    fn exact_value(&mut self) -> Result<&'a str, SelectorError> {
        if matches!(self.peek_value().0, Token::End | Token::Comma) {
            return Ok("");
        }
        match self.take_value() {
            (Token::Identifier, literal) => Ok(literal),
            (_, literal) => Err(found(literal, ", expected: identifier")),
        }
    }
}

fn scan(text: &str) -> Vec<(Token, &str)> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    loop {
        while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            at += 1;
        }
        // Like upstream, a zero byte ends the text.
        let Some(&byte) = bytes.get(at).filter(|byte| **byte != 0) else {
            tokens.push((Token::End, ""));
            return tokens;
        };
        if let Some((token, length)) = symbol(byte, bytes.get(at + 1).copied()) {
            tokens.push((token, &text[at..at + length]));
            at += length;
            continue;
        }
        let start = at;
        while bytes.get(at).is_some_and(|b| !b"=!(),>< \t\r\n\0".contains(b)) {
            at += 1;
        }
        let word = &text[start..at];
        let token = match word {
            "in" => Token::In,
            "notin" => Token::NotIn,
            _ => Token::Identifier,
        };
        tokens.push((token, word));
        at += usize::from(bytes.get(at) == Some(&0));
    }
}

fn symbol(byte: u8, next: Option<u8>) -> Option<(Token, usize)> {
    Some(match (byte, next) {
        (b'=', Some(b'=')) => (Token::DoubleEquals, 2),
        (b'!', Some(b'=')) => (Token::NotEquals, 2),
        (b'=', _) => (Token::Equals, 1),
        (b'!', _) => (Token::Not, 1),
        (b'(', _) => (Token::Open, 1),
        (b')', _) => (Token::Close, 1),
        (b',', _) => (Token::Comma, 1),
        (b'>', _) => (Token::Greater, 1),
        (b'<', _) => (Token::Less, 1),
        _ => return None,
    })
}
