//! What the brokers say of themselves and of the cluster, looked at again and again.

use super::layout::Planned;
use crate::cli::admin::Admin;
use chronik_admin::FactsResponse;
use futures::future::join_all;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

/// From one probe to the next.
const EVERY: Duration = Duration::from_millis(250);
/// How long an answer may take: a broker that was killed answers nothing, and must not hold up the others.
const PATIENCE: Duration = Duration::from_millis(500);
/// Rates are taken over at least this long: over less they would jump with each request.
const RATED_OVER: Duration = Duration::from_secs(1);

/// The answers to the last probe of all brokers.
#[derive(Clone, Debug, Default)]
pub(super) struct Probed {
    /// When the probe began: what has changed since then is newer.
    pub(super) begun: Option<Instant>,
    /// Of the whole cluster; `None` while no broker is sure.
    pub(super) facts: Option<FactsResponse>,
    /// Of each broker, in the layout's order.
    pub(super) brokers: Vec<OfBroker>,
}

/// What a broker says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct OfBroker {
    /// It is registered, and serves.
    pub(super) ready: bool,
    /// Bytes a second.
    pub(super) rates: Option<Rates>,
}

/// Bytes a second of requests and of answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    pub(super) received: f64,
    pub(super) sent: f64,
}

/// Bytes of all requests and answers since the broker's start, at a moment.
#[derive(Clone, Copy, Debug)]
struct Counted {
    at: Instant,
    received: u64,
    sent: u64,
}

/// What is remembered of a broker from one probe to the next.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    counted: Option<Counted>,
    rates: Option<Rates>,
}

/// Probes the brokers for as long as it is polled.
pub(super) async fn run(brokers: &[Planned], probed: &watch::Sender<Probed>) -> Infallible {
    let admin = brokers.iter().filter_map(|broker| broker.listen.admin).map(|address| address.to_string());
    let admin = Admin::new(admin.collect());
    let mut before = vec![Before::default(); brokers.len()];
    loop {
        let begun = Some(Instant::now());
        let each = brokers.iter().zip(&mut before).map(|(broker, before)| of_broker(broker.listen.http, before));
        let (facts, brokers) = tokio::join!(timeout(PATIENCE, admin.facts(1)), join_all(each));
        probed.send_replace(Probed { begun, facts: facts.ok().and_then(Result::ok), brokers });
        tokio::time::sleep(EVERY).await;
    }
}

async fn of_broker(http: SocketAddr, before: &mut Before) -> OfBroker {
    let asked = async { tokio::join!(get(http, "/readyz"), get(http, "/metrics")) };
    let Ok((ready, metrics)) = timeout(PATIENCE, asked).await else {
        *before = Before::default();
        return OfBroker::default();
    };
    let counted = metrics.ok().and_then(|metrics| counted(&metrics, Instant::now()));
    *before = after(*before, counted);
    OfBroker { ready: ready.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ")), rates: before.rates }
}

async fn get(http: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(http).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn counted(metrics: &str, at: Instant) -> Option<Counted> {
    let value = |name: &str| {
        let found = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.and_then(|value| value.trim().parse().ok())
    };
    let (received, sent) = (value("chronik_kafka_received_bytes_total")?, value("chronik_kafka_sent_bytes_total")?);
    Some(Counted { at, received, sent })
}

/// What to remember once that was counted. A broker that was started again counts from nothing.
fn after(before: Before, counted: Option<Counted>) -> Before {
    let (Some(counted), Some(then)) = (counted, before.counted) else { return Before { counted, rates: None } };
    let elapsed = counted.at.duration_since(then.at);
    if elapsed < RATED_OVER {
        return before;
    }
    let rate = |now: u64, then: u64| Some(now.checked_sub(then)? as f64 / elapsed.as_secs_f64());
    let rates = rate(counted.received, then.received).zip(rate(counted.sent, then.sent));
    Before { counted: Some(counted), rates: rates.map(|(received, sent)| Rates { received, sent }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(begin: Instant, ms: u64, received: u64, sent: u64) -> Option<Counted> {
        let metrics = format!(
            "# TYPE chronik_kafka_received_bytes counter\nchronik_kafka_received_bytes_total {received}\n\
             chronik_kafka_sent_bytes_total {sent}\n"
        );
        counted(&metrics, begin + Duration::from_millis(ms))
    }

    #[test]
    fn rates_are_taken_over_a_second_and_begin_anew_with_a_broker() {
        let begin = Instant::now();
        let of = |before: &Before| before.rates.map(|rates| (rates.received, rates.sent));
        let mut before = after(Before::default(), at(begin, 0, 100, 1000));
        assert_eq!(of(&before), None, "nothing to compare with");
        before = after(before, at(begin, 500, 900, 1000));
        assert_eq!(of(&before), None, "too early");
        before = after(before, at(begin, 2000, 2100, 1000));
        assert_eq!(of(&before), Some((1000.0, 0.0)));
        before = after(before, at(begin, 2250, 9999, 9999));
        assert_eq!(of(&before), Some((1000.0, 0.0)), "that of before holds until the next");
        before = after(before, at(begin, 3500, 5, 5));
        assert_eq!(of(&before), None, "it was started again");
        before = after(before, at(begin, 4500, 15, 25));
        assert_eq!(of(&before), Some((10.0, 20.0)));
        assert_eq!(of(&after(before, counted("nothing of it", begin))), None);
    }
}
