//! What is shown of the cluster: a table for a terminal, and a line for each change elsewhere. Nothing here knows a
//! process or a terminal.

use super::probe::{OfBroker, Probed, Rates};
use chronik_admin::{Broker, Partitions};

/// A broker's process, as its parent knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It runs.
    Running {
        /// It has served already.
        served: bool,
    },
    /// It is being stopped.
    Stopping,
    /// It has ended with success, by itself or as it was stopped.
    Stopped,
    /// A signal ended it.
    Killed,
    /// It has ended with an error.
    Failed,
}

/// What is shown of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Shown {
    pub(super) brokers: Vec<Row>,
    /// `None` while no broker is sure.
    pub(super) partitions: Option<Partitions>,
    /// Who leads the controller quorum.
    pub(super) controller: Option<i32>,
}

/// What is shown of a broker.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) id: i32,
    pub(super) address: String,
    pub(super) state: &'static str,
    /// Partitions that it leads.
    pub(super) leaders: Option<u32>,
    /// Replicas that are in sync, and replicas.
    pub(super) in_sync: Option<(u32, u32)>,
    pub(super) rates: Option<Rates>,
}

impl Phase {
    /// Whether there is a process.
    pub(super) fn runs(self) -> bool {
        matches!(self, Self::Running { .. } | Self::Stopping)
    }

    /// The broker's state in a word, or two.
    fn state(self, broker: Option<&Broker>, of_broker: OfBroker) -> &'static str {
        match (self, broker) {
            (Self::Stopping, _) => "stopping",
            // As when somebody has brought it back in another terminal.
            (Self::Stopped | Self::Killed | Self::Failed, _) if of_broker.ready => "runs elsewhere",
            (Self::Stopped, _) => "stopped",
            (Self::Killed, _) => "killed",
            (Self::Failed, _) => "failed",
            (Self::Running { served: false }, _) if !of_broker.ready => "starting",
            (Self::Running { .. }, Some(Broker { fenced: true, .. })) => "fenced",
            (Self::Running { .. }, Some(Broker { recovering: true, .. })) => "catching up",
            (Self::Running { .. }, Some(_)) if of_broker.ready => "in sync",
            (Self::Running { .. }, _) if of_broker.ready => "ready",
            (Self::Running { .. }, _) => "not ready",
        }
    }
}

impl Shown {
    /// Of brokers with these ids, addresses and phases, in the layout's order.
    pub(super) fn new<'a>(brokers: impl Iterator<Item = (i32, String, &'a Phase)>, probed: &Probed) -> Self {
        let facts = probed.facts.as_ref();
        let row = |(index, (id, address, phase)): (usize, (i32, String, &Phase))| {
            let broker = facts.and_then(|facts| facts.brokers.iter().find(|broker| broker.id == id));
            let of_broker = probed.brokers.get(index).copied().unwrap_or_default();
            Row {
                id,
                address,
                state: phase.state(broker, of_broker),
                leaders: broker.map(|broker| broker.leaders),
                in_sync: broker.map(|b| (b.replicas.saturating_sub(b.out_of_sync), b.replicas)),
                rates: of_broker.rates,
            }
        };
        Self {
            brokers: brokers.enumerate().map(row).collect(),
            partitions: facts.and_then(|facts| facts.partitions.clone()),
            controller: facts.and_then(|facts| Some(facts.quorum.as_ref()?.leader)),
        }
    }

    /// The table, with the broker that keys are for, in lines no longer than `width`.
    pub(super) fn table(&self, chosen: usize, width: usize) -> Vec<String> {
        let heads = ["BROKER", "ADDRESS", "STATE", "LEADS", "IN SYNC", "RECEIVES", "SENDS"].map(str::to_owned);
        let rows: Vec<[String; 7]> = [heads].into_iter().chain(self.brokers.iter().map(Row::cells)).collect();
        let widths: [usize; 7] =
            std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
        let mut lines: Vec<String> = rows
            .iter()
            .enumerate()
            .map(|(index, row)| {
                let mark = if index == chosen + 1 { "> " } else { "  " };
                let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
                format!("{mark}{}", cells.join("  ").trim_end())
            })
            .collect();
        lines.push(String::new());
        lines.push(format!("{}; {}", self.partitions_text(), self.controller_text()));
        lines.push("↑ ↓ or a number: choose a broker   k: kill   s: stop   a: start   q: end".to_owned());
        for line in &mut lines {
            *line = line.chars().take(width).collect();
        }
        lines
    }

    /// What has changed, a line each.
    pub(super) fn changes(&self, before: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for row in &self.brokers {
            let former = before.brokers.iter().find(|former| former.id == row.id);
            let what = |row: &Row| (row.state, row.leaders);
            if former.map(what) != Some(what(row)) {
                let leads = row.leaders.map(|leaders| format!(", leads {leaders}")).unwrap_or_default();
                lines.push(format!("broker {}: {}{leads}", row.id, row.state));
            }
        }
        if self.controller.is_some() && self.controller != before.controller {
            lines.push(self.controller_text());
        }
        if self.partitions.is_some() && self.partitions != before.partitions {
            lines.push(self.partitions_text());
        }
        lines
    }

    fn controller_text(&self) -> String {
        self.controller.map_or_else(|| "controller: not known".to_owned(), |id| format!("controller: broker {id}"))
    }

    fn partitions_text(&self) -> String {
        let Some(partitions) = &self.partitions else { return "partitions: not known".to_owned() };
        let lacking = [
            (partitions.offline, "without a leader"),
            (partitions.under_min_isr, "with too few in-sync replicas"),
            (partitions.under_replicated, "with fewer in-sync replicas than replicas"),
        ];
        let lacking: Vec<_> = lacking.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        let lacking = if lacking.is_empty() { "all in sync".to_owned() } else { lacking.join(", ") };
        match partitions.total {
            0 => "no partitions yet".to_owned(),
            1 => format!("1 partition: {lacking}"),
            total => format!("{total} partitions: {lacking}"),
        }
    }
}

impl Row {
    fn cells(&self) -> [String; 7] {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        [
            self.id.to_string(),
            self.address.clone(),
            self.state.to_owned(),
            or_none(self.leaders.map(|leaders| leaders.to_string())),
            or_none(self.in_sync.map(|(in_sync, of)| format!("{in_sync} of {of}"))),
            or_none(self.rates.map(|rates| rate(rates.received))),
            or_none(self.rates.map(|rates| rate(rates.sent))),
        ]
    }
}

/// Bytes a second, for a person.
fn rate(bytes: f64) -> String {
    match bytes {
        0.0..1e3 => format!("{bytes:.0} B/s"),
        0.0..1e6 => format!("{:.1} kB/s", bytes / 1e3),
        0.0..1e9 => format!("{:.1} MB/s", bytes / 1e6),
        _ => format!("{:.1} GB/s", bytes / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronik_admin::{FactsResponse, Quorum};

    const SERVES: Phase = Phase::Running { served: true };

    fn facts(total: u32, under_replicated: u32) -> FactsResponse {
        let broker = |id: i32| Broker {
            id,
            leaders: total / 3,
            replicas: total,
            out_of_sync: if id == 2 { under_replicated } else { 0 },
            fenced: id == 2 && under_replicated > 0,
            incarnation: Some("one".into()),
            ..Broker::default()
        };
        FactsResponse {
            brokers: (0..3).map(broker).collect(),
            partitions: Some(Partitions { total, under_replicated, ..Partitions::default() }),
            quorum: Some(Quorum { leader: 1, ..Quorum::default() }),
            ..FactsResponse::default()
        }
    }

    fn shown(phases: [Phase; 3], facts: Option<FactsResponse>, ready: bool) -> Shown {
        let rates = Some(Rates { received: 1_234_567.0, sent: 12.0 });
        let answers = |phase: &Phase| if phase.runs() { OfBroker { ready, rates } } else { OfBroker::default() };
        let probed = Probed { begun: None, facts, brokers: phases.iter().map(answers).collect() };
        let brokers = (0..3).zip(&phases).map(|(id, phase)| (id, format!("127.0.0.1:909{}", id + 2), phase));
        Shown::new(brokers, &probed)
    }

    #[test]
    fn the_table_is_aligned_and_marks_the_broker_that_keys_are_for() {
        let lines = shown([SERVES, SERVES, Phase::Killed], Some(facts(12, 12)), true).table(1, 200);
        assert_eq!(
            lines[..6],
            [
                "  BROKER  ADDRESS         STATE    LEADS  IN SYNC   RECEIVES  SENDS",
                "  0       127.0.0.1:9092  in sync  4      12 of 12  1.2 MB/s  12 B/s",
                "> 1       127.0.0.1:9093  in sync  4      12 of 12  1.2 MB/s  12 B/s",
                "  2       127.0.0.1:9094  killed   4      0 of 12   -         -",
                "",
                "12 partitions: 12 with fewer in-sync replicas than replicas; controller: broker 1",
            ]
        );
        assert!(lines[6].contains("k: kill"), "{lines:?}");
        let narrow = shown([SERVES; 3], None, true).table(0, 20);
        assert!(narrow.iter().all(|line| line.chars().count() <= 20), "a longer line would wrap: {narrow:?}");
    }

    #[test]
    fn a_broker_is_what_its_process_is_and_then_what_it_and_the_controller_say() {
        let started = Phase::Running { served: false };
        let states = |phases, facts, ready| shown(phases, facts, ready).brokers.into_iter().map(|row| row.state);
        let healthy = || Some(facts(12, 0));
        for (phase, facts, ready, expected) in [
            (started, None, false, "starting"),
            // The controller has not noticed yet that this is another process.
            (started, healthy(), false, "starting"),
            (started, None, true, "ready"),
            (started, healthy(), true, "in sync"),
            (SERVES, healthy(), false, "not ready"),
            (SERVES, Some(facts(12, 12)), false, "fenced"),
            (Phase::Stopping, healthy(), true, "stopping"),
            (Phase::Stopped, healthy(), true, "stopped"),
            (Phase::Killed, healthy(), true, "killed"),
            (Phase::Failed, healthy(), true, "failed"),
        ] {
            assert_eq!(states([phase; 3], facts, ready).next_back(), Some(expected), "{phase:?}, {ready}");
        }
        let mut behind = facts(12, 0);
        behind.brokers[2].recovering = true;
        assert_eq!(states([SERVES; 3], Some(behind), true).next_back(), Some("catching up"));
        let another = OfBroker { ready: true, rates: None };
        assert_eq!(Phase::Killed.state(None, another), "runs elsewhere");
    }

    #[test]
    fn each_change_is_one_line_and_what_stays_is_none() {
        let before = shown([SERVES; 3], Some(facts(12, 0)), true);
        assert_eq!(before.changes(&before), Vec::<String>::new());
        let mut moved = facts(12, 4);
        moved.brokers[0].leaders = 8;
        let now = shown([SERVES, SERVES, Phase::Killed], Some(moved), true);
        assert_eq!(
            now.changes(&before),
            [
                "broker 0: in sync, leads 8",
                "broker 2: killed, leads 4",
                "12 partitions: 4 with fewer in-sync replicas than replicas",
            ]
        );
        let first = before.changes(&Shown::default());
        assert_eq!(first.len(), 5, "{first:?}");
        assert!(first.contains(&"controller: broker 1".to_owned()), "{first:?}");
    }

    #[test]
    fn what_is_not_known_is_no_change() {
        let before = shown([SERVES; 3], Some(facts(12, 0)), true);
        let unsure = Shown { partitions: None, controller: None, ..before.clone() };
        assert_eq!(unsure.changes(&before), Vec::<String>::new());
    }

    #[test]
    fn rates_have_the_unit_that_keeps_them_short() {
        for (bytes, text) in
            [(0.0, "0 B/s"), (999.0, "999 B/s"), (1500.0, "1.5 kB/s"), (2.5e6, "2.5 MB/s"), (3e9, "3.0 GB/s")]
        {
            assert_eq!(rate(bytes), text);
        }
    }
}
