//! Fields as Kafka's schemas have them, in their compact ("flexible") or their older form.

use super::RecordError;
use bytes::{BufMut as _, Bytes, BytesMut};
use chronik_core::groups::record::{OwnedPartitions, TopicPartitions};
use chronik_core::ids::TopicId;
use kafka_wire_core::{DecodeError, DecodeLimits, Decoder, StrBytes, TagOutcome, Uuid};
use std::sync::Arc;

/// The tag of `AssignmentEpochs` (KIP-1251).
const SINCE: u32 = 0;

/// Reads the fields of a key or a value. Nothing that it returns holds on to the bytes.
pub(super) struct Reader {
    d: Decoder,
    flexible: bool,
}

fn text(s: &StrBytes) -> Arc<str> {
    Arc::from(&**s)
}

impl Reader {
    /// Reads the version that stands before the fields.
    pub(super) fn new(bytes: &Bytes) -> Result<(Self, i16), DecodeError> {
        let len = bytes.len();
        let mut limits = DecodeLimits::default();
        limits.max_frame_bytes = len;
        limits.max_string_bytes = len;
        limits.max_bytes_bytes = len;
        limits.max_array_elements = len;
        limits.max_tagged_fields = len;
        limits.max_tag_bytes = len;
        limits.max_total_tag_bytes = len;
        let mut d = Decoder::new(bytes.clone(), limits)?;
        let version = d.read_i16()?;
        Ok((Self { d, flexible: false }, version))
    }

    /// From here on compact lengths.
    pub(super) fn flexible(mut self, flexible: bool) -> Self {
        self.flexible = flexible;
        self
    }

    pub(super) fn i8(&mut self) -> Result<i8, DecodeError> {
        self.d.read_i8()
    }

    pub(super) fn i32(&mut self) -> Result<i32, DecodeError> {
        self.d.read_i32()
    }

    pub(super) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.d.read_i64()
    }

    pub(super) fn string(&mut self) -> Result<Arc<str>, DecodeError> {
        let s = if self.flexible { self.d.read_compact_string() } else { self.d.read_string() }?;
        Ok(text(&s))
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<Arc<str>>, DecodeError> {
        let s = if self.flexible { self.d.read_compact_nullable_string() } else { self.d.read_nullable_string() }?;
        Ok(s.as_ref().map(text))
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let bytes = if self.flexible { self.d.read_compact_bytes() } else { self.d.read_bytes() }?;
        Ok(Bytes::copy_from_slice(&bytes))
    }

    pub(super) fn array<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = if self.flexible { self.d.read_compact_array_len() } else { self.d.read_array_len() }?;
        let mut elements = Vec::new();
        for _ in 0..count.get() {
            elements.push(element(self)?);
        }
        Ok(elements)
    }

    pub(super) fn partitions(&mut self) -> Result<Vec<TopicPartitions>, DecodeError> {
        self.array(|r| {
            let topic_id = topic_id(r.d.read_uuid()?);
            let partitions = r.array(Self::i32)?;
            r.no_tags()?;
            Ok(TopicPartitions { topic_id, partitions })
        })
    }

    /// Partitions with the epochs since which they are owned, which are in a tagged field.
    pub(super) fn owned_partitions(&mut self) -> Result<Vec<OwnedPartitions>, DecodeError> {
        self.array(|r| {
            let topic_id = topic_id(r.d.read_uuid()?);
            let partitions = r.array(Self::i32)?;
            let mut since = Vec::new();
            r.tags(|tag, d| {
                if tag == SINCE
                    && let Some(count) = d.read_compact_nullable_array_len()?
                {
                    since = d.read_vec(count, Decoder::read_i32)?;
                }
                Ok(tag == SINCE)
            })?;
            Ok(OwnedPartitions { topic_id, partitions, since })
        })
    }

    /// The tagged fields at the end of a structure, if it can have any. Those that `known` does not take are skipped.
    pub(super) fn tags(
        &mut self,
        mut known: impl FnMut(u32, &mut Decoder) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        if self.flexible {
            self.d.read_tagged_fields_with(|tag, d| {
                Ok(if known(tag, d)? { TagOutcome::Decoded } else { TagOutcome::Retained })
            })?;
        }
        Ok(())
    }

    pub(super) fn no_tags(&mut self) -> Result<(), DecodeError> {
        self.tags(|_, _| Ok(false))
    }
}

/// A topic's id from its sixteen bytes.
pub(super) fn topic_id(id: Uuid) -> TopicId {
    TopicId(uuid::Uuid::from_bytes(id.to_bytes()))
}

/// Writes the fields of a key or a value.
pub(super) struct Writer {
    out: BytesMut,
    flexible: bool,
}

impl Writer {
    /// Starts with the version.
    pub(super) fn new(version: i16, flexible: bool) -> Self {
        let mut out = BytesMut::with_capacity(64);
        out.put_i16(version);
        Self { out, flexible }
    }

    /// The content of a tagged field, which is written with compact lengths.
    pub(super) fn tagged() -> Self {
        Self { out: BytesMut::new(), flexible: true }
    }

    pub(super) fn finish(self) -> Bytes {
        self.out.freeze()
    }

    pub(super) fn i8(&mut self, value: i8) {
        self.out.put_i8(value);
    }

    pub(super) fn i32(&mut self, value: i32) {
        self.out.put_i32(value);
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.out.put_i64(value);
    }

    pub(super) fn uuid(&mut self, id: TopicId) {
        self.out.put_slice(id.0.as_bytes());
    }

    pub(super) fn string(&mut self, s: &str) -> Result<(), RecordError> {
        if self.flexible {
            self.compact_len(s.len())?;
        } else {
            self.out.put_i16(i16::try_from(s.len()).map_err(|_| RecordError::TooLong(s.len()))?);
        }
        self.out.put_slice(s.as_bytes());
        Ok(())
    }

    pub(super) fn nullable_string(&mut self, s: Option<&str>) -> Result<(), RecordError> {
        match s {
            Some(s) => self.string(s)?,
            None if self.flexible => self.out.put_u8(0),
            None => self.out.put_i16(-1),
        }
        Ok(())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        self.len(bytes.len())?;
        self.out.put_slice(bytes);
        Ok(())
    }

    pub(super) fn array<T>(
        &mut self,
        elements: &[T],
        mut element: impl FnMut(&mut Self, &T) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        self.len(elements.len())?;
        elements.iter().try_for_each(|e| element(self, e))
    }

    pub(super) fn partitions(&mut self, topics: &[TopicPartitions]) -> Result<(), RecordError> {
        self.array(topics, |w, topic| {
            w.uuid(topic.topic_id);
            w.array(&topic.partitions, |w, p| {
                w.i32(*p);
                Ok(())
            })?;
            w.tags(&[])
        })
    }

    pub(super) fn owned_partitions(&mut self, topics: &[OwnedPartitions]) -> Result<(), RecordError> {
        let number = |w: &mut Self, n: &i32| {
            w.i32(*n);
            Ok(())
        };
        self.array(topics, |w, topic| {
            w.uuid(topic.topic_id);
            w.array(&topic.partitions, number)?;
            if topic.since.is_empty() {
                return w.tags(&[]);
            }
            let mut since = Self::tagged();
            since.array(&topic.since, number)?;
            w.tags(&[(SINCE, since.finish())])
        })
    }

    /// The tagged fields at the end of a structure, ascending.
    pub(super) fn tags(&mut self, tags: &[(u32, Bytes)]) -> Result<(), RecordError> {
        if self.flexible {
            self.varint(tags.len() as u32);
            for (tag, content) in tags {
                self.varint(*tag);
                self.varint(u32::try_from(content.len()).map_err(|_| RecordError::TooLong(content.len()))?);
                self.out.put_slice(content);
            }
        }
        Ok(())
    }

    /// The length of bytes, or of an array.
    fn len(&mut self, len: usize) -> Result<(), RecordError> {
        if self.flexible {
            return self.compact_len(len);
        }
        self.out.put_i32(i32::try_from(len).map_err(|_| RecordError::TooLong(len))?);
        Ok(())
    }

    fn compact_len(&mut self, len: usize) -> Result<(), RecordError> {
        let len = i32::try_from(len).map_err(|_| RecordError::TooLong(len))?;
        self.varint(len as u32 + 1);
        Ok(())
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.out.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.put_u8(value as u8);
    }
}
