//! Writes the custom resource definitions into a folder, as they are kept in the chart.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).ok_or("the folder is missing: charts/chronik/files")?;
    for definition in chronik_crds::generate::definitions()? {
        std::fs::write(folder.join(definition.file), definition.yaml)?;
    }
    Ok(())
}
