//! Go's `%q` and `%v` for the few messages that must read as upstream's.

pub(crate) use cloudeck_machinery::quote::quote as quoted;

/// `%q` of a list of strings: `["a" "b"]`.
pub(crate) fn quoted_list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(String::as_str).map(quoted).collect();
    format!("[{}]", items.join(" "))
}

/// What `utilerrors.NewAggregate` prints.
pub(crate) fn aggregate(errors: &[String]) -> String {
    match errors {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}
