//! Addresses that are listened at must differ from each other.

use super::Listen;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Says which two addresses there cannot be a listener at each, if there are such.
pub(super) fn check(listen: &Listen, further: &BTreeMap<Arc<str>, SocketAddr>) -> Result<(), String> {
    let Listen { kafka, replication, controller, admin, http } = *listen;
    let own =
        [("kafka", kafka), ("replication", replication), ("controller", controller), ("admin", admin), ("http", http)];
    let further = further.iter().map(|(name, address)| (format!("listeners.{name}"), *address));
    let all: Vec<_> = own.map(|(name, address)| (name.to_owned(), address)).into_iter().chain(further).collect();
    for (n, (name, address)) in all.iter().enumerate() {
        if let Some((other, at)) = all[..n].iter().find(|(_, at)| collide(*at, *address)) {
            let above =
                if name == "admin" { "; without listen.admin it is 200 above the controller's port" } else { "" };
            return Err(format!("{other} ({at}) and {name} ({address}) need addresses of their own{above}"));
        }
    }
    Ok(())
}

/// Whether the second of them could not be bound. Port 0 is a free one each time.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    // `[::]` takes IPv4 as well.
    let covers = |a: IpAddr, b: IpAddr| a == b || (a.is_unspecified() && (a.is_ipv6() || b.is_ipv4()));
    a.port() == b.port() && a.port() != 0 && (covers(a.ip(), b.ip()) || covers(b.ip(), a.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_collide_where_one_takes_what_the_other_needs() {
        for (a, b, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "0.0.0.0:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (x, y) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!((collide(x, y), collide(y, x)), (expected, expected), "{a} {b}");
        }
    }
}
