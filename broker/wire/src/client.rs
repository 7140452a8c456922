//! The client's side: requests to bytes, and answers from bytes.

use super::messages::StrBytes;
use super::request::limits;
use bytes::{Bytes, BytesMut};
use kafka_wire::{OutboundFrameLimits, RequestResponsePair, ResponseHeader};
use kafka_wire_core::{ApiVersion, DecodeError, Decoder, EncodeError, KafkaDecode as _};

/// Bytes of a request that a client sends at most.
const MAX_REQUEST: usize = 64 << 20;

/// A request, and the kind of its answer.
pub trait Call: RequestResponsePair {}

impl<R: RequestResponsePair> Call for R {}

/// Why bytes are not the answer that was waited for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AnswerError {
    /// The bytes do not follow their schema.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// It answers another request: answers come in the order of requests.
    #[error("an answer to request {found} where one to {expected} was due")]
    Correlation {
        /// The request that was sent.
        expected: i32,
        /// What the answer names.
        found: i32,
    },
    /// A version that this codec does not know.
    #[error("version {0} is not known")]
    Version(i16),
}

/// Kafka's number of a kind of request.
pub fn api_key<R: Call>() -> i16 {
    <R as kafka_wire::KafkaRequest>::API_KEY.value()
}

/// Kafka's name of a kind of request.
pub fn api_name<R: Call>() -> &'static str {
    let name = <R as kafka_wire::KafkaMessage>::NAME;
    name.strip_suffix("Request").unwrap_or(name)
}

/// A whole frame, its length included.
pub fn encode_request<R: Call>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: &str,
) -> Result<Bytes, EncodeError> {
    let mut frame = BytesMut::new();
    let limits = OutboundFrameLimits::new(MAX_REQUEST);
    let client_id = Some(StrBytes::from(client_id));
    kafka_wire::encode_request(&mut frame, correlation_id, client_id, request, ApiVersion::new(version), limits)?;
    Ok(frame.freeze())
}

/// The answer to a request of that version, from a frame without its length. Takes no more memory than a multiple of
/// the frame's length.
pub fn decode_response<R: Call>(frame: Bytes, version: i16, correlation_id: i32) -> Result<R::Response, AnswerError> {
    let api = ApiVersion::new(version);
    let header = kafka_wire::response_header_version_for::<R>(api).map_err(|_| AnswerError::Version(version))?;
    let limits = limits(&frame);
    let mut d = Decoder::new(frame, limits)?;
    let found = ResponseHeader::decode(&mut d, ApiVersion::new(header))?.correlation_id;
    if found != correlation_id {
        return Err(AnswerError::Correlation { expected: correlation_id, found });
    }
    Ok(R::Response::decode(&mut d, api)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{MetadataRequest, message};
    use crate::{Request, RequestKind};

    #[test]
    fn a_request_that_a_client_encodes_is_one_that_the_broker_decodes() {
        for version in [0, 9, 12] {
            let request = message!(MetadataRequest { allow_auto_topic_creation: true, topics: Some(Vec::new()) });
            let frame = encode_request(&request, version, 7, "cli").unwrap();
            assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
            let decoded = Request::decode(frame.slice(4..)).unwrap();
            assert_eq!((decoded.header.api, decoded.header.correlation_id), (RequestKind::Metadata, 7));
            assert_eq!(decoded.client_id.as_deref(), Some("cli"));
        }
    }

    #[test]
    fn an_answer_to_another_request_or_of_an_impossible_length_is_refused() {
        let refused = decode_response::<MetadataRequest>(Bytes::from_static(&[0, 0, 0, 8, 0]), 9, 7);
        assert!(matches!(refused, Err(AnswerError::Correlation { expected: 7, found: 8 })), "{refused:?}");
        let long = Bytes::from_static(&[0, 0, 0, 7, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x07]);
        let refused = decode_response::<MetadataRequest>(long, 9, 7);
        assert!(matches!(refused, Err(AnswerError::Malformed(_))), "{refused:?}");
    }
}
