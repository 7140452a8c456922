//! Prints the custom resource definitions, as they are kept in the chart.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", chronik_crds::generate::yaml()?);
    Ok(())
}
