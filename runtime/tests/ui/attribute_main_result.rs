//! Errors in the body point there, as if nothing stood around it.
#[webmesh::main]
async fn main() -> Result<(), String> {
    let number: u8 = "seven";
    missing(number)?;
    Ok(())
}
