//! What can go wrong between the command line and a cluster, and what to do about it.

use chronik_wire::ErrorCode;

/// Why a command could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error(
        "cannot reach {address}: {reason}\n  Is a broker running there? `chronik dev` starts one; --bootstrap HOST:PORT \
         names another."
    )]
    Unreachable {
        /// Where it was sought.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// The connection ended before the answer: what was asked for may have been done.
    #[error(
        "the connection to {address} ended before the answer: {reason}\n  Look whether it was done before you repeat it."
    )]
    Lost {
        /// The broker's address.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The broker does not serve the request in a version that is known here.
    #[error("the broker at {address} does not serve {api} in a version that this program speaks")]
    Unsupported {
        /// The broker's address.
        address: String,
        /// Kafka's name of the request.
        api: &'static str,
    },
    /// Bytes that are no answer.
    #[error("the broker at {address} does not speak Kafka's protocol as expected: {error}")]
    Protocol {
        /// The broker's address.
        address: String,
        /// What is wrong.
        error: String,
    },
    /// The broker said no.
    #[error("{what}: {}{}", text.as_deref().unwrap_or(code.name()), hint(*code))]
    Refused {
        /// What was asked for.
        what: String,
        /// Kafka's error code.
        code: ErrorCode,
        /// What the broker says about it.
        text: Option<String>,
    },
    /// The admin API has no answer, or said no.
    #[error("{message}")]
    Admin {
        /// gRPC's code.
        code: tonic::Code,
        /// Why.
        message: String,
    },
}

impl ClientError {
    /// Whether the same may go well a moment later.
    pub(in crate::cli) fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } => true,
            Self::Unsupported { .. } | Self::Protocol { .. } => false,
            Self::Refused { code, .. } => retriable(*code),
            Self::Admin { code, .. } => *code == tonic::Code::Unavailable,
        }
    }

    /// The exit code: 3 when no broker answers, 4 for what does not exist, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Admin { code: tonic::Code::Unavailable, .. } => 3,
            Self::Admin { code: tonic::Code::NotFound, .. }
            | Self::Refused {
                code:
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID | ErrorCode::GROUP_ID_NOT_FOUND,
                ..
            } => 4,
            _ => 1,
        }
    }
}

fn retriable(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::REQUEST_TIMED_OUT
            | ErrorCode::NETWORK_EXCEPTION
            | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
            | ErrorCode::COORDINATOR_NOT_AVAILABLE
            | ErrorCode::NOT_COORDINATOR
            | ErrorCode::NOT_ENOUGH_REPLICAS
            | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
            | ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::UNKNOWN_LEADER_EPOCH
            | ErrorCode::OFFSET_NOT_AVAILABLE
            | ErrorCode::NOT_CONTROLLER
    )
}

/// What to do next.
fn hint(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID => {
            "\n  `chronik topic list` shows what there is; `chronik topic create NAME` makes one."
        }
        ErrorCode::TOPIC_ALREADY_EXISTS => {
            "\n  `chronik topic describe NAME` shows it; --if-not-exists takes it as it is."
        }
        ErrorCode::INVALID_REPLICATION_FACTOR => "\n  There are fewer brokers than that: give a smaller --replicas.",
        ErrorCode::GROUP_ID_NOT_FOUND => "\n  `chronik group list` shows what there is.",
        ErrorCode::NON_EMPTY_GROUP | ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::STALE_MEMBER_EPOCH => {
            "\n  Stop the group's consumers first; `chronik group describe GROUP` shows them."
        }
        ErrorCode::NOT_ENOUGH_REPLICAS | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => {
            "\n  Fewer replicas are in sync than min.insync.replicas: `chronik topic describe NAME` shows which."
        }
        ErrorCode::LEADER_NOT_AVAILABLE => {
            "\n  `chronik partition list --offline` shows which have none, and who holds them."
        }
        ErrorCode::MESSAGE_TOO_LARGE => "\n  `chronik config set topic NAME max.message.bytes=BYTES` allows more.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_to_do_next_and_gives_its_exit_code() {
        for (code, exit, next) in [
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, 4, "chronik topic list"),
            (ErrorCode::GROUP_ID_NOT_FOUND, 4, "chronik group list"),
            (ErrorCode::NON_EMPTY_GROUP, 1, "Stop the group's consumers"),
        ] {
            let error = ClientError::Refused { what: "it".into(), code, text: None };
            assert!(error.to_string().contains(next), "{error}");
            assert_eq!(error.exit_code(), exit);
        }
        let away = ClientError::Unreachable { address: "a:1".into(), reason: "refused".into() };
        assert_eq!((away.exit_code(), away.to_string().contains("--bootstrap")), (3, true));
    }
}
