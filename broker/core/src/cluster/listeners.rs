//! Where clients of further listeners reach each broker.
//!
//! The address of a broker's first listener is in its registration. Those of the others are its own dynamic config
//! `advertised.listeners`: every broker has it in its image, and can tell clients of all others; and it changes while a
//! broker runs, as the address of a load balancer does that is known late.

use super::image::{Endpoint, Image};
use crate::ids::BrokerId;

/// `advertised.listeners`: `NAME://HOST:PORT`, with commas between.
pub const ADVERTISED_LISTENERS: &str = "advertised.listeners";

/// The longest name of a listener, and of a host, in bytes.
const LONGEST_NAME: usize = 32;
const LONGEST_HOST: usize = 255;

/// A listener's name in the form that it is compared in: upper case. `None` if no listener can be called so.
pub fn listener_name(name: &str) -> Option<String> {
    let fits = (1..=LONGEST_NAME).contains(&name.len()) && name.starts_with(|c: char| c.is_ascii_alphabetic());
    let fits = fits && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    fits.then(|| name.to_ascii_uppercase())
}

/// The value as it is kept: names in upper case, nothing around the commas.
pub(super) fn canonical(value: &str) -> Result<String, String> {
    let mut names = Vec::new();
    let mut kept = Vec::new();
    for one in value.split(',').map(str::trim) {
        let Some((name, at)) = parse(one) else {
            return Err("is not made of NAME://HOST:PORT with commas between".into());
        };
        if names.contains(&name) {
            return Err(format!("names the listener {name} twice"));
        }
        kept.push(format!("{name}://{at}"));
        names.push(name);
    }
    Ok(kept.join(","))
}

/// The name, and the address as it was written.
fn parse(one: &str) -> Option<(String, &str)> {
    let (name, at) = one.split_once("://")?;
    endpoint(at)?;
    Some((listener_name(name)?, at))
}

fn endpoint(at: &str) -> Option<Endpoint> {
    let (host, port) = at.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inside) => inside.strip_suffix(']').filter(|inside| inside.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => host,
    };
    let of_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let is_host = host.parse::<std::net::Ipv6Addr>().is_ok() || host.chars().all(of_host);
    let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
    ((1..=LONGEST_HOST).contains(&host.len()) && is_host).then(|| Endpoint { host: host.into(), port })
}

impl Image {
    /// Where clients of that listener (its name in upper case) reach a broker; `None` if nobody has said so.
    pub fn advertised(&self, broker: BrokerId, listener: &str) -> Option<Endpoint> {
        let own = self.broker_configs.get(&broker)?.get(ADVERTISED_LISTENERS)?;
        let at = own.split(',').filter_map(|one| one.split_once("://")).find(|(name, _)| *name == listener)?.1;
        endpoint(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::config::Configs;
    use std::sync::Arc;

    #[test]
    fn addresses_are_kept_in_one_form_and_what_nobody_could_dial_is_refused() {
        for (value, kept) in [
            ("external://broker-0.example.com:9094", Some("EXTERNAL://broker-0.example.com:9094")),
            (" A://10.0.0.1:1 , b://[fd00::1]:65535", Some("A://10.0.0.1:1,B://[fd00::1]:65535")),
            ("", None),
            ("EXTERNAL", None),
            ("EXTERNAL://", None),
            ("EXTERNAL://host", None),
            ("EXTERNAL://:9094", None),
            ("EXTERNAL://host:0", None),
            ("EXTERNAL://host:65536", None),
            ("EXTERNAL://ho st:1", None),
            ("EXTERNAL://[host]:1", None),
            ("://host:1", None),
            ("1://host:1", None),
            ("A://host:1,a://host:2", None),
            ("A://host:1,", None),
        ] {
            assert_eq!(canonical(value).ok().as_deref(), kept, "{value}");
        }
    }

    #[test]
    fn a_broker_has_the_addresses_that_it_was_given_and_no_others() {
        let mut image = Image::default();
        let given: Configs =
            [(Arc::from(ADVERTISED_LISTENERS), Arc::from("A://host:1,B://[fd00::1]:2"))].into_iter().collect();
        image.broker_configs.insert(BrokerId(1), given);
        let at =
            |broker, listener| image.advertised(BrokerId(broker), listener).map(|at| (at.host.to_string(), at.port));
        assert_eq!(at(1, "A"), Some(("host".to_owned(), 1)));
        assert_eq!(at(1, "B"), Some(("fd00::1".to_owned(), 2)));
        assert_eq!(at(1, "C"), None);
        assert_eq!(at(2, "A"), None);
    }
}
