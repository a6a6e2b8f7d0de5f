//! `IntOrString` values that mean a number or a percentage of one (`maxSurge: 25%`).

use crate::value::Value;

/// The value scaled by `total`: an integer as it is, a percentage of `total` rounded up or down.
///
/// `None` when the value is neither an integer nor a percentage.
/// Source: `intstr.GetScaledValueFromIntOrPercent`.
pub fn scaled(value: &Value, total: i64, round_up: bool) -> Option<i64> {
    let percent = match value {
        Value::Int(number) => return Some(*number),
        Value::String(text) => text.strip_suffix('%')?.parse::<i64>().ok()?,
        _ => return None,
    };
    let product = percent.checked_mul(total)?;
    let (quotient, rest) = (product.div_euclid(100), product.rem_euclid(100));
    Some(quotient + i64::from(round_up && rest > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked_and_integers_stay() {
        assert_eq!(scaled(&"25%".into(), 3, true), Some(1));
        assert_eq!(scaled(&"25%".into(), 3, false), Some(0));
        assert_eq!(scaled(&Value::Int(7), 3, false), Some(7));
        assert_eq!(scaled(&"25".into(), 3, false), None);
        assert_eq!(scaled(&Value::Null, 3, false), None);
    }
}
