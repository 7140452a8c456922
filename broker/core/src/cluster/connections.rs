//! How many connections one address may have (`max.connections.per.ip`).

use super::config::{Accepts, ConfigKind, TopicConfig, fourth};
use super::image::Image;
use crate::ids::BrokerId;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// `max.connections.per.ip`.
pub const MAX_CONNECTIONS_PER_IP: &str = "max.connections.per.ip";
/// `max.connections.per.ip.overrides`.
pub const MAX_CONNECTIONS_PER_IP_OVERRIDES: &str = "max.connections.per.ip.overrides";

pub(super) const PER_IP: TopicConfig = fourth(
    MAX_CONNECTIONS_PER_IP,
    ConfigKind::Int,
    ("2147483647", Some(MAX_CONNECTIONS_PER_IP)),
    Accepts::Between(1, i32::MAX as i64),
    "Client connections from one address at most. Those that are there stay when it becomes less.",
);
pub(super) const OVERRIDES: TopicConfig = fourth(
    MAX_CONNECTIONS_PER_IP_OVERRIDES,
    ConfigKind::String,
    ("", Some(MAX_CONNECTIONS_PER_IP_OVERRIDES)),
    Accepts::Connections,
    "The same for some addresses, as in `10.0.0.7:200,::1:50`: addresses and not host names, which would have to be looked \
     up while clients wait.",
);

/// Connections that addresses may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionsPerIp {
    most: usize,
    overrides: BTreeMap<IpAddr, usize>,
}

impl Default for ConnectionsPerIp {
    /// As many as come.
    fn default() -> Self {
        Self { most: i32::MAX as usize, overrides: BTreeMap::new() }
    }
}

impl ConnectionsPerIp {
    /// Reads the two properties. An error says what is wrong with the second.
    pub fn new(most: usize, overrides: &str) -> Result<Self, String> {
        let mut all = BTreeMap::new();
        for one in overrides.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            let parsed = one.rsplit_once(':').and_then(|(address, count)| {
                let address = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
                Some((
                    address.parse::<IpAddr>().ok()?.to_canonical(),
                    usize::try_from(count.parse::<u32>().ok()?).ok()?,
                ))
            });
            let Some((address, count)) = parsed else {
                return Err("is not made of ADDRESS:COUNT with commas between".into());
            };
            if all.insert(address, count).is_some() {
                return Err(format!("names {address} twice"));
            }
        }
        Ok(Self { most, overrides: all })
    }

    /// How many this address may have.
    pub fn of(&self, address: IpAddr) -> usize {
        self.overrides.get(&address.to_canonical()).copied().unwrap_or(self.most)
    }
}

/// The value as it is kept: nothing around the commas.
pub(super) fn canonical(value: &str) -> Result<String, String> {
    ConnectionsPerIp::new(0, value)?;
    let all: Vec<&str> = value.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
    Ok(all.join(","))
}

impl Image {
    /// What addresses may have at a broker whose file says `of_file`: what it was given while it ran counts first.
    pub fn connections_per_ip(&self, broker: BrokerId, of_file: &ConnectionsPerIp) -> ConnectionsPerIp {
        let most = self.dynamic_property(broker, MAX_CONNECTIONS_PER_IP).and_then(|most| most.parse().ok());
        let overrides = self.dynamic_property(broker, MAX_CONNECTIONS_PER_IP_OVERRIDES);
        let overrides = overrides.and_then(|overrides| ConnectionsPerIp::new(0, overrides).ok());
        ConnectionsPerIp {
            most: most.unwrap_or(of_file.most),
            overrides: overrides.map_or_else(|| of_file.overrides.clone(), |given| given.overrides),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const ME: BrokerId = BrokerId(0);

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_what_is_said_of_it_or_of_all() {
        let limits = ConnectionsPerIp::new(5, "10.0.0.7:200, ::1:0,[fe80::1]:3").expect("well formed");
        for (text, most) in [("10.0.0.7", 200), ("::ffff:10.0.0.7", 200), ("::1", 0), ("fe80::1", 3), ("10.0.0.8", 5)] {
            assert_eq!(limits.of(address(text)), most, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_with_a_count_is_refused() {
        for wrong in ["localhost:5", "10.0.0.7", "10.0.0.7:", "10.0.0.7:-1", "10.0.0.7:1,10.0.0.7:2", ":5"] {
            assert!(canonical(wrong).is_err(), "{wrong}");
        }
        assert_eq!(canonical(" 10.0.0.7:1 ,, ::1:2").as_deref(), Ok("10.0.0.7:1,::1:2"));
        assert_eq!(canonical("").as_deref(), Ok(""));
    }

    #[test]
    fn what_a_broker_was_given_while_it_ran_counts_before_its_file() {
        let of_file = ConnectionsPerIp::new(5, "::1:1").expect("well formed");
        let mut image = Image::default();
        assert_eq!(image.connections_per_ip(ME, &of_file), of_file);
        image.cluster_configs.insert(MAX_CONNECTIONS_PER_IP.into(), "7".into());
        let given = image.connections_per_ip(ME, &of_file);
        assert_eq!([given.of(address("::1")), given.of(address("::2"))], [1, 7]);
        let own = (Arc::from(MAX_CONNECTIONS_PER_IP_OVERRIDES), Arc::from("::2:9"));
        image.broker_configs.insert(ME, [own].into_iter().collect());
        let given = image.connections_per_ip(ME, &of_file);
        assert_eq!([given.of(address("::1")), given.of(address("::2"))], [7, 9]);
    }
}
