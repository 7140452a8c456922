//! Events and the commands that are expected of them, one file a concern. Commands are compared as short texts.

mod bench;
mod committing;
mod damage;
mod disks;
mod follower_reads;
mod following;
mod hostile;
mod isr_changes;
mod leading;
mod low_watermark;
mod memory;
mod moving;
mod pushing;
mod reading;
mod retrying;
mod starts;
