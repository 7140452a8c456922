//! How a line of input becomes a record, and a record a line of output.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chronik_core::record::Content;
use chronik_wire::records::NewRecord;
use clap::ValueEnum;
use serde_json::{Map, Value, json};

/// What a line of input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LineFormat {
    /// Its bytes are the value, perhaps with a key before it.
    Lines,
    /// A JSON object with `key`, `value` and `headers`, as `consume --output json` writes them: headers are objects with `key`
    /// and `value`, and bytes that are no UTF-8 are in `key_base64` and `value_base64`.
    Json,
}

/// How lines become records.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) format: LineFormat,
    pub(super) key_separator: Option<Vec<u8>>,
    pub(super) key: Option<Bytes>,
    pub(super) headers: Vec<(Bytes, Option<Bytes>)>,
    pub(super) empty_is_null: bool,
}

impl Lines {
    pub(super) fn record(&self, line: Bytes) -> anyhow::Result<NewRecord> {
        let mut record = match self.format {
            LineFormat::Json => from_json(&line)?,
            LineFormat::Lines => self.split(line)?,
        };
        record.key = record.key.or_else(|| self.key.clone());
        record.headers.extend(self.headers.iter().cloned());
        if self.empty_is_null {
            record.value = record.value.filter(|value| !value.is_empty());
        }
        Ok(record)
    }

    fn split(&self, line: Bytes) -> anyhow::Result<NewRecord> {
        let Some(separator) = self.key_separator.as_deref().filter(|s| !s.is_empty()) else {
            return Ok(NewRecord { value: Some(line), ..NewRecord::default() });
        };
        let at = line.windows(separator.len()).position(|window| window == separator);
        let at = at.ok_or_else(|| anyhow::anyhow!("no {:?} after a key", String::from_utf8_lossy(separator)))?;
        let (key, value) = (line.slice(..at), line.slice(at + separator.len()..));
        Ok(NewRecord { key: Some(key), value: Some(value), ..NewRecord::default() })
    }
}

fn from_json(line: &[u8]) -> anyhow::Result<NewRecord> {
    let object: Value = serde_json::from_slice(line)?;
    let object = object.as_object().context("a JSON object with key, value and headers is due")?;
    let headers = match object.get("headers") {
        None | Some(Value::Null) => Vec::new(),
        // Where each key is there once, this is shorter to write.
        Some(Value::Object(all)) => all.iter().map(|(k, value)| (Bytes::from(k.clone()), bytes_of(value))).collect(),
        Some(Value::Array(all)) => all.iter().map(header).collect::<anyhow::Result<_>>()?,
        Some(_) => anyhow::bail!("headers must be an array of objects with key and value, or an object"),
    };
    Ok(NewRecord { key: field(object, "key")?, value: field(object, "value")?, headers })
}

fn header(header: &Value) -> anyhow::Result<(Bytes, Option<Bytes>)> {
    let header = header.as_object().context("a header must be an object with key and value")?;
    Ok((field(header, "key")?.context("a header must have a key")?, field(header, "value")?))
}

/// What is there under a name as text, or under its name in base64.
fn field(object: &Map<String, Value>, name: &str) -> anyhow::Result<Option<Bytes>> {
    let encoded_name = format!("{name}_base64");
    match (object.get(name), object.get(&encoded_name)) {
        (None | Some(Value::Null), Some(Value::String(encoded))) => {
            let decoded = STANDARD.decode(encoded).with_context(|| format!("{encoded_name} is no base64"))?;
            Ok(Some(decoded.into()))
        }
        (given, None | Some(Value::Null)) => Ok(given.and_then(bytes_of)),
        (None | Some(Value::Null), Some(_)) => anyhow::bail!("{encoded_name} must be a string"),
        (Some(_), Some(_)) => anyhow::bail!("both {name} and {encoded_name} are given"),
    }
}

/// A string's own bytes; other values as they are written in JSON.
fn bytes_of(value: &Value) -> Option<Bytes> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Bytes::from(text.clone())),
        other => Some(Bytes::from(other.to_string())),
    }
}

/// A record as one JSON object, from which the same record can be made again.
pub(super) fn to_json(topic: &str, partition: i32, record: &Content) -> Value {
    let mut object = Map::new();
    object.insert("topic".to_owned(), json!(topic));
    object.insert("partition".to_owned(), json!(partition));
    put_content(&mut object, record);
    Value::Object(object)
}

/// Offset, timestamp, key, value and headers.
pub(super) fn put_content(object: &mut Map<String, Value>, record: &Content) {
    object.insert("offset".to_owned(), json!(record.offset.0));
    object.insert("timestamp".to_owned(), json!(record.timestamp));
    put_field(object, "key", record.key.as_ref());
    put_field(object, "value", record.value.as_ref());
    let headers = record.headers.iter().map(|(key, value)| {
        let mut header = Map::new();
        put_field(&mut header, "key", Some(key));
        put_field(&mut header, "value", value.as_ref());
        Value::Object(header)
    });
    object.insert("headers".to_owned(), headers.collect());
}

/// Bytes under a name if they are text; else in base64 under a name that says so.
fn put_field(object: &mut Map<String, Value>, name: &str, bytes: Option<&Bytes>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), json!(text)),
        Some(Err(bytes)) => object.insert(format!("{name}_base64"), json!(STANDARD.encode(bytes))),
    };
}

/// Writes a record by a format: %t topic, %p partition, %o offset, %T timestamp, %k key, %v value, %h headers, and
/// `\n`, `\t`, `\\`, `%%`.
pub(super) fn write(format: &str, topic: &str, partition: i32, record: &Content, out: &mut Vec<u8>) {
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '%' || c == '\\' { chars.next() } else { None }) {
            ('%', Some('t')) => out.extend_from_slice(topic.as_bytes()),
            ('%', Some('p')) => out.extend_from_slice(partition.to_string().as_bytes()),
            ('%', Some('o')) => out.extend_from_slice(record.offset.0.to_string().as_bytes()),
            ('%', Some('T')) => out.extend_from_slice(record.timestamp.to_string().as_bytes()),
            ('%', Some('k')) => out.extend_from_slice(record.key.as_deref().unwrap_or_default()),
            ('%', Some('v')) => out.extend_from_slice(record.value.as_deref().unwrap_or_default()),
            ('%', Some('h')) => put_headers(record, out),
            ('\\', Some('n')) => out.push(b'\n'),
            ('\\', Some('t')) => out.push(b'\t'),
            ('%' | '\\', Some(other)) => out.extend_from_slice(other.to_string().as_bytes()),
            (c, _) => out.extend_from_slice(c.to_string().as_bytes()),
        }
    }
}

fn put_headers(record: &Content, out: &mut Vec<u8>) {
    for (i, (key, value)) in record.headers.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key);
        out.push(b'=');
        out.extend_from_slice(value.as_deref().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_core::ids::Offset;
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    fn lines(format: LineFormat, separator: Option<&str>) -> Lines {
        let key_separator = separator.map(|s| s.as_bytes().to_vec());
        Lines { format, key_separator, key: None, headers: Vec::new(), empty_is_null: true }
    }

    #[test]
    fn lines_become_keys_and_values() {
        let both =
            |key: Option<&'static str>, value: Option<&'static str>| (key.map(Bytes::from), value.map(Bytes::from));
        for (separator, line, expected) in [
            (None, "a:b", both(None, Some("a:b"))),
            (Some(":"), "a:b:c", both(Some("a"), Some("b:c"))),
            (Some("::"), "a::", both(Some("a"), None)),
        ] {
            let record = lines(LineFormat::Lines, separator).record(line.into()).unwrap();
            assert_eq!((record.key, record.value), expected, "{line}");
        }
        assert!(lines(LineFormat::Lines, Some(":")).record("none".into()).is_err());
    }

    #[test]
    fn json_lines_carry_keys_and_headers() {
        let record = lines(LineFormat::Json, None)
            .record(r#"{"key": "k", "value": {"a": 1}, "headers": {"h": "x"}}"#.into())
            .unwrap();
        assert_eq!(record.key.as_deref(), Some(&b"k"[..]));
        assert_eq!(record.value.as_deref(), Some(&br#"{"a":1}"#[..]));
        assert_eq!(record.headers, [("h".into(), Some(Bytes::from("x")))]);
        for (line, why) in [
            ("[]", "a JSON object"),
            (r#"{"headers": 1}"#, "headers must be"),
            (r#"{"headers": [{"value": "x"}]}"#, "must have a key"),
            (r#"{"key": "a", "key_base64": "YQ=="}"#, "both key and key_base64"),
            (r#"{"value_base64": "!"}"#, "value_base64 is no base64"),
            (r#"{"value_base64": 1}"#, "must be a string"),
        ] {
            let error = lines(LineFormat::Json, None).record(line.into()).unwrap_err();
            assert!(format!("{error:#}").contains(why), "{line}: {error:#}");
        }
    }

    /// What a consumer writes, read by a producer.
    fn round_trip(content: &Content) -> NewRecord {
        let line = to_json("top", 3, content).to_string();
        lines(LineFormat::Json, None).record(line.into()).unwrap()
    }

    #[test]
    fn headers_of_one_key_are_all_there_in_their_order() {
        let header = |key: &'static str, value: Option<&'static str>| (key.into(), value.map(Bytes::from));
        let headers = vec![header("k", Some("1")), header("b", None), header("k", Some("2"))];
        let content = Content { offset: Offset(7), timestamp: 99, key: None, value: Some("v".into()), headers };
        let shown = to_json("top", 3, &content);
        assert_eq!(shown["headers"][2], json!({"key": "k", "value": "2"}));
        assert_eq!((&shown["topic"], &shown["offset"], &shown["key"]), (&json!("top"), &json!(7), &Value::Null));
        let again = round_trip(&content);
        assert_eq!((again.key, again.value, again.headers), (None, content.value, content.headers));
    }

    #[test]
    fn any_bytes_come_back_as_they_were() {
        let mut random = StdRng::seed_from_u64(7);
        let (mut text, mut other) = (0, 0);
        for _ in 0..2000 {
            let mut bytes = || {
                let len = random.random_range(0..6);
                let ascii = random.random_bool(0.5);
                let byte = |byte: u8| if ascii { byte & 0x7f } else { byte };
                (0..len).map(|_| byte(random.random())).collect::<Bytes>()
            };
            let content = Content {
                offset: Offset(0),
                timestamp: 0,
                key: Some(bytes()),
                value: Some(bytes()).filter(|value| value.len() != 3),
                headers: vec![(bytes(), Some(bytes())), (bytes(), None)],
            };
            let is_text = content.key.as_deref().is_some_and(|key| std::str::from_utf8(key).is_ok());
            *if is_text { &mut text } else { &mut other } += 1;
            let mut keep = lines(LineFormat::Json, None);
            keep.empty_is_null = false;
            let again = keep.record(to_json("top", 3, &content).to_string().into()).unwrap();
            assert_eq!((&again.key, &again.value), (&content.key, &content.value));
            assert_eq!(again.headers, content.headers);
        }
        assert!(text > 100 && other > 100, "{text} and {other}");
    }

    #[test]
    fn a_format_puts_each_part_in_its_place() {
        let record = Content {
            offset: Offset(7),
            timestamp: 99,
            key: Some("k".into()),
            value: Some("v".into()),
            headers: vec![("h".into(), Some("x".into()))],
        };
        for (format, expected) in
            [("%v\\n", "v\n"), ("%t/%p@%o %T\\t%k=%v [%h]", "top/3@7 99\tk=v [h=x]"), ("100%%", "100%")]
        {
            let mut out = Vec::new();
            write(format, "top", 3, &record, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
