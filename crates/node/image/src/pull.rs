//! placeholder
#[derive(Default)]
pub(crate) struct PullTable;
