//! Keys and values between the command line, which may hold any bytes, and JSON, which may not.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

/// The bytes of an argument.
pub(crate) fn bytes(argument: OsString) -> Vec<u8> {
    argument.into_vec()
}

/// A key in JSON: `key`, or `key_base64` where it is not UTF-8.
#[derive(Serialize)]
pub(crate) struct Key {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
}

/// A value in JSON: `value`, or `value_base64` where it is not UTF-8.
#[derive(Serialize)]
pub(crate) struct Value {
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
}

impl Key {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let (key, key_base64) = either(bytes);
        Self { key, key_base64 }
    }
}

impl Value {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let (value, value_base64) = either(bytes);
        Self { value, value_base64 }
    }
}

fn either(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_written_as_text_and_other_bytes_as_base64() {
        let json = |value: &Value| serde_json::to_string(value).expect("texts");
        assert_eq!(json(&Value::new("wört\n".as_bytes())), r#"{"value":"wört\n"}"#);
        assert_eq!(json(&Value::new(&[0xff, 0x00])), r#"{"value_base64":"/wA="}"#);
    }
}
