//! Chronik seen from outside: real processes, real clients, crashes, and benchmarks beside Apache Kafka.
//!
//! [`checker`] decides what a history of writes and reads proves, [`harness`] starts and ends processes, [`load`]
//! writes and reads numbered records, [`consuming`] has groups that process them, and each file of [`scenarios`] is one question put to a running cluster.
//! Nothing here knows the broker's insides.

pub mod checker;
pub mod consuming;
pub mod harness;
pub mod load;
pub mod probe;
pub mod progress;
pub mod report;
pub mod scenarios;

#[cfg(test)]
mod documented;
