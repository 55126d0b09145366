//! Keys and values between the command line, which may hold any bytes, and JSON, which may not.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
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

/// Bytes as they are, where they are UTF-8, or as base64.
pub(crate) fn either(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// The bytes of which [`either`] made this; `None` where there is neither.
///
/// **Errors:** for people, where there are both, or it is no base64.
pub(crate) fn from_either(text: Option<String>, base64: Option<String>) -> Result<Option<Bytes>, &'static str> {
    match (text, base64) {
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(base64)) => match STANDARD.decode(base64) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(_) => Err("what should be base64 is not"),
        },
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err("there is a text, and base64 for it too"),
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

    #[test]
    fn what_was_written_either_way_is_read_back() {
        for bytes in [&b""[..], b"text", "wört\n\0".as_bytes(), b"\xff\0"] {
            let (text, base64) = either(bytes);
            assert_eq!(from_either(text, base64), Ok(Some(Bytes::copy_from_slice(bytes))));
        }
        assert_eq!(from_either(None, None), Ok(None));
        assert!(from_either(None, Some("/wA".to_owned())).is_err());
        assert!(from_either(Some("a".to_owned()), Some("YQ==".to_owned())).is_err());
    }
}
