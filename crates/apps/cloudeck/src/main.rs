//! The `cloudeck` program: parses the command line and hands over to a role.

fn main() {}
