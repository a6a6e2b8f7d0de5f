//! What is said beside an answer, in `Warning` headers: no more than a client, and the headers, can bear.
//!
//! Source: `k8s.io/apiserver/pkg/endpoints/filters/warning.go`.

/// More characters than this are not said.
const MOST: usize = 4 * 1024;
/// When all that is to be said is too much, only so many characters of each warning are.
const MOST_OF_ONE: usize = 256;

/// The warnings of one request.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    /// Each once.
    texts: Vec<String>,
    /// Characters in all of them, as they will be said.
    size: usize,
    cut: bool,
}

impl Warnings {
    /// Adds one, unless it was said already or there is no more room.
    pub(crate) fn add(&mut self, text: String) {
        if self.cut && self.size >= MOST || text.is_empty() || self.texts.contains(&text) {
            return;
        }
        self.texts.push(text);
        self.size = self.texts.last().map_or(0, |text| self.size + self.said(text));
        if !self.cut && self.size > MOST {
            self.cut = true;
            self.size = self.texts.iter().map(|text| self.said(text)).sum();
        }
    }

    /// How many characters of it are said.
    fn said(&self, text: &str) -> usize {
        let all = text.chars().count();
        if self.cut { all.min(MOST_OF_ONE) } else { all }
    }

    /// What to say.
    pub(crate) fn into_texts(self) -> Vec<String> {
        if !self.cut {
            return self.texts;
        }
        let cut = |text: String| text.chars().take(MOST_OF_ONE).collect();
        self.texts.into_iter().map(cut).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(texts: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut warnings = Warnings::default();
        texts.into_iter().for_each(|text| warnings.add(text));
        warnings.into_texts()
    }

    #[test]
    fn a_few_warnings_are_said_whole_and_once() {
        let long = "x".repeat(3000);
        let texts = ["a".to_owned(), long.clone(), "a".to_owned(), String::new()];
        assert_eq!(said(texts), ["a".to_owned(), long]);
    }

    #[test]
    fn many_warnings_are_cut() {
        let texts = (0..100).map(|n| format!("{n:0>1000}"));
        let said = said(texts);
        assert_eq!(said.len(), MOST / MOST_OF_ONE);
        assert!(said.iter().all(|text| text.len() == MOST_OF_ONE));
    }

    #[test]
    fn there_is_an_end_to_short_ones() {
        assert!(said((0..100_000).map(|n| n.to_string())).len() < MOST);
    }
}
