//! Prints the custom resource definitions: `cargo xtask crds` writes them where they are kept.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", chronik_crds::generate::yaml()?);
    Ok(())
}
