//! The page of guarantees names its tests; they have to be there.

use std::path::Path;

#[test]
fn every_test_that_the_page_names_exists_where_it_says() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = std::fs::read_to_string(docs.join("guarantees.md")).unwrap();
    let mut named = 0;
    for link in page.split("[`").skip(1) {
        let Some((name, rest)) = link.split_once("`](") else { continue };
        let Some((path, _)) = rest.split_once(')') else { continue };
        let source = std::fs::read_to_string(docs.join(path)).unwrap_or_default();
        assert!(source.contains(&format!("fn {name}(")), "{path} has no test {name}");
        named += 1;
    }
    assert!(named > 40, "{named}");
}
