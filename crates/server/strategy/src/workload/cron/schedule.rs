//! Whether a text is a schedule: five fields, or a name such as `@daily`.

struct Field {
    low: i64,
    high: i64,
    names: &'static [&'static str],
}

const NONE: &[&str] = &[];
const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const NAMED: [&str; 7] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];

/// Minute, hour, day of the month, month, day of the week.
const FIELDS: [Field; 5] = [
    Field::new(0, 59, NONE),
    Field::new(0, 23, NONE),
    Field::new(1, 31, NONE),
    Field::new(1, 12, MONTHS),
    Field::new(0, 6, DAYS),
];

/// # Errors
/// The parser's words for what is wrong.
pub(super) fn check(text: &str) -> Result<(), String> {
    let spec = without_zone(text);
    if spec.starts_with('@') {
        return named(spec);
    }
    let fields: Vec<&str> = spec.split_ascii_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let (count, shown) = (fields.len(), fields.join(" "));
        return Err(format!("expected exactly 5 fields, found {count}: [{shown}]"));
    }
    for (field, text) in FIELDS.iter().zip(fields) {
        let mut parts = text.split(',').filter(|part| !part.is_empty());
        parts.try_for_each(|part| field.check(part))?;
    }
    Ok(())
}

/// `TZ=` and `CRON_TZ=` are refused elsewhere; here they are no mistakes of the schedule.
fn without_zone(text: &str) -> &str {
    if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
        text.split_once(' ').map_or("", |(_, rest)| rest.trim())
    } else {
        text
    }
}

fn named(spec: &str) -> Result<(), String> {
    if NAMED.contains(&spec) {
        return Ok(());
    }
    let Some(every) = spec.strip_prefix("@every ") else {
        return Err(format!("unrecognized descriptor: {spec}"));
    };
    cloudeck_machinery::time::duration::parse_go(every)
        .map(|_| ())
        .map_err(|error| format!("failed to parse duration {spec}: {error}"))
}

impl Field {
    const fn new(low: i64, high: i64, names: &'static [&'static str]) -> Self {
        Self { low, high, names }
    }

    fn check(&self, part: &str) -> Result<(), String> {
        let range_and_step: Vec<&str> = part.split('/').collect();
        let limits: Vec<&str> = range_and_step[0].split('-').collect();
        let single = limits.len() == 1;
        let (start, mut end) = match limits.as_slice() {
            ["*" | "?", ..] => (self.low, self.high),
            [one] => {
                let one = self.number_or_name(one)?;
                (one, one)
            }
            [low, high] => (self.number_or_name(low)?, self.number_or_name(high)?),
            _ => return Err(format!("too many hyphens: {part}")),
        };
        let step = match range_and_step.as_slice() {
            [_] => 1,
            [_, step] => {
                if single {
                    end = self.high;
                }
                number(step)?
            }
            _ => return Err(format!("too many slashes: {part}")),
        };
        if start < self.low {
            let low = self.low;
            return Err(format!(
                "beginning of range ({start}) below minimum ({low}): {part}"
            ));
        }
        if end > self.high {
            let high = self.high;
            return Err(format!("end of range ({end}) above maximum ({high}): {part}"));
        }
        if start > end {
            return Err(format!(
                "beginning of range ({start}) beyond end of range ({end}): {part}"
            ));
        }
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        Ok(())
    }

    fn number_or_name(&self, text: &str) -> Result<i64, String> {
        let lower = text.to_ascii_lowercase();
        match self.names.iter().position(|name| *name == lower) {
            Some(at) => Ok(at as i64 + self.low),
            None => number(text),
        }
    }
}

fn number(text: &str) -> Result<i64, String> {
    let number: i64 = text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    })?;
    if number < 0 {
        return Err(format!("negative number ({number}) not allowed: {text}"));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn what_cron_understands_is_a_schedule() {
        for text in [
            "* * * * *",
            "*/5 0-6 1,15 jan-MAR sun",
            "5/15 ? * * 1-5/2",
            "@hourly",
            "@every 1h30m",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_in_the_parsers_words() {
        for (text, why) in [
            ("a b", "expected exactly 5 fields, found 2: [a b]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            (
                "5-1 * * * *",
                "beginning of range (5) beyond end of range (1): 5-1",
            ),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            assert_eq!(check(text), Err(why.to_owned()), "{text}");
        }
    }
}
