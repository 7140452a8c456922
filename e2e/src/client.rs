//! The Kafka client, in a pod.

use crate::environment::CLIENT_IMAGE;
use crate::kubectl::Kubectl;
use crate::wait::timeout;
use serde_json::Value;

/// Starts a pod that runs the client with these words.
pub(crate) fn start(kubectl: &Kubectl, pod: &str, words: &[&str]) -> anyhow::Result<()> {
    let words = serde_json::to_string(words)?;
    kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {pod}}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
    - name: client
      image: {CLIENT_IMAGE}
      imagePullPolicy: Never
      args: {words}
      securityContext:
        {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
"
    ))?;
    kubectl.wait(&["--for=jsonpath={.status.phase}=Running", &format!("pod/{pod}")])
}

/// Runs a command of the client in a pod that idles, and returns what it said last.
pub(crate) fn exec(kubectl: &Kubectl, pod: &str, words: &[&str]) -> anyhow::Result<Value> {
    let said = kubectl.run(&[&["exec", pod, "--", "/client"], words, &[&timeout()]].concat())?;
    Ok(serde_json::from_str(said.lines().last().unwrap_or_default())?)
}

/// What the client has said so far, a JSON object a line.
pub(crate) fn said(kubectl: &Kubectl, pod: &str) -> anyhow::Result<Vec<Value>> {
    let log = kubectl.run(&["logs", pod])?;
    Ok(log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}
