//! The log from outside: what a crash, damage and forgery leave of it.

mod common;
mod crash;
mod damage;
mod forged;
mod formats;
mod full;
mod journal;
mod random;
mod start;
mod times;
mod writer;
