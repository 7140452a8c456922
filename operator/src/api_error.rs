//! What the API server said, without the structure that it came in.

/// In the API server's own words, for a condition or an Event.
pub(crate) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refusal_is_reported_in_the_api_servers_words() {
        let status = json!({ "message": "pods are full", "code": 403, "reason": "Forbidden" });
        let error = kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()));
        assert_eq!(words(&error), "pods are full");
    }
}
