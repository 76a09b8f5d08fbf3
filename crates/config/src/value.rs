//! A value and where it came from. It must never be compared by place: a reload ignores lines that moved.

use std::ops::Deref;

use crate::position::Position;
use crate::table::Table;

/// A value with its place. Two are equal when their values are.
#[derive(Clone, Debug)]
pub struct Item<T> {
    pub value: T,
    pub at: Position,
}

impl<T> Item<T> {
    pub fn new(value: T, at: Position) -> Item<T> {
        Item { value, at }
    }

    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Item<U> {
        Item { value: change(self.value), at: self.at }
    }

    pub fn is_default(&self) -> bool {
        self.at.is_default()
    }
}

impl<T> Deref for Item<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Item<T> {
    fn eq(&self, other: &Item<T>) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Item<T> {}

impl<T: Default> Default for Item<T> {
    fn default() -> Item<T> {
        Item { value: T::default(), at: Position::unset() }
    }
}

/// A value whose shape its block decides.
#[derive(Clone, Debug)]
pub enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    List(Vec<Item<Value>>),
    Table(Table),
}

impl Value {
    /// What it is, as a person says it: `the number 30`. Texts are cut; the caller keeps secrets away.
    pub fn found(&self) -> String {
        match self {
            Value::Text(text) => crate::mask::quoted(text),
            Value::Integer(number) => format!("the number {number}"),
            Value::Float(number) => format!("the number {number}"),
            Value::Boolean(boolean) => boolean.to_string(),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Table(_) => "a table".to_owned(),
        }
    }
}
