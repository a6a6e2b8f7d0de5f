//! The bounds of a limit range and what their violation is called.

use cloudeck_machinery::Quantity;

/// Above this, amounts are compared in whole units.
const MAX_MILLI: i64 = i64::MAX / 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bound {
    Min,
    Max,
    /// For kinds that have requests only.
    MaxRequest,
    Ratio,
}

impl Bound {
    pub(super) const OF_PODS: [Self; 3] = [Self::Min, Self::Max, Self::Ratio];

    /// Where the limit range says it.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::Min => "min",
            Self::Max | Self::MaxRequest => "max",
            Self::Ratio => "maxLimitRequestRatio",
        }
    }

    /// What is wrong, if anything is.
    pub(super) fn violation(
        self,
        kind: &str,
        resource: &str,
        enforced: Quantity,
        request: Option<Quantity>,
        limit: Option<Quantity>,
    ) -> Option<String> {
        let [requested, limited, bound] =
            comparable([request.unwrap_or_default(), limit.unwrap_or_default(), enforced]);
        let usage = |word: &str| format!("{word} {resource} usage per {kind} is {enforced}");
        let but = |word: &str, what: &str, given: Option<Quantity>| {
            Some(format!(
                "{}, but {what} is {}",
                usage(word),
                given.unwrap_or_default()
            ))
        };
        match self {
            Self::Min if request.is_none() => Some(format!("{}.  No request is specified", usage("minimum"))),
            Self::Min if requested < bound => but("minimum", "request", request),
            Self::Min if limit.is_some() && limited < bound => but("minimum", "limit", limit),
            Self::MaxRequest if request.is_none() => {
                Some(format!("{}.  No request is specified", usage("maximum")))
            }
            Self::MaxRequest if requested > bound => but("maximum", "request", request),
            Self::Max if limit.is_none() => Some(format!("{}.  No limit is specified", usage("maximum"))),
            Self::Max if limited > bound => but("maximum", "limit", limit),
            Self::Max if request.is_some() && requested > bound => but("maximum", "request", request),
            Self::Ratio => ratio_violation(kind, resource, enforced, requested, limited),
            _ => None,
        }
    }
}

/// An absent amount is zero here.
fn ratio_violation(
    kind: &str,
    resource: &str,
    enforced: Quantity,
    requested: i64,
    limited: i64,
) -> Option<String> {
    let ratio = format!("{resource} max limit to request ratio per {kind} is {enforced}");
    if requested == 0 {
        return Some(format!("{ratio}, but no request is specified or request is 0"));
    }
    if limited == 0 {
        return Some(format!("{ratio}, but no limit is specified or limit is 0"));
    }
    let observed = limited as f64 / requested as f64;
    (observed > enforced.as_f64()).then(|| format!("{ratio}, but provided ratio is {observed:.6}"))
}

/// Thousandths where all fit, whole units otherwise.
fn comparable(amounts: [Quantity; 3]) -> [i64; 3] {
    if amounts.iter().all(|amount| amount.value() <= MAX_MILLI) {
        amounts.map(Quantity::milli_value)
    } else {
        amounts.map(Quantity::value)
    }
}
