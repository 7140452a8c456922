//! x
use super::Settings;use crate::report::Report;use anyhow::Result;
/// x
#[derive(Clone,Debug,clap::Args)] pub struct Options{}
/// x
pub fn run(_:&Settings,_:&Options,_:&mut Report)->Result<()>{Ok(())}
