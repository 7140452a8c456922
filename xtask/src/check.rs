//! What a machine needs for which tests.

use crate::command::succeeds;

/// Something that must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Python 3 with venv and a package index.
    Python,
    /// Java 17 and Maven: Apache Kafka and its tools.
    Java,
    /// A C compiler.
    Compiler,
    /// Mount namespaces of one's own.
    Namespaces,
    /// Network namespaces of one's own, and a kernel whose packet filter hands packets over and drops some at random; iproute2
    /// and iptables.
    Network,
    /// Go and a module proxy.
    Go,
    /// Node.js and npm.
    Node,
    /// Docker running, kind, kubectl and helm; Go for the client image.
    Kind,
}

impl Need {
    /// What is missing, in words that say what to do; `None` if nothing is.
    pub(crate) fn missing(self) -> Option<&'static str> {
        let found = |program: &str, arg: &str| succeeds(program, &[arg]);
        match self {
            Self::Python => {
                (!succeeds("python3", &["-c", "import venv, ensurepip"])).then_some("python3 with venv is missing")
            }
            Self::Compiler if !found("cc", "--version") => Some("cc (a C compiler) is missing"),
            Self::Namespaces if !succeeds("unshare", &["--mount", "--map-root-user", "true"]) => {
                Some("unshare --mount is not allowed")
            }
            Self::Network if !succeeds("unshare", &["--net", "--mount", "--map-root-user", "true"]) => {
                Some("unshare --net is not allowed")
            }
            Self::Network if !own_network("ip link add one type veth peer name other") => {
                Some("ip (iproute2), or the kernel's veth, is missing")
            }
            Self::Network
                if !own_network(
                    "iptables -A FORWARD -m statistic --mode random --probability 0.01 -j DROP && \
                     iptables -A FORWARD -j NFQUEUE --queue-num 1 && iptables-restore </dev/null",
                ) =>
            {
                Some("iptables, or the kernel's NFQUEUE or its match of statistics, is missing")
            }
            Self::Java if !found("java", "-version") => Some("java (17 or newer) is missing"),
            Self::Java if !found("mvn", "-version") => Some("mvn (Maven) is missing"),
            Self::Go => (!found("go", "version")).then_some("go is missing"),
            Self::Node => (!found("npm", "--version")).then_some("npm (Node.js) is missing"),
            Self::Kind if !succeeds("docker", &["info"]) => Some("docker is not running"),
            Self::Kind if !found("kind", "version") => Some("kind is missing"),
            Self::Kind if !succeeds("kubectl", &["version", "--client"]) => Some("kubectl is missing"),
            Self::Kind if !found("helm", "version") => Some("helm is missing"),
            Self::Kind if !found("go", "version") => Some("go is missing"),
            Self::Java | Self::Kind | Self::Compiler | Self::Namespaces | Self::Network => None,
        }
    }
}

/// Whether a shell can do this in a network namespace of its own.
fn own_network(script: &str) -> bool {
    let script = format!("PATH=$PATH:/usr/sbin:/sbin; {script}");
    succeeds("unshare", &["--net", "--mount", "--map-root-user", "sh", "-c", &script])
}
