//! The tidiness of the house is a test: see `tests/tidy.rs`. The end-to-end tests lie in `e2e/` and belong to the
//! package of the server, which builds the executable that they run.
