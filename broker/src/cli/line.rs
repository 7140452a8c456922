//! How a line of input becomes a record, and a record a line of output.

use bytes::Bytes;
use chronik_core::record::Content;
use chronik_wire::records::NewRecord;
use clap::ValueEnum;
use serde_json::{Value, json};

/// What a line of input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LineFormat {
    /// Its bytes are the value, perhaps with a key before it.
    Lines,
    /// A JSON object with `key`, `value` and `headers`.
    Json,
}

/// How lines become records.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) format: LineFormat,
    pub(super) key_separator: Option<Vec<u8>>,
    pub(super) key: Option<Bytes>,
    pub(super) headers: Vec<(String, Option<Bytes>)>,
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
    anyhow::ensure!(object.is_object(), "a JSON object with key, value and headers is due");
    let headers = match &object["headers"] {
        Value::Null => Vec::new(),
        Value::Object(all) => all.iter().map(|(key, value)| (key.clone(), bytes_of(value))).collect(),
        _ => anyhow::bail!("headers must be an object"),
    };
    Ok(NewRecord { key: bytes_of(&object["key"]), value: bytes_of(&object["value"]), headers })
}

/// A string's own bytes; other values as they are written in JSON.
fn bytes_of(value: &Value) -> Option<Bytes> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Bytes::from(text.clone())),
        other => Some(Bytes::from(other.to_string())),
    }
}

/// A record as one JSON object. Bytes that are no UTF-8 are shown with replacement characters.
pub(super) fn to_json(topic: &str, partition: i32, record: &Content) -> Value {
    let text = |bytes: &Option<Bytes>| bytes.as_ref().map(|b| String::from_utf8_lossy(b).into_owned());
    let headers =
        record.headers.iter().map(|(key, value)| (String::from_utf8_lossy(key).into_owned(), json!(text(value))));
    json!({
        "topic": topic,
        "partition": partition,
        "offset": record.offset.0,
        "timestamp": record.timestamp,
        "key": text(&record.key),
        "value": text(&record.value),
        "headers": headers.collect::<serde_json::Map<_, _>>(),
    })
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
        assert_eq!(record.headers, [("h".to_owned(), Some(Bytes::from("x")))]);
        assert!(lines(LineFormat::Json, None).record("[]".into()).is_err());
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
