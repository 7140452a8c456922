//! x
use super::Settings;use crate::report::Report;use anyhow::Result;
/// x
pub fn run(_:&Settings,_:&mut Report)->Result<()>{Ok(())}
