//! The log from outside: what a crash, damage and forgery leave of it.

mod clean;
mod clean_failures;
mod common;
mod crash;
mod damage;
mod forged;
mod formats;
mod full;
mod gaps;
mod journal;
mod many;
mod offline;
mod once;
mod random;
mod recovery;
mod repair;
mod start;
mod times;
mod writer;
