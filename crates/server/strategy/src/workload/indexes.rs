//! The compact lists in which jobs name indexes: `0,2-4,7`.

/// How many indexes a list names, all of them below `completions`.
///
/// # Errors
/// Upstream's words for what is wrong with it.
pub(super) fn total(list: &str, completions: i64) -> Result<i64, String> {
    let mut total = 0;
    let mut last = None;
    for interval in list.split(',').filter(|_| !list.is_empty()) {
        let (from, to) = self::interval(interval, completions)?;
        if let Some(last) = last.filter(|last| *last >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

/// The lowest index that is in both lists; what cannot be read is left out.
pub(super) fn overlap(one: &str, other: &str, completions: i64) -> Option<i64> {
    let read = |list: &str| -> Vec<(i64, i64)> {
        let intervals = list.split(',').filter(|_| !list.is_empty());
        intervals
            .filter_map(|interval| self::interval(interval, completions).ok())
            .collect()
    };
    let (one, other) = (read(one), read(other));
    let pairs = one
        .iter()
        .flat_map(|own| other.iter().map(move |other| (own, other)));
    pairs
        .filter(|(own, other)| own.0 <= other.1 && other.0 <= own.1)
        .map(|(own, other)| own.0.max(other.0))
        .min()
}

fn interval(text: &str, completions: i64) -> Result<(i64, i64), String> {
    let limits: Vec<&str> = text.split('-').collect();
    let read = |text: &str| -> Result<i64, String> {
        let number: i64 = text
            .parse()
            .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        if number >= completions {
            return Err(format!("too large index: {text:?}"));
        }
        Ok(number)
    };
    match limits.as_slice() {
        [one] => read(one).map(|index| (index, index)),
        [from, to] => {
            let (from, to) = (read(from)?, read(to)?);
            if from >= to {
                return Err(format!("non-increasing order, previous: {from}, current: {to}"));
            }
            Ok((from, to))
        }
        _ => Err(format!(
            "the fragment {text:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted_and_checked() {
        assert_eq!(total("", 5), Ok(0));
        assert_eq!(total("0,2-4", 5), Ok(4));
        assert_eq!(total("5", 5), Err("too large index: \"5\"".into()));
        assert_eq!(
            total("2,1", 5),
            Err("non-increasing order, previous: 2, current: 1".into())
        );
        assert!(total("1-2-3", 5).unwrap_err().contains("at most two parts"));
        assert_eq!(overlap("0-2", "2-3", 5), Some(2));
        assert_eq!(overlap("0-2", "3", 5), None);
    }
}
