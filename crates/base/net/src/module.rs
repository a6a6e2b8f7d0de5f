//! Modules that the kernel loads when they are first asked for.
//!
//! Who asks while one is being loaded may be told that there is no such thing, and nobody tells when there is.

use std::time::Duration;

/// How often, and how long each time, a module that is just being loaded is waited for.
const PAUSES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// Does something that may need a module; again for half a second while it fails because that is `missing`.
///
/// # Blocking
/// Only where the module is missing.
pub(crate) fn when_loaded<T, E>(
    missing: impl Fn(&E) -> bool,
    mut action: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    for _ in 0..PAUSES {
        match action() {
            Err(error) if missing(&error) => std::thread::sleep(PAUSE),
            done => return done,
        }
    }
    action()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_asked_for_again_and_nothing_else() {
        let mut left = 2;
        let found = when_loaded(
            |error| *error == "missing",
            || {
                left -= 1;
                if left == 0 { Ok("here") } else { Err("missing") }
            },
        );
        assert_eq!(found, Ok("here"));
        let mut asked = 0;
        let refused: Result<(), _> = when_loaded(
            |error| *error == "missing",
            || {
                asked += 1;
                Err("forbidden")
            },
        );
        assert_eq!((refused, asked), (Err("forbidden"), 1));
    }
}
