//! The page of the measured distances says what the shipped nodes do.

#[test]
fn the_page_of_the_distances_is_what_is_measured() {
    let written = include_str!("../../../docs/evidence/distances.md");
    let measured = heirloom_sim::distances::page();
    assert!(written == measured, "write it anew with `cargo sim -- distances --write`; it should say:\n{measured}");
}
