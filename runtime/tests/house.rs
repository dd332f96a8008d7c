//! The crate is a house with floors: its files import downward only.

#[path = "../../transport/tests/house/imports.rs"]
mod imports;

use std::path::Path;

use imports::House;

#[test]
fn files_import_from_floors_below_only_and_circles_stay_within_a_folder() {
    let house = House::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let wrong = [house.upward(), house.circles()].concat();
    assert!(wrong.is_empty(), "{} of {} files:\n{}", wrong.len(), house.files(), wrong.join("\n"));
}
