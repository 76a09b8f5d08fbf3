//! JSON Schema of the file, written from what the blocks read.

use crate::shape::Shape;

pub(crate) fn write(_shape: &Shape) -> serde_json::Value {
    serde_json::Value::Null
}
